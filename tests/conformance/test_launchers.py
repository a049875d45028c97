"""Every launcher starts the same workers, gives each its device and its threads, and can end it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from finesweep.errors import LaunchError
from finesweep.folder.manifest import Run
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.host.machine import Machine
from finesweep.launch.local import LocalLauncher
from finesweep.launch.profile import Profile, SettledProfile
from finesweep.registry import LAUNCHERS
from finesweep.spec.sections import BudgetSpec, StopSpec
from made_profiles import settled

RUN = Run(1, BudgetSpec(), StopSpec(), {}, {}, "here", 1, 0.0)
CPU = settled(workers=2)


NEEDS_CLUSTER = {"ray"}
NAMES = [pytest.param(name, marks=pytest.mark.cluster if name in NEEDS_CLUSTER else ()) for name in LAUNCHERS.names]


@pytest.fixture(params=NAMES)
def launcher(request, monkeypatch):
    if request.param == "ray":
        cluster = request.getfixturevalue("ray")
        for name, value in {**cluster.environment, "RAY_ADDRESS": cluster.address}.items():
            monkeypatch.setenv(name, value)
    return LAUNCHERS.load(request.param)()


@pytest.fixture
def sweep_folder(tmp_path: Path) -> SweepFolder:
    """Return a folder that holds a run of no sweep."""
    folder = make_folders(tmp_path / "sweep")
    folder.write_run(RUN)
    return folder


@pytest.fixture
def start(launcher, sweep_folder: SweepFolder):
    """Start a worker with each launcher."""
    yield from starting(launcher, sweep_folder)


@pytest.fixture
def start_here(sweep_folder: SweepFolder):
    """Start a worker on this machine."""
    yield from starting(LocalLauncher(), sweep_folder)


def starting(launcher, sweep_folder: SweepFolder):
    """Yield what starts a worker; whatever a test leaves of it is ended."""
    handles = []

    def started(profile: SettledProfile = CPU, index: int = 0, lock: int | None = None):
        handles.append(launcher.start(sweep_folder, RUN, profile, lock, index))
        return handles[-1]

    yield started
    for handle in handles:
        handle.kill()
        ended(handle)


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    """Open a file that a worker may inherit."""
    descriptor = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def ended(handle, seconds: float = 60) -> int:
    deadline = time.monotonic() + seconds
    while (code := handle.poll()) is None:
        assert time.monotonic() < deadline, f"the worker still runs after {seconds} s"
        time.sleep(0.05)
    return code


def environment(sweep_folder: SweepFolder, pid: int | None = None) -> dict[str, str]:
    """Return what a worker was started with; for a moment after its start the system shows nothing."""
    deadline = time.monotonic() + 30
    while True:
        for process in [psutil.Process(pid)] if pid else psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if "worker" in words and str(sweep_folder.path) in words and (found := process.environ()):
                    return found
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_that_cannot_work_ends_with_a_code_and_says_why_in_its_own_log(start, sweep_folder):
    assert ended(start(index=1)) == 2
    log = sweep_folder.worker_log(1, 1).read_text()
    assert log.count("error: ") == 1
    assert "no sweep's folder" in log


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_worker_can_be_ended_and_ending_it_twice_does_no_harm(start, how):
    handle, other = start(), start(index=1)
    getattr(handle, how)()
    assert ended(handle) != 0
    getattr(handle, how)()
    assert other.poll() in (None, 2)


@pytest.mark.parametrize(("trials_per_gpu", "seen"), [(1, ["3", "GPU-5a"]), (2, ["3", "GPU-5a", "3", "GPU-5a"])])
def test_each_local_worker_sees_one_gpu_and_has_its_share_of_threads(
    start_here, sweep_folder, monkeypatch, trials_per_gpu, seen
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5a")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    asked = Profile(trials_per_gpu=trials_per_gpu)
    profile = asked.settled(Machine(cores=12, gpus=("3", "GPU-5a"), memory_gb=1.0), trials=9)
    given = [environment(sweep_folder, start_here(profile, index).pid) for index in range(len(seen))]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in given] == seen
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert {one[name] for one in given} == {str(12 // len(seen))}


def test_without_a_gpu_for_trials_a_worker_sees_none_and_it_has_its_threads(start, sweep_folder, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    start(CPU)
    given = environment(sweep_folder)
    assert (given["CUDA_VISIBLE_DEVICES"], given["OMP_NUM_THREADS"]) == ("", "1")


def test_a_local_worker_for_which_there_is_no_gpu_is_not_started(start_here, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    profile = settled(workers=5, gpus=1, per_gpu=2)
    with pytest.raises(LaunchError, match="worker 5 has no GPU: 2 GPUs were found for trials_per_gpu: 2"):
        start_here(profile, index=4)


def test_a_local_worker_inherits_the_folders_lock_if_there_is_one(start_here, lock, tmp_path):
    owner, joined = start_here(lock=lock), start_here(index=1)
    files = [{Path(file.path) for file in psutil.Process(handle.pid).open_files()} for handle in (owner, joined)]
    assert [tmp_path / "lock" in opened for opened in files] == [True, False]


def stand_in(folder: Path, script: str) -> str:
    """Write a program to be started instead of Python."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_killing_a_local_worker_that_is_dead_already_ends_the_trial_that_outlived_it(
    sweep_folder, tmp_path, monkeypatch
):
    left = tmp_path / "pid"
    monkeypatch.setattr(sys, "executable", stand_in(tmp_path, f"sleep 600 & echo $! > {left}"))
    handle = LocalLauncher().start(sweep_folder, RUN, CPU, None)
    assert ended(handle) == 0
    trial = psutil.Process(int(left.read_text()))
    assert trial.is_running()
    handle.kill()
    dies(trial)
    handle.kill()


def dies(process: psutil.Process) -> None:
    deadline = time.monotonic() + 60
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killing_a_local_worker_ends_what_it_started_in_a_session_of_its_own(sweep_folder, tmp_path, monkeypatch):
    """As Ray's processes are."""
    left = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ > {left}.new; mv {left}.new {left}; sleep 600' & wait"
    monkeypatch.setattr(sys, "executable", stand_in(tmp_path, script))
    handle = LocalLauncher().start(sweep_folder, RUN, CPU, None)
    deadline = time.monotonic() + 60
    while not left.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    outsider = psutil.Process(int(left.read_text()))
    assert os.getpgid(outsider.pid) != handle.pid
    handle.kill()
    dies(outsider)
    assert ended(handle) != 0


def test_what_a_killed_local_worker_leaves_in_its_temporary_folders_is_removed(sweep_folder, tmp_path, monkeypatch):
    """The worker, what it started, and Ray's actors make theirs in one that the command knows."""
    said = tmp_path / "scratch"
    made = "from finesweep.host import temporary_folders as t; it = t.temporary_folder(); print(it.name, flush=True)"
    script = f"{sys.executable} -c '{made}; import time; time.sleep(600)' > {said} & sleep 600"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(sys, "executable", stand_in(tmp_path, script))
    handle = LocalLauncher().start(sweep_folder, RUN, CPU, None)
    deadline = time.monotonic() + 60
    while not (said.exists() and said.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    made_there = Path(said.read_text().strip())
    assert made_there.is_dir()
    assert made_there.is_relative_to(tmp_path)
    handle.kill()
    assert not made_there.exists()
    assert ended(handle) != 0
    assert list(tmp_path.glob("finesweep-*")) == []


def test_a_local_worker_that_cannot_be_started_is_named(sweep_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(LaunchError, match=r"worker 3 could not be started: .*No such file.*nowhere"):
        LocalLauncher().start(sweep_folder, RUN, CPU, None, index=2)


def test_the_gpus_of_a_local_worker_are_numbered_as_the_driver_numbers_them(sweep_folder, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(sys, "executable", stand_in(tmp_path, f"env > {tmp_path}/environment"))
    profile = settled(workers=2, gpus=1, threads=3)
    launcher = LocalLauncher(Machine(cores=6, gpus=("0", "1"), memory_gb=1.0))
    handle = launcher.start(sweep_folder, RUN, profile, None, index=1)
    assert ended(handle) == 0
    handle.kill()
    lines = (tmp_path / "environment").read_text().splitlines()
    assert {"CUDA_VISIBLE_DEVICES=1", "CUDA_DEVICE_ORDER=PCI_BUS_ID", "OMP_NUM_THREADS=3"} <= set(lines)


def test_no_room_for_one_more_local_worker_suggests_fewer(sweep_folder, monkeypatch):
    def full(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("finesweep.launch.local.subprocess.Popen", full)
    with pytest.raises(LaunchError, match=r"worker 1 could not be started: .*unavailable; fewer may fit: --workers$"):
        LocalLauncher().start(sweep_folder, RUN, CPU, None)


def test_a_local_worker_that_was_started_ahead_ends_like_one_that_was_not(start_here, sweep_folder, lock):
    """It is in its place, so it is taken; with other threads it is not, and is gone."""
    launcher = LocalLauncher()
    ahead = launcher.place(CPU, measures=RUN.measures, single_worker=False).worker_ahead()
    assert ahead is not None
    handle = launcher.start(sweep_folder, RUN, CPU, lock, 0, ahead=ahead)
    try:
        assert handle.pid == ahead.process.pid
        assert ended(handle) == ended(start_here(index=1)) == 2
    finally:
        handle.kill()
    assert not Path(ahead.temporary.name).exists()
    taken, alone = (sweep_folder.worker_log(1, index).read_text() for index in (0, 1))
    assert [line for line in taken.splitlines() if not line.startswith("...")] == [
        line for line in alone.splitlines() if not line.startswith("...")
    ]


def test_a_worker_that_needs_other_threads_is_started_anew(sweep_folder):
    launcher = LocalLauncher()
    ahead = dataclasses.replace(launcher.place(CPU, measures=False, single_worker=False), threads=7).worker_ahead()
    assert ahead is not None
    handle = launcher.start(sweep_folder, RUN, CPU, None, 0, ahead=ahead)
    try:
        assert handle.pid != ahead.process.pid
        assert ahead.process.returncode == -signal.SIGKILL
        assert environment(sweep_folder, handle.pid)["OMP_NUM_THREADS"] == "1"
    finally:
        handle.kill()
        ended(handle)
