"""Sweeps whose trials run in actors of Ray: the same records, whatever dies, and nothing of Ray is left."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from finesweep.backends.ray import cluster
from finesweep.folder.sweep_folder import SweepFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SAME = ("--set", "search.sampler=random")
RAY = ("--set", "search.backend=ray", *SAME)
CONFIRM = ("--set", "confirm.top=1", "--set", "confirm.seeds=2")


def epochs(count: int) -> tuple[str, ...]:
    return ("--set", f"space.num_train_epochs.low={count}", "--set", f"space.num_train_epochs.high={count}")


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a folder for all that is temporary, at whose end nothing that was started there runs any more."""
    folder = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
    yield folder
    for process in of_ray(folder):
        with contextlib.suppress(psutil.Error):
            process.kill()
    shutil.rmtree(folder)


@pytest.fixture
def home(place) -> dict[str, str]:
    """Return an environment with a home and a temporary folder of its own, and two workers' worth of cores."""
    (place / "home").mkdir()
    (place / "t").mkdir()
    cache = os.environ.get("HF_HOME", str(Path.home() / ".cache/huggingface"))
    # A cluster that happens to be named in the environment is none of a sweep's on this machine.
    address = {"RAY_ADDRESS": "127.0.0.1:1"}
    return {
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "t"),
        "HF_HOME": cache,
        "OMP_NUM_THREADS": "1",
        **address,
    }


def of_ray(folder: Path) -> list[psutil.Process]:
    """Return Ray's processes that were started with a temporary folder: daemons, actors, and the forks of those."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TMPDIR", "").startswith(str(folder)) and _is_ray(process):
                found.append(process)
    return found


def _is_ray(process: psutil.Process) -> bool:
    return "ray" in " ".join(process.cmdline()) and "finesweep" not in process.cmdline()


def actors(folder: Path) -> list[psutil.Process]:
    """Return the actors that run trials."""
    return [p for p in of_ray(folder) if p.cmdline()[0].startswith("ray::") and not _forked_by_ray(p)]


def _forked_by_ray(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and parent.cmdline()[:1] == process.cmdline()[:1]


def fork_of(folder: Path, number: int, results: Path) -> psutil.Process:
    """Return the process that trains a trial: it has the trial's log open."""
    log = str(results / f"logs/trial-{number:04d}.log")
    for process in of_ray(folder):
        with contextlib.suppress(psutil.Error, OSError):
            if os.readlink(f"/proc/{process.pid}/fd/1") == log:  # noqa: PTH115 - what it says may be deleted
                return process
    raise AssertionError(f"nobody trains trial {number}")


def gone(folder: Path, until, seconds: float) -> None:
    until(lambda: not of_ray(folder), "nothing of Ray runs any more", seconds)


def ends(process: subprocess.Popen[str], code: int = 0, timeout: float = 280) -> str:
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err
    return out + err


def test_the_same_trials_with_the_same_results_as_with_optuna_and_nothing_of_ray_is_left(
    project, finished_at_random, home, place, check_invariants, until
):
    """Loopback only while it runs; no token in the home, no folder, no process afterwards; not a word on the screen.

    Ray trains the confirmation too, the first seeds of all candidates at a time.
    """
    process = project.start("run", "spec.yaml", *RAY, *CONFIRM, "--workers", "2", env=home)
    until(lambda: actors(place), "actors run")
    listening = [c.laddr.ip for p in of_ray(place) for c in p.net_connections("tcp") if c.status == "LISTEN"]
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    said = ends(process)
    assert "ray" not in said.replace("search.backend=ray", "").lower()
    gone(place, until, 30)
    left = [item.name for part in ("home", "t") for item in (place / part).iterdir()]
    assert [name for name in left if not name.startswith("torchinductor")] == []
    check_invariants(project)
    assert project.numbers() == finished_at_random.numbers()
    again = project.records("spec/confirm")
    repeats = json.loads((project.results("spec/confirm") / "spec.json").read_text())["repeats"]
    assert [(one["state"], one["effective"]["seed"]) for one in again] == [("COMPLETE", one["seed"]) for one in repeats]
    assert len(repeats) == 2 * len({one["trial"] for one in repeats})


def test_killed_trials_and_actors_are_faults_and_retries_bounds_them(project, home, place, check_invariants, until):
    """The fork of a killed actor outlives it and saves its state; that makes it no less of a fault."""
    project.write("one_thread.yaml", "threads_per_worker: 1\nretries: 2\n")
    process = project.start("run", "spec.yaml", *RAY, *epochs(40), "--workers", "2", env=home)
    until(lambda: in_attempt(project, 1), "trial 0 runs", 280)
    params = project.progress(0)["params"]
    for attempt, ends_of in ((1, of_trial), (2, of_actor), (3, of_actor)):
        until(lambda attempt=attempt: in_attempt(project, attempt), f"trial 0 runs for the {attempt}. time", 280)
        assert project.progress(0)["params"] == params
        ends_of(fork_of(place, 0, project.results())).kill()
    said = ends(process)
    first, *others = project.records()
    assert (first["state"], first["attempt"], first["params"]) == ("FAILED", 3, params), said
    assert first["faults"][0].startswith("the trial's process was killed by SIGKILL")
    assert all(
        fault.startswith("its process, or the machine that it ran on, died (Worker ") for fault in first["faults"][1:]
    )
    assert first["reason"] == f"{first['faults'][2]}; given up after 3 such faults"
    assert [(record["state"], record["attempt"]) for record in others] == [("COMPLETE", 1)] * 2
    gone(place, until, 30)
    check_invariants(project)


def of_trial(fork: psutil.Process) -> psutil.Process:
    return fork


def of_actor(fork: psutil.Process) -> psutil.Process:
    parent = fork.parent()
    assert parent is not None
    return parent


def in_attempt(project, attempt: int) -> bool:
    return project.runs(0, step=5) and project.progress(0)["attempt"] == attempt


def test_after_ctrl_c_and_a_kill_of_all_the_sweep_goes_on(project, home, place, check_invariants, until):
    """Three runs of one sweep: the first gets a Ctrl-C, the second is killed, the third ends by itself."""
    command = ("run", "spec.yaml", *RAY, *epochs(40), "--set", "budget.trials=2", "--workers", "2")
    process = project.start(*command, env=home)
    until(lambda: project.runs(0, step=30) and project.runs(1, step=30), "two trials run")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    ends(process, 130)
    assert time.monotonic() - began < 35
    assert [record["state"] for record in project.records()] == ["INTERRUPTED"] * 2
    gone(place, until, 30)
    check_invariants(project)

    process = project.start(*command, env=home)
    until(lambda: project.progress(0).get("attempt") == 2, "trial 0 goes on")
    for pid in project.processes():
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    gone(place, until, 120)
    assert list((place / "t").glob("fsweep-*"))

    project.sweep(*command, env=home)
    assert not list((place / "t").glob("fsweep-*"))
    assert [record["state"] for record in project.records()] == ["COMPLETE"] * 2
    # Ray may end a trial before the trial's actor, which then has the time to note that.
    assert all("killed by SIGKILL" in fault for record in project.records() for fault in record["faults"])
    assert all(record["attempt"] <= 3 for record in project.records())
    assert all(record["resumed_step"] >= 30 for record in project.records())
    check_invariants(project)


def test_forty_trials_do_not_hang_and_a_nan_never_wins(project, home, place, provoke, check_invariants, until):
    """Each is a fork of a process with Ray's threads; a lock that one of them held would never be released.

    Stock: ASHA goes on with a trial whose loss is NaN, and if it is alone it is the best.
    """
    many = ("--set", "budget.trials=40", "--set", "data.max_train_rows=32", "--set", "search.pruner=asha")
    fault = provoke({"where": "model", "do": "nan", "trial": 0})
    project.sweep("run", "spec.yaml", *RAY, *many, "--workers", "2", env={**home, **fault}, timeout=500)
    diverged, *others = SweepFolder(project.results()).records()
    assert (diverged.trial, diverged.attempt, diverged.state.value) == (0, 1, "DIVERGED")
    assert [(record.trial, record.attempt) for record in others] == [(number, 1) for number in range(1, 40)]
    assert {record.state.value for record in others} <= {"COMPLETE", "PRUNED"}
    assert project.leaderboard()[0]["trial"] != 0
    gone(place, until, 30)
    check_invariants(project)


def test_when_every_trial_fails_it_says_why(project, home, place, provoke, until):
    """Stock: `AttributeError: 'NoneType' object has no attribute 'trial_id'`, or a trial that failed is the best."""
    out, err = project.sweep(
        "run", "spec.yaml", *RAY, env={**home, **provoke({"where": "model", "do": "raise"})}, code=1
    )
    assert "3 x FAILED: ValueError: provoked" in " ".join((out + err).split())
    gone(place, until, 30)


OF_OUR_OWN = """
import json, sys
from pathlib import Path
from finesweep.backends.ray.cluster import connected
from finesweep.launch.profile import Profile, SettledProfile
with connected(SettledProfile(Profile(), 3, 0, 1, 5)):
    import ray
    path = ray.get(ray.remote(num_cpus=0)(lambda: __import__("sys").path).remote())
    has = [int(ray.cluster_resources().get(name, 0)) for name in ("CPU", "GPU")]
    print(json.dumps({"has": has, "path": path}), flush=True)
    sys.stdin.read()
"""


def test_a_cluster_of_our_own_is_out_of_others_reach_and_imports_nothing_from_here(home, place):
    """Stock: folder and sockets are open to all; the current folder is first on the import path; all CPUs count."""
    here = place / "here"
    here.mkdir()
    watched = {**os.environ, **home, "RAY_AUTH_TOKEN": "of-another-cluster"}
    process = subprocess.Popen(
        [sys.executable, "-c", OF_OUR_OWN],
        env=watched,
        cwd=here,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    modes = set()
    while not select.select([process.stdout], [], [], 0.001)[0]:
        modes |= {stat.S_IMODE(folder.stat().st_mode) for folder in (place / "t").glob("fsweep-*")}
    found = json.loads(process.stdout.readline())
    (folder,) = (place / "t").glob("fsweep-*")
    sockets = [file for file in folder.rglob("*") if file.is_socket()]
    commands = [word for one in of_ray(place) for word in one.cmdline()]
    token = (folder / "token").read_text()
    process.communicate()
    assert modes == {0o700}
    assert found["has"] == [15, 0]
    assert str(here) not in found["path"]
    assert len(sockets) >= 2
    assert max(len(str(file.relative_to(place / "t"))) for file in sockets) < len(cluster._LONGEST_SOCKET)
    assert not [word for word in commands if token in word or "of-another-cluster" in word]
