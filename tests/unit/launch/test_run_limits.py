"""Where no command watches a run, its workers end it at the same limits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from made_records import record, run

from finesweep.folder import next_attempt
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.launch import run_limits
from finesweep.launch.profile import Limits
from finesweep.launch.run_limits import RunLimits
from finesweep.spec.sections import BudgetSpec
from finesweep.trial import Progress

HOUR = 3600.0


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "demo")


def exceeded(folder: SweepFolder, *, watched: bool = False, hours: float | None = None, disk_gb: float | None = None):
    this = run(1, watched=watched, ended=None)
    folder.write_run(this)
    return RunLimits(folder, this, BudgetSpec(hours=hours), Limits(disk_gb=disk_gb)).exceeded()


def trial(folder: SweepFolder, number: int, start: float, hours: float) -> None:
    folder.record(record(number, run=1, started=start * HOUR, seconds=hours * HOUR))


def test_hours_are_those_in_which_trials_ran_each_of_them_once(folder):
    trial(folder, 0, 0.0, 1.0)
    trial(folder, 1, 0.5, 1.0)
    trial(folder, 2, 9.0, 0.5)  # after hours in a queue
    assert exceeded(folder, hours=2.1) is None
    assert exceeded(folder, hours=2.0) == "the budget of 2 hours is used up"


def test_a_trial_that_runs_counts_too(folder):
    lease = next_attempt.claim(folder, run=1, trials=range(1))
    assert lease is not None
    progress = Progress(0, 1, {}, time.time() - 1.5 * HOUR, 1, 9, None, None)
    folder.write_progress(progress)
    assert exceeded(folder, hours=1.4) == "the budget of 1.4 hours is used up"
    assert exceeded(folder, hours=1.6) is None
    lease.release()
    assert exceeded(folder, hours=1.4) is None, "a dead worker's trial does not run"


def test_the_disk_is_looked_at(folder):
    (folder.path / "data" / "big").write_bytes(bytes(2_000_000))
    assert exceeded(folder, disk_gb=0.1) is None
    assert "limits.disk_gb" in (exceeded(folder, disk_gb=0.001) or "")


def test_a_run_that_a_command_watches_is_that_commands_business(folder):
    (folder.path / "data" / "big").write_bytes(bytes(2_000_000))
    trial(folder, 0, 0.0, 1.0)
    assert exceeded(folder, watched=True, hours=0.5, disk_gb=0.001) is None


def test_the_folder_is_not_looked_at_in_every_step(folder, monkeypatch):
    looks = []
    monkeypatch.setattr(run_limits.disk, "refuse_excess", lambda *_: looks.append(1))
    limits = RunLimits(folder, run(1, watched=False), BudgetSpec(), Limits(disk_gb=1.0))
    for _ in range(1000):
        limits.exceeded()
    assert len(looks) == 1
