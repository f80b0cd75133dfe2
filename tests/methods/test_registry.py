"""Methods are found by their file, in the package and in a folder of the user's."""

import pytest
from support import Language, settings

from vbon.errors import ConfigError
from vbon.methods import registry
from vbon.methods.registry import get_method, method_modules
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


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in method_modules():
        get_method(name)
    monkeypatch.setenv(registry.EXTRA, str(tmp_path))
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    yield tmp_path
    registry._load.cache_clear()


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
    with pytest.raises(ConfigError, match=r"unknown method 'vobn'; known: best_of_n, bon_sft, "):
        get_method("vobn")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("VALUE = 1\n", "defines no method; decorate its class with @register"),
        (METHOD.format(**PARTS | {"paper": ""}), "needs a docstring and a `paper`"),
        (METHOD.format(**PARTS).replace(f'"""{PARTS["doc"]}"""', ""), "needs a docstring"),
        (
            METHOD.format(**PARTS) + METHOD.format(**PARTS | {"name": "Other"}),
            "its file registers Mine and Other; give each method a file of its own",
        ),
    ],
    ids=["nothing", "no paper", "no docstring", "two"],
)
def test_a_file_that_defines_no_proper_method_is_refused(folder, text, message):
    (folder / "faulty.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        get_method("faulty")


def test_a_name_cannot_be_taken_twice(folder):
    (folder / "vbon.py").write_text(METHOD.format(**PARTS))
    with pytest.raises(ConfigError, match="method 'vbon' is defined by two files"):
        get_method("vbon")
