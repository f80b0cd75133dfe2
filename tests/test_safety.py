"""No module may load code with data, or write files that a crash leaves incomplete."""

import ast

import pytest
from checkout import ROOT

MODULES = sorted((ROOT / "vbon").rglob("*.py"))


def calls(tree):
    """Every call: the function's last name, the object it belongs to, and the node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = getattr(function, "attr", None) or getattr(function, "id", "")
            yield name, ast.unparse(getattr(function, "value", function)), node


def keywords(node):
    return {word.arg: ast.unparse(word.value) for word in node.keywords}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_data_bring_no_code(module):
    tree = ast.parse(module.read_text())
    for name, owner, node in calls(tree):
        given = keywords(node)
        remote = given.get("trust_remote_code")
        assert remote == "False" or (
            remote is None and (name != "from_pretrained" or owner in ("PeftConfig", "PeftModel"))
        ), node.lineno
        if (owner, name) == ("torch", "load"):
            assert given.get("weights_only") == "True", node.lineno
        assert (owner, name) != ("torch", "save"), f"{node.lineno}: weights are safetensors"
        assert given.get("safe_serialization", "True") == "True", node.lineno
        assert given.get("allow_pickle", "False") == "False", node.lineno
        assert name not in ("eval", "exec") or owner not in ("eval", "exec"), node.lineno
        assert (owner, name) not in (("yaml", "load"), ("yaml", "unsafe_load")), node.lineno
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.partition(".")[0] for alias in node.names}
            named = {(getattr(node, "module", None) or "").partition(".")[0]}
            bad = (names | named) & {"pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}
            assert not bad, f"{node.lineno}: {bad}"
        assert not (isinstance(node, ast.Attribute) and node.attr == "read_pickle")


def atomic_names(tree):
    """Names bound to an atomic path or folder, or to a file opened in one."""
    found = set()
    for node in ast.walk(tree):
        for item in getattr(node, "items", []) if isinstance(node, ast.With) else []:
            function = item.context_expr
            name = getattr(getattr(function, "func", None), "id", "")
            if name in ("atomic_path", "atomic_folder") and item.optional_vars is not None:
                found.add(ast.unparse(item.optional_vars))
    return found


# Functions that write into a folder or file of their caller's, which is an atomic one.
PASSED_ON = {
    "vbon/models/fitting.py": {"out_dir"},  # build: atomic_folder
    "vbon/models/gguf.py": {"folder", "(folder"},  # build: atomic_folder
    "vbon/training/runs.py": {"partial"},  # carry_out: atomic_folder
    "vbon/artifacts/tables.py": {"path"},  # _write_parquet, called by write_table
}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_writer_is_atomic(module):
    """Every call that writes gets a name bound to an atomic path or folder."""
    tree, place = ast.parse(module.read_text()), str(module.relative_to(ROOT))
    allowed = atomic_names(tree) | PASSED_ON.get(place, set())
    for name, owner, node in calls(tree):
        words = [ast.unparse(argument) for argument in node.args]
        if name in ("write_text", "write_bytes"):
            written = owner
        elif name in ("to_csv", "to_parquet", "savefig", "save_pretrained", "save_file"):
            written = words[0] if words else ""
        elif name == "open" and owner == "open":
            mode = words[1] if len(words) > 1 else keywords(node).get("mode", "'r'")
            if not set(mode) & set("wax+") or mode == "'rb+'":  # rb+ flushes what is written
                continue
            written = words[0]
        else:
            continue
        first = written.partition(" / ")[0].partition(".")[0]
        lock = (place, written) == ("vbon/cli/lock.py", "path")
        assert first in allowed or lock, f"{place}:{node.lineno}: {name} writes {written}"
