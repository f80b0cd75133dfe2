"""The commands of a page: its blocks written or typed in their order, and its outputs compared."""

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
    """A command that a test does not type as it stands."""

    command: str
    """Regular expression that the whole line matches."""
    by: str | None
    """What is typed instead (groups as ``\\1``); None to leave it out."""
    why: str


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every block of a page that is no directive of the generator."""
    return [(kind, textwrap.dedent(text)) for kind, text in BLOCK.findall(page)]


def follow(
    page: str,
    folder: Path,
    environment: Mapping[str, str],
    replaced: Iterable[Replaced] = (),
) -> list[str]:
    """Write every file and type every block of a page; return what each block of commands printed.

    A block of `yaml` or `python` names its file in the first line, a block of `sh` is one script
    that must end well, and `text` is what the block before it printed: each line has to be in the
    output, numbers aside, `…` standing for anything. Of a block in which a command is replaced
    nothing is compared.
    """
    replaced, used, printed, comparable = list(replaced), set(), [], False
    for kind, text in blocks(page):
        if kind in ("yaml", "python"):
            name = FILE.match(text)
            assert name, f"a {kind} block does not name its file in the first line:\n{text}"
            (folder / name[1]).write_text(text)
        elif kind == "sh":
            script, found = typed(text, replaced)
            used |= found
            comparable = not found
            printed.append(type_in(script, folder, environment))
        elif kind == "text":
            if comparable:
                compare(text, printed[-1])
        else:
            raise AssertionError(
                f"what is a block of {kind}? Use sh, yaml, python or text:\n{text}"
            )
    unused = [rule.command for rule in replaced if rule not in used]
    assert not unused, f"no command of the page is any of {unused}"
    return printed


def typed(text: str, replaced: list[Replaced]) -> tuple[str, set[Replaced]]:
    """A block as a script, with the replacements that were made in it."""
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
    """Run a script; return what it printed."""
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
    """Assert that what a page shows was printed, whatever the numbers."""
    lines = [_plain(line) for line in printed.splitlines()]
    for line in shown.splitlines():
        pattern = ".*".join(re.escape(part) for part in _plain(line).split("…"))
        found = any(re.fullmatch(pattern, other) for other in lines)
        assert found, f"the page shows\n{line}\nbut what was printed is\n{printed}"


def _plain(line: str) -> str:
    return " ".join(NUMBER.sub("0", line).split())
