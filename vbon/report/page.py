"""The whole page: a section for every table and figure that is there, and a list of the rest."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from vbon.report.captions import CAPTIONS, INTERACTIVE
from vbon.report.charts import Charts, as_script
from vbon.report.runs import costs, temperatures, training
from vbon.report.sources import Task, origin
from vbon.report.style import DARK
from vbon.report.summary import sentences
from vbon.report.tables import cards_of, claims_block, sample_texts, table_block
from vbon.report.tradeoff import tradeoff

FILES = tuple(Path(__file__).with_name(f"page.{suffix}") for suffix in ("html", "css", "js"))
"""Template, style and script."""

TITLES = {
    "table1": "Table 1: samples of each size against 600 draws",
    "table2": "Table 2: summaries of one post",
    "table4": "Table 4: summaries at temperature 0.25",
    "table5": "Table 5: summaries at temperature 0.5",
    "table6": "Table 6: summaries at temperature 0.75",
    "table7": "Table 7: summaries at temperature 1",
    "matched_kl": "Methods at equal KL",
    "orderings": "Orderings of the paper",
    "distances": "Distances to exact optima",
    "bands": "Differences in bands of KL",
    "equivalence": "Exact vBoN against its bound L",
    "convergence": "Movement late in training",
    "estimators": "Estimators of log F",
    "inference": "Cost of a response at inference",
    "section6": "Section 6: claims about summaries",
    "lead": "The reference's summaries against the posts' beginnings",
    "data": "Checks of the data",
    "optimum": "Trained policies against exact optima",
    "pools": "Loss from the estimate of F alone",
    "exact_and_bound": "The exact objective and its bounds",
    "limits": "Exact limits",
    "curves": "Exact curves",
}
_HEADINGS = {
    "estimators": "Estimators of log F",
    "optimum": "Exact optima",
    "overoptimisation": "Reward over-optimisation",
}
"""Headings of figures without a number in the paper."""
_ELSEWHERE = (
    "claims", "histories", "excerpts", "cards", "missing", "attainment", "oracle_curves",
    "monitored",
)  # fmt: skip
"""Tables that have a section of their own, or are drawn."""
_INTERACTIVE = {"tradeoff": ("figure2a", "figure2b"), "temperature": ("figure5a", "figure5b")}
"""Figures that each kind of interactive chart replaces."""


def render(tasks: Sequence[Task], missing: Sequence[str] = ()) -> str:
    """Return the page; equal tables give equal text.

    Args:
        tasks: Tasks to show.
        missing: Files that the page would show if they existed.

    Returns:
        One self-contained HTML document.

    Raises:
        ArtifactError: If a table is invalid.
    """
    charts = Charts()
    interactive = [_interactive(charts, task) for task in tasks]
    by_kind = {block["kind"]: block for block in reversed(interactive) if block}
    lead = by_kind.get("tradeoff", by_kind.get("temperature"))
    content = {
        "origin": origin(list(tasks)),
        "partial": [text for task in tasks if (text := _partial(task))],
        "lead": lead,
        "sentences": sentences(tasks),
        "claims": [
            {"task": task.name, **claims_block(task)} for task in tasks if task.has("tables/claims")
        ],
        "figures": [
            {
                "task": task.name,
                "interactive": None if block is lead else block,
                "figures": _figures(task, block["kind"] if block else ""),
            }
            for task, block in zip(tasks, interactive, strict=True)
        ],
        "tables": [{"task": task.name, "tables": _tables(task)} for task in tasks],
        "training": [
            {"task": task.name, **training(charts, task)}
            for task in tasks
            if task.has("tables/histories") and len(task.table("tables/histories"))
        ],
        "costs": [{"task": t.name, **costs(charts, t)} for t in tasks if t.has("points", "costs")],
        "models": [
            {"task": task.name, "cards": cards_of(task), "samples": sample_texts(task)}
            for task in tasks
            if task.has("tables/cards") or task.has("tables/excerpts")
        ],
        "missing": list(missing),
    }
    html, css, js = (path.read_text() for path in FILES)
    options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(undefined=StrictUndefined, **options)
    environment.filters["lower_first"] = lambda text: text[0].lower() + text[1:]
    environment.filters["spoken"] = _spoken
    # No string in the library may end its script element.
    vega = vl_convert.javascript_bundle().replace("</script", "<\\/script")
    payload = {"specs": charts.specs, "data": charts.data, "dark": DARK}
    return environment.from_string(html).render(
        **content,
        css=Markup(css),
        js=Markup(js),
        vega=Markup(vega.replace("<!--", "<\\!--")),
        payload=Markup(as_script(payload)),
    )


def _spoken(name: str) -> str:
    """Return the name of a task or role in words, such as "reward model"."""
    return name.replace("_", " ")


def _partial(task: Task) -> str:
    """Return how many runs of a task are missing; empty if none is."""
    runs = task.table("tables/missing") if task.has("tables/missing") else ()
    if not len(runs):
        return ""
    return f"{_spoken(task.name).capitalize()}: {len(runs)} of {runs['planned'].iloc[0]} runs"


def _interactive(charts: Charts, task: Task) -> dict[str, Any] | None:
    """Return the interactive charts that the tables of a task allow, if any."""
    if task.has("figures/figure5a") or task.has("figures/figure5b"):
        kind, block = "temperature", temperatures(charts, task)
    elif task.has("points") and not task.has("tables/optimum"):  # its figure shows the trade-off
        kind, block = "tradeoff", tradeoff(charts, task)
    else:
        return None
    return {"task": task.name, "kind": kind, "caption": INTERACTIVE[kind], **block}


def _figures(task: Task, interactive: str) -> list[dict[str, Any]]:
    """Return every figure of a task as it is printed; some repeat its interactive charts."""
    return [
        {
            "name": name,
            "title": _HEADINGS.get(name, name.replace("figure", "Figure ")),
            "caption": CAPTIONS[name],
            # An image, so that its ids cannot collide with the page's.
            "printed": "data:image/svg+xml;base64," + base64.b64encode(task.svg(name)).decode(),
            "is_interactive": name in _INTERACTIVE.get(interactive, ()),
            "csv": f"{task.name}/figures/{name}.csv",
        }
        for name in task.named("figures")
    ]


def _tables(task: Task) -> list[dict[str, Any]]:
    """Return the tables without a section of their own, in the order of :data:`TITLES`."""
    order = {name: index for index, name in enumerate(TITLES)}
    names = [name for name in task.named("tables") if name not in _ELSEWHERE]
    return [
        {"name": name, "title": TITLES.get(name, name), **table_block(task, name)}
        for name in sorted(names, key=lambda name: order.get(name, len(order)))
    ]
