"""The paper's claims about summarization (arXiv:2407.06057, section 6), tested on responses.

Each resample draws test prompts, the same ones for every policy, so that the difficulty of a post
cancels in a difference, and training seeds, per setting. Win rates are against the reference at the
same temperature and prompt, by the held-out evaluator.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
KL = "kl"
LOW, HIGH = 0.5, 1.0
"""Temperatures up to the first, and from the second on, are what the claims set apart."""
MARGIN = {"evaluator_win_rate": 0.05, "evaluator_reward": 0.25}
"""Largest difference that counts as none."""
SPLITS = 20
"""Random halvings of the prompts: one half selects the best setting, the other measures it."""

NAMES = {
    "best_of_n_best": "BoN is best (all settings)",
    "best_of_n_best_paper": "BoN is best (the paper's settings)",
    "best_of_n_above_setting": "BoN above each setting",
    "domains_equal": "no gap between domains",
    "domains_differ": "a gap between domains",
    "vbon_above_ppo": "vBoN above PPO (the paper's settings)",
    "vbon_above_ppo_equal_coefficient": "vBoN above PPO (equal coefficient)",
    "vbon_equals_ppo": "vBoN equal to PPO (the paper's settings)",
    "vbon_equals_ppo_equal_coefficient": "vBoN equal to PPO (equal coefficient)",
    "vbon_as_good_as_ppo": "vBoN as good as PPO with less KL: the score",
    "vbon_less_kl_than_ppo": "vBoN as good as PPO with less KL: the KL",
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
        Columns of :data:`METRICS` and :data:`KL`, by ``prompt_id``.
    """
    rewards = responses["evaluator_reward"].to_numpy()
    wins, _ = win_rates(responses["prompt_id"], rewards, pools)
    table = pd.DataFrame({"evaluator_win_rate": wins, "evaluator_reward": rewards})
    table[KL] = responses[KL].to_numpy()
    return table.groupby(responses["prompt_id"].to_numpy(), sort=True).mean()


Setting = tuple[str, str]
"""Method, and short name of its setting."""
Rows = Iterator[tuple[Statistic, dict[str, float]]]
"""Statistics, each with the KL of the two policies that it compares."""


@dataclass(frozen=True)
class Evidence:
    """Means of every policy on every prompt, and resamples of training seeds and prompts.

    Attributes:
        values: By method and setting, then metric and temperature, [training seeds, prompts].
        prompts: Weight of each prompt, [1 + replicates, prompts]; the first row is all ones.
        seeds: Weights of each setting's training seeds, [1 + replicates, training seeds].
        home: True for prompts in the domain of training.
        halves: Halves of the prompts, [2 * SPLITS, prompts]; one and its complement are
            :data:`SPLITS` rows apart.
    """

    values: Mapping[Setting, Mapping[tuple[str, float], Floats]]
    prompts: Floats
    seeds: Mapping[Setting, Floats]
    home: npt.NDArray[np.bool_]
    halves: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        tables: Mapping[tuple[str, str, int, float], pd.DataFrame],
        domains: Mapping[str, str],
        seed: int,
        replicates: int,
    ) -> "Evidence":
        """Line up the tables of :func:`by_prompt`, by method, setting, seed and temperature.

        Of ``k`` training seeds a resample draws ``k - 1``, since drawing ``k`` would shrink the
        variance of their mean (Rao and Wu, JASA 83, 1988); a single one is always drawn.

        Raises:
            DataError: If a policy was not measured on the same prompts as the others.
        """
        names = next(iter(tables.values())).index
        collected: dict[Setting, dict[tuple[str, float], list[Floats]]] = {}
        for (method, setting, _, temperature), table in tables.items():
            if not table.index.equals(names):
                raise DataError(f"{method} {setting}: other prompts than the first policy's")
            for metric in (*METRICS, KL):
                by_metric = collected.setdefault((method, setting), {})
                by_metric.setdefault((metric, temperature), []).append(table[metric].to_numpy())
        values = {k: {m: np.stack(rows) for m, rows in v.items()} for k, v in collected.items()}
        home = np.array([domains[name] == "in_domain" for name in names])
        rng = np.random.default_rng(derive_seed(seed, "section6"))
        prompts = np.ones((1 + replicates, len(names)))
        for group in (home, ~home):  # a resample keeps the sizes of the domains
            share = np.full(group.sum(), 1 / group.sum())
            prompts[1:, group] = rng.multinomial(group.sum(), share, size=replicates)
        seeds = {}
        for setting, by_metric in values.items():
            count = len(next(iter(by_metric.values())))
            rng = np.random.default_rng(derive_seed(seed, "section6", "seeds", *setting))
            picked = rng.multinomial(max(count - 1, 1), np.full(count, 1 / count), size=replicates)
            seeds[setting] = np.vstack((np.ones(count), picked))
        rng = np.random.default_rng(derive_seed(seed, "section6", "halves"))
        halves = np.zeros((SPLITS, len(names)), dtype=bool)
        for half in halves:
            for group in map(np.flatnonzero, (home, ~home)):
                half[rng.permutation(group)[: len(group) // 2]] = True
        return cls(values, prompts, seeds, home, np.vstack((halves, ~halves)))

    def settings(self, method: str) -> list[str]:
        """Settings of a method that was run."""
        return [setting for name, setting in self.values if name == method]

    def temperatures(self) -> list[float]:
        """Temperatures of evaluation, ascending."""
        return sorted({temperature for _, temperature in next(iter(self.values.values()))})

    def mean(
        self,
        setting: Setting,
        metric: str,
        temperature: float,
        among: npt.NDArray[np.bool_] | None = None,
    ) -> Floats:
        """Mean over seeds and prompts, first the measured one, then that of every resample.

        Args:
            setting: Method and setting.
            metric: Of :data:`METRICS`, or :data:`KL`.
            temperature: Of evaluation.
            among: Prompts to average over, [prompts], or several sets of them, [sets, prompts];
                all by default.

        Returns:
            [1 + replicates], or [1 + replicates, sets].
        """
        seeds, values = self.seeds[setting], self.values[setting][metric, temperature]
        among = np.ones_like(self.home) if among is None else among
        by_prompt = seeds @ values / seeds.sum(1, keepdims=True)
        return ((self.prompts * by_prompt) @ among.T) / (self.prompts @ among.T)

    def gap_to_best(
        self, first: Setting, others: Sequence[Setting], metric: str, temperature: float
    ) -> Floats:
        """One setting minus the best of the others, which is chosen on other prompts.

        The largest of several noisy means is too large. Here one half of the prompts selects the
        best setting and the other half measures it, in both directions and over :data:`SPLITS`
        halvings; every resample selects again. Luck of a training seed is common to both halves.

        Returns:
            The measured difference, then that of every resample.
        """
        of_halves = np.stack([self.mean(s, metric, temperature, self.halves) for s in others])
        best = of_halves.argmax(axis=0)[None]
        opposite = np.roll(of_halves, SPLITS, axis=2)
        measured = np.take_along_axis(opposite, best, axis=0)[0]
        alike = np.roll(self.mean(first, metric, temperature, self.halves), SPLITS, axis=1)
        return (alike - measured).mean(axis=1)


def section6_table(evidence: Evidence) -> pd.DataFrame:
    """Every claim at every temperature that it is about.

    Returns:
        Columns ``claim, temperature, metric, statistic, value, low, high`` (95 %), ``rule``,
        ``verdict`` (``supported``, ``not supported``, ``undecided``), ``kl, other_kl`` (nats, of
        the two policies that a row compares), ``key`` (of :data:`NAMES`), ``rule_low, rule_high``.
        Claims about methods that were not run are left out.
    """
    tests = (_best_of_n_is_best, _domains_agree, _vbon_against_ppo, _kl_of_vbon, _offline_methods)
    rows = [
        {"claim": NAMES[statistic.key], **statistic.row(), **kl}
        for metric in METRICS
        for temperature in evidence.temperatures()
        for test in tests
        for statistic, kl in test(evidence, metric, temperature)
    ]
    order = list(dict.fromkeys(row["key"] for row in rows))
    rows.sort(key=lambda row: order.index(row["key"]))
    columns = ["claim", "temperature", "metric", "statistic", "value", "low", "high", "rule"]
    columns += ["verdict", KL, f"other_{KL}", "key", "rule_low", "rule_high"]
    return pd.DataFrame(rows, columns=columns)


def paper_settings(evidence: Evidence) -> dict[str, str]:
    """The setting of each method that the paper shows: the largest n, or the largest kl_coef."""
    return {
        method: max(evidence.settings(method), key=_number)
        for method in dict.fromkeys(method for method, _ in evidence.values)
    }


def _number(setting: str) -> float:
    """Value of the swept setting in its short name, 0 for the default."""
    match = re.search(r"\d+(\.\d+)?", setting)
    return float(match[0]) if match else 0.0


def _best_of_n_is_best(evidence: Evidence, metric: str, temperature: float) -> Rows:
    """BoN at its largest n minus the best of all other methods' settings, and minus each."""
    shown = paper_settings(evidence)
    best_of_n = ("best_of_n", shown.pop("best_of_n", ""))
    every = [setting for setting in evidence.values if setting[0] != "best_of_n"]
    if best_of_n in evidence.values and every:
        for key, others, words in (
            ("best_of_n_best", every, f"all {len(every)} other settings"),
            ("best_of_n_best_paper", list(shown.items()), _named(shown.items())),
        ):
            gap = evidence.gap_to_best(best_of_n, others, metric, temperature)
            text = f"BoN {best_of_n[1]} minus the best of {words}"
            yield _statistic(key, temperature, metric, text, gap, Rule(low=0)), {}
        for other in every:
            yield _pair(
                evidence, "best_of_n_above_setting", temperature, metric, best_of_n, other, Rule(0)
            )


def _domains_agree(evidence: Evidence, metric: str, temperature: float) -> Rows:
    """In-domain minus out-of-domain, mean over policies but the reference: no gap below t = 1.

    Only a win rate is comparable across domains: rewards of other posts are other rewards.
    """
    shown = {k: v for k, v in paper_settings(evidence).items() if k != "reference"}
    if metric == "evaluator_win_rate" and shown:
        domains = np.vstack((evidence.home, ~evidence.home))
        by_policy = [evidence.mean(s, metric, temperature, domains) for s in shown.items()]
        gap = -np.diff(np.mean(by_policy, axis=0))[:, 0]
        same = temperature < HIGH
        rule = Rule.within(MARGIN[metric]) if same else Rule(low=0)
        key = f"domains_{'equal' if same else 'differ'}"
        text = f"in-domain minus out-of-domain, mean of {_named(shown.items())}"
        yield _statistic(key, temperature, metric, text, gap, rule), {}


def _vbon_against_ppo(evidence: Evidence, metric: str, temperature: float) -> Rows:
    """VBoN above PPO at low temperatures, alike at high ones; also at equal coefficients."""
    shown = paper_settings(evidence)
    low = temperature <= LOW
    rule = Rule(low=0) if low else Rule.within(MARGIN[metric])
    for vbon in evidence.settings("vbon"):
        for ppo in evidence.settings("ppo"):
            equal = _equal_coefficients(vbon, ppo)
            if equal or (vbon, ppo) == (shown["vbon"], shown["ppo"]):
                key = f"vbon_{'above' if low else 'equals'}_ppo{'_equal_coefficient' * equal}"
                pair = ("vbon", vbon), ("ppo", ppo)
                yield _pair(evidence, key, temperature, metric, *pair, rule)


def _kl_of_vbon(evidence: Evidence, metric: str, temperature: float) -> Rows:
    """VBoN scores as PPO does at equal coefficients, with less KL; PPO as the paper shows it."""
    ppo = paper_settings(evidence).get("ppo", "")
    for vbon in (name for name in evidence.settings("vbon") if _equal_coefficients(name, ppo)):
        pair, rule = (("vbon", vbon), ("ppo", ppo)), Rule(low=-MARGIN[metric])
        yield _pair(evidence, "vbon_as_good_as_ppo", temperature, metric, *pair, rule)
        if metric == METRICS[0]:
            first, second = (evidence.mean(setting, KL, temperature) for setting in pair)
            text = f"KL of vBoN {vbon} over that of PPO {ppo}"
            rule, key = Rule(high=1), "vbon_less_kl_than_ppo"
            ratio = _statistic(key, temperature, KL, text, first / second, rule)
            yield ratio, _kls(evidence, temperature, *pair)


def _offline_methods(evidence: Evidence, metric: str, temperature: float) -> Rows:
    """DPO and BoNBoN keep up with PPO and vBoN at low temperatures only."""
    shown = paper_settings(evidence)
    if {"dpo", "bonbon", "ppo", "vbon"} <= set(shown):
        offline, online = (
            [(m, shown[m]) for m in ms] for ms in (("dpo", "bonbon"), ("ppo", "vbon"))
        )
        gap = np.subtract(
            *(np.mean([evidence.mean(s, metric, temperature) for s in settings], axis=0)
              for settings in (offline, online))
        )  # fmt: skip
        low = temperature <= LOW
        rule = Rule(low=-MARGIN[metric]) if low else Rule(high=0)
        key = f"offline_{'' if low else 'not_'}competitive"
        text = f"mean of {_named(offline)} minus mean of {_named(online)}"
        yield _statistic(key, temperature, metric, text, gap, rule), {}


def _equal_coefficients(vbon: str, ppo: str) -> bool:
    """Compare PPO's kl_coef with vBoN's 1 / (n - 1)."""
    return abs(_number(ppo) * (_number(vbon) - 1) - 1) < 0.02


def _named(settings: Iterable[Setting]) -> str:
    """Settings in words.

    Example:
        >>> _named([("ppo", "beta0.05"), ("vbon", "n100"), ("reference", "default")])
        'PPO beta0.05, vBoN n100, reference'
    """
    names = {"best_of_n": "BoN", "bonbon": "BoNBoN", "dpo": "DPO", "ppo": "PPO", "vbon": "vBoN"}
    words = [f"{names.get(m, m)} {'' if s == 'default' else s}".strip() for m, s in settings]
    return ", ".join(words)


def _pair(
    evidence: Evidence,
    key: str,
    temperature: float,
    metric: str,
    first: Setting,
    second: Setting,
    rule: Rule,
) -> tuple[Statistic, dict[str, float]]:
    """One policy minus another, with the KL of both."""
    gap = evidence.mean(first, metric, temperature) - evidence.mean(second, metric, temperature)
    text = f"{_named([first])} minus {_named([second])}"
    statistic = _statistic(key, temperature, metric, text, gap, rule)
    return statistic, _kls(evidence, temperature, first, second)


def _kls(
    evidence: Evidence, temperature: float, first: Setting, second: Setting
) -> dict[str, float]:
    pairs = {KL: first, f"other_{KL}": second}
    return {name: float(evidence.mean(s, KL, temperature)[0]) for name, s in pairs.items()}


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
        runs: Record and responses (schema "responses") of each run. The first one of a method and
            setting is shown.
    """
    rows, shown = [], set()
    for run, table in runs:
        if (run["method"], run["setting"]) in shown:
            continue
        shown.add((run["method"], run["setting"]))
        first = table[table["prompt_id"] == prompt_id].sort_values("draw").iloc[0]
        row = {name: run[name] for name in ("method", "setting")}
        row["summary"] = first["response"].strip()
        rows.append(row | {name: first[name] for name in ("evaluator_reward", "reward")})
    return pd.DataFrame(rows)
