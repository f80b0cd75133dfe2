import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("vbon.objectives.best_of_n", "transformers vllm"),
        ("vbon.pool.logf", "transformers vllm"),
        ("vbon.analysis.pareto", "torch transformers"),
        ("vbon.figures.catalogue", "torch transformers"),
        ("vbon.evaluation.points", "torch transformers"),
        ("vbon.cli", "torch transformers pandas"),
        ("vbon.planning.config", "torch transformers"),
    ],
)
def test_a_module_imports_no_more_than_it_needs(module, absent):
    code = (
        f"import sys, {module}; print([name for name in {absent.split()} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_imports_point_downward():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
