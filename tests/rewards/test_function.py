import json

import numpy as np
import pytest

from vbon.artifacts.fingerprint import content_hash
from vbon.artifacts.functions import FUNCTIONS, check_defined, check_function
from vbon.errors import ArtifactError, ConfigError, DataError
from vbon.rewards import Completions, load_reward_model
from vbon.rewards.function import NAME, SOURCE, load_function

LENGTH = (
    "def length(texts):\n    assert len(texts) <= 2\n    return [len(text) for text in texts]\n"
)


BATCH = Completions.from_texts(
    ["4", "five", "7"],
    ["2+2=", "2+3=", "3+4="],
    [{"row": json.dumps({"answer": answer})} for answer in ("4", "5", "7")],
)


MUTE = "class Mute(Exception):\n    def __str__(self): raise ValueError\n    __repr__ = __str__\n"


def folder_of(tmp_path, source, name="length"):
    (tmp_path / SOURCE).write_text(source)
    (tmp_path / NAME).write_text(f"{name}\n")
    return tmp_path


def test_a_function_is_called_in_batches_and_transformed(tmp_path):
    model = load_reward_model(folder_of(tmp_path, LENGTH), batch_size=2, transform="exp")
    rewards = model(["a", "ab", "abc", "abcd", "abcde"])
    assert rewards.reward.tolist() == np.exp([1, 2, 3, 4, 5]).tolist()
    assert np.isnan(rewards.prob).all()
    assert model([]).reward.shape == (0,)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("[1.0]", r"length was given 2 texts and returned list \[1\.0\]; it must return one"),
        ("None", "returned NoneType None"),
        ("['good', 'bad']", "returned list"),
        ("[1.0, float('nan')]", "nan for text 'ab'; rewards must be finite"),
    ],
)
def test_answers_that_are_not_rewards_are_named(tmp_path, body, words):
    model = load_reward_model(folder_of(tmp_path, f"def length(texts):\n    return {body}\n"))
    with pytest.raises(DataError, match=words):
        model(["a", "ab"])


def test_files_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"'.*absent\.py' is not a Python file; give file\.py"):
        load_function(tmp_path / "absent.py", "length")
    (tmp_path / "mine.py").write_text(LENGTH)
    with pytest.raises(ConfigError, match=r"mine\.py has no function 'lenght'; it has length"):
        load_function(tmp_path / "mine.py", "lenght")
    (tmp_path / "bad.py").write_text("import nothing_like_it")
    with pytest.raises(ConfigError, match=r"bad\.py cannot be imported \(ModuleNotFoundError"):
        load_function(tmp_path / "bad.py", "length")


@pytest.mark.parametrize(
    ("parameters", "value", "rewards"),
    [
        ("texts", "len(texts[0])", [5, 8, 5]),
        ("responses, rows", "float(responses[0] == rows[0]['answer'])", [1, 0, 1]),
        ("rows, *, prompts", "int(prompts[0][0]) + int(rows[0]['answer'])", [6, 7, 10]),
        ("responses, /, texts, scale=2", "scale * len(texts[0] + responses[0])", [12, 24, 12]),
        ("prompts, **others", "len(prompts[0]) + len(others)", [4, 4, 4]),
        ("responses, rows=None", "float(responses[0] == rows[0]['answer'])", [1, 0, 1]),
        ("texts=None", "len(texts[0])", [5, 8, 5]),
    ],
)
def test_a_function_receives_the_views_that_it_names(tmp_path, parameters, value, rewards):
    source = f"def length({parameters}):\n    return [{value}]\n"
    model = load_reward_model(folder_of(tmp_path, source), batch_size=1)
    assert model(BATCH).reward.tolist() == rewards


@pytest.mark.parametrize(
    "parameters", ["answers", "texts, completions", "*, answers", "", "scale=2", "*texts"]
)
def test_parameters_that_are_no_views_are_refused_unrun(tmp_path, parameters):
    folder = folder_of(tmp_path, f"def length({parameters}):\n    raise SystemExit\n")
    message = r"length has (a parameter '(answers|completions)'; accepted:|no parameter of) texts, "
    with pytest.raises(ConfigError, match=f"^here: .*{message}"):
        check_function(folder / SOURCE, "length", "here")
    with pytest.raises(ConfigError, match=message):
        load_reward_model(folder)


def test_rows_that_a_task_does_not_keep_are_refused(tmp_path):
    model = load_reward_model(folder_of(tmp_path, "def length(rows): return [1.0] * len(rows)"))
    with pytest.raises(DataError, match="length reads rows, which prompts of this kind of task do"):
        model(["a"])


@pytest.mark.parametrize("parameters", ["texts, rows=None", "texts, /, *, rows=None, prompts=None"])
def test_rows_are_left_out_where_the_function_has_a_default(tmp_path, parameters):
    source = f"def length({parameters}): return [len(t) + (rows is None) for t in texts]"
    assert load_reward_model(folder_of(tmp_path, source))(["a", "abc"]).reward.tolist() == [2, 4]


@pytest.mark.parametrize("parameters", ["rows=None", "texts, rows=None, /"])
def test_rows_that_a_function_cannot_do_without_are_refused(tmp_path, parameters):
    model = load_reward_model(folder_of(tmp_path, f"def length({parameters}): return [1.0]"))
    with pytest.raises(DataError, match="length reads rows, which prompts of this kind of task do"):
        model(["a"])


@pytest.mark.parametrize(
    "answer",
    [
        "torch.tensor(lengths, dtype=float, requires_grad=True) * 1",
        "torch.tensor(lengths, dtype=torch.bfloat16)[:, None]",
        "[torch.tensor(float(n), requires_grad=True) * 1 for n in lengths]",
        "np.array(lengths, dtype=np.float16)",
        "(n for n in lengths)",
        "[Fraction(n) if n % 2 else np.float32(n) for n in lengths]",
        "[True if n == 1 else n for n in lengths]",
        "pd.Series(lengths, index=range(5, 5 + len(lengths)))",
    ],
)
def test_numbers_of_any_library_are_rewards(tmp_path, answer):
    libraries = "import numpy as np\nimport pandas as pd\nimport torch\n"
    body = f"    lengths = [len(text) for text in texts]\n    return {answer}\n"
    source = f"from fractions import Fraction\n{libraries}def length(texts):\n{body}"
    model = load_reward_model(folder_of(tmp_path, source))
    assert model(["a", "ab"]).reward.tolist() == [1, 2]


@pytest.mark.parametrize(
    "answer",
    [
        *("['1', '2']", "[1j, 2]", "[None, 1]", "[1, [2, 3]]", "{1, 2}", "[Mute(), Mute()]"),
        *("np.array(['2026', '2027'], 'M8[D]')", "np.array([1, 2], 'm8[s]')"),
        *("[np.timedelta64(1), 1]", "np.array([(1.0,), (2.0,)], [('score', float)])"),
        "np.array([(1, 2)] * 2, [('a', int), ('b', int)])",
    ],
)
def test_answers_of_other_types_are_refused(tmp_path, answer):
    source = f"import numpy as np\n{MUTE}def length(texts):\n    return {answer}\n"
    model = load_reward_model(folder_of(tmp_path, source))
    with pytest.raises(DataError, match=r"^reward: length .* text") as caught:
        model(["a", "b"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "statement",
    [
        *("raise ValueError('not\\nthis')", "sys.exit('not this')", "1 / 0", "raise Mute"),
        *("raise BaseException('not this')", "raise GeneratorExit('not this')"),
    ],
)
def test_a_function_that_fails_is_named_with_its_text(tmp_path, statement):
    source = (
        f"import sys\n{MUTE}def length(texts):\n    if 'bad' in texts:\n"
        f"        {statement}\n    return [1.0] * len(texts)\n"
    )
    model = load_reward_model(folder_of(tmp_path, source))
    reasons = r"(not this|division by zero|\(its text cannot be made\))"
    message = rf"^reward: length raised \w+: {reasons} for 'bad', one of 3 texts; "
    with pytest.raises(DataError, match=message):
        model(["good", "bad", "worse"])
    (tmp_path / "mine.py").write_text(f"import sys\n{MUTE}{statement}\n")
    with pytest.raises(ConfigError, match=rf"mine\.py cannot be imported \(\w+: {reasons}\)"):
        load_function(tmp_path / "mine.py", "length")


def test_a_function_can_be_interrupted(tmp_path):
    model = load_reward_model(folder_of(tmp_path, "def length(texts): raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        model(["good"])


@pytest.mark.parametrize(
    "source",
    [
        "import random\ndef length(texts): return [random.random() for _ in texts]",
        "import random\ndef length(texts): return [random.choice([0, 1]) for _ in texts]",
        "def length(texts, seen=[]): return [seen.append(0) or len(seen) for _ in texts]",
        "def length(texts): return list(range(len(texts)))",
        "import time\ndef length(texts): return [time.time() for _ in texts]",
        "import numpy as np\n"
        "def length(texts):\n    n = np.array([len(t) for t in texts])\n    return n - n.mean()",
    ],
)
def test_two_answers_to_one_text_are_refused(tmp_path, source):
    model = load_reward_model(folder_of(tmp_path, source))
    with pytest.raises(
        DataError, match=r"^reward: length returned \S+ and then \S+ for 'a+'; a re"
    ):
        model(["a", "aa", "aaaa"])


def test_one_text_is_asked_often_enough_to_find_two_values(tmp_path):
    source = "import random\ndef length(texts): return [random.choice([0, 1]) for _ in texts]"
    with pytest.raises(DataError, match="and then"):
        load_reward_model(folder_of(tmp_path, source))(["a"])


def test_the_first_texts_alone_are_scored_again(tmp_path):
    source = "CALLS = []\ndef length(texts): CALLS.append(list(texts)); return [1.0] * len(texts)"
    model = load_reward_model(folder_of(tmp_path, source), batch_size=20)
    texts = [f"{number}" for number in range(50)]
    for _ in range(2):
        assert model(texts).reward.tolist() == [1.0] * 50
    calls = load_function(tmp_path / SOURCE, "length").__globals__["CALLS"]
    assert [len(part) for part in calls] == [20, 8, 8, 1, 20, 10, 20, 20, 10]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_reward_may_use_dataclasses_and_processes(tmp_path, context):
    source = f'''
from __future__ import annotations
import multiprocessing
from dataclasses import dataclass

@dataclass
class Parsed:
    text: str
    number: int = 0

def one(text):
    return Parsed(text, len(text))

def length(texts):
    with multiprocessing.get_context("{context}").Pool(1) as pool:
        return [parsed.number for parsed in pool.map(one, texts)]
'''
    folder = folder_of(tmp_path, source)
    load_reward_model(folder)  # another of the same file in the same process
    assert load_reward_model(folder)(["a", "bcd"]).reward.tolist() == [1, 3]


def test_a_file_that_needs_others_beside_it_is_refused(tmp_path):
    (tmp_path / "helpers.py").write_text("WEIGHT = 2")
    (tmp_path / "mine.py").write_text("from helpers import WEIGHT\ndef f(texts): return [WEIGHT]")
    message = "imports 'helpers', a file beside it, of which the results would have no copy; move"
    with pytest.raises(ConfigError, match=message):
        load_function(tmp_path / "mine.py", "f")
    (tmp_path / "mine.py").write_text("import json\ndef f(texts): return [1.0] * len(texts)")
    (tmp_path / "json.py").write_text("")  # the library's is imported
    assert load_function(tmp_path / "mine.py", "f")(["a"]) == [1.0]


def test_a_file_that_is_no_python_is_refused_unrun(tmp_path):
    (tmp_path / "mine.py").write_text("def f(texts:\n    return")
    with pytest.raises(ConfigError, match=r"^here: .*mine\.py cannot be imported \(SyntaxError"):
        check_function(tmp_path / "mine.py", "f", "here")


@pytest.mark.parametrize(
    "source",
    [
        "f = max",
        "from operator import neg as f",
        "from operator import *",
        "if True:\n    def f(texts): ...",
        "try:\n    import f\nexcept ImportError:\n    f = None",
        "for f in [len]: ...",
        "class F: ...\n_, f = 0, F()",
    ],
)
def test_a_function_may_be_defined_in_any_way_and_must_be_defined(tmp_path, source):
    (tmp_path / "mine.py").write_text(f"{source}\ndef g(texts): ...")
    check_defined(tmp_path / "mine.py", "f", "here")
    if "*" not in source:
        with pytest.raises(ConfigError, match=r"^here: .*mine\.py has no function 'h'; it has g$"):
            check_defined(tmp_path / "mine.py", "h", "here")


def test_a_workflow_runs_functions_of_its_configuration_alone(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, LENGTH)
    monkeypatch.setenv(FUNCTIONS, "")
    with pytest.raises(ArtifactError, match="a function that is no callable of this configuration"):
        load_reward_model(folder)
    monkeypatch.setenv(FUNCTIONS, f"0,{content_hash(folder / SOURCE)}")
    assert load_reward_model(folder)(["a"]).reward.tolist() == [1]


def test_a_function_may_change_the_rows_that_it_receives(tmp_path):
    source = "def length(rows): return [row.pop('answer') for row in rows]"
    batch = Completions.from_texts(["1", "2"], details=[{"row": '{"answer": 3}'}] * 2)
    assert load_reward_model(folder_of(tmp_path, source))(batch).reward.tolist() == [3, 3]
