"""The whole page: sections of what is there, lines about what is not, and the HTML of both."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from vbon.report.captions import CAPTIONS
from vbon.report.charts import Charts, as_script
from vbon.report.panels import PANELS
from vbon.report.runs import costs, temperatures, training
from vbon.report.sources import Task, origin
from vbon.report.style import DARK, scales
from vbon.report.tables import cards_of, sample_texts, table_block
from vbon.report.tradeoff import tradeoff

FILES = tuple(Path(__file__).with_name(f"page.{suffix}") for suffix in ("html", "css", "js"))
"""What the page is made of beside tables: template, style and script."""

TITLES = {
    "claims": "The paper's claims on this run",
    "table1": "Table 1: samples of each size against 600 draws",
    "table2": "Table 2: summaries of one post",
    "table4": "Table 4: summaries at temperature 0.25",
    "table5": "Table 5: summaries at temperature 0.5",
    "table6": "Table 6: summaries at temperature 0.75",
    "table7": "Table 7: summaries at temperature 1",
    "matched_kl": "Methods at equal KL",
    "orderings": "The paper's orderings, supported or not",
    "equivalence": "Exact vBoN against its L bound",
    "convergence": "Whether training had come to rest",
    "estimators": "Estimators of log F",
    "inference": "What a returned response costs",
    "section6": "Section 6: what is claimed of summaries",
    "baselines": "The reference's summaries against the posts' beginnings",
    "data": "Checks of the data",
    "optimum": "Trained policies against exact optima",
    "pools": "What an estimated F costs by itself",
    "exact_and_bound": "The exact objective and its bounds",
    "limits": "Exact limits",
    "curves": "Exact curves",
}
_ELSEWHERE = ("claims", "training", "samples", "models", "missing", "attainment", "monitored")
"""Tables that are shown in another way, or drawn."""
_MAIN = ("figure2a", "figure2b", "figure5a", "figure5b")
"""Figures that the main charts stand for."""


def render(tasks: Sequence[Task], missing: Sequence[str] = ()) -> str:
    """The page, the same text for the same tables.

    Args:
        tasks: What there is to show.
        missing: Files that the page would show and that are not there.

    Returns:
        One HTML document that needs nothing else.

    Raises:
        ArtifactError: If a table is not what it should be.
    """
    charts = Charts()
    content = {
        "origin": origin(list(tasks)),
        "tasks": [_described(task) for task in tasks],
        "claims": [_claims(task) for task in tasks if task.has("tables/claims")],
        "main": [block for task in tasks if (block := _main(charts, task))],
        "figures": [{"task": task.name, "figures": _figures(charts, task)} for task in tasks],
        "tables": [{"task": task.name, "tables": _tables(task)} for task in tasks],
        "training": [
            {"task": task.name, **training(charts, task)}
            for task in tasks
            if task.has("tables/training") and len(task.table("tables/training"))
        ],
        "costs": [
            {"task": task.name, **costs(charts, task)}
            for task in tasks
            if task.has("points", "costs")
        ],
        "models": [
            {"task": task.name, "cards": cards_of(task), "samples": sample_texts(task)}
            for task in tasks
            if task.has("tables/models") or task.has("tables/samples")
        ],
        "missing": list(missing),
    }
    html, css, js = (path.read_text() for path in FILES)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"spoken": _spoken}
    payload = {"specs": charts.specs, "data": charts.data, "dark": DARK}
    return environment.from_string(html).render(
        **content,
        css=Markup(css),
        js=Markup(js),
        vega=Markup(_without_end(vl_convert.javascript_bundle())),
        payload=Markup(as_script(payload)),
    )


def _without_end(script: str) -> str:
    """A script whose strings cannot end the element that it stands in."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _spoken(name: str) -> str:
    """The name of a task or role as a word: ``reward_model`` is a reward model."""
    return name.replace("_", " ")


def _described(task: Task) -> dict[str, Any]:
    """A task, whether its data are synthetic, and how many of its runs are missing."""
    lacking = task.table("tables/missing") if task.has("tables/missing") else None
    partial = None
    if lacking is not None and len(lacking):
        partial = f"{len(lacking)} of {lacking['planned'].iloc[0]}"
    source = task.setting("texts", "source")
    synthetic = task.is_synthetic()
    return {"name": task.name, "synthetic": synthetic, "source": source, "partial": partial}


def _claims(task: Task) -> dict[str, Any]:
    return {"task": task.name, **table_block(task, "claims")}


def _main(charts: Charts, task: Task) -> dict[str, Any] | None:
    """Both main charts of a task that compares methods; the enumerable one has a figure instead."""
    if task.has("figures/figure5a") or task.has("figures/figure5b"):
        return {"task": task.name, "kind": "temperature", **temperatures(charts, task)}
    if task.has("points") and not task.has("tables/optimum") and task.name != "enumerable":
        return {"task": task.name, "kind": "tradeoff", **tradeoff(charts, task)}
    return None


def _figures(charts: Charts, task: Task) -> list[dict[str, Any]]:
    """Every figure: its charts, if it has any, and as it is printed."""
    found = []
    for name in task.named("figures"):
        draw = PANELS.get(name)
        found.append(
            {
                "name": name,
                "title": _titled(name),
                "caption": CAPTIONS[name],
                "charts": draw(charts, task, name) if draw else [],
                "printed": _as_image(task.svg(name)),
                "is_main": name in _MAIN,
                "csv": f"{task.name}/figures/{name}.csv",
                "methods": _methods(task, name),
            }
        )
    return found


def _titled(name: str) -> str:
    """The heading of a figure: the paper's number, or what it is of.

    Example:
        >>> _titled("figure2a"), _titled("overoptimisation")
        ('Figure 2a', 'Reward over-optimisation')
    """
    words = {
        "estimators": "Estimators of log F",
        "optimum": "Exact optima",
        "overoptimisation": "Reward over-optimisation",
    }
    return words.get(name, name.replace("figure", "Figure "))


def _methods(task: Task, name: str) -> list[dict[str, str]]:
    """Names and colours of the methods in a figure's chart, for its legend."""
    table = task.table(f"figures/{name}")
    if name not in PANELS or "method" not in table or name in ("figure4", "figure6"):
        return []
    rows = table[table["series"] == "below_best_of_n"] if name.startswith("figure7") else table
    known = scales(rows["method"].dropna())
    return [dict(zip(known, values, strict=True)) for values in zip(*known.values(), strict=True)]


def _as_image(svg: str) -> str:
    """A drawing as the address of an image: apart from the page, so that no names collide."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _tables(task: Task) -> list[dict[str, Any]]:
    """Every other table, in the order in which the paper and the workflow name them."""
    order = {name: index for index, name in enumerate(TITLES)}
    names = [name for name in task.named("tables") if name not in _ELSEWHERE]
    return [
        {"name": name, "title": TITLES.get(name, name), **table_block(task, name)}
        for name in sorted(names, key=lambda name: order.get(name, len(order)))
    ]
