"""The paper's orderings of methods (arXiv:2407.06057, figures 2, 6 and 7), each as a test.

An ordering is a statistic that is positive if it holds, with a 95 % interval from resampled sweeps:
``supported`` if the interval is above zero, ``not supported`` if it is below, else ``undecided``.
Resamples draw training seeds and, with the table ``prompt_means``, the test prompts of all runs.
Orderings of trade-offs are tested twice: at matched KL (mean difference of attainments over the
KLs that both methods cover) and by hypervolume, the area that a method's settings dominate, which
also charges a method for gaps in its grid. Where the two disagree, the grids do.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from vbon.analysis.attainment import Curve, Sweep, all_sweeps, attained
from vbon.analysis.equivalence import MARGIN, PAIR
from vbon.analysis.pareto import CONFIDENCE, Floats, floor_of, hypervolume, share_replicates
from vbon.analysis.prompts import NOT_RESAMPLED, Shifts, prompt_shifts
from vbon.analysis.verdicts import NOT_SUPPORTED, SUPPORTED, UNDECIDED, Rule, Statistic
from vbon.seeding import derive_seed
from vbon.statistics import percentile_interval

RIVALS = ("ppo", "dpo", "bonbon")
"""The fine-tuned methods that figure 2 compares with vBoN. Its bound is vBoN itself (figure 6)."""

BOTH = ("best_of_n", "vbon")
"""The curves that rivals' distances are measured to and compared with."""

POOL = (*RIVALS, "vbon")
"""Methods whose shares of one front the captions of figure 7 give, summing to 100 %."""

FINE_TUNED = (*POOL, "vbon_l", "bon_sft")
"""The paper's methods that train a policy: these, vBoN's bound (figure 6), BoN-SFT (figure 7)."""

PAPER_SHARES = {
    "win_rate": {"bonbon": 0.04, "ppo": 0.04, "dpo": 0.42, "vbon": 0.50},
    "reward_prob": {"bonbon": 0.07, "dpo": 0.10, "ppo": 0.33, "vbon": 0.50},
}
"""Shares in the captions of figures 7a and 7b."""

KL_POINTS = 200
"""KLs at which methods are compared, evenly spaced in the square root of KL up to the largest."""

MATCHED, AREA = "mean difference at matched KL", "difference of hypervolume per nat"
"""Ways to compare two methods."""

POSITIVE = Rule(low=0)

NAMES = {
    "best_of_n_above_vbon": "BoN > vBoN",
    "best_of_n_above_fine_tuned": "BoN > all fine-tuned",
    "vbon_above_others": "vBoN > others",
    "vbon_closest_to_best_of_n": "vBoN closest to BoN",
    "dpo_above_ppo": "DPO better than PPO in win rate",
    "dpo_below_ppo": "DPO worse than PPO in mean reward",
    "bon_sft_worst": "BoN-SFT has the worst trade-off",
    "exact_equals_bound": "exact vBoN = L bound",
    "vbon_largest_share": "vBoN has the largest share",
    **{f"share_of_{method}": f"share of {method}" for method in POOL},
}
"""Orderings by key, as the table prints them."""

Resampled = tuple[Any, Floats]
"""An estimate, and the same of each resample: one more axis in front."""


@dataclass(frozen=True)
class Resamples:
    """Mean curves of every method and their resamples, which orderings are tested on.

    Attributes:
        points: Rows of the points table.
        sweeps: Curves by axis and method.
        seed: Seed of the resamples.
        replicates: Number of resamples.
        shifts: Change of each run's means in each resample of prompts; none if they are fixed.
    """

    points: pd.DataFrame
    sweeps: dict[str, dict[str, Sweep]]
    seed: int
    replicates: int
    shifts: Shifts

    @cached_property
    def levels(self) -> dict[str, dict[str, Resampled]]:
        """Attainments at common KLs, by axis and method."""
        return {axis: common_levels(sweeps) for axis, sweeps in self.sweeps.items()}

    @cached_property
    def shares(self) -> dict[str, dict[str, Resampled]]:
        """Shares of the front of :data:`POOL`, by axis and method."""
        pool = self.points[self.points["method"].isin(POOL)]
        shares = {}
        for axis in self.sweeps:
            seed = derive_seed(self.seed, "orderings", axis)
            values, drawn = share_replicates(pool, axis, seed, self.replicates, self.shifts)
            shares[axis] = {name: (values[name], drawn[:, k]) for k, name in enumerate(values)}
        return shares

    def and_others(self, methods: Sequence[str]) -> list[str]:
        """These methods of the paper, and the methods of the points that are not the paper's."""
        paper = {"reference", "best_of_n", *FINE_TUNED}
        return [*methods, *(name for name in self.points["method"].unique() if name not in paper)]

    def missing(self, axis: str, methods: Sequence[str]) -> list[str]:
        """Those methods that have no run with a number on this axis."""
        sweeps = self.sweeps.get(axis, {})
        return [name for name in methods if name not in sweeps or not sweeps[name].mean.kl.size]

    def present(self, axis: str, methods: Sequence[str], needed: Sequence[str]) -> list[str]:
        """Those methods that have such a run; none if one of those needed has not."""
        lost = methods if self.missing(axis, needed) else self.missing(axis, methods)
        return [name for name in methods if name not in lost]

    def smallest(
        self,
        key: str,
        axis: str,
        text: str,
        parts: Sequence[Resampled],
        methods: Sequence[str],
        rule: Rule = POSITIVE,
    ) -> Statistic:
        """The smallest of some estimates, with the interval of the smallest of each resample.

        Without estimates there is no number. The note names those of the methods that are missing.
        """
        values, drawn = zip(*parts, strict=True) if parts else ([np.nan], [[np.nan]])
        low, high = map(float, percentile_interval(np.min(drawn, axis=0), CONFIDENCE))
        lost = self.missing(axis, methods)
        notes = [f"no runs of {', '.join(lost)}"] * bool(lost) + [NOT_RESAMPLED] * (not self.shifts)
        note = "; ".join(notes)
        return Statistic(text, min(values), low, high, rule, key=key, metric=axis, note=note)


def orderings_table(
    points: pd.DataFrame,
    seed: int,
    replicates: int,
    *,
    equivalence: pd.DataFrame | None = None,
    prompt_means: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Test each ordering that the paper states about figures 2, 6 and 7.

    Args:
        points: Rows of the points table: one task, one temperature, one domain.
        seed: Seed of the resamples (:func:`vbon.analysis.attainment.sweeps`).
        replicates: Number of resamples, at least 1.
        equivalence: The table of :func:`vbon.analysis.equivalence.equivalence_table`.
        prompt_means: The table of :func:`vbon.analysis.prompts.prompt_means_table`.

    Returns:
        Columns ``claim, rule, axes, statistic, value, low, high`` (95 %), ``paper`` (its number,
        where it gives one), ``verdict`` (``supported``, ``not supported``, ``undecided``),
        ``note``, ``key`` (of :data:`NAMES`), ``rule_low, rule_high``. An ordering whose methods
        were not run is ``undecided``, and the note names them. Without ``prompt_means`` the note
        says that prompts are not resampled.

    Raises:
        DataError: If a column is missing, the rows mix tasks or no metric has a number.
    """
    sweeps = all_sweeps(points, seed, replicates, tuple(PAPER_SHARES), prompt_means)
    shifts = prompt_shifts(prompt_means, seed, replicates)
    tests = orderings(Resamples(points, sweeps, seed, replicates, shifts), equivalence)
    table = pd.DataFrame([test.row() for test in tests]).rename(columns={"metric": "axes"})
    table["claim"] = table["key"].map(NAMES)
    table["paper"] = table["rule_low"].where(table["rule_low"] == table["rule_high"])
    columns = ["claim", "rule", "axes", "statistic", "value", "low", "high", "paper", "verdict"]
    return table[[*columns, "note", "key", "rule_low", "rule_high"]]


def orderings(data: Resamples, equivalence: pd.DataFrame | None) -> Iterator[Statistic]:
    """Statistics of every ordering, in the order of the table."""
    fine_tuned = data.and_others(FINE_TUNED)
    yield from above(data, "best_of_n_above_vbon", "best_of_n", ["vbon"])
    # At matched KL alone: by hypervolume BoN would pay for n = 2 being its smallest.
    yield from above(data, "best_of_n_above_fine_tuned", "best_of_n", fine_tuned, ways=[MATCHED])
    yield from above(data, "vbon_above_others", "vbon", data.and_others(RIVALS))
    yield from vbon_closest_to_best_of_n(data)
    yield from above(data, "dpo_above_ppo", "dpo", ["ppo"], ["win_rate"])
    yield from above(data, "dpo_below_ppo", "ppo", ["dpo"], ["reward_prob"])
    yield from above(data, "bon_sft_worst", "bon_sft", data.and_others(POOL), sign=-1)
    yield from exact_equals_bound(data, equivalence)
    yield from vbon_largest_share(data)
    yield from paper_shares(data)


def above(
    data: Resamples,
    key: str,
    first: str,
    others: Sequence[str],
    axes: Sequence[str] = tuple(PAPER_SHARES),
    ways: Sequence[str] = (MATCHED, AREA),
    *,
    sign: int = 1,
    rule: Rule = POSITIVE,
) -> Iterator[Statistic]:
    """One method above (``sign`` 1) or below (-1) the others: the smallest of the differences."""
    for axis in axes:
        present = data.present(axis, others, [first])
        for way in ways:
            parts = [_gap(data, axis, way, *(first, other)[::sign]) for other in present]
            text = f"smallest {way}" if len(others) > 1 else way
            yield data.smallest(key, axis, text, parts, [first, *others], rule)


def vbon_closest_to_best_of_n(data: Resamples) -> Iterator[Statistic]:
    """The nearest rival's mean distance to BoN's curve, minus vBoN's.

    In win rate alone, the metric that BoN optimises: of mean reward, KL-RL's optimum has more.
    """
    key, axis = "vbon_closest_to_best_of_n", "win_rate"
    text = "smallest difference of mean distances to BoN, rival minus vBoN"
    present, levels = data.present(axis, RIVALS, BOTH), data.levels.get(axis, {})
    parts = [_each(_farther, *(levels[name] for name in (*BOTH, rival))) for rival in present]
    yield data.smallest(key, axis, text, parts, [*BOTH, *RIVALS])


def exact_equals_bound(data: Resamples, equivalence: pd.DataFrame | None) -> Iterator[Statistic]:
    """Exact vBoN and L differ by less than the margin, at matched KL and in the study."""
    key, axis, (exact, bound) = "exact_equals_bound", "win_rate", PAIR
    yield from above(data, key, exact, [bound], [axis], [MATCHED], rule=Rule.within(MARGIN))
    if equivalence is not None:
        pooled = equivalence[equivalence["setting"] == "pooled"].iloc[0]
        value, text = pooled["difference"], "mean difference at equal n and seed"
        half = pooled["se"] * stdtrit(max(pooled["df"], 1), 0.5 + CONFIDENCE / 2)
        rule = Rule.within(MARGIN, f"two one-sided tests at 5 %, margin {MARGIN:g}")
        words = {"equivalent": SUPPORTED, "different": NOT_SUPPORTED, "undecided": UNDECIDED}
        verdict = words[pooled["verdict"]]  # of the tests, whose interval is of 90 %
        ends = value - half, value + half
        yield Statistic(text, value, *ends, rule, key=key, metric=axis, verdict=verdict)


def vbon_largest_share(data: Resamples) -> Iterator[Statistic]:
    """Share of vBoN in the front of :data:`POOL` minus the largest other share."""
    text = "share minus the largest other share"
    for axis in PAPER_SHARES:
        present = data.present(axis, RIVALS, ["vbon"])
        shares = data.shares[axis] if present else {}
        parts = [_each(np.subtract, shares["vbon"], shares[rival]) for rival in present]
        yield data.smallest("vbon_largest_share", axis, text, parts, POOL)


def paper_shares(data: Resamples) -> Iterator[Statistic]:
    """Each method's share, which the paper gives; shares of fewer methods are other shares."""
    for axis, numbers in PAPER_SHARES.items():
        for method, number in numbers.items():
            rule = Rule(number, number, "interval holds the paper's number")
            key, text = f"share_of_{method}", "share of the pooled front"
            parts = [data.shares[axis][name] for name in data.present(axis, [method], POOL)]
            yield data.smallest(key, axis, text, parts, POOL, rule)


def common_levels(sweeps: dict[str, Sweep], at: Floats | None = None) -> dict[str, Resampled]:
    """Attainments of all methods at the same KLs, NaN outside of what a method's settings cover."""
    if at is None:
        ends = [sweep.mean.kl.max() for sweep in sweeps.values() if sweep.mean.kl.size]
        at = np.linspace(0, np.sqrt(max(ends, default=0.0)), KL_POINTS) ** 2
    levels = {}
    for method, (mean, drawn) in sweeps.items():
        values = attained(mean, at)
        covered = (at <= (mean.kl.max() if mean.kl.size else -1.0)) & ~np.isnan(values)
        resampled = np.where(covered, attained(drawn, at), np.nan)
        levels[method] = np.where(covered, values, np.nan), resampled
    return levels


def gap_at_matched_kl(first: Resampled, second: Resampled) -> Resampled:
    """Mean of one method's attainment minus another's over the KLs that both cover.

    Returns:
        NaN where the two cover no KL together.
    """
    return _each(lambda one, other: _mean(one - other), first, second)


def gap_in_area(first: Sweep, second: Sweep, floor: float) -> Resampled:
    """Hypervolume of ``first``'s settings minus ``second``'s, per nat up to the smaller reach.

    Settings are averaged over seeds before, so that no method gains from having more of them.
    """
    edge = min(np.nanmax(sweep.mean.kl) for sweep in (first, second))

    def area(curve: Curve) -> Any:
        return hypervolume(curve.kl, curve.metric, edge, floor) / max(edge, 1e-12)

    return _each(lambda one, other: area(one) - area(other), first, second)


def _each(function: Callable[..., Any], *parts: tuple[Any, Any]) -> Resampled:
    """A number made of several methods, and the same of each resample."""
    value, drawn = (function(*part) for part in zip(*parts, strict=True))
    return float(value), np.asarray(drawn)


def _mean(gaps: Floats) -> Floats:
    """Mean over the KLs that a resample covers, NaN where it covers none."""
    covered = (~np.isnan(gaps)).sum(axis=-1)
    return np.where(covered > 0, np.nansum(gaps, axis=-1) / np.maximum(covered, 1), np.nan)


def _farther(best: Floats, vbon: Floats, rival: Floats) -> Floats:
    """Mean distance of a rival to BoN minus vBoN's, over the KLs that all three cover."""
    return _mean(np.abs(best - rival) - np.abs(best - vbon))


def _gap(data: Resamples, axis: str, way: str, first: str, second: str) -> Resampled:
    """One method minus another, by one way of comparing."""
    if way == MATCHED:
        return gap_at_matched_kl(data.levels[axis][first], data.levels[axis][second])
    floor = floor_of(data.points, axis)  # the reference's level, where areas begin
    return gap_in_area(data.sweeps[axis][first], data.sweeps[axis][second], floor)
