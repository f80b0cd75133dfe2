"""The paper's claims about summarization (arXiv:2407.06057, section 6), tested on responses.

Test prompts are resampled, the same ones for every policy, so that what is easy or hard about a
post cancels in a difference. Win rates are against the reference at the same temperature and
prompt, by the held-out evaluator.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from vbon.analysis.verdicts import Rule, Statistic
from vbon.errors import DataError
from vbon.evaluation.metrics import Pools, win_rates
from vbon.seeding import derive_seed
from vbon.statistics import percentile_interval

METRICS = ("evaluator_win_rate", "evaluator_reward")
LOW, HIGH = 0.5, 1.0
"""Temperatures up to the first, and from the second on, are what the claims set apart."""
MARGIN = {"evaluator_win_rate": 0.05, "evaluator_reward": 0.25}
"""Largest difference that counts as none."""

NAMES = {
    "best_of_n_best": "BoN is best",
    "domains_equal": "no gap between domains",
    "domains_differ": "a gap between domains",
    "vbon_above_ppo": "vBoN above PPO (the paper's settings)",
    "vbon_above_ppo_equal_coefficient": "vBoN above PPO (equal coefficient)",
    "vbon_equals_ppo": "vBoN equal to PPO (the paper's settings)",
    "vbon_equals_ppo_equal_coefficient": "vBoN equal to PPO (equal coefficient)",
    "offline_competitive": "DPO and BoNBoN competitive",
    "offline_not_competitive": "DPO and BoNBoN not competitive",
}
"""Claims by key, as the table prints them."""

Floats = npt.NDArray[np.float64]


def by_prompt(responses: pd.DataFrame, pools: Pools) -> pd.DataFrame:
    """Each prompt's means over sample seeds and draws.

    Args:
        responses: Schema "responses", one policy's at one temperature.
        pools: The reference's evaluator rewards of each prompt, ascending.

    Returns:
        Columns of :data:`METRICS`, by ``prompt_id``.
    """
    rewards = responses["evaluator_reward"].to_numpy()
    wins, _ = win_rates(responses["prompt_id"], rewards, pools)
    table = pd.DataFrame({"evaluator_win_rate": wins, "evaluator_reward": rewards})
    return table.groupby(responses["prompt_id"].to_numpy(), sort=True).mean()


@dataclass(frozen=True)
class Evidence:
    """Means of every policy on every prompt, and resamples of the prompts.

    Attributes:
        means: Values by (method, setting), metric and temperature, [prompts].
        drawn: How often each resample holds each prompt, [replicates, prompts].
        home: True for prompts in the domain of training.
    """

    means: Mapping[tuple[str, str], Mapping[tuple[str, float], Floats]]
    drawn: Floats
    home: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        tables: Mapping[tuple[str, str, float], pd.DataFrame],
        domains: Mapping[str, str],
        seed: int,
        replicates: int,
    ) -> "Evidence":
        """Line up the tables of :func:`by_prompt`, by method, setting and temperature.

        Raises:
            DataError: If a policy was not measured on the same prompts as the others.
        """
        names = next(iter(tables.values())).index
        means: dict[tuple[str, str], dict[tuple[str, float], Floats]] = {}
        for (method, setting, temperature), table in tables.items():
            if not table.index.equals(names):
                raise DataError(f"{method} {setting}: other prompts than the first policy's")
            for metric in METRICS:
                by_metric = means.setdefault((method, setting), {})
                by_metric[metric, temperature] = table[metric].to_numpy()
        home = np.array([domains[name] == "in_domain" for name in names])
        rng = np.random.default_rng(derive_seed(seed, "section6"))
        drawn = np.zeros((replicates, len(names)))
        for group in (home, ~home):  # a resample keeps the sizes of the domains
            share = np.full(group.sum(), 1 / group.sum())
            drawn[:, group] = rng.multinomial(group.sum(), share, size=replicates)
        return cls(means, drawn, home)

    def settings(self, method: str) -> list[str]:
        """Settings of a method that was run."""
        return [setting for name, setting in self.means if name == method]

    def temperatures(self) -> list[float]:
        """Temperatures of evaluation, ascending."""
        return sorted({temperature for _, temperature in next(iter(self.means.values()))})

    def mean(self, values: Floats, among: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Mean of prompts' values, first the measured one, then of every resample."""
        among = np.ones_like(self.home) if among is None else among
        weights = np.vstack((np.ones_like(values), self.drawn))[:, among]
        return weights @ values[among] / weights.sum(1)


def section6_table(evidence: Evidence) -> pd.DataFrame:
    """Every claim at every temperature that it is about.

    Returns:
        Columns ``claim, temperature, metric, statistic, value, low, high`` (95 %), ``rule``,
        ``verdict`` (``supported``, ``not supported``, ``undecided``), ``key`` (of :data:`NAMES`),
        ``rule_low, rule_high``. Claims about methods that were not run are left out.
    """
    statistics = [
        statistic
        for metric in METRICS
        for temperature in evidence.temperatures()
        for test in (_best_of_n_is_best, _domains_agree, _vbon_against_ppo, _offline_methods)
        for statistic in test(evidence, metric, temperature)
    ]
    order = list(dict.fromkeys(statistic.key for statistic in statistics))
    statistics.sort(key=lambda statistic: order.index(statistic.key))
    rows = [{"claim": NAMES[statistic.key], **statistic.row()} for statistic in statistics]
    columns = ["claim", "temperature", "metric", "statistic", "value", "low", "high", "rule"]
    return pd.DataFrame(rows, columns=[*columns, "verdict", "key", "rule_low", "rule_high"])


def paper_settings(evidence: Evidence) -> dict[str, str]:
    """The setting of each method that the paper shows: the largest n, or the largest kl_coef."""
    return {
        method: max(evidence.settings(method), key=_number)
        for method in dict.fromkeys(method for method, _ in evidence.means)
    }


def _number(setting: str) -> float:
    """Value of the swept setting in its short name, 0 for the default."""
    match = re.search(r"\d+(\.\d+)?", setting)
    return float(match[0]) if match else 0.0


def _best_of_n_is_best(evidence: Evidence, metric: str, temperature: float) -> Iterator[Statistic]:
    """BoN minus the best of the others, which may be another one in each resample."""
    means = {
        method: evidence.mean(evidence.means[method, setting][metric, temperature])
        for method, setting in paper_settings(evidence).items()
    }
    if "best_of_n" in means and len(means) > 1:
        gap = means.pop("best_of_n") - np.max(list(means.values()), axis=0)
        text = "BoN minus the best other"
        yield _statistic("best_of_n_best", temperature, metric, text, gap, Rule(low=0))


def _domains_agree(evidence: Evidence, metric: str, temperature: float) -> Iterator[Statistic]:
    """In-domain minus out-of-domain, mean over the trained policies: no gap except at t = 1.

    Only a win rate is comparable across domains: rewards of other posts are other rewards.
    """
    shown = {k: v for k, v in paper_settings(evidence).items() if k != "reference"}
    if metric == "evaluator_win_rate" and shown:
        means = [evidence.means[item][metric, temperature] for item in shown.items()]
        values = np.mean(means, axis=0)
        gap = evidence.mean(values, evidence.home) - evidence.mean(values, ~evidence.home)
        same = temperature < HIGH
        rule = Rule.within(MARGIN[metric]) if same else Rule(low=0)
        key, text = f"domains_{'equal' if same else 'differ'}", "in-domain minus out-of-domain"
        yield _statistic(key, temperature, metric, text, gap, rule)


def _vbon_against_ppo(evidence: Evidence, metric: str, temperature: float) -> Iterator[Statistic]:
    """VBoN above PPO at low temperatures, alike at high ones; also at equal coefficients."""
    shown = paper_settings(evidence)
    low = temperature <= LOW
    rule = Rule(low=0) if low else Rule.within(MARGIN[metric])
    for vbon in evidence.settings("vbon"):
        for ppo in evidence.settings("ppo"):
            equal = abs(_number(ppo) * (_number(vbon) - 1) - 1) < 0.02
            if equal or (vbon, ppo) == (shown["vbon"], shown["ppo"]):
                means = evidence.means["vbon", vbon], evidence.means["ppo", ppo]
                gap = evidence.mean(means[0][metric, temperature] - means[1][metric, temperature])
                key = f"vbon_{'above' if low else 'equals'}_ppo{'_equal_coefficient' * equal}"
                text = f"vBoN {vbon} minus PPO {ppo}"
                yield _statistic(key, temperature, metric, text, gap, rule)


def _offline_methods(evidence: Evidence, metric: str, temperature: float) -> Iterator[Statistic]:
    """DPO and BoNBoN keep up with PPO and vBoN at low temperatures only."""
    shown = paper_settings(evidence)
    if {"dpo", "bonbon", "ppo", "vbon"} <= set(shown):

        def mean(*methods: str) -> Floats:
            parts = [evidence.means[name, shown[name]][metric, temperature] for name in methods]
            return np.mean(parts, axis=0)

        gap = evidence.mean(mean("dpo", "bonbon") - mean("ppo", "vbon"))
        low = temperature <= LOW
        rule = Rule(low=-MARGIN[metric]) if low else Rule(high=0)
        key = f"offline_{'' if low else 'not_'}competitive"
        text = "mean of DPO and BoNBoN minus mean of PPO and vBoN"
        yield _statistic(key, temperature, metric, text, gap, rule)


def _statistic(
    key: str, temperature: float, metric: str, text: str, gap: Floats, rule: Rule
) -> Statistic:
    low, high = map(float, percentile_interval(gap[1:]))
    where = {"key": key, "metric": metric, "temperature": temperature}
    return Statistic(text, float(gap[0]), low, high, rule, **where)


def example_table(
    prompt_id: str, runs: Iterable[tuple[Mapping[str, Any], pd.DataFrame]]
) -> pd.DataFrame:
    """Each policy's summary of one post: its first response by the first sample seed.

    Args:
        prompt_id: Key of the post's prompt.
        runs: Record and responses (schema "responses") of each run.
    """
    rows = []
    for run, table in runs:
        first = table[table["prompt_id"] == prompt_id].sort_values("draw").iloc[0]
        row = {name: run[name] for name in ("method", "setting")}
        row["summary"] = first["response"].strip()
        rows.append(row | {name: first[name] for name in ("evaluator_reward", "reward")})
    return pd.DataFrame(rows)
