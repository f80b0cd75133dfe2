"""Peers that need other packages: one virtual environment and one process per peer."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def environment(name: str) -> Path:
    """Python of the virtual environment of ``requirements-<name>.txt``, created if missing.

    PyTorch is installed first, in the version that all peers share, so that no other requirement
    determines it.
    """
    requirements = HERE / f"requirements-{name}.txt"
    folder = HERE / ".venvs" / name
    python, stamp = folder / "bin" / "python", folder / "requirements.sha256"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"installing {requirements.name} into {folder} (1.5 GB, once)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    torch = next(
        line for line in requirements.read_text().splitlines() if line.startswith("torch==")
    )
    subprocess.run([*pip, torch], check=True)
    subprocess.run([*pip, "-r", str(requirements)], check=True)
    stamp.write_text(digest)
    return python


class Worker:
    """Process of a peer: one JSON line requests a round, one JSON line answers.

    Imports and set-up are done when the constructor returns; the peer's output goes to a log.
    """

    def __init__(self, name: str, script: str) -> None:
        self._log = HERE / ".venvs" / f"{name}.log"
        python = environment(name)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [python, HERE / "peers" / script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.facts = self._read()

    def ask(self, **request: object) -> dict:
        """Send a request, wait for its answer and return it."""
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _read(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended early; see {self._log}")
        return json.loads(line)
