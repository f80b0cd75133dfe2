import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


IMPORTS = {
    "vbon.cli": {"torch", "transformers", "pandas"},
    "vbon.planning.config": {"torch", "transformers"},
    "vbon.objectives.frontier": {"torch", "transformers", "vllm"},
    "vbon.analysis.pareto": {"torch", "transformers"},
    "vbon.evaluation.points": {"torch", "transformers"},
    "vbon.figures.catalogue": {"torch", "transformers"},
    "vbon.objectives.best_of_n": {"transformers", "vllm"},
    "vbon.pool.logf": {"transformers", "vllm"},
    "vbon.training.parallel": {"accelerate"},
}
"""Modules that each module does not import; one process imports them in this order."""


def test_a_module_imports_no_more_than_it_needs():
    code = (
        "import importlib, sys\n"
        f"for module, absent in {IMPORTS}.items():\n"
        "    importlib.import_module(module)\n"
        "    print(*[f'{module} imports {name}' for name in absent & set(sys.modules)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_imports_point_downward():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
