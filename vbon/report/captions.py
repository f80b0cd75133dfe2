"""What is said below each figure, in the report and in Snakemake's own."""

CAPTIONS = {
    "figure2a": (
        "Win rate against KL, every run a point. Higher at equal KL is better; nothing can be in "
        "the hatched region. The lower panel is each method's attainment minus best-of-n's."
    ),
    "figure2b": (
        "Mean reward against KL, every run a point, and each method's attainment minus "
        "best-of-n's at equal KL."
    ),
    "figure3": (
        "The estimate of log F from M draws, for the prompt with the lowest, the median and the "
        "highest mean reward. Where curves of different M lie on each other, more draws change "
        "nothing."
    ),
    "figure4": (
        "What more draws for log F buy: win rate against minutes on one core, a point for each run "
        "of one n, and where the minutes go. Points further left cost less."
    ),
    "figure5a": (
        "Win rate against the reference, judged by the held-out evaluator, by sampling "
        "temperature: mean and standard deviation over sample seeds, in-domain solid, "
        "out-of-domain dashed."
    ),
    "figure5b": (
        "Mean reward of the held-out evaluator by sampling temperature: mean and standard "
        "deviation over sample seeds, in-domain solid, out-of-domain dashed."
    ),
    "figure6": (
        "vBoN's exact reward against its L bound at equal n and seeds: the difference in win rate "
        "with its 90 % interval. Inside the shaded margin the two count as equal."
    ),
    "figure7a": (
        "Figure 2a with BoN-SFT. The difference to best-of-n at equal KL shows what methods lose "
        "that lie close together in the plane; bands are 95 %."
    ),
    "figure7b": (
        "Figure 2b with BoN-SFT: each method's mean reward minus best-of-n's at equal KL, with "
        "95 % bands."
    ),
    "estimators": (
        "Error of each estimator of log F where F = 0.9 (lower is better), and the win rate of an "
        "ideal (line) and of a trained policy (point) that uses it, by draws a prompt."
    ),
    "optimum": (
        "Trained policies of the enumerable task at their exact coordinates, beside the exact "
        "optima. On a curve means: at the optimum."
    ),
    "overoptimisation": (
        "The evaluator's reward against the reward that is trained on, along each training. Where "
        "a curve bends down or goes flat, only the reward model is still being pleased."
    ),
}
"""Each figure in one to three sentences: what is drawn, and how to read it."""
