"""The paper's orderings of methods (arXiv:2407.06057, figures 2, 6 and 7), each as a test.

A claim is a statistic that is positive if the claim holds, with a 95 % interval from resampled
sweeps: ``supported`` if the interval is above zero, ``not supported`` if it is below, else
``undecided``.
Claims about trade-offs are tested twice: at matched KL (mean difference of attainments over the
KLs that both methods cover) and by hypervolume, the area that a method's settings dominate, which
also charges a method for gaps in its grid. Where the two disagree, the grids do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from vbon.analysis.attainment import Curve, Sweep, all_sweeps, attained
from vbon.analysis.equivalence import MARGIN
from vbon.analysis.pareto import CONFIDENCE, Floats, floor_of, hypervolume, share_replicates
from vbon.analysis.verdicts import NOT_SUPPORTED, SUPPORTED, UNDECIDED, Rule
from vbon.seeding import derive_seed
from vbon.statistics import percentile_interval

RIVALS = ("ppo", "dpo", "bonbon")
"""The fine-tuned methods that figure 2 sets beside vBoN. Its bound is vBoN itself (figure 6)."""

POOL = (*RIVALS, "vbon")
"""Methods whose shares of one front the captions of figure 7 give, summing to 100 %."""

FINE_TUNED = (*POOL, "vbon_l", "bon_sft")
"""All methods that train a policy: these, vBoN's bound (figure 6) and BoN-SFT (figure 7)."""

PAPER_SHARES = {
    "win_rate": {"bonbon": 0.04, "ppo": 0.04, "dpo": 0.42, "vbon": 0.50},
    "reward_prob": {"bonbon": 0.07, "dpo": 0.10, "ppo": 0.33, "vbon": 0.50},
}
"""Shares in the captions of figures 7a and 7b."""

KL_POINTS = 200
"""KLs at which methods are compared, evenly spaced in the square root of KL up to the largest."""

WAYS = ("mean difference at matched KL", "difference of hypervolume per nat")
"""How two methods are compared."""

COLUMNS = ["claim", "rule", "axes", "statistic", "value", "low", "high", "paper", "verdict", "note"]


class Levels(NamedTuple):
    """Attainment of a method at common KLs; NaN outside of what its settings cover."""

    mean: Floats
    """Shape (KLs,)."""
    drawn: Floats
    """Of each resample, shape (replicates, KLs)."""


@dataclass(frozen=True)
class Evidence:
    """What the claims are tested on.

    Attributes:
        points: Rows of the points table.
        sweeps: Mean curves and their resamples, by axis and method.
        levels: Attainments at common KLs, by axis and method.
        floors: The reference's level of each metric, where areas begin.
        equivalence: The table of the equivalence study, if there is one.
        margin: Largest difference of win rates that counts as none.
        seed: Seed of the resamples.
        replicates: Number of resamples.
    """

    points: pd.DataFrame
    sweeps: dict[str, dict[str, Sweep]]
    levels: dict[str, dict[str, Levels]]
    floors: dict[str, float]
    equivalence: pd.DataFrame | None
    margin: float
    seed: int
    replicates: int

    def missing(self, axis: str, methods: Sequence[str]) -> list[str]:
        """Those methods that have no run with a number on this axis."""
        found = self.sweeps.get(axis, {})
        return [name for name in methods if name not in found or not found[name].mean.kl.size]


def orderings_table(
    points: pd.DataFrame,
    seed: int,
    replicates: int,
    *,
    equivalence: pd.DataFrame | None = None,
    margin: float = MARGIN,
    claims: Sequence[Callable[..., Any]] | None = None,
) -> pd.DataFrame:
    """Test each ordering that the paper states about figures 2, 6 and 7.

    Args:
        points: Rows of the points table: one task, one temperature, one domain.
        seed: Seed of the resamples (:func:`vbon.analysis.attainment.sweeps`).
        replicates: Number of resamples, at least 1.
        equivalence: The table of :func:`vbon.analysis.equivalence.equivalence_table`.
        margin: Largest difference of win rates that counts as none, for ``exact = L``.
        claims: Functions to ask; by default :data:`CLAIMS`.

    Returns:
        Columns ``claim, rule, axes, statistic, value, low, high`` (95 %), ``paper`` (its number,
        where it gives one), ``verdict`` (``supported``, ``not supported``, ``undecided``),
        ``note``. A claim whose methods were not run is ``undecided``, and the note names them.

    Raises:
        DataError: If a column is missing, the rows mix tasks or no metric has a number.
    """
    sweeps = all_sweeps(points, seed, replicates, tuple(PAPER_SHARES))
    floors = {axis: floor_of(points, axis) for axis in sweeps}
    levels = {axis: common_levels(found) for axis, found in sweeps.items()}
    evidence = Evidence(points, sweeps, levels, floors, equivalence, margin, seed, replicates)
    rows = [row for claim in (claims or CLAIMS) for row in claim(evidence)]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def best_of_n_beats_vbon(evidence: Evidence) -> list[dict[str, Any]]:
    """BoN > vBoN, on both axes."""
    return _both_axes(evidence, "BoN > vBoN", "best_of_n", ["vbon"])


def best_of_n_beats_the_rest(evidence: Evidence) -> list[dict[str, Any]]:
    """BoN > every fine-tuned method: the smallest of the differences is positive.

    At matched KL alone: by hypervolume BoN would pay for n = 2 being its smallest.
    """
    return _both_axes(evidence, "BoN > all fine-tuned", "best_of_n", FINE_TUNED, WAYS[:1])


def vbon_beats_the_rest(evidence: Evidence) -> list[dict[str, Any]]:
    """VBoN > PPO, DPO and BoNBoN: the smallest of the three differences is positive."""
    return _both_axes(evidence, "vBoN > others", "vbon", RIVALS)


def vbon_is_closest_to_best_of_n(evidence: Evidence) -> list[dict[str, Any]]:
    """The nearest rival's mean distance to BoN's curve, minus vBoN's."""
    claim, methods = "vBoN closest to BoN", ("best_of_n", "vbon", *RIVALS)
    statistic = "smallest difference of mean distances to BoN, rival minus vBoN"
    rows = []
    for axis in PAPER_SHARES:
        present = _present(evidence, axis, RIVALS)
        if evidence.missing(axis, ["best_of_n", "vbon"]) or not present:
            rows.append(_untested(evidence, claim, axis, statistic, methods))
            continue
        parts = [_distance_gap(evidence.levels[axis], rival) for rival in present]
        rows.append(_positive(claim, axis, statistic, *_smallest(parts)))
        rows[-1]["note"] = _note(evidence, axis, RIVALS)
    return rows


def dpo_against_ppo(evidence: Evidence) -> list[dict[str, Any]]:
    """DPO better than PPO in win rate and worse in mean reward."""
    return [
        *_against(evidence, "DPO better than PPO in win rate", "win_rate", "dpo", ["ppo"]),
        *_against(evidence, "DPO worse than PPO in mean reward", "reward_prob", "ppo", ["dpo"]),
    ]


def bon_sft_is_worst(evidence: Evidence) -> list[dict[str, Any]]:
    """Every fine-tuned method > BoN-SFT."""
    claim, rows = "BoN-SFT has the worst trade-off", []
    for axis in PAPER_SHARES:
        rows += _against(evidence, claim, axis, "bon_sft", POOL, sign=-1)
    return rows


def exact_equals_bound(evidence: Evidence) -> list[dict[str, Any]]:
    """Exact vBoN and L differ by less than the margin, at matched KL and in the study."""
    claim = "exact vBoN = L bound"
    rows = [_agreement_at_matched_kl(evidence, claim)]
    if evidence.equivalence is not None:
        pooled = evidence.equivalence[evidence.equivalence["setting"] == "pooled"].iloc[0]
        half = pooled["se"] * stdtrit(max(pooled["df"], 1), 0.5 + CONFIDENCE / 2)
        ends = pooled["difference"] - half, pooled["difference"] + half
        words = {"equivalent": SUPPORTED, "different": NOT_SUPPORTED}
        row = _row(claim, "win_rate", "mean difference at equal n and seed", pooled["difference"])
        row |= {"low": ends[0], "high": ends[1], "verdict": words.get(pooled["verdict"], UNDECIDED)}
        rule = f"two one-sided tests at 5 %, margin {evidence.margin:g}"
        rows.append(row | {"rule": rule})
    return rows


def vbon_has_the_largest_share(evidence: Evidence) -> list[dict[str, Any]]:
    """VBoN's share of the pooled front minus the largest other share."""
    claim, statistic = "vBoN has the largest share", "share minus the largest other share"
    rows = []
    for axis in PAPER_SHARES:
        if evidence.missing(axis, ["vbon"]) or not _present(evidence, axis, RIVALS):
            rows.append(_untested(evidence, claim, axis, statistic, POOL))
            continue
        shares, drawn = _shares(evidence, axis)
        own = list(shares).index("vbon")
        gap = shares["vbon"] - max(v for name, v in shares.items() if name != "vbon")
        gaps = drawn[:, own] - np.delete(drawn, own, axis=1).max(axis=1)
        rows.append(_positive(claim, axis, statistic, gap, gaps))
        rows[-1]["note"] = _note(evidence, axis, RIVALS)
    return rows


def shares_agree_with_the_paper(evidence: Evidence) -> list[dict[str, Any]]:
    """The paper's share of each method lies within the interval of ours."""
    rows = []
    for axis, expected in PAPER_SHARES.items():
        lost = evidence.missing(axis, POOL)
        for place, (method, number) in enumerate(expected.items()):
            claim, statistic = f"share of {method}", "share of the pooled front"
            if lost:  # shares of fewer methods are other shares
                rows.append(_untested(evidence, claim, axis, statistic, POOL) | {"paper": number})
                continue
            shares, drawn = _shares(evidence, axis)
            place = list(shares).index(method)
            low, high = percentile_interval(drawn[:, place], CONFIDENCE)
            row = _row(claim, axis, statistic, shares[method])
            row |= {"rule": "interval holds the paper's number", "low": float(low)}
            row |= {"high": float(high), "paper": number}
            rows.append(row | {"verdict": SUPPORTED if low <= number <= high else NOT_SUPPORTED})
    return rows


Claim = Callable[[Evidence], list[dict[str, Any]]]

CLAIMS: tuple[Claim, ...] = (
    best_of_n_beats_vbon,
    best_of_n_beats_the_rest,
    vbon_beats_the_rest,
    vbon_is_closest_to_best_of_n,
    dpo_against_ppo,
    bon_sft_is_worst,
    exact_equals_bound,
    vbon_has_the_largest_share,
    shares_agree_with_the_paper,
)
"""Every claim, in the order of the table."""


def common_levels(sweeps: dict[str, Sweep]) -> dict[str, Levels]:
    """Attainments of all methods at the same KLs, each within its own smallest and largest."""
    top = max((sweep.mean.kl.max() for sweep in sweeps.values() if sweep.mean.kl.size), default=0.0)
    at = np.linspace(0, np.sqrt(top), KL_POINTS) ** 2
    levels = {}
    for method, (mean, drawn) in sweeps.items():
        covered = at <= (mean.kl.max() if mean.kl.size else -1.0)
        own, resampled = attained(mean, at), attained(drawn, at)
        covered &= ~np.isnan(own)
        levels[method] = Levels(
            np.where(covered, own, np.nan), np.where(covered, resampled, np.nan)
        )
    return levels


def gap_at_matched_kl(first: Levels, second: Levels) -> tuple[float, Floats]:
    """Mean of ``first``'s attainment minus ``second``'s over the KLs that both cover.

    Returns:
        The estimate and its resamples; NaN where the two cover no KL together.
    """
    return float(_mean(first.mean - second.mean)), _mean(first.drawn - second.drawn)


def gap_in_area(first: Sweep, second: Sweep, floor: float) -> tuple[float, Floats]:
    """Hypervolume of ``first``'s settings minus ``second``'s, per nat up to the smaller reach.

    Settings are averaged over seeds before, so that no method gains from having more of them.
    """
    edge = min(np.nanmax(sweep.mean.kl) for sweep in (first, second))

    def area(curve: Curve) -> Any:
        return hypervolume(curve.kl, curve.metric, edge, floor) / max(edge, 1e-12)

    gaps = [area(a) - area(b) for a, b in zip(first, second, strict=True)]
    return float(gaps[0]), np.asarray(gaps[1])


def _mean(gaps: Floats) -> Floats:
    """Mean over the KLs that a resample covers, NaN where it covers none."""
    known = (~np.isnan(gaps)).sum(axis=-1)
    return np.where(known > 0, np.nansum(gaps, axis=-1) / np.maximum(known, 1), np.nan)


def _distance_gap(found: dict[str, Levels], rival: str) -> tuple[float, Floats]:
    """Mean distance of a rival to BoN minus vBoN's, over the KLs that all three cover."""
    gaps = [
        _mean(np.abs(best - other) - np.abs(best - own))
        for best, own, other in zip(found["best_of_n"], found["vbon"], found[rival], strict=True)
    ]
    return float(gaps[0]), gaps[1]


def _smallest(parts: list[tuple[float, Floats]]) -> tuple[float, Floats]:
    """The smallest of several differences, and the same of each resample."""
    values, drawn = zip(*parts, strict=True)
    return min(values), np.min(drawn, axis=0)


def _both_axes(
    evidence: Evidence,
    claim: str,
    first: str,
    others: Sequence[str],
    ways: Sequence[str] = WAYS,
) -> list[dict[str, Any]]:
    rows = (_against(evidence, claim, axis, first, others, ways=ways) for axis in PAPER_SHARES)
    return [row for own in rows for row in own]


def _against(
    evidence: Evidence,
    claim: str,
    axis: str,
    first: str,
    others: Sequence[str],
    sign: int = 1,
    ways: Sequence[str] = WAYS,
) -> list[dict[str, Any]]:
    """One method above (``sign`` 1) or below (-1) each of the others, in some ways of comparing."""
    named = {way: f"smallest {way}" if len(others) > 1 else way for way in ways}
    present = _present(evidence, axis, others)
    if evidence.missing(axis, [first]) or not present:
        return [_untested(evidence, claim, axis, name, [first, *others]) for name in named.values()]
    sweeps, levels = evidence.sweeps[axis], evidence.levels[axis]
    rows = []
    for way, statistic in named.items():
        parts = []
        for name, rival in ((first, other)[::sign] for other in present):
            if way == WAYS[0]:
                parts.append(gap_at_matched_kl(levels[name], levels[rival]))
            else:
                parts.append(gap_in_area(sweeps[name], sweeps[rival], evidence.floors[axis]))
        rows.append(_positive(claim, axis, statistic, *_smallest(parts)))
        rows[-1]["note"] = _note(evidence, axis, others)
    return rows


def _agreement_at_matched_kl(evidence: Evidence, claim: str) -> dict[str, Any]:
    """Mean difference at matched KL within the margin."""
    statistic = "mean difference at matched KL"
    if evidence.missing("win_rate", ["vbon", "vbon_l"]):
        return _untested(evidence, claim, "win_rate", statistic, ["vbon", "vbon_l"])
    found = evidence.levels["win_rate"]
    value, drawn = gap_at_matched_kl(found["vbon"], found["vbon_l"])
    row = _row(claim, "win_rate", statistic, value)
    return _read(row, Rule.within(evidence.margin), drawn)


def _shares(evidence: Evidence, axis: str) -> tuple[dict[str, float], Floats]:
    """Shares of one front of the captions' methods, and their resamples."""
    pool = evidence.points[evidence.points["method"].isin(POOL)]
    seed = derive_seed(evidence.seed, "orderings", axis)
    return share_replicates(pool, axis, seed, evidence.replicates)


def _positive(claim: str, axis: str, statistic: str, value: float, drawn: Floats) -> dict[str, Any]:
    """Row of a claim that its statistic is above zero."""
    return _read(_row(claim, axis, statistic, value), Rule(low=0), drawn)


def _read(row: dict[str, Any], rule: Rule, drawn: Floats) -> dict[str, Any]:
    """The row with its interval, and what the rule says of it."""
    low, high = map(float, percentile_interval(drawn, CONFIDENCE))
    return row | {"rule": rule.words, "low": low, "high": high, "verdict": rule.read(low, high)}


def _untested(
    evidence: Evidence, claim: str, axis: str, statistic: str, methods: Sequence[str]
) -> dict[str, Any]:
    row = _row(claim, axis, statistic, float("nan"))
    return row | {"verdict": UNDECIDED, "note": _note(evidence, axis, methods)}


def _row(claim: str, axis: str, statistic: str, value: float) -> dict[str, Any]:
    return {"claim": claim, "axes": axis, "statistic": statistic, "value": value, "note": ""}


def _present(evidence: Evidence, axis: str, methods: Sequence[str]) -> list[str]:
    lost = evidence.missing(axis, methods)
    return [name for name in methods if name not in lost]


def _note(evidence: Evidence, axis: str, methods: Sequence[str]) -> str:
    """Names of the methods that the row could not take into account."""
    lost = evidence.missing(axis, methods)
    return f"no runs of {', '.join(lost)}" if lost else ""
