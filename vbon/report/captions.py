"""Captions of figures, in this report and in Snakemake's own."""

CAPTIONS = {
    "figure2a": (
        "Win rate against KL, one point per run. Higher at equal KL is better; no policy can lie "
        "in the hatched region. Lower panel: each method's attainment minus that of best-of-n. "
        "Thin lines are exact optima of the objectives, from the test prompts' reference draws: "
        "the distance of a method's points to its line is due to training. The ring marks n = M / "
        "9, above which more than 10 % of best-of-n's responses, n / (n + M), exceed all M draws "
        "that log F is ranked in; beyond it vBoN's markers are white inside."
    ),
    "figure2b": (
        "Mean reward against KL, one point per run, and each method's attainment minus that of "
        "best-of-n at equal KL. Thin lines, ring and white markers as in figure 2a."
    ),
    "figure3": (
        "Estimates of log F from M draws, for the prompts with the lowest, the median and the "
        "highest mean reward. Where the curves of different M coincide, more draws change nothing."
    ),
    "figure4": (
        "Benefit of more draws for log F: win rate against minutes on one core, one point per run "
        "at one n, and the share of each phase in the minutes. Points further left cost less."
    ),
    "figure5a": (
        "Win rate against the reference, judged by the held-out evaluator, by sampling "
        "temperature: mean and standard deviation over training and sample seeds, in-domain "
        "solid, out-of-domain dashed."
    ),
    "figure5b": (
        "Mean reward of the held-out evaluator by sampling temperature: mean and standard "
        "deviation over training and sample seeds, in-domain solid, out-of-domain dashed."
    ),
    "figure6": (
        "vBoN with its exact reward minus vBoN with the bound L, at equal n and seeds: difference "
        "in win rate with its 90 % interval. Inside the shaded margin the two count as equal."
    ),
    "figure7a": (
        "Figure 2a with BoN-SFT. The difference from best-of-n at equal KL separates methods that "
        "lie close together in the plane; bands are 95 % intervals."
    ),
    "figure7b": (
        "Figure 2b with BoN-SFT: each method's mean reward minus that of best-of-n at equal KL; "
        "bands are 95 % intervals."
    ),
    "estimators": (
        "Error of each estimator of log F at F = 0.9 (lower is better), and the win rate of an "
        "ideal policy (line) and of a trained one (point) that uses it, by draws per prompt."
    ),
    "optimum": (
        "Trained policies at their exact KL and win rate, beside the exact optima. A policy on a "
        "curve is optimal."
    ),
    "overoptimisation": (
        "The evaluator's reward against the training reward, along each training. Where a curve "
        "flattens or falls, the policy exploits the reward model alone."
    ),
}
"""Content of each figure and how to read it, in one to three sentences."""

INTERACTIVE = {
    "tradeoff": (
        "Every point is one run (figures 2 and 7): its win rate against the reference, by its KL "
        "divergence from the reference. Higher at equal KL is better. vBoN learns to imitate "
        "best-of-n sampling (BoN; dashed: its closed form). No policy can lie in the grey region. "
        "Thin lines are exact optima, of best-of-n blue and of KL-RL (PPO) orange. "
        "Hover over a point for its run; drag to mark runs in both charts."
    ),
    "temperature": (
        "Means over seeds by sampling temperature (figure 5), judged by the held-out "
        "evaluator; in-domain solid, out-of-domain dashed. Hover over a point for its setting and "
        "standard deviation."
    ),
}
"""Captions of the interactive charts."""
