"""Every launcher starts the same worker and can end it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from finesweep.profile import Profile
from finesweep.registry import LAUNCHERS
from finesweep.run_dir import RunDir, make_folders


@pytest.fixture(params=LAUNCHERS.names)
def launcher(request):
    return LAUNCHERS.load(request.param)()


@pytest.fixture
def start(launcher, tmp_path: Path):
    """Start a worker in a folder that holds no sweep; whatever a test leaves of it is ended."""
    run_dir: RunDir = make_folders(tmp_path / "sweep")
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    handles = []

    def started():
        handles.append(launcher.start(run_dir, 1, Profile(), lock))
        return handles[-1], run_dir

    yield started
    for handle in handles:
        if handle.poll() is None:
            handle.kill()
        ended(handle)
    os.close(lock)


def ended(handle, seconds: float = 60) -> int:
    deadline = time.monotonic() + seconds
    while (code := handle.poll()) is None:
        assert time.monotonic() < deadline, f"the worker still runs after {seconds} s"
        time.sleep(0.05)
    return code


def test_a_worker_that_cannot_work_ends_with_a_code_and_says_why(start):
    handle, run_dir = start()
    assert handle.poll() is None
    assert ended(handle) == 2
    assert "error: " in run_dir.worker_log.read_text()
    assert "no sweep's folder" in run_dir.worker_log.read_text()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_worker_can_be_ended_and_ending_it_twice_does_no_harm(start, how):
    handle, _ = start()
    getattr(handle, how)()
    assert ended(handle, seconds=20) != 0
    getattr(handle, how)()
