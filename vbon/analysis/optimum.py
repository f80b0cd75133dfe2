"""Tables of the enumerable task: trained policies and estimates compared with exact optima."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64

from vbon.artifacts import read_table
from vbon.artifacts.tables import read_record
from vbon.batches import Prompts
from vbon.models.language_model import load_language_model
from vbon.objectives import oracle
from vbon.planning.runs import Run
from vbon.pool import logf
from vbon.seeding import derive_seed
from vbon.tasks import language as enumerable

Strings = Float64[np.ndarray, " strings"]
Draws = Float64[np.ndarray, " draws"]
_LONGER = 3  # tokens beyond the task's limit up to which J and L are compared


@dataclass(frozen=True)
class Language:
    """All responses to every prompt, with log-probs under the reference (nats) and rewards."""

    prompts: Prompts
    responses: list[list[int]]
    log_ref: list[Strings]
    rewards: list[Strings]

    @classmethod
    def load(cls, root: str) -> "Language":
        """Read the language of a task or study."""
        table = read_table(Path(root) / "data/strings.parquet", "strings")
        prompts = read_table(Path(root) / "prompts/train.parquet", "prompts")
        groups = [group for _, group in table.groupby("prompt_id", sort=False)]
        return cls(
            Prompts.from_lists(prompts["prompt_ids"].tolist(), prompts["prompt_id"].tolist()),
            [list(ids) for ids in groups[0]["response_ids"]],
            [group["log_prob"].to_numpy() for group in groups],
            [group["reward"].to_numpy() for group in groups],
        )

    def __iter__(self) -> Any:
        """Iterate over prompts: pairs of reference log-probs and rewards of all responses."""
        return zip(self.log_ref, self.rewards, strict=True)


def compare(run: Run, section: Mapping[str, Any], language: Language) -> dict[str, Any] | None:
    """One row of ``optimum``: a trained policy compared with the optimum of its method.

    All numbers are exact sums over strings, averaged over prompts. ``tv_to_optimum`` and
    ``kl_to_optimum`` (KL(policy ‖ optimum), nats) refer to the optimum for the exact F, even if
    the method was trained on an estimate; ``tv_to_estimated`` refers to the optimum for the
    estimate if that comes from a pool, else to the same optimum.

    Returns:
        The row by column; None for a run without a trained policy and for a method without a
        finite optimum.
    """
    method = run.instance
    if not method.trained or method.is_reference or method.optimum is None:
        return None
    record = read_record(Path(run.folder) / "run.json")
    cdf = estimator = "exact"
    if not section["exact_cdf"]:
        logf_settings = run.spec.get("logf", section["logf"])
        cdf, estimator = str(logf_settings["m"]), logf_settings["estimator"]
    row: dict[str, Any] = {
        **{name: getattr(run, name) for name in ("method", "setting", "seed")},
        "study": run.study or "main",
        "reward": section["reward"],
        "cdf": cdf,
        "estimator": estimator,
        "policy_class": section["policy_class"],
        "status": record["status"],
    }
    if record["status"] != "ok":
        return row
    settings = method.optimum_settings(record.get("mean_nll", np.nan))
    path = run.inputs().get("logf")
    pools = [] if path is None else read_table(path, "logf")["rewards_sorted"].tolist()
    parts = []
    torch.set_num_threads(1)
    model = load_language_model(Path(run.folder) / "policy")
    policies = enumerable.log_probs(model, language.prompts, language.responses).numpy()
    for index, (policy, (log_ref, rewards)) in enumerate(zip(policies, language, strict=True)):
        best = oracle.optimum(method.optimum, log_ref, rewards, **settings)
        at_policy = oracle.objective(method.optimum, policy, log_ref, rewards, **settings)
        at_best = oracle.objective(method.optimum, best, log_ref, rewards, **settings)
        estimated = best
        if "logf" in method.needs and estimator in logf.POOL_ESTIMATORS:
            below = logf.estimate(rewards, pools[index], estimator)
            estimated = oracle.optimum(
                method.optimum, log_ref, rewards, **settings, log_below=below
            )
        metrics = oracle.metrics(policy, log_ref, rewards)
        metrics["mean_reward"] = metrics.pop("reward")
        parts.append(
            {
                "tv_to_optimum": oracle.total_variation(policy, best),
                "kl_to_optimum": oracle.kl(policy, best),
                "tv_to_estimated": oracle.total_variation(policy, estimated),
                "tv_of_reference": oracle.total_variation(log_ref, best),
                "objective": at_policy,
                "objective_at_optimum": at_best,
                "gap": at_best - at_policy,
                **metrics,
            }
        )
    return row | pd.DataFrame(parts).mean().to_dict()


def pool_study(
    language: Language, settings: Mapping[str, Any], optima: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Shift of the optimum of L when F is estimated, per estimator, M and N.

    For each of ``num_pools`` pools of M reference draws, the optimum pi_ref * F_hat^(n-1) is
    computed exactly and compared with that for the exact F. ``trained_tv`` is the distance that
    training on such a pool attained, where a study of the config did so. The estimates of
    ``digamma`` and ``posterior`` differ by a constant, which does not change the optimum.
    ``saturation`` is the share of best-of-n's responses with a reward above the whole pool; it
    equals ``saturation_continuous`` = n / (n + m) if no string has positive mass.

    Returns:
        Columns estimator, m, n, pools, tv, tv_se, kl, win_rate, win_rate_exact, saturation,
        saturation_continuous, trained_tv.
    """
    generator = np.random.default_rng(derive_seed(seed, "pool study"))
    trained = optima[(optima["method"] == "vbon_l") & (optima["policy_class"] == "tabular")]
    rows = []
    for m in settings["m"]:
        pools = [_draw_pools(parts, m, settings["num_pools"], generator) for parts in language]
        for estimator in logf.POOL_ESTIMATORS:
            for n in settings["n"]:
                metrics = pd.DataFrame(
                    [
                        _moved(log_ref, rewards, pool, estimator, n)
                        for (log_ref, rewards), drawn in zip(language, pools, strict=True)
                        for pool in drawn
                    ]
                )
                match = (trained["cdf"] == str(m)) & (trained["setting"] == f"n{n:g}")
                match &= trained["estimator"] == estimator
                row = {"estimator": estimator, "m": m, "n": n, "pools": len(metrics)}
                row |= {"tv": metrics["tv"].mean(), "tv_se": metrics["tv"].sem()}
                row |= {name: values.mean() for name, values in metrics.items() if name != "tv"}
                row["saturation_continuous"] = n / (n + m)
                rows.append(row | {"trained_tv": trained.loc[match, "tv_to_optimum"].mean()})
    return pd.DataFrame(rows)


def _draw_pools(
    parts: tuple[Strings, Strings], m: int, num_pools: int, generator: np.random.Generator
) -> Float64[np.ndarray, "pools draws"]:
    log_ref, rewards = parts
    probs = np.exp(log_ref) / np.exp(log_ref).sum()
    return np.sort(generator.choice(rewards, size=(num_pools, m), p=probs), axis=1)


def _moved(
    log_ref: Strings, rewards: Strings, pool: Draws, estimator: str, n: float
) -> dict[str, float]:
    """Metrics of the optimum of L for one pool, compared with that for the exact F."""
    exact = oracle.optimum("lower_bound", log_ref, rewards, n=n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", logf.FitWarning)  # falls back to add1, as in training
        below = logf.estimate(rewards, pool, estimator)
    moved = oracle.optimum("lower_bound", log_ref, rewards, n=n, log_below=below)
    measured = oracle.metrics(moved, log_ref, rewards)
    return {
        "tv": oracle.total_variation(moved, exact),
        "kl": measured["kl"],
        "win_rate": measured["win_rate"],
        "win_rate_exact": oracle.metrics(exact, log_ref, rewards)["win_rate"],
        "saturation": np.exp(oracle.optimum("best_of_n", log_ref, rewards, n=n))[
            rewards > pool[-1]
        ].sum(),
    }


def exact_and_bound(section: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """Distance between the optima of J (best-of-n) and L as responses grow longer.

    The two differ because single strings have positive mass. This mass vanishes with length, so
    for real language models the two problems coincide. Strings that end early keep their mass at
    any limit, so this language has only the strings of exactly ``length`` letters.

    Returns:
        Columns length, strings, largest_probability, n, tv, kl.
    """
    rows, letters, tabular = [], section["num_letters"], {**section, "policy_class": "tabular"}
    table = enumerable.make_prompts(letters, 1)
    prompts = Prompts.from_lists(table["prompt_ids"].tolist(), table["prompt_id"].tolist())
    for limit in range(1, section["sampling"]["max_new_tokens"] + _LONGER + 1):
        every = enumerable.all_responses(letters, limit)
        responses = [row for row in every if letters not in row]  # no end token
        reference = enumerable.build_reference(tabular, limit, prompts, seed)
        log_ref = enumerable.log_probs(reference, prompts, responses)[0].numpy()
        log_ref = log_ref - np.logaddexp.reduce(log_ref)
        rewards = enumerable.make_rewards(table, responses, letters, "injective", seed)
        rewards = rewards["reward"].to_numpy()
        largest = np.exp(log_ref.max())
        for n in (2, 4, 8, 16):
            exact = oracle.optimum("best_of_n", log_ref, rewards, n=n)
            bound = oracle.optimum("lower_bound", log_ref, rewards, n=n)
            distances = oracle.total_variation(exact, bound), oracle.kl(exact, bound)
            rows.append((limit, len(responses), largest, n, *distances))
    names = ["length", "strings", "largest_probability", "n", "tv", "kl"]
    return pd.DataFrame(rows, columns=names)


def limits(language: Language) -> pd.DataFrame:
    """Distance of each family of optima to its limits: the reference and the best string.

    Returns:
        Columns optimum, parameter, value, tv_to_reference, tv_to_argmax (means over prompts).
    """
    rows = []
    for name, parameter, values in (
        ("best_of_n", "n", (1.0, 1.001, 2, 16, 256, 1e4, 1e6)),
        ("lower_bound", "n", (1.0, 1.001, 2, 16, 256, 1e4, 1e6)),
        ("kl_rl", "kl_coef", (1e6, 1e3, 1.0, 0.1, 1e-2, 1e-3, 1e-5)),
    ):
        for value in values:
            parts = []
            for log_ref, rewards in language:
                policy = oracle.optimum(name, log_ref, rewards, **{parameter: value})
                best = np.where(np.arange(len(rewards)) == rewards.argmax(), 0.0, -np.inf)
                parts.append([oracle.total_variation(policy, end) for end in (log_ref, best)])
            rows.append((name, parameter, value, *np.mean(parts, axis=0)))
    names = ["optimum", "parameter", "value", "tv_to_reference", "tv_to_argmax"]
    return pd.DataFrame(rows, columns=names)


def curves(language: Language) -> pd.DataFrame:
    """Exact win rate against KL along the families of optima, for the figure.

    Returns:
        Columns series (``best_of_n``, ``kl_rl``), parameter, kl, win_rate: means over prompts.
    """
    rows = []
    for name, key, values in (
        ("best_of_n", "n", [1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128]),
        ("kl_rl", "kl_coef", np.geomspace(50, 0.02, 60)),
    ):
        for value in values:
            metrics = [
                oracle.metrics(oracle.optimum(name, *prompt, **{key: float(value)}), *prompt)
                for prompt in language
            ]
            means = pd.DataFrame(metrics).mean()
            rows.append((name, float(value), max(means["kl"], 0.0), means["win_rate"]))
    return pd.DataFrame(rows, columns=["series", "parameter", "kl", "win_rate"])
