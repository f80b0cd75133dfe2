"""Convergence of the estimate of log F with the number of draws: figure 3 of arXiv:2407.06057."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps

from vbon.analysis.excerpts import KINDS, SIZES
from vbon.figures.style import saved_figure


def figure3(pools: pd.DataFrame, out_stem: Path) -> pd.DataFrame:
    r"""Draw :math:`\log \hat F = \log \frac{K + 1}{M + 1}` against reward, one curve for each M.

    Three prompts are shown: the one whose draws have the lowest mean reward, the median one and
    the highest. Smaller samples are the first draws of larger ones, as in the paper.

    Args:
        pools: The table of :func:`vbon.analysis.excerpts.shown_pools`.
        out_stem: Path without suffix of the ``.pdf``, ``.svg``, ``.png`` and ``.csv`` to write.

    Returns:
        What was drawn, as in the ``.csv``: ``kind, prompt_id, prompt, m, reward, log_f`` (nats).
    """
    keys, parts = ["kind", "prompt_id", "prompt"], []
    for names, part in pools.groupby(keys, sort=False):
        pool = part.sort_values("draw")["reward"].to_numpy()
        at = np.sort(pool)
        for m in (m for m in SIZES if m <= len(pool)):
            below = np.searchsorted(np.sort(pool[:m]), at, side="left")
            curve = {"m": m, "reward": at, "log_f": np.log((below + 1) / (m + 1))}
            parts.append(pd.DataFrame({**dict(zip(keys, names, strict=True)), **curve}))
    table = pd.concat(parts, ignore_index=True)
    sizes = sorted(set(table["m"].tolist()))
    shades = colormaps["viridis_r"](np.linspace(0.12, 1.0, len(sizes)))  # the darker, the more
    with saved_figure((7.2, 2.9), out_stem, table) as figure:
        panels = figure.subplots(1, len(KINDS), sharex=True, sharey=True)
        for axes, (kind, part) in zip(panels, table.groupby("kind", sort=False), strict=True):
            for shade, m in zip(shades, sizes, strict=True):
                curve = part[part["m"] == m]
                axes.plot(
                    curve["reward"], curve["log_f"], drawstyle="steps-pre", color=shade,
                    linewidth=1.5 if m == sizes[-1] else 0.9, label=f"M = {m}",
                )  # fmt: skip
            prompt = textwrap.shorten(part["prompt"].iloc[0], 34, placeholder=" …")
            axes.set_title(f"{kind}\n“{prompt}”", fontsize=8, parse_math=False)
            axes.set_xlabel("Reward (logit)")
        panels[0].set_ylabel(r"Estimate of $\log F$ (nats)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(sizes))
    return table
