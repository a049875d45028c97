"""Sweeps whose trials run in actors of Ray: the same records, whatever dies, and nothing of Ray is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from finesweep.run_dir import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SAME = ("--set", "search.sampler=random")
RAY = ("--set", "search.backend=ray", *SAME)


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
    """Loopback only while it runs; no token in the home, no folder, no process afterwards; not a word on the screen."""
    process = project.start("run", "spec.yaml", *RAY, "--workers", "2", env=home)
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


@pytest.fixture(scope="module")
def finished_at_random(make_project):
    project = make_project()
    project.sweep("run", "spec.yaml", *SAME)
    return project


def test_a_trial_and_an_actor_that_are_killed_are_tried_again(project, home, place, check_invariants, until):
    process = project.start("run", "spec.yaml", *RAY, *epochs(40), "--workers", "2", env=home)
    until(lambda: project.runs(0, step=5), "trial 0 runs")
    params = project.progress(0)["params"]
    fork_of(place, 0, project.results()).kill()
    until(lambda: project.runs(0, step=5) and project.progress(0)["attempt"] == 2, "trial 0 runs again")
    assert project.progress(0)["params"] == params
    fork_of(place, 0, project.results()).parent().kill()
    ends(process)
    first = project.records()[0]
    assert (first["state"], first["attempt"], first["params"]) == ("COMPLETE", 3, params)
    assert first["faults"][0].startswith("the trial's process was killed by SIGKILL")
    assert len(first["faults"]) == 1 or "died" in first["faults"][1], "it may have saved its state and said so itself"
    assert [record["state"] for record in project.records()] == ["COMPLETE"] * 3
    gone(place, until, 30)
    check_invariants(project)


def test_ctrl_c_saves_the_states_and_the_next_run_goes_on(project, home, place, check_invariants, until):
    process = project.start("run", "spec.yaml", *RAY, *epochs(40), "--workers", "2", env=home)
    until(lambda: project.runs(0, step=30) and project.runs(1, step=30), "two trials run")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    ends(process, 130)
    assert time.monotonic() - began < 35
    assert [record["state"] for record in project.records()] == ["INTERRUPTED"] * 2
    gone(place, until, 30)
    check_invariants(project)
    project.sweep("run", "spec.yaml", *RAY, *epochs(40), "--workers", "2", env=home)
    assert [(record["state"], record["attempt"]) for record in project.records()] == [
        ("COMPLETE", 2),
        ("COMPLETE", 2),
        ("COMPLETE", 1),
    ]
    assert all(record["resumed_step"] >= 30 for record in project.records()[:2])
    check_invariants(project)


def test_when_all_of_finesweep_is_killed_rays_processes_follow_and_the_sweep_goes_on(
    project, home, place, check_invariants, until
):
    process = project.start("run", "spec.yaml", *RAY, *epochs(40), "--workers", "2", env=home)
    until(lambda: project.runs(0, step=5), "trial 0 runs")
    for pid in project.processes():
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    gone(place, until, 120)
    assert list((place / "t").glob("fs-ray-*"))
    project.sweep("run", "spec.yaml", *RAY, *epochs(40), "--workers", "2", env=home)
    assert not list((place / "t").glob("fs-ray-*"))
    assert [record["state"] for record in project.records()] == ["COMPLETE"] * 3
    assert [record["faults"] for record in project.records()] == [[]] * 3
    check_invariants(project)


def test_a_hundred_trials_in_two_actors_do_not_hang(project, home, place, check_invariants, until):
    """Each is a fork of a process with Ray's threads; a lock that one of them held would never be released."""
    many = ("--set", "budget.trials=120", "--set", "data.max_train_rows=32", "--set", "search.pruner=asha")
    project.sweep("run", "spec.yaml", *RAY, *many, "--workers", "2", env=home, timeout=280)
    records = RunDir(project.results()).records()
    assert [(record.trial, record.attempt) for record in records] == [(number, 1) for number in range(120)]
    assert {record.state.value for record in records} <= {"COMPLETE", "PRUNED"}
    gone(place, until, 30)
    check_invariants(project)


def test_a_trial_whose_loss_is_nan_is_stopped_and_never_wins(project, home, place, provoke, check_invariants):
    """Stock: ASHA goes on with it, and if it is alone it is the best."""
    fault = {"where": "model", "do": "nan", "trial": 0, "step": 3}
    project.sweep("run", "spec.yaml", *RAY, "--set", "search.pruner=asha", env={**home, **provoke(fault)})
    assert project.records()[0]["state"] == "DIVERGED"
    assert project.leaderboard()[0]["trial"] != 0
    check_invariants(project)


def test_when_every_trial_fails_it_says_why(project, home, place, provoke, until):
    """Stock: `AttributeError: 'NoneType' object has no attribute 'trial_id'`, or a trial that failed is the best."""
    out, err = project.sweep(
        "run", "spec.yaml", *RAY, env={**home, **provoke({"where": "model", "do": "raise"})}, code=1
    )
    assert "3 x FAILED: ValueError: provoked" in " ".join((out + err).split())
    gone(place, until, 30)


def test_a_cluster_of_our_own_has_the_cpus_that_the_profile_shares_out(home):
    """Stock: those of the machine, of which a container or a job of Slurm's may have a few."""
    code = (
        "from finesweep.backends.ray_cluster import connected; from finesweep.profile import Profile\n"
        "with connected(Profile(workers=3, threads_per_worker=5, gpus_per_trial=0)):\n"
        "    import ray; print(int(ray.cluster_resources()['CPU']), int(ray.cluster_resources().get('GPU', 0)))"
    )
    environment = {**os.environ, **home}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.split() == ["15", "0"], done.stderr
