r"""Comparison of two results folders: differences beyond noise.

**Unit.** A row is a metric of one setting (task, study, method, setting, temperature, domain). Its
runs are paired by training seed; sample seeds of one run are averaged first. With differences
:math:`d_s` (B minus A) of seeds :math:`s = 1, \dots, k`, the row shows their mean.

**Noise.** The runs' standard errors over prompts give the variance
:math:`v_s = \mathrm{se}_A^2 + \mathrm{se}_B^2` of a difference. It is too large if both folders
answer the same prompts, and it lacks the noise of training, which amplifies the different rounding
of another machine. It is therefore scaled by the spread over seeds (the Birge ratio):

.. math:: \phi = \nu^{-1} \sum (d_s - \bar d)^2 / v_s, \quad
    \mathrm{se}(\bar d) = k^{-1} \sqrt{\max(1, \phi) \sum v_s}

where the first sum is over all seeds and settings of a method and study, and :math:`\nu` is the sum
of :math:`k - 1` over these settings. The difference divided by its standard error is compared with
Student's t with :math:`\nu` degrees of freedom if :math:`\phi > 1`, else with those of the prompts.
A method with a single seed has no :math:`\phi`: a mark then means that these two policies differ,
but not why, since another seed might have made the same difference.

**Pairs of prompts.** If both folders have means per prompt (``tables/prompt_means.csv``) of the
same prompts, differences are taken per prompt: :math:`v_s` is then the variance of the mean of
these differences, without the difficulty of prompts. With their means :math:`D_p` over seeds,

.. math:: \mathrm{noise}^2 = \mathrm{se}(\bar D)^2 + \max(0, \phi - 1)\, k^{-2} \sum v_s,

which replaces the standard error above. The first part includes differences on single prompts that
all seeds share.

**Marks.** On average at most 5 % of all marked rows are marked falsely (Benjamini and Hochberg).
Differences up to 1e-9 of the value are rounding and are never marked.
"""

import numpy as np
import pandas as pd
import scipy.stats

METRICS = ("win_rate", "kl", "reward", "reward_prob", "evaluator_win_rate")
SETTING = ["task", "study", "method", "setting", "temperature", "domain"]
FALSE_MARKS = 0.05
ROUNDING = 1e-9
COLUMNS = [*SETTING, "metric", "seeds", "a", "b", "difference", "se", "noise"]
COLUMNS += ["df", "p", "differs"]

_RUN = [*SETTING, "seed"]
_MEASURED = ["task", "study", "method", "setting"]


def compare_points(
    a: pd.DataFrame, b: pd.DataFrame, means: tuple[pd.DataFrame, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """Difference of every metric of every setting that both folders have, with marks.

    Args:
        a: Rows of points tables with a column ``study`` (empty for the task itself).
        b: The same for the other folder.
        means: Rows of the tables ``prompt_means`` of both, with columns ``task`` and ``study``.

    Returns:
        Columns :data:`COLUMNS`: means over the seeds that both have, ``difference`` (b minus a)
        with its standard error, that of differences paired by prompt (``noise``, NaN without
        ``means``), degrees of freedom and p-value, by ``noise`` where there is one; ``differs``
        marks rows beyond noise. ``p`` is NaN if the noise is unknown: one seed on one prompt.

    Example:
        >>> point = {"task": "t", "study": "", "method": "ppo", "setting": "x", "temperature": 1.0,
        ...          "domain": "all", "status": "ok", "num_prompts": 100, "seed": [0, 1, 2]}
        >>> a = pd.DataFrame({**point, "kl": [1.0, 1.1, 0.9], "kl_se": 0.01})
        >>> b = a.assign(kl=[1.5, 1.61, 1.39])
        >>> compare_points(a, b)[["metric", "difference", "differs"]].values.tolist()
        [['kl', 0.5, True]]
    """
    pairs = _by_run(a).merge(_by_run(b), on=[*_RUN, "metric"], suffixes=("_a", "_b"))
    pairs["d"] = pairs["value_b"] - pairs["value_a"]
    pairs["v"] = pairs["se_a"] ** 2 + pairs["se_b"] ** 2
    pairs["prompts"] = pairs["num_prompts_a"] + pairs["num_prompts_b"] - 2
    keys = [*SETTING, "metric"]
    groups = pairs.groupby(keys, sort=False)
    columns = {"value_a": "a", "value_b": "b", "d": "difference"}
    table = groups[list(columns)].mean().rename(columns=columns)
    table["seeds"], table["prompts"] = groups.size(), groups["prompts"].sum()
    table["v"] = groups["v"].sum(skipna=False)
    table = table.reset_index()
    table = table.merge(_spread(pairs), on=["task", "study", "method", "metric"], how="left")
    wide = table["phi"] > 1
    table["se"] = np.sqrt(table["v"] * table["phi"].where(wide, 1.0)) / table["seeds"]
    table["df"] = table["nu"].where(wide, table["prompts"])
    table["noise"] = np.nan
    if means is not None:
        table = _paired_by_prompt(table, pairs, *means)
    return _marked(table)[COLUMNS]


def _paired_by_prompt(
    table: pd.DataFrame, pairs: pd.DataFrame, a: pd.DataFrame, b: pd.DataFrame
) -> pd.DataFrame:
    """Add ``noise`` and its degrees of freedom to the settings whose runs have the same prompts."""
    metrics = [name for name in METRICS if name in a and name in b]
    run = [*_MEASURED, "seed"]
    both = a.merge(b, on=[*run, "prompt_id"], suffixes=("_a", "_b"))
    counts = [frame.groupby(run).size() for frame in (both, a, b)]
    equal = counts[0].index[[len({part[key] for part in counts}) == 1 for key in counts[0].index]]
    both = both[pd.MultiIndex.from_frame(both[run]).isin(equal)]
    for name in metrics:
        both[name] = both[f"{name}_b"] - both[f"{name}_a"]
    variances = (both.groupby(run)[metrics].sem() ** 2).melt(
        var_name="metric", value_name="v", ignore_index=False
    )
    planes = table.groupby("task")[["temperature", "domain"]].nunique().max(axis=1)
    single = planes.index[planes == 1]  # means per prompt are over all responses of a run
    paired = pairs.drop(columns="v").merge(variances.reset_index(), on=[*run, "metric"], how="left")
    paired["v"] = paired["v"].where(paired["task"].isin(single))
    by_seeds = both.groupby([*_MEASURED, "prompt_id"])[metrics].mean().groupby(_MEASURED)
    errors = by_seeds.sem().melt(var_name="metric", value_name="over_prompts", ignore_index=False)
    sums = paired.groupby([*SETTING, "metric"])["v"].sum(skipna=False).rename("total").reset_index()
    spread = _spread(paired)[["task", "study", "method", "metric", "phi", "nu"]]
    more = sums.merge(spread, on=["task", "study", "method", "metric"], how="left")
    more = more.merge(errors.reset_index(), on=[*_MEASURED, "metric"], how="left")
    more = more.merge(by_seeds.size().rename("size").reset_index(), on=_MEASURED, how="left")
    more = table[[*SETTING, "metric", "seeds"]].merge(more, on=[*SETTING, "metric"], how="left")
    extra = (more["phi"] - 1).clip(lower=0).fillna(0)
    noise = np.sqrt(more["over_prompts"] ** 2 + extra * more["total"] / more["seeds"] ** 2)
    table["noise"] = noise.where(more["total"].notna())
    degrees = more["nu"].where(more["phi"] > 1, more["size"] - 1)
    table["df"] = degrees.where(table["noise"].notna(), table["df"])
    return table


def _by_run(points: pd.DataFrame) -> pd.DataFrame:
    """One row per run and metric: value and standard error, averaged over sample seeds.

    Sample seeds share prompts, so averaging over them does not reduce the standard error.
    """
    good = points[points["status"] == "ok"]
    columns, parts = [*_RUN, "metric", "value", "se", "num_prompts"], []
    for metric in METRICS:
        if metric in good and good[metric].notna().any():
            rows = good.assign(metric=metric, value=good[metric], se=good.get(f"{metric}_se"))
            parts.append(rows[columns])
    if not parts:
        return pd.DataFrame(columns=columns)
    values = pd.concat(parts, ignore_index=True).dropna(subset="value")
    return values.groupby([*_RUN, "metric"], sort=False).mean().reset_index()


def _spread(pairs: pd.DataFrame) -> pd.DataFrame:
    """Ratio phi of the spread over seeds to the standard errors, with its degrees of freedom.

    A run that appears at several temperatures or domains counts once.
    """
    keys = [*SETTING, "metric"]
    noisy = pairs[pairs["v"] > 0].copy()
    noisy["squared"] = (noisy["d"] - noisy.groupby(keys)["d"].transform("mean")) ** 2 / noisy["v"]
    family = ["task", "study", "method", "metric"]
    runs = noisy.groupby([*family, "setting"]).agg(seeds=("seed", "nunique"), rows=("d", "size"))
    runs["planes"] = runs["rows"] / runs["seeds"]
    runs["squared"] = noisy.groupby([*family, "setting"])["squared"].sum() / runs["planes"]
    runs["nu"] = runs["seeds"] - 1
    spread = runs.groupby(family)[["squared", "nu"]].sum().reset_index()
    spread["phi"] = spread["squared"] / spread["nu"].where(spread["nu"] > 0)
    return spread.drop(columns="squared")


def _marked(table: pd.DataFrame) -> pd.DataFrame:
    """Add p-values, and marks that control the false discovery rate."""
    rounding = ROUNDING * np.maximum(1.0, table["a"].abs())
    same = table["difference"].abs() <= rounding
    error = table["noise"].fillna(table["se"])
    noise = error.where(error > 0, rounding)  # closed forms have no noise
    p = 2 * scipy.stats.t.sf((table["difference"].abs() / noise), table["df"])
    p = np.where(same, 1.0, np.where(error.isna(), np.nan, p))
    valid = ~np.isnan(p)
    adjusted = np.ones(len(table))
    if valid.any():
        adjusted[valid] = scipy.stats.false_discovery_control(p[valid])
    return table.assign(p=p, differs=adjusted <= FALSE_MARKS)


def runs_of_one(a: pd.DataFrame, b: pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
    """Runs that only ``a`` has, that only ``b`` has, and that diverged in one of the two."""
    keys = ["task", "study", "method", "setting", "seed"]
    status = [table.drop_duplicates(keys).set_index(keys)["status"] for table in (a, b)]
    both = status[0].index.intersection(status[1].index)
    changed = both[(status[0].loc[both] != status[1].loc[both]).to_numpy()]
    alone = [ours.index.difference(theirs.index) for ours, theirs in (status, status[::-1])]
    only_a, only_b, ended = ([_name(run) for run in runs] for runs in (*alone, changed))
    return only_a, only_b, ended


def _name(run: tuple[str, str, str, str, int]) -> str:
    task, study, method, setting, seed = run
    return f"{task}{'/' if study else ''}{study} {method} {setting} seed {seed}"


def changed_claims(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Claims with a changed verdict: columns ``task, claim, a, b``."""
    keys = ["task", "claim"]
    both = a[[*keys, "verdict"]].merge(b[[*keys, "verdict"]], on=keys, suffixes=("_a", "_b"))
    both = both.rename(columns={"verdict_a": "a", "verdict_b": "b"})
    return both[both["a"] != both["b"]].reset_index(drop=True)
