"""Following a page: write its files, run its commands in order, and compare their output."""

import re
import subprocess
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# ([\w./-]+\.(?:yaml|py))\b")
NUMBER = re.compile(r"\d[\d.,:]*")


class Replaced(NamedTuple):
    """A command that a test does not run unchanged."""

    command: str
    """Regular expression that the whole line matches."""
    by: str | None
    """Command to run instead (groups as ``\\1``); None to omit it."""
    why: str


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every code block of a page, without directives of Sphinx."""
    return [(kind, textwrap.dedent(text)) for kind, text in BLOCK.findall(page)]


def follow(
    page: str,
    folder: Path,
    environment: Mapping[str, str],
    replaced: Iterable[Replaced] = (),
) -> list[str]:
    """Write every file and run every script of a page; return the output of each script.

    A block of `yaml` or `python` names its file in the first line. A block of `sh` is one script
    that must succeed. A block of `text` is the output of the block before it: each line must be in
    the output, except for numbers, and `…` matches anything. It is not compared if a command of
    the script was replaced.
    """
    replaced, used, printed, comparable = list(replaced), set(), [], False
    for kind, text in blocks(page):
        if kind in ("yaml", "python"):
            name = FILE.match(text)
            assert name, f"a {kind} block does not name its file in the first line:\n{text}"
            (folder / name[1]).write_text(text)
        elif kind == "sh":
            script, rules = typed(text, replaced)
            used |= rules
            comparable = not rules
            printed.append(type_in(script, folder, environment))
        elif kind == "text":
            if comparable:
                compare(text, printed[-1])
        else:
            raise AssertionError(
                f"the page has a block of {kind}; use sh, yaml, python or text:\n{text}"
            )
    unused = [rule.command for rule in replaced if rule not in used]
    assert not unused, f"no command of the page matches {unused}"
    return printed


def typed(text: str, replaced: list[Replaced]) -> tuple[str, set[Replaced]]:
    """Script of a block, and the replacements made in it."""
    used, lines = set(), []
    for line in text.splitlines():
        command = re.sub(r"\s+# .*", "", line).rstrip()
        rule = next((rule for rule in replaced if re.fullmatch(rule.command, command)), None)
        if rule is not None:
            used.add(rule)
            line = "" if rule.by is None else re.sub(rule.command, rule.by, command)
        lines.append(line)
    return "\n".join(lines), used


def type_in(script: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run a script and return its output."""
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    logs = "".join(path.read_text()[-500:] for path in folder.glob("logs/*/*.log"))
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}\n{logs[-5000:]}"
    return done.stdout + done.stderr


def compare(shown: str, printed: str) -> None:
    """Assert that the output a page shows was printed, except for numbers."""
    lines = [_plain(line) for line in printed.splitlines()]
    for line in shown.splitlines():
        pattern = ".*".join(re.escape(part) for part in _plain(line).split("…"))
        printed_it = any(re.fullmatch(pattern, other) for other in lines)
        assert printed_it, f"the page shows\n{line}\nwhich is not in the output\n{printed}"


def _plain(line: str) -> str:
    return " ".join(NUMBER.sub("0", line).split())
