"""Changes that make nothing out of date: a release, messages of errors, the place of a module."""

import re

import pytest
from checkout import copy, edit, plan, planned_jobs

pytestmark = pytest.mark.workflow


def test_a_release_an_error_message_and_a_moved_module_train_nothing(swept, tmp_path):
    folder = copy(swept, tmp_path / "checkout")
    package = folder / "vbon"
    edit(package / "__init__.py", '__version__ = "', '__version__ = "9.')
    messages = 0
    for file in package.rglob("*.py"):
        text, count = re.subn(r'(raise \w+Error\(\s*f?")', r"\1no: ", file.read_text())
        file.write_text(text)
        messages += count
    assert messages > 50
    (package / "pool/cdf.py").rename(package / "pool/distribution.py")
    for file in package.rglob("*.py"):
        file.write_text(file.read_text().replace("vbon.pool.cdf", "vbon.pool.distribution"))
    counted = plan(folder)
    assert counted == "10 runs, to train: 0"
    assert planned_jobs(folder) == {}
