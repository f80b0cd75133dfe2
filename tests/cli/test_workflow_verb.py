"""The verb ``workflow``: options as Snakemake reads them, locks, and what is said of a failure."""

import errno
import fcntl
import os
import socket
import subprocess
import sys

import pytest
import yaml
from checkout import CONFIG

from vbon.cli import lock, main
from vbon.cli import workflow as verb
from vbon.errors import VbonError


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with a workflow of one rule."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text('rule all:\n    shell: "true"\n')
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "small.yaml").write_text("results_dir: small\n")
    (tmp_path / "seeds.yaml").write_text("seeds: [0]\n")
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """Commands and folders of the Snakemakes that were started; none runs."""
    calls = []

    def start(command, environment, here):
        calls.append((command, here, environment))
        return subprocess.Popen(["true"])

    monkeypatch.setattr(verb, "_start", start)
    return calls


def damage(folder):
    """A damaged table of the task, and one that is none of its results."""
    for name in ("enumerable/points.parquet", "other/points.parquet"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"no table")


def damaged(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.damaged"))


@pytest.mark.parametrize(
    ("words", "results"),
    [
        ([], "results"),
        (["--configfile", "small.yaml"], "small"),
        (["--configfile=small.yaml"], "small"),
        (["--configfiles", "small.yaml", "seeds.yaml"], "small"),
        (["--configfile", "seeds.yaml", "small.yaml", "--quiet"], "small"),
        (["--config", "results_dir=small"], "small"),
        (["-C", "results_dir=small", "seed=1"], "small"),
        (["--configfile=seeds.yaml", "--config", "results_dir=./small/"], "small"),
        (["--profile", "profile"], "small"),
    ],
)
def test_damage_is_looked_for_where_the_options_say(checkout, started, words, results):
    (checkout / "profile").mkdir()
    (checkout / "profile/config.yaml").write_text("configfile: small.yaml\n")
    damage(checkout / "results")
    damage(checkout / "small")
    assert main(["workflow", "--cores", "1", *words]) == 0
    other = {"results": "small", "small": "results"}[results]
    assert damaged(checkout / results) == ["enumerable/points.parquet.damaged"]
    assert damaged(checkout / other) == []
    assert (checkout / results / ".vbon.lock").exists()
    [(command, folder, _)] = started
    assert command[3:] == ["--cores", "1", *words]
    assert folder == checkout


@pytest.mark.parametrize(
    "words", [["--directory", "there"], ["-d", "there"], ["--directory=there"]]
)
def test_a_folder_may_be_named(checkout, started, monkeypatch, words):
    (checkout / "there").mkdir()
    (checkout / "config.yaml").rename(checkout / "there/config.yaml")
    damage(checkout / "there/small")
    assert main(["workflow", *words, "--configfile", "small.yaml"]) == 0
    assert damaged(checkout / "there/small") == ["enumerable/points.parquet.damaged"]
    assert started[0][1] == checkout
    assert not (checkout / ".vbon.lock").exists()


def test_an_unlocked_graph_is_the_same_graph():
    words = ["--configfile=a.yaml", "--config", "seed=1", "-s", "b.smk", "-d", "c", "--", "all"]
    options = verb._parsed(["--cores", "1", *words[:3], "-d", "c", *words[-2:]])
    assert options.targets == ["all"]
    assert verb._graph(options) == ["--directory", "c", "--configfile", "a.yaml",
                                    "--config", "seed=1"]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--no-such-option"], "Snakemake refuses these options: "),
        (["--configf=small.yaml"], "Snakemake refuses these options: "),
        (["--config", "seed"], "Snakemake refuses these options: |--config: Invalid config"),
        (["--config", "sead=1"], "sead: unknown key"),
        (["--configfile", "absent.yaml"], "absent.yaml: does not exist"),
        (["--configfile=twice.yaml"], "twice.yaml: line 2: 'seed' is already given in line 1"),
        (["--configfile=method.yaml"], "methods.vbom: unknown method"),
        (["-s", "absent.smk"], "absent.smk|there is no Snakefile"),
    ],
)
def test_refusals_are_one_line_and_come_before_the_stale_lock(
    checkout, started, capsys, words, message
):
    (checkout / "twice.yaml").write_text("seed: 1\nseed: 2\n")
    (checkout / "method.yaml").write_text("run_methods: [vbom]\nmethods: {vbom: {}}\n")
    (checkout / ".snakemake/locks").mkdir(parents=True)
    (checkout / ".snakemake/locks/0.input.lock").touch()
    assert main(["workflow", "--cores", "1", *words]) == 1
    printed = capsys.readouterr().err
    assert any(part in printed for part in message.split("|"))
    assert len(printed.splitlines()) == 1
    assert not started
    assert (checkout / ".snakemake/locks/0.input.lock").exists()


def test_a_stale_lock_that_stays_is_explained(checkout, started, capsys):
    (checkout / "Snakefile").write_text('raise ValueError("no such graph")\n')
    (checkout / ".snakemake/locks").mkdir(parents=True)
    (checkout / ".snakemake/locks/0.input.lock").touch()
    assert main(["workflow", "--cores", "1"]) == 1
    printed = capsys.readouterr().err
    assert "could not clear the lock of an interrupted run" in printed
    assert "no such graph" in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ('raise ValueError("no such graph")\n', "ended with code 1 before any job, for the reason"),
        (
            'rule all:\n    log: "logs/all.log"\n    shell: "echo vbon x: why > {log}; false"\n',
            "the failing job is named above and its log is below logs/. The same command resumes."
            "\n  vbon x: why",
        ),
    ],
)
def test_a_failing_job_is_named_only_if_there_is_one(checkout, capsys, rule, words):
    (checkout / "Snakefile").write_text(rule)
    (checkout / "logs").mkdir()
    (checkout / "logs/old.log").write_text("vbon y: of yesterday")
    os.utime(checkout / "logs/old.log", (1, 1))
    assert main(["workflow", "--cores", "1"]) == 1
    printed = capsys.readouterr().err
    assert words in printed
    assert "of yesterday" not in printed


def test_a_second_writer_of_a_results_folder_is_refused(checkout, started, capsys, tmp_path):
    shared = tmp_path / "shared"
    words = ["workflow", "--cores", "1", "--config", f"results_dir={shared}"]
    with lock.locked(shared, "writes"):
        assert main(words) == 1
        printed = capsys.readouterr().err
        assert f"writes to the results folder {shared}" in printed
        assert f"process {os.getpid()} on {socket.gethostname()}" in printed
        assert len(printed.splitlines()) == 1
        assert main([*words, "-n"]) == 0  # which writes nothing
        assert len(started) == 1
    assert main(words) == 0
    assert lock.is_locked(shared) is False


def test_orphans_are_those_of_the_folder_and_of_its_results(checkout, started):
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    marks = [{"VBON_RESULTS": str(checkout / "small")}, {"VBON_RESULTS": str(checkout / "x")}]
    children = [os.spawnve(os.P_NOWAIT, sleeping[0], sleeping, os.environ | m) for m in marks]
    try:
        assert main(["workflow", "--configfile=small.yaml"]) == 0
        assert os.waitpid(children[0], 0)[1] == 9
        assert os.waitpid(children[1], os.WNOHANG) == (0, 0)
    finally:
        os.kill(children[1], 9)
        os.waitpid(children[1], 0)


@pytest.fixture
def no_flock(monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)


def test_a_file_system_without_locks_has_a_file_instead(no_flock, tmp_path):
    held = tmp_path / ".vbon.lock.held"
    with lock.locked(tmp_path, "runs"):
        assert held.read_text().split()[:2] == [str(os.getpid()), socket.gethostname()]
        assert lock.is_locked(tmp_path)
        message = rf"another benchmark runs \(process {os.getpid()} on .*delete .*held"
        with pytest.raises(VbonError, match=message), lock.locked(tmp_path, "runs"):
            pass
        assert held.exists()
    assert not held.exists()
    assert not lock.is_locked(tmp_path)


def test_such_a_file_of_a_killed_process_is_ignored(no_flock, tmp_path):
    held = tmp_path / ".vbon.lock.held"
    for stale in (f"999999999 {socket.gethostname()} 1.0", f"1 {socket.gethostname()} 1.0"):
        held.write_text(stale)
        assert not lock.is_locked(tmp_path)
        with lock.locked(tmp_path, "runs"):
            assert held.read_text().startswith(f"{os.getpid()} ")
    for alive in (f"{os.getpid()} elsewhere 1.0", "", "being written"):
        held.write_text(alive)
        assert lock.is_locked(tmp_path)
        with pytest.raises(VbonError), lock.locked(tmp_path, "runs"):
            pass
