"""The reference's tables, as Markdown: from the schema, the registry, the tables and the verbs.

`conf.py` calls :func:`write_reference` before every build, so no page can say anything else than
the code does.
"""

import ast
import contextlib
import importlib
import inspect
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from vbon.analysis.claims.page import claims_page
from vbon.artifacts import SCHEMAS
from vbon.artifacts.columns import OWN, TABLES, meaning
from vbon.artifacts.steps import steps
from vbon.cli import VERBS
from vbon.methods.registry import declared, get_method, method_modules
from vbon.planning.config import schema, section_schema
from vbon.tasks.registry import KINDS

ROOT = Path(__file__).parent.parent


def write_reference(folder: Path) -> None:
    """Write every generated part; a file that stays the same keeps its time."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "config": config_keys(),
        "artifacts": artifacts(),
        "methods": methods(),
        "verbs": verbs(),
        "claims": claims_page(),
    }
    for name, text in parts.items():
        file = folder / f"{name}.md"
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def config_keys() -> str:
    """A section for each part of the schema, with a row for each of its keys.

    A part that several kinds of task have in common is shown once, with ``{task}`` for the name of
    a section.
    """
    parts = [_section("Top level", schema()["properties"], "")]
    kinds = {kind: section_schema(kind) for kind in KINDS.files()}
    for kind, node in kinds.items():
        plain = {key: own for key, own in node["properties"].items() if not _nested(own)}
        parts.append(_section(f"Sections of kind `{kind}`", plain, "{task}.", _told(node)))
        for key, own in node["properties"].items():
            if _nested(own) and len(_sharing(key, own, kinds)) == 1:
                title, prefix = f"`{{task}}.{key}` of kind `{kind}`", f"{{task}}.{key}."
                parts.append(_section(title, own["properties"], prefix, _told(own), 3))
    parts.append("## Parts that kinds share\n\nWith the name of a section for `{task}`.\n")
    shown = set()
    for node in kinds.values():
        for key, own in node["properties"].items():
            sharing = tuple(_sharing(key, own, kinds)) if _nested(own) else ()
            if len(sharing) > 1 and (key, sharing) not in shown:
                shown.add((key, sharing))
                text = f"{_told(own)} Of kind {', '.join(f'`{name}`' for name in sharing)}."
                title, prefix = f"`{{task}}.{key}`", f"{{task}}.{key}."
                parts.append(_section(title, own["properties"], prefix, text, 3))
    return "\n".join(parts)


def _nested(node: Mapping[str, Any]) -> bool:
    return "properties" in node


def _sharing(key: str, node: Mapping[str, Any], kinds: Mapping[str, Any]) -> list[str]:
    """The kinds whose part of that name has the same keys, defaults and meanings."""
    sections = {kind: own["properties"].get(key, {}) for kind, own in kinds.items()}
    return [kind for kind, own in sections.items() if own.get("properties") == node["properties"]]


def _section(
    title: str, keys: Mapping[str, Any], prefix: str, told: str = "", level: int = 2
) -> str:
    """A heading, what the section is, and a table of its keys."""
    rows = [row for name, node in keys.items() for row in _rows(f"{prefix}{name}", node)]
    if not rows:
        return f"{'#' * level} {title}\n\n{told}\n"
    return f"{'#' * level} {title}\n\n{told}\n\n" + _table(
        ("key", "type", "default", "what it is"), rows
    )


def _rows(path: str, node: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """A key, and what is below it."""
    below = node.get("properties", {})
    default = "" if "default" not in node or below else f"`{_yaml(node['default'])}`"
    yield f"`{path}`", _kind(node), default, _told(node)
    for name, own in below.items():
        yield from _rows(f"{path}.{name}", own)


def _kind(node: Mapping[str, Any]) -> str:
    """What is accepted, in words."""
    if "enum" in node:
        return ", ".join(f"`{_yaml(value)}`" for value in node["enum"])
    kinds = node.get("type", "any")
    words = " or ".join(kinds) if isinstance(kinds, list) else kinds
    if kinds == "array" and "items" in node:
        words = f"list of {_kind(node['items'])}"
    for key, sign in (
        ("minimum", "≥"),
        ("exclusiveMinimum", ">"),
        ("maximum", "≤"),
        ("exclusiveMaximum", "<"),
        ("multipleOf", "a multiple of"),
    ):
        words += f", {sign} {node[key]}" if key in node else ""
    return words


def _told(node: Mapping[str, Any]) -> str:
    return " ".join(node.get("description", "").split())


def _yaml(value: Any) -> str:
    """A default as it would stand in a configuration."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(own)}" for key, own in value.items()) + "}"
    return yaml.safe_dump(value).split("\n")[0]


def artifacts() -> str:
    """A section for each table, with a row for each of its columns."""
    parts = []
    for name, (path, told) in TABLES.items():
        if name in SCHEMAS:
            known = SCHEMAS[name]
            keys = ", ".join(f"`{key}`" for key in known.keys)
            more = [column for column in OWN.get(name, {}) if column not in known.columns]
            rows = [(f"`{c}`", str(t), meaning(name, c)) for c, t in known.columns.items()]
            rows += [(f"`{column}`", "", meaning(name, column)) for column in more]
            body = _table(("column", "type", "what it holds"), rows)
            parts.append(f"## `{name}`\n\n`{path}`. {told} Key: {keys}.\n\n{body}")
        else:
            columns = csv_columns(name, Path(path.partition(",")[0]).name)
            rows = [(f"`{column}`", meaning(name, column)) for column in columns]
            body = _table(("column", "what it holds"), rows)
            parts.append(f"## `{name}`\n\n`{path}`. {told}\n\n{body}")
    return "\n".join(parts)


def csv_columns(name: str, file: str) -> list[str]:
    """Columns of a table that has no schema: its published copy's, or those that are described."""
    found = sorted(ROOT.glob(f"published/*/tables/{file}"))
    return found[0].read_text().partition("\n")[0].split(",") if found else list(OWN[name])


def methods() -> str:
    """A section for each method: what it maximises, settings, paper, needs, optimum."""
    parts = []
    for name in sorted(method_modules()):
        method = get_method(name)
        settings = [
            (
                f"`{field.name}`",
                "" if field.default is MISSING else f"`{_yaml(field.default)}`",
                _attribute_text(method, field.name),
            )
            for field in fields(method)
            if field.init
        ]
        needs = (
            ", ".join(f"`{need}`" for need in method.needs) or "nothing beyond its shape's inputs"
        )
        optimum = f"`{method.optimum}`" if method.optimum else "none that is finite and fixed"
        facts = [
            f"- **In legends:** {declared(name).get('label', name)}",
            f"- **Paper:** {method.paper}",
            f"- **File:** `vbon/methods/{name}.py`",
            f"- **Shape:** {_shape(method)}",
            f"- **Needs:** {needs}",
            f"- **Optimum** on the enumerable task: {optimum}",
            f"- **Depends on ranks of rewards alone:** {'yes' if method.rank_based else 'no'}",
        ]
        told = _block(inspect.getdoc(method))
        table = _table(("setting", "default", "what it is"), settings) if settings else ""
        parts.append(f"## `{name}`\n\n{told}\n\n" + "\n".join(facts) + f"\n\n{table}")
    return "\n".join(parts)


def _shape(method: type) -> str:
    """The last of a method's classes that is in `vbon.methods.base`."""
    return next(
        f"`{base.__name__}`" for base in method.__mro__ if base.__module__ == "vbon.methods.base"
    )


def _attribute_text(method: type, name: str) -> str:
    """The string below a field's definition, of the class that has it or the nearest above."""
    owners = [owner for owner in method.__mro__ if name in vars(owner).get("__annotations__", {})]
    for owner in owners:
        (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(owner))).body
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if getattr(getattr(field, "target", None), "id", None) == name and isinstance(
                getattr(getattr(below, "value", None), "value", None), str
            ):
                return " ".join(below.value.value.split())
    raise LookupError(f"{method.__name__}.{name}: the field has no text below it; say what it is")


def _block(text: str) -> str:
    """A docstring in reStructuredText, as it is."""
    fence = "`" * 4
    return f"{fence}{{eval-rst}}\n{text}\n{fence}"


def verbs() -> str:
    """A section for each verb with its help, as the command prints it."""
    functions = {
        verb: getattr(importlib.import_module(module), verb.replace("-", "_"))
        for verb, (module, _) in VERBS.items()
    }
    functions |= {step.verb: step.main for step in steps().values()}
    summaries = {verb: text for verb, (_, text) in VERBS.items()}
    summaries |= {step.verb: f"{step.summary} ({step.phase})" for step in steps().values()}
    rows = [(f"[`{verb}`](#verb-{verb})", text) for verb, text in summaries.items()]
    parts = [_table(("verb", "what it does"), rows)]
    for verb, function in functions.items():
        parts.append(f"(verb-{verb})=\n## `vbon {verb}`\n\n```text\n{_help(function)}\n```\n")
    return "\n".join(parts)


def _help(function: Any) -> str:
    """What a verb prints for `--help`."""
    printed = io.StringIO()
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"  # argparse fits its lines to a terminal
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            function(["--help"])
    finally:
        os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)
    return printed.getvalue().strip()


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in row)} |\n" for row in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
