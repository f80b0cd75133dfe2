import numpy as np
import pytest

from vbon.errors import ConfigError, DataError
from vbon.rewards import load_reward_model
from vbon.rewards.function import NAME, SOURCE, load_function

LENGTH = (
    "def length(texts):\n    assert len(texts) <= 2\n    return [len(text) for text in texts]\n"
)


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
