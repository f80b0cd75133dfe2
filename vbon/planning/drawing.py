"""Files of figures, rendered tables and the report, and the tables that each is made from."""

import os
from functools import cached_property
from pathlib import Path

from vbon.planning.workflow import STUDIED, Plan

SUFFIXES = ("pdf", "svg", "png", "csv")
_COMPARED = ("points.parquet", "tables/attainment.csv")
_TABLES = {
    "optimum": ("tables/optimum.csv", "tables/curves.csv"),
    "estimators": ("tables/estimators.csv",),
    "figure3": ("tables/shown_pools.csv",),
    "figure4": ("studies/figure4/points.parquet", "studies/figure4/costs.parquet"),
    "figure5a": ("points.parquet",),
    "figure5b": ("points.parquet",),
    "figure6": (*_COMPARED, "tables/equivalence.csv"),
    "overoptimisation": ("tables/monitored.csv",),
}
"""Tables that figures are drawn from, where these are not points, bands and fronts."""
_OPTIMA = "tables/oracle_curves.csv"
_SHOWN = ("excerpts", "cards", "histories", "oracle_curves")
"""Tables that the report uses without a rendered table."""


class Drawing:
    """Figures, rendered tables and report of a plan, and the files that they are made from.

    Where figures are drawn alone, no rule upstream of a table exists: a table is read from the
    results, from its CSV copy, or from ``published``.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.report = f"{plan.results}/report/index.html"

    def figures(self, task: str) -> list[str]:
        """Names of a task's figures; some show a study."""
        plan = self.plan
        names = plan.tasks[task].figures
        return [name for name in names if name not in STUDIED or plan.studied(task, name)]

    def _needed(self, task: str, figure: str) -> list[str]:
        """The tables without which a figure is not drawn."""
        names = [*_TABLES.get(figure, (*_COMPARED, "pareto.parquet"))]
        if figure == "figure6" and not self.plan.has_equivalence(task):
            names.remove("tables/equivalence.csv")
        return [f"{self.plan.folder(task)}/{name}" for name in names]

    def tables(self, task: str, figure: str) -> dict[str, str]:
        """The tables that a figure is drawn from, by the names that its function uses."""
        plan, paths = self.plan, self._needed(task, figure)
        optima = f"{plan.folder(task)}/{_OPTIMA}"
        has_optima = figure not in _TABLES and "distances" in plan.tables(task)
        if has_optima and (not plan.is_alone or os.path.exists(self.stored(optima))):
            paths.append(optima)
        incomplete = f"{plan.folder(task)}/tables/missing.csv"
        if not self.plan.is_alone or os.path.exists(incomplete):
            paths.append(incomplete)
        return {Path(path).stem: path for path in paths}

    @cached_property
    def sources(self) -> dict[str, list[str]]:
        """The tables that each figure and each rendered table is made from."""
        sources = {}
        for task in self.plan.tasks:
            folder = self.plan.folder(task)
            for name in self.figures(task):
                tables = list(self.tables(task, name).values())
                sources |= {f"{folder}/figures/{name}.{suffix}": tables for suffix in SUFFIXES}
            for name in self.plan.rendered(task):
                sources[f"{folder}/tables/{name}.md"] = [f"{folder}/tables/{name}.csv"]
        return sources

    @cached_property
    def published(self) -> list[str]:
        """Tasks whose tables are read from ``published``: ``results`` has none of theirs."""
        if self.plan.results != "results":
            return []
        return [task for task in self.plan.tasks if not self._has_tables(task)]

    def _has_tables(self, task: str) -> bool:
        """Return True if the results have any table that is drawn or rendered."""
        paths = [f"{self.plan.folder(task)}/tables/{n}.csv" for n in self.plan.rendered(task)]
        paths += [path for figure in self.figures(task) for path in self._needed(task, figure)]
        return any(map(os.path.exists, paths))

    def stored(self, path: str) -> str:
        """Path of a table or, where figures are drawn alone, of the copy that exists."""
        if os.path.exists(path) or not self.plan.is_alone:
            return path
        results = self.plan.results
        task = path.removeprefix(f"{results}/").partition("/")[0]
        as_csv = path.replace(".parquet", ".csv")
        copies = [as_csv, *[as_csv.replace(results, "published", 1)] * (task in self.published)]
        return next((copy for copy in copies if os.path.exists(copy)), path)

    def words(self, tables: dict[str, str]) -> list[str]:
        """Tables as words of a command line, each by its name."""
        return [f"{name}={self.stored(path)}" for name, path in tables.items()]

    @cached_property
    def lacking(self) -> dict[str, list[str]]:
        """The tables that each figure or rendered table needs and that do not exist."""
        return {
            output: [path for path in paths if not os.path.exists(self.stored(path))]
            for output, paths in self.sources.items()
        }

    def drawable(self, folder: str = "") -> list[str]:
        """Figures and rendered tables below a folder whose tables exist."""
        complete = [output for output, paths in self.lacking.items() if not paths]
        return [output for output in complete if output.startswith(folder)]

    def notes(self) -> tuple[list[str], list[str]]:
        """Lines about the copies in use, and warnings about omitted figures and tables."""
        folder = self.plan.folder
        words = "has no tables; using published"
        copies = [f"{task}: {folder(task)} {words}/{task}" for task in self.published]
        left_out = [
            f"left out: {os.path.splitext(output)[0]}, since {' and '.join(paths)} is missing;"
            " get it with `dvc pull`, or compute it with `make benchmark`"
            for output, paths in self.lacking.items()
            if paths and output.endswith((".md", ".png"))
        ]
        return copies, left_out

    def reported(self, task: str) -> dict[str, str]:
        """Files that the report shows of a task, by the names that it uses."""
        plan = self.plan
        alone = [n for n in plan.table_names(task) if n in _SHOWN]
        tables = dict.fromkeys([*plan.rendered(task), *alone, "missing"])
        names = {name: f"{name}.parquet" for name in ("points", "costs")}
        names |= {f"tables/{name}": f"tables/{name}.csv" for name in tables}
        names |= {f"figures/{name}": f"figures/{name}.csv" for name in self.figures(task)}
        return {f"{task}/{name}": f"{plan.folder(task)}/{path}" for name, path in names.items()}

    def _is_there(self, path: str) -> bool:
        """Return True if the report can have a file: drawn alone, figures need their tables."""
        if not self.plan.is_alone:
            return True
        return not self.lacking[path] if "/figures/" in path else os.path.exists(self.stored(path))

    @cached_property
    def shown(self) -> dict[str, str]:
        """Files that the report shows, by name."""
        files = {k: v for task in self.plan.tasks for k, v in self.reported(task).items()}
        return {name: path for name, path in files.items() if self._is_there(path)}

    @cached_property
    def not_shown(self) -> list[str]:
        """Files that the report would show if they existed."""
        files = [path for task in self.plan.tasks for path in self.reported(task).values()]
        absent = [path for path in files if not self._is_there(path)]
        return [path for path in absent if not path.endswith("/missing.csv")]  # no run is missing

    @property
    def page_inputs(self) -> list[str]:
        """Files that the page is made from."""
        svgs = [path.replace(".csv", ".svg") for path in self.shown.values() if "/figures/" in path]
        return [*map(self.stored, self.shown.values()), *svgs]

    def comparisons(self, task: str) -> list[str]:
        """Tables and figures that compare a task's runs, as one target."""
        plan, folder = self.plan, self.plan.folder(task)
        files = {f"{folder}/points.parquet", f"{folder}/metrics.json"}
        for paths in self.sources.values():
            files.update(path for path in paths if path.startswith(f"{folder}/"))
        files.update(f"{folder}/tables/{name}.csv" for name in plan.table_names(task))
        files.update(f"{folder}/tables/{name}.md" for name in plan.rendered(task))
        return sorted(files)
