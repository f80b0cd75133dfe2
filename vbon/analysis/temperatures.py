"""The paper's claims about summarization (arXiv:2407.06057, section 6), held against responses.

Test prompts are resampled, the same ones for every policy, so that what is easy or hard about a
post cancels in a difference. Win rates are against the reference at the same temperature and
prompt, by the held-out evaluator.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from vbon.analysis.verdicts import Rule
from vbon.errors import DataError
from vbon.evaluation.metrics import Pools, win_rates
from vbon.seeding import derive_seed
from vbon.statistics import percentile_interval

METRICS = ("evaluator_win_rate", "evaluator_reward")
LOW, HIGH = 0.5, 1.0
"""Temperatures up to the first, and from the second on, are what the claims set apart."""
MARGIN = {"evaluator_win_rate": 0.05, "evaluator_reward": 0.25}
"""Largest difference that counts as none."""
COLUMNS = (
    "claim",
    "temperature",
    "metric",
    "statistic",
    "value",
    "low",
    "high",
    "rule",
    "verdict",
)

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
        home: Whether a prompt is in the domain of training.
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
                own = means.setdefault((method, setting), {})
                own[metric, temperature] = table[metric].to_numpy()
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
        chosen = np.ones_like(self.home) if among is None else among
        weights = np.vstack((np.ones_like(values), self.drawn))[:, chosen]
        return weights @ values[chosen] / weights.sum(1)


def section6_table(evidence: Evidence) -> pd.DataFrame:
    """Every claim at every temperature that it speaks of.

    Returns:
        Columns :data:`COLUMNS`: a statistic with its 95 % interval, the rule by which it is read,
        and the verdict ``supported``, ``not supported`` or ``undecided``. Claims about methods
        that were not run are left out.
    """
    rows = []
    for metric in METRICS:
        for temperature in evidence.temperatures():
            rows += _best_of_n_is_best(evidence, metric, temperature)
            rows += _domains_agree(evidence, metric, temperature)
            rows += _vbon_against_ppo(evidence, metric, temperature)
            rows += _offline_methods(evidence, metric, temperature)
    order = {row["claim"]: None for row in rows}
    rows.sort(key=lambda row: list(order).index(row["claim"]))
    return pd.DataFrame(rows, columns=COLUMNS)


def paper_settings(evidence: Evidence) -> dict[str, str]:
    """The setting of each method that the paper shows: the largest n, or the largest kl_coef."""
    return {
        method: max(evidence.settings(method), key=_number)
        for method in dict.fromkeys(method for method, _ in evidence.means)
    }


def _number(setting: str) -> float:
    found = re.search(r"\d+(\.\d+)?", setting)
    return float(found[0]) if found else 0.0


def _best_of_n_is_best(evidence: Evidence, metric: str, temperature: float) -> list[dict[str, Any]]:
    """BoN minus the best of the others, at each resample anew."""
    shown = paper_settings(evidence)
    own = [evidence.mean(evidence.means[item][metric, temperature]) for item in shown.items()]
    if "best_of_n" not in shown or len(own) < 2:
        return []
    place = list(shown).index("best_of_n")
    gap = own[place] - np.max([row for i, row in enumerate(own) if i != place], axis=0)
    statistic = "BoN minus the best other"
    return [_row("BoN is best", temperature, metric, statistic, gap, Rule(low=0))]


def _domains_agree(evidence: Evidence, metric: str, temperature: float) -> list[dict[str, Any]]:
    """In-domain minus out-of-domain, mean over the trained policies, none but at t = 1.

    Only a win rate is comparable across domains: rewards of other posts are other rewards.
    """
    shown = {k: v for k, v in paper_settings(evidence).items() if k != "reference"}
    if metric != "evaluator_win_rate" or not shown:
        return []
    values = np.mean([evidence.means[item][metric, temperature] for item in shown.items()], axis=0)
    gap = evidence.mean(values, evidence.home) - evidence.mean(values, ~evidence.home)
    same = temperature < HIGH
    claim = "no gap between domains" if same else "a gap between domains"
    rule = Rule.within(MARGIN[metric]) if same else Rule(low=0)
    return [_row(claim, temperature, metric, "in-domain minus out-of-domain", gap, rule)]


def _vbon_against_ppo(evidence: Evidence, metric: str, temperature: float) -> list[dict[str, Any]]:
    """VBoN above PPO at low temperatures, alike at high ones; also at equal coefficients."""
    pairs = {}
    for vbon in evidence.settings("vbon"):
        for ppo in evidence.settings("ppo"):
            equal = abs(_number(ppo) * (_number(vbon) - 1) - 1) < 0.02
            if equal or (vbon, ppo) == tuple(map(paper_settings(evidence).get, ("vbon", "ppo"))):
                pairs[vbon, ppo] = "equal coefficient" if equal else "the paper's settings"
    rows = []
    for (vbon, ppo), kind in pairs.items():
        ours, theirs = evidence.means["vbon", vbon], evidence.means["ppo", ppo]
        gap = evidence.mean(ours[metric, temperature] - theirs[metric, temperature])
        low = temperature <= LOW
        rule = Rule(low=0) if low else Rule.within(MARGIN[metric])
        claim = f"vBoN {'above' if low else 'equal to'} PPO ({kind})"
        rows.append(_row(claim, temperature, metric, f"vBoN {vbon} minus PPO {ppo}", gap, rule))
    return rows


def _offline_methods(evidence: Evidence, metric: str, temperature: float) -> list[dict[str, Any]]:
    """DPO and BoNBoN keep up with PPO and vBoN at low temperatures only."""
    shown = paper_settings(evidence)
    if not {"dpo", "bonbon", "ppo", "vbon"} <= set(shown):
        return []

    def mean(*methods: str) -> Floats:
        parts = [evidence.means[name, shown[name]][metric, temperature] for name in methods]
        return np.mean(parts, axis=0)

    gap = evidence.mean(mean("dpo", "bonbon") - mean("ppo", "vbon"))
    low = temperature <= LOW
    rule = Rule(low=-MARGIN[metric]) if low else Rule(high=0)
    claim = f"DPO and BoNBoN {'' if low else 'not '}competitive"
    statistic = "mean of DPO and BoNBoN minus mean of PPO and vBoN"
    return [_row(claim, temperature, metric, statistic, gap, rule)]


def _row(
    claim: str, temperature: float, metric: str, statistic: str, gap: Floats, rule: Rule
) -> dict[str, Any]:
    low, high = map(float, percentile_interval(gap[1:]))
    read = (rule.words, rule.read(low, high))
    values = (claim, temperature, metric, statistic, float(gap[0]), low, high, *read)
    return dict(zip(COLUMNS, values, strict=True))


def example_table(
    prompt_id: str, responses: Sequence[tuple[str, str, pd.DataFrame]]
) -> pd.DataFrame:
    """What each policy says of one post: its first response by the first sample seed.

    Args:
        prompt_id: Of the post.
        responses: Method, setting and rows of schema "responses" of each policy.
    """
    rows = []
    for method, setting, table in responses:
        own = table[table["prompt_id"] == prompt_id].sort_values("draw").iloc[0]
        numbers = {name: own[name] for name in ("evaluator_reward", "reward")}
        summary = own["response"].strip()
        rows.append({"method": method, "setting": setting, "summary": summary, **numbers})
    return pd.DataFrame(rows)
