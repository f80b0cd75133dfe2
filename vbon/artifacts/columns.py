"""What every column of every table holds, for people.

The documentation prints it, and a test refuses a column that has no text. It stands beside
:mod:`vbon.artifacts.schemas` and not in it, because the code of the schemas is part of every run's
key: a better word for a column must not train anything again.
"""

from vbon.errors import ArtifactError

TABLES = {
    "reviews": ("data/reviews.parquet", "Labelled reviews, each for one purpose."),
    "posts": ("data/posts.parquet", "Posts with summaries, each for one purpose."),
    "strings": ("data/strings.parquet", "Every string of an enumerable language."),
    "text_rewards": ("models/{role}/rewards.parquet", "The enumerable task's rewards by text."),
    "prompts": ("prompts/{split}.parquet", "What responses continue."),
    "samples": ("reference/samples/{split}.parquet", "The pool: draws of the reference."),
    "rewards": ("reference/rewards/{split}.parquet", "Rewards of the pool's draws."),
    "logf": ("reference/logf/{split}.parquet", "What log F is estimated from."),
    "prior": ("reference/logf/prior-m{m}.parquet", "The reward distribution shared by prompts."),
    "pairs": ("reference/pairs/{name}.parquet", "What offline methods are trained on."),
    "history": ("runs/{method}/{setting}/seed{s}/history.parquet", "A run's training."),
    "responses": (
        "runs/{method}/{setting}/seed{s}/responses/{split}.parquet",
        "A policy's responses to the test prompts.",
    ),
    "points": ("points.parquet, points.csv", "The comparison: one row a run."),
    "costs": ("costs.parquet, costs.csv", "What each run took; differs between two executions."),
    "pareto": ("pareto.parquet, pareto.csv", "Shares of Pareto fronts, and hypervolumes."),
    "attainment": ("tables/attainment.csv", "Bands of the figures: the best metric at each KL."),
    "baselines": ("tables/baselines.csv", "The reference's summaries against simple ones."),
    "claims": ("tables/claims.csv", "The paper's claims, each with a verdict on this run."),
    "convergence": ("tables/convergence.csv", "What the last quarter of training still moved."),
    "curves": ("tables/curves.csv", "Exact curves of the enumerable task."),
    "data": ("tables/data.csv", "The data report, with the bounds of `checks`."),
    "equivalence": ("tables/equivalence.csv", "vBoN against its bound L at equal n and seed."),
    "estimators": ("tables/estimators.csv", "Estimators of log F, by draws a prompt."),
    "exact_and_bound": ("tables/exact_and_bound.csv", "Optima of vBoN and L by string length."),
    "figure3": ("tables/figure3.csv", "The pools of three prompts."),
    "inference": ("tables/inference.csv", "What one returned response costs."),
    "limits": ("tables/limits.csv", "Optima at extreme settings."),
    "matched_kl": ("tables/matched_kl.csv", "What each method attains at given KL budgets."),
    "missing": ("tables/missing.csv", "Runs that partial tables lack."),
    "models": ("tables/models.csv", "What the task's texts and models are; the report shows it."),
    "monitored": ("tables/monitored.csv", "The evaluator's reward along training."),
    "optimum": (
        "tables/optimum.csv",
        "Trained policies against the exact optimum of their method.",
    ),
    "orderings": ("tables/orderings.csv", "The paper's orderings of methods, tested."),
    "pools": ("tables/pools.csv", "How an estimated F moves the exact optimum."),
    "shown_samples": ("tables/samples.csv", "Responses of every run, as the report shows them."),
    "section6": ("tables/section6.csv", "The paper's section 6, tested."),
    "table1": ("tables/table1.csv", "Small samples of rewards against the pool."),
    "table2": ("tables/table2.csv, table4.csv to table7.csv", "Every method's summary of a post."),
    "training": ("tables/training.csv", "Histories of all runs in 40 rows each, for the report."),
}
"""Path below ``results/{task}/`` and one sentence, by table."""

COMMON = {
    "axes": "The metric against KL: `win_rate`, `reward_prob` or `evaluator_reward`.",
    "claim": "What the paper says, in short.",
    "diverged": "Runs that ended without finite numbers.",
    "domain": "`all`; of summaries `in_domain` (subreddits trained on) or `out_of_domain`.",
    "draw": "Number of the draw among its prompt's, from 0.",
    "episodes": "Responses sampled in training so far.",
    "estimator": "Estimator of log F.",
    "evaluator_reward": "Score by the held-out evaluator, which no method trains on.",
    "evaluator_reward_se": "Its standard error over prompts.",
    "evaluator_win_rate": "Win rate by the evaluator's rewards.",
    "evaluator_win_rate_se": "Its standard error over prompts.",
    "finished": "Whether the response ended by a sampled end-of-sequence token.",
    "folder": "Folder of the run.",
    "high": "Upper end of the 95 % interval.",
    "kl": "KL(policy ‖ reference) of a response, in nats.",
    "kl_coef": "Coefficient of the KL term, empty where the method has none.",
    "kl_se": "Its standard error over prompts.",
    "log_prob": "Log-probability of the response under the model that drew it, in nats.",
    "low": "Lower end of the 95 % interval.",
    "m": "Draws a prompt that log F is estimated from.",
    "method": "Name of the method.",
    "metric": "The metric that is compared.",
    "n": "Best-of-n that is approached, any number from 1; empty where the method has none.",
    "note": "Why there is no verdict, or what limits it.",
    "planned": "Runs that the configuration asks for.",
    "prompt": "The prompt's text.",
    "prompt_id": "Key of the prompt.",
    "reward": "Training reward: the reward model's logit or score.",
    "reward_prob": "Probability of POSITIVE by the reward model; empty where it has none.",
    "reward_prob_se": "Its standard error over prompts.",
    "reward_se": "Its standard error over prompts.",
    "rule": "When the verdict is positive.",
    "runs": "Runs of the method, diverged ones included.",
    "sample_seed": "Seed by which responses were sampled.",
    "saturation": "Share of responses above every draw of the pool, where log F is flat.",
    "score_seconds": "Seconds of scoring responses.",
    "seed": "Training seed.",
    "seeds": "Training seeds of the setting.",
    "series": "Which curve the row belongs to.",
    "setting": "Short name of the swept setting, as `n4` or `beta0.05`.",
    "source_id": "Key of the text that this was made from.",
    "statistic": "What `value` is.",
    "status": "`ok`, or `diverged`: numbers are then empty.",
    "study": "Name of the study, `main` for the task itself.",
    "summary": "A summary of the post.",
    "task": "Name of the task.",
    "temperature": "Sampling temperature.",
    "text": "The text itself.",
    "value": "The statistic's value.",
    "verdict": "`supported`, `not supported` or `undecided`.",
    "win_rate": "Share of the reference's draws for the prompt that a response beats, ties half.",
    "win_rate_se": "Its standard error over prompts.",
}
"""Columns that mean the same wherever they stand."""

OWN = {
    "reviews": {"label": "1 positive, 0 negative.", "part": "Its purpose: a model or a split."},
    "posts": {
        "subreddit": "Where the post was made.",
        "title": "Title of the post.",
        "post": "Text of the post.",
        "chosen": "The summary that raters prefer.",
        "rejected": "The other summary of the pair.",
        "part": "Its purpose: a model or a split.",
    },
    "prompts": {"prompt_ids": "Token ids of the prompt."},
    "strings": {
        "response_ids": "Token ids of the string.",
        "log_prob": "Log-probability under the reference, in nats.",
    },
    "samples": {"response": "Text of the response.", "response_ids": "Its token ids."},
    "pairs": {
        "pair": "Number of the pair among its prompt's, from 0.",
        "chosen": "Draw of the higher reward.",
        "rejected": "Draw of the lower reward.",
    },
    "logf": {
        "num_draws": "Draws that are used, M.",
        "rewards_sorted": "Their rewards, ascending.",
        "exp_a": "a of the exponential curve log F(r) = −a exp(−b r).",
        "exp_b": "b of that curve.",
        "exp_rmse": "Root mean square error of that curve, in nats.",
    },
    "prior": {
        "knots": "Rewards between which the shared distribution does not change, ascending.",
        "shares": "Share below each reward, between the knots.",
        "worth": "Draws of the prompt's own pool that the fit is worth.",
    },
    "history": {
        "step": "Number of the iteration, or of the measurement for offline methods.",
        "objective": "Mean return: reward minus the price of KL; offline, minus the mean loss.",
        "episodes": "Responses sampled so far, or pairs trained on by offline methods.",
        "clip_fraction": "Share of tokens whose probability ratio was clipped; of offline methods, "
        "updates whose gradient was scaled down.",
        "reward": "Mean training reward of the rollouts, before what the method makes of it.",
        "kl": "Sampled estimate of KL(policy ‖ reference), in nats; may be negative.",
        "grad_norm": "Norm of the gradient before clipping.",
        "learning_rate": "Learning rate of the step.",
        "seconds": "Seconds since training began.",
    },
    "responses": {
        "response": "Text of the response.",
        "response_ids": "Its token ids.",
        "log_prob": "Log-probability under the policy, in nats.",
        "log_prob_ref": "Log-probability under the reference, in nats.",
        "kl": "KL summed over the vocabulary at each token, in nats: exact a step.",
        "kl_k3": "The k3 estimate of the KL from the sampled tokens, in nats.",
    },
    "points": {
        "num_prompts": "Test prompts.",
        "num_responses": "Responses, all prompts together.",
        "kl_k1": "Mean log-ratio of policy and reference of the sampled tokens, in nats.",
        "kl_k3": "Mean of the k3 estimates, in nats.",
        "win_rate_single": "Share of first responses above one draw of the reference, ties lost.",
        "response_length": "Mean number of tokens of a response.",
        "eos_rate": "Share of responses that ended by a sampled end-of-sequence token.",
        "distinct_2": "Distinct pairs of neighbouring tokens over all such pairs.",
        "sampled_tokens": "Tokens drawn for this run: its rollouts, and what it used of the pool.",
        "trainable_parameters": "Parameters that training may change.",
        "estimator": "Estimator of log F; only in studies.",
        "m": "Draws a prompt that log F is estimated from; only in studies.",
    },
    "costs": {
        "train_seconds": "Seconds of the run's training, sampling and scoring included.",
        "sample_seconds": "Seconds of sampling in training.",
        "pool_sample_seconds": "The run's share of the seconds that drawing the pool took.",
        "pool_score_seconds": "The run's share of the seconds that scoring the pool took.",
        "peak_memory_mb": "Largest resident memory of the run's process, in MB.",
        "updates": "Steps of the optimiser.",
        "hardware": "Processor or GPU.",
    },
    "pareto": {
        "front": "`paper`: pooled without best-of-n and BoN-SFT; `all`: every method.",
        "on_front": "Runs of the method on the pooled front.",
        "share": "Its share of the pooled front's points.",
        "share_low": "Lower end of the 95 % bootstrap interval of the share.",
        "share_high": "Upper end.",
        "hypervolume": "Area that its runs dominate, in nats times the metric's unit.",
        "hypervolume_low": "Lower end of the 95 % bootstrap interval of the hypervolume.",
        "hypervolume_high": "Upper end.",
    },
    "attainment": {
        "value": "Best metric reached at that KL or less.",
        "median": "Median over bootstrap resamples.",
    },
    "baselines": {
        "candidate": "Whose summaries: reference, the post's beginning (`lead`), the given ones.",
        "posts": "Test posts.",
        **{
            f"rouge{kind}{end}": text
            for kind in ("1", "2", "L")
            for end, text in (
                ("", f"ROUGE-{kind} against the given summary."),
                ("_se", "Its standard error over posts."),
            )
        },
    },
    "claims": {
        "claim": "What the paper says, in short.",
        "source": "Where it says so.",
        "statistic": "What `value` is.",
        "value": "The statistic's value.",
        "low": "Lower end of its interval, 95 % unless the rule says otherwise.",
        "high": "Upper end.",
        "rule": "When the claim is supported.",
        "verdict": "`supported`, `not supported` or `undecided`.",
        "note": "What else bears on it, or what is missing.",
    },
    "convergence": {
        **{
            name: f"Movement of {text} over the last quarter: slope times its length."
            for name, text in {"win_rate": "win rate", "reward": "reward", "kl": "KL"}.items()
        },
        "win_rate_se": "Its standard error over seeds.",
        "reward_se": "Its standard error over seeds.",
        "kl_se": "Its standard error over seeds.",
        "at_rest": "Whether the win rate had come to rest.",
    },
    "curves": {"parameter": "n or β of the curve's point."},
    "data": {
        "quantity": "What is measured.",
        "low": "Smallest value that is accepted.",
        "high": "Largest value that is accepted.",
        "ok": "Whether the value is within.",
    },
    "equivalence": {
        "pairs": "Pairs of runs of equal n and seed.",
        "lost": "Pairs with a diverged run.",
        "win_rate_vbon": "Mean win rate of vBoN.",
        "win_rate_vbon_l": "Mean win rate of the bound L.",
        "difference": "vBoN minus L, in win rate.",
        "se": "Standard error of the difference over seeds.",
        "df": "Degrees of freedom.",
        "low": "Lower end of the 90 % interval of the difference.",
        "high": "Upper end of the 90 % interval of the difference.",
        "margin": "Largest difference that counts as none.",
        "p_equivalence": "Larger p-value of the two one-sided tests.",
        "p_difference": "p-value of the test of no difference.",
        "verdict": "`equivalent`, `different` or `undecided`.",
        "kl_difference": "vBoN minus L, in nats of KL.",
        "kl_se": "Its standard error over seeds.",
        "kl_low": "Lower end of its 90 % interval.",
        "kl_high": "Upper end of its 90 % interval.",
    },
    "estimators": {
        "prompts": "Training prompts.",
        **{
            f"{kind}_{level}": f"{text} of log F where F = .{level}, in nats."
            for level in (50, 90, 99)
            for kind, text in {"bias": "Mean error", "rmse": "Root mean square error"}.items()
        },
        "saturation": "Share of best-of-n's responses above the whole pool.",
        "saturation_expected": "Its expectation n / (n + m).",
        "ideal_win_rate": "Win rate of an ideal optimiser with this estimate.",
        "ideal_kl": "Its KL, in nats.",
        "win_rate": "Win rate that training attained with this estimate.",
        "kl": "KL that training attained, in nats.",
        "runs": "Runs behind it.",
    },
    "exact_and_bound": {
        "length": "Letters of every string.",
        "strings": "Number of strings.",
        "largest_probability": "Of a single string under the reference.",
        "tv": "Total variation between the optima of vBoN and L.",
        "kl": "KL between them, in nats.",
    },
    "figure3": {
        "kind": "`adversarial`, `neutral`, `positive`: lowest, median, highest mean reward."
    },
    "inference": {
        "draws": "Responses drawn for one returned.",
        "tokens": "Tokens drawn for one returned response.",
        "sample_seconds": "Seconds of drawing them.",
        "score_seconds": "Seconds of scoring them.",
        "seconds": "Both.",
        "relative_tokens": "Tokens over those of the reference.",
        "relative_seconds": "Seconds over those of the reference.",
    },
    "limits": {
        "optimum": "Family of optima.",
        "parameter": "What is varied.",
        "value": "Its value.",
        "tv_to_reference": "Total variation to the reference.",
        "tv_to_argmax": "Total variation to the best string alone.",
    },
    "matched_kl": {
        "kl": "KL budget, in nats.",
        "value": "Best metric along the method's mean curve within that budget.",
        "best_of_n": "Closed form of best-of-n at that KL; win rates only.",
        "difference": "Value minus that closed form.",
        "difference_low": "Lower end of its 95 % interval.",
        "difference_high": "Upper end.",
        "reaches": "Largest KL of the method's settings, in nats.",
    },
    "models": {
        "role": "Which model, or the texts.",
        "kind": "`setting` or `measured`.",
        "quantity": "Path of the setting, or what is measured.",
        "value": "Its value.",
    },
    "monitored": {"step": "Number of the iteration, or of the measurement."},
    "optimum": {
        "reward": "`injective` or `tied`.",
        "cdf": "`exact` F, or the draws that it was estimated from.",
        "policy_class": "`tabular` or `transformer`.",
        "tv_to_optimum": "Total variation of policy and optimum, for the exact F.",
        "kl_to_optimum": "KL(policy ‖ optimum), in nats.",
        "tv_to_estimated": "Total variation to the optimum for the estimated F.",
        "tv_of_reference": "Total variation of the reference to the optimum: where it began.",
        "objective": "The method's objective at the policy.",
        "objective_at_optimum": "The same at the optimum.",
        "gap": "The latter minus the former.",
        "mean_reward": "Exact mean reward of the policy.",
    },
    "orderings": {"paper": "The paper's number, where it gives one."},
    "pools": {
        "pools": "Pools averaged over.",
        "tv": "Total variation of the optima for estimated and exact F.",
        "tv_se": "Its standard error over pools.",
        "win_rate_exact": "Win rate of the optimum for the exact F.",
        "saturation": "Mass of best-of-n above the whole pool.",
        "saturation_continuous": "Its value n / (n + m) where strings have no mass.",
        "trained_tv": "Total variation that training on one such pool attained.",
    },
    "shown_samples": {"response": "Text of the run's first response to the prompt."},
    "training": {
        "step": "Number of the last iteration of the row.",
        "episodes": "Responses sampled so far, or pairs trained on by offline methods.",
        "reward": "Mean training reward of the rollouts.",
        "kl": "Sampled estimate of KL(policy ‖ reference), in nats; may be negative.",
        "win_rate": "Mean of the F that the method was trained on; an estimate where F is one.",
    },
    "table1": {
        "variant": "`nested` as in the paper, `independent`, or `predicted` for nested ones.",
        "rejection_rate": "Share of prompts whose Kolmogorov–Smirnov test rejects at 5 %.",
        "mean_statistic": "Mean statistic of the rejected.",
        "mean_p": "Mean p-value of the rejected.",
        "prompts": "Training prompts.",
        **{
            f"rmse_{level}": f"Error of log F where F = .{level}, in nats."
            for level in (50, 90, 99)
        },
    },
}
"""Columns of one table alone, or that mean something else there."""


def meaning(table: str, column: str) -> str:
    """What a column of a table holds.

    Raises:
        ArtifactError: If it is not described.

    Example:
        >>> meaning("points", "win_rate_se")
        'Its standard error over prompts.'
    """
    own = OWN.get(table, {})
    if column not in own and column not in COMMON:
        raise ArtifactError(
            f"{table}.{column}: column is not described; say in vbon/artifacts/columns.py what it "
            "holds"
        )
    return own.get(column, COMMON.get(column))
