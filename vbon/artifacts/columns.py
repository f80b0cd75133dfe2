"""Description of every table and column, for readers.

The documentation prints these texts, and a test refuses a column without one. They are kept apart
from :mod:`vbon.artifacts.schemas` because the code of the schemas is part of every run's key:
rewording a description must not retrain anything.
"""

from vbon.errors import ArtifactError

TABLES = {
    "texts": (
        "data/texts.parquet",
        "Texts, each assigned to one model or split: of the kind `reviews` with `text` and "
        "`label`, of the kind `posts` with the other columns.",
    ),
    "strings": ("data/strings.parquet", "Every string of an enumerable language."),
    "text_rewards": ("models/{role}/rewards.parquet", "The enumerable task's rewards by text."),
    "prompts": ("prompts/{split}.parquet", "Prompts: the texts that responses continue."),
    "samples": ("reference/samples/{split}.parquet", "The pool: responses of the reference."),
    "rewards": ("reference/rewards/{split}.parquet", "Rewards of the pool's draws."),
    "logf": ("reference/logf/{split}.parquet", "Sorted rewards that log F is estimated from."),
    "prior": ("reference/logf/prior-m{m}.parquet", "The reward distribution shared by prompts."),
    "pairs": ("reference/pairs/{name}.parquet", "Preference pairs for offline methods."),
    "history": ("runs/{method}/{setting}/seed{s}/history.parquet", "Training history of one run."),
    "responses": (
        "runs/{method}/{setting}/seed{s}/responses/{split}.parquet",
        "A policy's responses to the test prompts.",
    ),
    "points": ("points.parquet, points.csv", "The comparison: one row per run."),
    "costs": ("costs.parquet, costs.csv", "Time and memory of each run; not reproducible."),
    "pareto": ("pareto.parquet, pareto.csv", "Shares of Pareto fronts, and hypervolumes."),
    "attainment": ("tables/attainment.csv", "Bands of the figures: the best metric at each KL."),
    "bands": ("tables/bands.csv", "Differences of methods at matched KL, in bands of KL."),
    "cards": ("tables/cards.csv", "Texts and models of the task, for the report."),
    "claims": ("tables/claims.csv", "The paper's claims, each with a verdict on this run."),
    "convergence": ("tables/convergence.csv", "Movement over the last quarter of training."),
    "curves": ("tables/curves.csv", "Exact curves of the enumerable task."),
    "data": ("tables/data.csv", "The data report, with the bounds of `checks`."),
    "distances": ("tables/distances.csv", "KL of each trained setting to its exact optimum."),
    "equivalence": ("tables/equivalence.csv", "vBoN against its bound L at equal n and seed."),
    "estimators": ("tables/estimators.csv", "Estimators of log F, by draws per prompt."),
    "exact_and_bound": ("tables/exact_and_bound.csv", "Optima of vBoN and L by string length."),
    "excerpts": ("tables/excerpts.csv", "Responses of every run, as the report shows them."),
    "histories": ("tables/histories.csv", "Histories of all runs in 40 rows each, for the report."),
    "inference": ("tables/inference.csv", "Cost of one returned response."),
    "lead": ("tables/lead.csv", "The reference's summaries against simple ones."),
    "limits": ("tables/limits.csv", "Optima at extreme settings."),
    "matched_kl": ("tables/matched_kl.csv", "Best metric of each method within fixed KL budgets."),
    "missing": ("tables/missing.csv", "Runs missing from partial tables."),
    "monitored": ("tables/monitored.csv", "The evaluator's reward along training."),
    "oracle_curves": (
        "tables/oracle_curves.csv",
        "Exact optima of best-of-n and KL-RL on the test prompts' draws.",
    ),
    "optimum": ("tables/optimum.csv", "Trained policies against their method's exact optimum."),
    "orderings": ("tables/orderings.csv", "The paper's orderings of methods, tested."),
    "pools": ("tables/pools.csv", "Shift of the exact optimum when F is estimated."),
    "prompt_means": (
        "tables/prompt_means.csv",
        "Means of every run per test prompt; large, so `make publish` leaves it out.",
    ),
    "section6": ("tables/section6.csv", "The paper's section 6, tested."),
    "shown_pools": ("tables/shown_pools.csv", "The pools of three prompts."),
    "table1": ("tables/table1.csv", "Small samples of rewards compared with the whole pool."),
    "table2": ("tables/table2.csv, table4.csv to table7.csv", "Every method's summary of a post."),
    "trials": ("tables/trials.csv", "Budgets of each method within a common cost, compared."),
    "unequal": ("tables/unequal.csv", "PPO and vBoN at equal win rates, with unequal rewards."),
}
"""Path below ``results/{task}/`` and a one-sentence description, by table."""

COMMON = {
    "axes": "Metric plotted against KL: `win_rate`, `reward_prob` or `evaluator_reward`.",
    "claim": "The paper's claim, in short.",
    "diverged": "Runs that ended with non-finite numbers.",
    "domain": "`all`; of summaries `in_domain` (subreddits trained on) or `out_of_domain`.",
    "draw": "Index of the draw within its prompt, from 0.",
    "episodes": "Responses sampled so far, or pairs trained on by offline methods.",
    "estimator": "Estimator of log F.",
    "evaluator_reward": "Score of the held-out evaluator, which no method trains on.",
    "evaluator_win_rate": "Win rate computed from the evaluator's rewards.",
    "finished": "Whether the response ended by a sampled end-of-sequence token.",
    "folder": "Run folder.",
    "high": "Upper end of the 95 % interval.",
    "key": "Identifier of the claim or ordering; tables are joined by it.",
    "kl": "KL(policy ‖ reference) of a response, in nats.",
    "kl_coef": "Coefficient of the KL term, empty where the method has none.",
    "log_prob": "Log-probability of the response under the model that drew it, in nats.",
    "low": "Lower end of the 95 % interval.",
    "m": "Draws per prompt that log F is estimated from.",
    "method": "Name of the method.",
    "metric": "The metric compared.",
    "n": "n of the best-of-n to approximate, any number from 1; empty where the method has none.",
    "note": "Why there is no verdict, or what qualifies it.",
    "planned": "Runs that the configuration plans.",
    "prompt": "The prompt's text.",
    "prompt_id": "Key of the prompt.",
    "reward": "Training reward: the reward model's logit or score.",
    "reward_prob": "Probability of POSITIVE by the reward model; empty where it has none.",
    "response": "Text of the response.",
    "response_ids": "Its token ids.",
    "rule": "Condition for a positive verdict.",
    "rule_high": "Upper end of the rule's range.",
    "rule_low": "Lower end of the rule's range.",
    "runs": "Runs of the method, diverged ones included.",
    "sample_seed": "Seed with which responses were sampled.",
    "saturation": "Share of responses whose reward is above the whole pool's, where log F is flat.",
    "score_seconds": "Seconds spent on scoring responses.",
    "seed": "Training seed.",
    "seeds": "Training seeds of the setting.",
    "series": "Which curve the row belongs to.",
    "setting": "Short name of the swept setting, as `n4` or `beta0.05`.",
    "source_id": "Key of the text that the row was made from.",
    "statistic": "Quantity in `value`.",
    "status": "`ok`, or `diverged`, in which case numbers are empty.",
    "step": "Index of the iteration; of the measurement for offline methods.",
    "study": "Name of the study, `main` for the task itself.",
    "summary": "A summary of the post.",
    "task": "Name of the task.",
    "temperature": "Sampling temperature.",
    "text": "The text itself.",
    "value": "The statistic's value.",
    "verdict": "`supported`, `not supported` or `undecided`.",
    "win_rate": "Share of the prompt's reference draws that a response beats; ties count half.",
    **{f"{name}_se": "Its standard error over prompts." for name in ("kl", "reward", "win_rate")},
    "reward_prob_se": "Its standard error over prompts.",
    "evaluator_reward_se": "Its standard error over prompts.",
    "evaluator_win_rate_se": "Its standard error over prompts.",
}
"""Columns that mean the same in every table."""

OWN = {
    "texts": {
        "part": "Model or split that uses the text.",
        "label": "1 positive, 0 negative.",
        "subreddit": "Subreddit of the post.",
        "title": "Title of the post.",
        "post": "Text of the post.",
        "chosen": "The summary that raters prefer.",
        "rejected": "The other summary of the pair.",
    },
    "prompts": {
        "prompt_ids": "Token ids of the prompt.",
        "messages": "Optional: the conversation that the prompt renders, as JSON.",
        "row": "Optional: the data set's row, as JSON, for rewards that read it.",
    },
    "strings": {
        "response_ids": "Token ids of the string.",
        "log_prob": "Log-probability under the reference, in nats.",
    },
    "pairs": {
        "pair": "Index of the pair within its prompt, from 0.",
        "chosen": "`draw` of the response with the higher reward.",
        "rejected": "`draw` of the response with the lower reward.",
        "num_below": "Optional: number of the prompt's other draws with a lower reward.",
        "num_level": "Optional: number of its other draws with an equal reward.",
    },
    "logf": {
        "num_draws": "Number of draws used, M.",
        "rewards_sorted": "Their rewards, ascending.",
        "exp_a": "a of the exponential curve log F(r) = −a exp(−b r).",
        "exp_b": "b of that curve.",
        "exp_rmse": "Root mean square error of that curve's fit, in nats.",
    },
    "prior": {
        "knots": "Ascending rewards between which the shared distribution is constant.",
        "shares": "Value of the shared distribution function between the knots.",
        "worth": "Weight of the fit, as a number of draws from the prompt's own pool.",
    },
    "history": {
        "objective": "Mean return: reward minus KL penalty; for offline methods, minus the loss.",
        "clip_fraction": "Share of tokens whose probability ratio was clipped; for offline "
        "methods, share of updates whose gradient was scaled down.",
        "reward": "Mean training reward of the rollouts, before the method transforms it.",
        "kl": "Sampled estimate of KL(policy ‖ reference), in nats; may be negative.",
        "grad_norm": "Norm of the gradient before clipping.",
        "learning_rate": "Learning rate of the step.",
        "seconds": "Seconds since training began.",
    },
    "responses": {
        "log_prob": "Log-probability under the policy, in nats.",
        "log_prob_ref": "Log-probability under the reference, in nats.",
        "kl": "KL in nats, exact at each step: summed over the vocabulary at every token.",
        "kl_k3": "The k3 estimate of the KL from the sampled tokens, in nats.",
    },
    "points": {
        "num_prompts": "Number of test prompts.",
        "num_responses": "Number of responses to all of them.",
        "kl_k1": "Mean log-ratio of policy and reference at the sampled tokens, in nats.",
        "kl_k3": "Mean of the k3 estimates, in nats.",
        "win_rate_single": "Share of first responses that beat one reference draw; ties lose.",
        "response_length": "Mean number of tokens of a response.",
        "eos_rate": "Share of responses that ended by a sampled end-of-sequence token.",
        "distinct_2": "Distinct pairs of neighbouring tokens divided by all such pairs.",
        "sampled_tokens": "Tokens sampled for this run: its rollouts and its part of the pool.",
        "trainable_parameters": "Number of trainable parameters.",
        "estimator": "Estimator of log F; only in studies.",
        "m": "Draws per prompt that log F is estimated from; only in studies.",
    },
    "costs": {
        "train_seconds": "Seconds of the run's training, sampling and scoring included.",
        "sample_seconds": "Seconds of sampling in training.",
        "pool_sample_seconds": "The run's share of the seconds spent on drawing the pool.",
        "pool_score_seconds": "The run's share of the seconds spent on scoring the pool.",
        "peak_memory_mb": "Largest resident memory of the run's process, in MB.",
        "updates": "Steps of the optimiser.",
        "hardware": "Processor or GPU.",
    },
    "pareto": {
        "front": "`paper`: the pool without reference, best-of-n and BoN-SFT; `all`: every method.",
        "on_front": "Runs of the method on the pooled front.",
        "share": "The method's share of the pooled front's points.",
        "share_low": "Lower end of the 95 % bootstrap interval of the share.",
        "share_high": "Upper end.",
        "hypervolume": "Area dominated by the method's runs, in nats times the metric's unit.",
        "hypervolume_low": "Lower end of the 95 % bootstrap interval of the hypervolume.",
        "hypervolume_high": "Upper end.",
    },
    "attainment": {
        "value": "Best metric attained at that KL or less.",
        "median": "Median over bootstrap resamples.",
    },
    "bands": {
        "kl_low": "Lower end of the band, in nats.",
        "kl_high": "Upper end of the band, in nats.",
        "first": "Method that the other is subtracted from.",
        "second": "Method that is subtracted.",
        "difference": "Mean difference in win rate, over KLs evenly spaced in their square root.",
        "covered": "Share of these KLs at which both methods have settings.",
        "exact": "The same difference of their exact optima, if both have one.",
        "exact_covered": "Share of these KLs at which the pool resolves both optima.",
        "margin": "Largest difference that counts as equivalent.",
        "verdict": "`equivalent` if the interval is within the margin, else `above` or `below` if "
        "it excludes 0, else `undecided`.",
        "note": "Methods without runs; says so if prompts are not resampled.",
    },
    "prompt_means": {
        "kl": "Mean KL(policy ‖ reference) of the run's responses to the prompt, in nats.",
        "win_rate": "Mean win rate of these responses among the prompt's reference draws.",
        "reward_prob": "Mean probability of POSITIVE of these responses.",
        "evaluator_reward": "Mean score of these responses by the held-out evaluator.",
    },
    "cards": {
        "role": "Role of the model, or `texts`.",
        "kind": "`setting` or `measured`.",
        "quantity": "Path of the setting, or name of the measured quantity.",
        "value": "Its value.",
    },
    "claims": {
        "source": "Place in the paper.",
        "low": "Lower end of its interval, 95 % unless the rule states another level.",
        "high": "Upper end.",
        "rule": "Condition under which the claim is supported.",
        "note": "Qualification of the verdict, or what is missing for one.",
    },
    "convergence": {
        **{
            name: f"Change of {text} over the last quarter of training: slope times length."
            for name, text in {"win_rate": "win rate", "reward": "reward", "kl": "KL"}.items()
        },
        **dict.fromkeys(("win_rate_se", "reward_se", "kl_se"), "Its standard error over seeds."),
    },
    "curves": {"parameter": "n or β at the point of the curve."},
    "data": {
        "quantity": "Quantity measured.",
        "low": "Smallest accepted value.",
        "high": "Largest accepted value.",
        "ok": "True if the value is accepted.",
    },
    "distances": {
        "runs": "Runs averaged over, without diverged ones.",
        "excess": "KL beyond the least that any policy needs for its win rate, in nats.",
        "excess_se": "Its standard error over prompts.",
        "excess_sd": "Its standard deviation over seeds.",
        "over_own_oracle": "KL beyond that of its family of optima at its win rate, in nats.",
        "kl_to_optimum": "KL(policy ‖ its exact optimum), in nats; empty if `unseen` is over 0.1.",
        "kl_to_optimum_se": "Its standard error over prompts.",
        "kl_to_optimum_sd": "Its standard deviation over seeds.",
        "unseen": "Share of the optimum above all draws of a test prompt.",
    },
    "oracle_curves": {
        "series": "`best_of_n`, `kl_rl`, or `resolved`: best-of-n at the largest resolved n.",
        "method": "Method of the row `resolved`, whose log F is estimated from ranks of M draws.",
        "parameter": "n, or the coefficient of the KL term; of `resolved` M / 9.",
        "reward": "Mean training reward of the optimum.",
        "reward_prob": "Mean probability of POSITIVE of the optimum.",
    },
    "equivalence": {
        "pairs": "Number of pairs of runs with equal n and seed.",
        "lost": "Number of pairs with a diverged run.",
        "win_rate_vbon": "Mean win rate of vBoN.",
        "win_rate_vbon_l": "Mean win rate of the bound L.",
        "difference": "vBoN minus L, in win rate.",
        "se": "Standard error of the difference over seeds.",
        "df": "Degrees of freedom.",
        "low": "Lower end of the 90 % interval of the difference.",
        "high": "Upper end of the 90 % interval of the difference.",
        "margin": "Largest difference that counts as equivalent.",
        "p_equivalence": "Larger p-value of the two one-sided tests.",
        "p_difference": "p-value of the test of no difference.",
        "verdict": "`equivalent`, `different` or `undecided`.",
        "kl_difference": "vBoN minus L, in nats of KL.",
        "kl_se": "Its standard error over seeds.",
        "kl_low": "Lower end of its 90 % interval.",
        "kl_high": "Upper end of its 90 % interval.",
    },
    "estimators": {
        "prompts": "Number of training prompts.",
        **{
            f"{kind}_{level}": f"{text} of log F where F = .{level}, in nats."
            for level in (50, 90, 99)
            for kind, text in {"bias": "Mean error", "rmse": "Root mean square error"}.items()
        },
        "saturation": "Share of best-of-n's responses with a reward above the whole pool.",
        "saturation_expected": "Its expectation n / (n + m).",
        "ideal_win_rate": "Win rate of an ideal optimiser with this estimate.",
        "ideal_kl": "Its KL, in nats.",
        "win_rate": "Win rate that training attained with this estimate.",
        "kl": "KL that training attained, in nats.",
        "runs": "Number of runs averaged in `win_rate` and `kl`.",
    },
    "exact_and_bound": {
        "length": "Letters of every string.",
        "strings": "Number of strings.",
        "largest_probability": "Largest probability of a single string under the reference.",
        "tv": "Total variation between the optima of vBoN and L.",
        "kl": "KL between them, in nats.",
    },
    "excerpts": {"response": "Text of the run's first response to the prompt."},
    "histories": {
        "step": "Index of the last iteration of the row.",
        "reward": "Mean training reward of the rollouts.",
        "kl": "Sampled estimate of KL(policy ‖ reference), in nats; may be negative.",
        "win_rate": "Mean of the F that the method was trained on, exact or estimated.",
    },
    "inference": {
        "draws": "Responses sampled per returned response.",
        "tokens": "Tokens sampled per returned response.",
        "sample_seconds": "Seconds spent on sampling them.",
        "score_seconds": "Seconds spent on scoring them.",
        "seconds": "Sum of the two.",
        "relative_tokens": "Tokens divided by those of the reference.",
        "relative_seconds": "Seconds divided by those of the reference.",
    },
    "limits": {
        "optimum": "Family of optima.",
        "parameter": "Parameter varied.",
        "value": "Its value.",
        "tv_to_reference": "Total variation distance to the reference.",
        "tv_to_argmax": "Total variation distance to the policy that always gives the best string.",
    },
    "matched_kl": {
        "kl": "KL budget, in nats.",
        "value": "Best metric along the method's mean curve within that budget.",
        "best_of_n": "Closed form of best-of-n at that KL; win rates only.",
        "difference": "Value minus that closed form.",
        "difference_low": "Lower end of its 95 % interval.",
        "difference_high": "Upper end.",
        "reaches": "Largest KL among the method's settings, in nats.",
    },
    "lead": {
        "candidate": "Source of the summaries: reference, the post's beginning (`lead`), the data.",
        "posts": "Number of test posts.",
        **{
            f"rouge{kind}{end}": text
            for kind in ("1", "2", "L")
            for end, text in (
                ("", f"ROUGE-{kind} against the data's summary."),
                ("_se", "Its standard error over posts."),
            )
        },
    },
    "optimum": {
        "reward": "`injective` or `tied`.",
        "cdf": "`exact`, or the number of draws that F was estimated from.",
        "policy_class": "`tabular` or `transformer`.",
        "tv_to_optimum": "Total variation distance of the policy to the optimum for the exact F.",
        "kl_to_optimum": "KL(policy ‖ optimum), in nats.",
        "tv_to_estimated": "Total variation distance of the policy to that for the estimated F.",
        "tv_of_reference": "Total variation distance of the reference, where training starts, to "
        "the optimum.",
        "objective": "The method's objective at the policy.",
        "objective_at_optimum": "The same at the optimum.",
        "gap": "`objective_at_optimum` minus `objective`.",
        "mean_reward": "Exact mean reward of the policy.",
    },
    "orderings": {"paper": "The paper's number, where it gives one."},
    "section6": {
        "kl": "KL of the first of two policies at that temperature, in nats.",
        "other_kl": "KL of the second.",
    },
    "pools": {
        "pools": "Number of pools averaged over.",
        "tv": "Total variation distance between the optima for estimated and exact F.",
        "tv_se": "Its standard error over pools.",
        "win_rate_exact": "Win rate of the optimum for the exact F.",
        "saturation": "Mass of best-of-n above the whole pool.",
        "saturation_continuous": "Its value n / (n + m) where strings have no mass.",
        "trained_tv": "Total variation distance that training on one such pool attained.",
    },
    "shown_pools": {
        "kind": "Prompt with the lowest (`adversarial`), median (`neutral`) or highest "
        "(`positive`) mean reward."
    },
    "unequal": {
        "rewards": "`as they are`, or the study that changes them.",
        "win_rate": "Win rate at which the others are read off.",
        "kl_best_of_n": "KL of best-of-n's exact optimum, in nats.",
        "kl_rl": "KL of KL-RL's exact optimum on these rewards, one coefficient for all prompts.",
        "theory": "The latter minus the former.",
        "kl_vbon": "KL of trained vBoN, which these changes of rewards do not reach.",
        "kl_ppo": "KL of PPO trained on these rewards.",
        "trained": "The latter minus the former.",
        "trained_sd": "Its standard deviation over training seeds.",
    },
    "trials": {
        "level": "Largest cost of a trial of this level.",
        "trial": "Letter of the trial.",
        "budget": "Settings of its training loop.",
        "cost": "Operations of one run, in those of the first trial.",
        "tokens": "Tokens that one run draws while it is trained, at most.",
        **{f"win_rate_{kl}": f"Best win rate within {kl} nats of KL." for kl in ("0.5", "1", "2")},
        "win_rate": "Mean of these three.",
        "behind": "Largest mean of the method at this level minus this one.",
        "behind_se": "Its standard error, over training seeds and prompts.",
        "best": "True for the largest mean of a method at this level.",
    },
    "table1": {
        "variant": "`nested` as in the paper, `independent`, or `predicted` for nested ones.",
        "rejection_rate": "Share of prompts for which the Kolmogorov–Smirnov test rejects at 5 %.",
        "mean_statistic": "Mean statistic of the rejected prompts.",
        "mean_p": "Mean p-value of the rejected prompts.",
        "prompts": "Number of training prompts.",
        **{
            f"rmse_{level}": f"Error of log F where F = .{level}, in nats."
            for level in (50, 90, 99)
        },
    },
}
"""Columns of a single table, or whose meaning there differs from :data:`COMMON`."""


def meaning(table: str, column: str) -> str:
    """Description of a column of a table.

    Raises:
        ArtifactError: If the column has none.

    Example:
        >>> meaning("points", "win_rate_se")
        'Its standard error over prompts.'
    """
    texts = COMMON | OWN.get(table, {})
    if column not in texts:
        raise ArtifactError(
            f"{table}.{column}: the column has no description; add one to OWN or COMMON in "
            "vbon/artifacts/columns.py"
        )
    return texts[column]
