"""A real SLURM of one node with two fake GPUs, below a folder of its own, without systemd."""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "sinfo")
FULL = os.environ["PATH"] + ":/usr/sbin:/sbin"

HOME = Path("/etc/slurm")  # Snakemake's jobs look for the configuration only here
MARK = "# of vbon's tests"

CONFIG = """{mark}
ClusterName=vbon
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={slurmd_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/d
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
MinJobAge=7200
KillWait=2
JobRequeue=1
AccountingStorageType=accounting_storage/none
NodeName={node} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:fake:2 State=UNKNOWN
PartitionName=main Nodes={node} Default=YES MaxTime=1-0
"""


def why_not() -> str | None:
    """Reason why SLURM cannot be started here; None if there is none."""
    if os.geteuid():
        return "needs root, to make fake GPUs"
    missing = [name for name in PROGRAMS if shutil.which(name, path=FULL) is None]
    if missing:
        return f"{missing[0]} is not installed; .ci/slurm installs Debian's slurm-wlm and munge"
    config = HOME / "slurm.conf"
    if config.exists() and not config.read_text().startswith(MARK):
        return f"{config} belongs to another cluster, which the tests leave alone"
    return None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Cluster:
    """SLURM's daemons, with all files except their configuration in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.node = folder, socket.gethostname().partition(".")[0]
        self.environment = {
            **os.environ,
            "PATH": FULL,
        }
        self._daemons: list[subprocess.Popen] = []

    def start(self) -> None:
        folder = self.folder
        for name in ("ctld", "d"):
            (folder / name).mkdir()
        for number in range(2):  # character devices with the numbers of /dev/null
            os.mknod(folder / f"gpu{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        ports = {"port": free_port(), "slurmd_port": free_port()}
        names = {"mark": MARK, "node": self.node, "folder": folder}
        HOME.mkdir(exist_ok=True)
        (HOME / "slurm.conf").write_text(CONFIG.format(**names, **ports))
        gpus = f"NodeName={self.node} Name=gpu Type=fake File={folder}/gpu[0-1]\n"
        (HOME / "gres.conf").write_text(f"{MARK}\n{gpus}")
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        options = [f"--key-file={key}", f"--socket={folder}/munge.socket", "--force"]
        options += ["--num-threads=10"]  # with the default of two, both may wait for killed clients
        options += [f"--{kind}-file={folder}/munged.{kind}" for kind in ("log", "pid", "seed")]
        self._run("munged", "--foreground", *options)
        signed = ("munge", "--no-input", f"--socket={folder}/munge.socket")
        self._wait(lambda: self.call(*signed).startswith("MUNGE:"), 30)
        self._run("slurmctld", "-D")
        self._wait(lambda: self.call("scontrol", "ping").endswith("UP"), 30)
        self._run("slurmd", "-D", "-N", self.node)
        self._wait(lambda: self.state() == "idle", 30)

    def _run(self, name: str, *options: str) -> None:
        """Start a daemon that ends with the tests, even if these are killed."""
        command = ["setpriv", "--pdeathsig", "KILL", shutil.which(name, path=FULL), *options]
        with open(self.folder / f"{name}.out", "w") as log:
            settings = {"env": self.environment, "stdout": log, "stderr": log}
            self._daemons.append(subprocess.Popen(command, **settings))

    def _wait(self, reached, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not reached():
            dead = [daemon.args[3] for daemon in self._daemons if daemon.poll() is not None]
            if dead or time.monotonic() > end:
                logs = "\n".join(path.read_text()[-800:] for path in self.folder.glob("*.out"))
                raise RuntimeError(f"SLURM did not start ({dead or 'timeout'}): {logs}")
            time.sleep(0.2)

    def call(self, *command: str) -> str:
        """Output of a command; empty if it fails or hangs, as clients of a busy munge may."""
        settings = {"env": self.environment, "capture_output": True, "text": True, "timeout": 20}
        try:
            return subprocess.run(command, **settings).stdout.strip()
        except subprocess.TimeoutExpired:
            return ""

    def state(self) -> str:
        return self.call("sinfo", "--noheader", "--format=%T")

    def queue(self, state: str) -> list[str]:
        """Numbers of the jobs in one state."""
        return self.call("squeue", "--noheader", "--format=%A", f"--states={state}").split()

    def jobs(self) -> list[dict[str, str]]:
        """Properties of all past and present jobs, under SLURM's names."""
        lines = self.call("scontrol", "--oneliner", "show", "jobs").splitlines()
        words = ([word for word in line.split() if "=" in word] for line in lines)
        return [dict(word.partition("=")[::2] for word in job) for job in words]

    def stop(self) -> None:
        if self.state():
            self.call("scancel", "--user=root")
            with contextlib.suppress(RuntimeError):
                self._wait(lambda: not self.queue("RUNNING,COMPLETING"), 15)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for name in ("slurm.conf", "gres.conf"):
            (HOME / name).unlink(missing_ok=True)
