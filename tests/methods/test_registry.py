"""Methods are found by their file, in the package and in a folder of the user's."""

import re
from pathlib import Path

import pytest
from support import Language, settings

from vbon.artifacts import fingerprint, plugins
from vbon.errors import ConfigError
from vbon.figures.style import method_styles
from vbon.methods.registry import METHODS, declared, get_method, method_modules
from vbon.planning.config import resolve
from vbon.planning.runs import expand

METHOD = '''"""A method of somebody's own."""

from dataclasses import dataclass

from vbon.methods.base import Online
from vbon.methods.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class {name}(Online):
    """{doc}"""

    paper = "{paper}"
    optimum = "kl_rl"

    kl_coef: float
    """Coefficient."""

    def reward(self, scored):
        """The reward, twice."""
        return 2 * scored.reward
'''
PARTS = {"name": "Mine", "doc": "Maximise twice the reward.", "paper": "arXiv:2407.06057v3"}


def declaring(*attributes):
    """The method with further attributes of its class."""
    return METHOD.format(**PARTS).replace("    optimum", "\n".join(f"    {a}" for a in attributes)
                                          + "\n    optimum")  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in method_modules():
        get_method(name)
    monkeypatch.setenv("VBON_METHODS", str(tmp_path))
    monkeypatch.setattr(METHODS, "classes", dict(METHODS.classes))
    yield tmp_path
    plugins._load.cache_clear()


def test_a_method_is_one_file_and_one_entry_of_the_config(folder):
    (folder / "mine_alone.py").write_text(METHOD.format(**PARTS))
    assert method_modules()["mine_alone"] == folder / "mine_alone.py"
    config = resolve(
        {
            "tasks": ["sentiment"],
            "run_methods": ["vbon", "mine_alone"],
            "methods": {"vbon": {"n": 4}, "mine_alone": {"kl_coef": [0.1, 0.2]}},
            "seeds": [0, 1],
        }
    )
    runs = [run for run in expand(config) if run.method == "mine_alone"]
    assert [(run.setting, run.seed) for run in runs] == [
        ("beta0.1", 0),
        ("beta0.1", 1),
        ("beta0.2", 0),
        ("beta0.2", 1),
    ]
    method = runs[0].instance
    assert type(method) is get_method("mine_alone")
    language = Language()
    policy, rows = language.train(method, settings())
    assert (policy.table != language.reference.table).any()
    assert len(rows) == 3


def test_an_unknown_method_lists_the_known():
    with pytest.raises(ConfigError, match=r"unknown method 'vobn'; accepted: best_of_n, "):
        get_method("vobn")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("VALUE = 1\n", "defines no method; decorate its class with @register"),
        (METHOD.format(**PARTS | {"paper": ""}), "needs a `paper`"),
        (declaring('needs = ("logF",)'), r"needs = \('logF',\) is not allowed; accepted: logf"),
        (declaring('colour = "red"'), r"colour = 'red' is not allowed; give '#rrggbb' in lower"),
        (declaring('marker = "~"'), r"marker = '~' is not allowed; give one of \* D d P s"),
        (declaring("label = str(1)"), r"label = str\(1\) is not allowed; give a text"),
        (METHOD.format(**PARTS).replace(f'"""{PARTS["doc"]}"""', ""), "needs a docstring"),
        (
            METHOD.format(**PARTS) + METHOD.format(**PARTS | {"name": "Other"}),
            "its file registers Mine and Other; give each a file of its own",
        ),
    ],
    ids=["nothing", "no paper", "needs", "colour", "marker", "label", "no docstring", "two"],
)
def test_a_file_that_defines_no_proper_method_is_refused(folder, text, message):
    (folder / "faulty.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        get_method("faulty")


def test_a_name_cannot_be_taken_twice(folder):
    (folder / "vbon.py").write_text(METHOD.format(**PARTS))
    with pytest.raises(ConfigError, match="method 'vbon' is defined by two files"):
        get_method("vbon")


def test_a_look_is_read_without_running_the_file(folder):
    look = {"label": "Mine", "colour": "#123456", "marker": "h", "hollow": True, "order": 2.5}
    text = declaring("dashes: tuple = (0, (5, 2))", *(f"{key} = {look[key]!r}" for key in look))
    (folder / "looking.py").write_text("raise RuntimeError\n" + text)
    assert declared("looking") == look | {"dashes": (0, (5, 2))}
    assert list(method_styles(["looking", "ppo", "bon_sft"])) == ["bon_sft", "looking", "ppo"]


def test_a_look_is_not_inherited(folder):
    text = METHOD.replace("base import Online", "ppo import PPO").replace("(Online)", "(PPO)")
    (folder / "heir.py").write_text(text.format(**PARTS))
    assert get_method("heir").__mro__[1].label == "PPO"
    assert method_styles(["heir"])["heir"].label == "heir"


def test_helpers_beside_methods_are_no_methods(folder):
    text = METHOD.format(**PARTS).replace("2 * scored", "TWO * scored")
    (folder / "helped.py").write_text(text.replace("\n\n\n@", "\nfrom ._shared import TWO\n\n\n@"))
    (folder / "_shared.py").write_text("TWO = 2\n")
    (folder / "base.py").write_text("")
    assert set(method_modules()) - set(METHODS.classes) == {"helped"}
    assert get_method("helped")(kl_coef=1.0).kl_coef == 1
    hashes = set()
    for value in (2, 3):
        (folder / "_shared.py").write_text(f"TWO = {value}\n")
        fingerprint._module.cache_clear()
        hashes.add(fingerprint.code_fingerprint(folder / "helped.py"))
    assert len(hashes) == 2


def test_a_changed_look_counts_for_what_draws_it_alone(folder):
    hashes = []
    for colour in ("#123456", "#654321"):
        (folder / "painted.py").write_text(declaring(f"colour = {colour!r}", "label = 'Mine'"))
        fingerprint._module.cache_clear()
        roots = (folder / "painted.py", "vbon.figures.catalogue", "vbon.report.page")
        hashes.append(list(map(fingerprint.code_fingerprint, roots)))
    run, *drawings = zip(*hashes, strict=True)
    assert run[0] == run[1]
    assert all(one != other for one, other in drawings)


def test_a_folder_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("VBON_METHODS", "nowhere")
    with pytest.raises(ConfigError, match="VBON_METHODS: 'nowhere' is not a folder"):
        method_modules()


def test_the_readme_lists_every_method():
    page = (Path(__file__).parents[2] / "README.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page.partition("## What is compared")[2], re.MULTILINE)
    listed = re.findall(r"`(\w+)`", " ".join(rows))
    assert sorted(listed) == sorted(method_modules())
