"""The helper that types the commands of pages."""

import os

import pytest
from commands import Replaced, blocks, compare, follow

PAGE = """
```yaml
# one.yaml
a: 1
```

```sh
cat one.yaml        # a comment
make everything
```

```text
a: 7
```
"""
MAKE = Replaced(r"make (\w+)", r"echo made \1", "there is nothing to make")


def test_files_are_written_and_commands_typed(tmp_path):
    assert follow(PAGE, tmp_path, os.environ, [MAKE]) == ["# one.yaml\na: 1\nmade everything\n"]
    assert (tmp_path / "one.yaml").read_text() == "# one.yaml\na: 1\n"


def test_a_failing_command_is_named(tmp_path):
    with pytest.raises(AssertionError, match="false"):
        follow("```sh\nfalse\ntrue\n```\n", tmp_path, os.environ)


def test_a_replacement_of_nothing_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="sing"):
        follow(PAGE, tmp_path, os.environ, [MAKE, Replaced("sing", None, "")])


def test_no_block_is_passed_over(tmp_path):
    with pytest.raises(AssertionError, match="the page has a block of zsh"):
        follow("```zsh\ntrue\n```\n", tmp_path, os.environ)
    with pytest.raises(AssertionError, match="does not name its file"):
        follow("```python\nprint(1)\n```\n", tmp_path, os.environ)
    assert blocks("```{figure} a.png\n:alt: no block\n```\n   ```sh\n   true\n   ```\n") == [
        ("sh", "true\n")
    ]


def test_what_is_shown_must_be_printed(tmp_path):
    printed = "4 runs,  to train: 1\nsentiment vbon n8 seed0 to train\n"
    compare("9 runs, to train: 0\n", printed)
    compare("sentiment … to train\n", printed)
    with pytest.raises(AssertionError, match="the page shows"):
        compare("9 runs\n", printed)
    shown = "```sh\necho one\n```\n```text\ntwo\n```\n"
    with pytest.raises(AssertionError, match="the page shows"):
        follow(shown, tmp_path, os.environ)
    follow(shown, tmp_path, os.environ, [Replaced("echo one", "true", "not compared")])
