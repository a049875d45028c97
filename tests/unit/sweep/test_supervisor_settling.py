"""The command starts workers once it is known how many there should be, and lets none begin before."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import made_records
import pytest

from finesweep.calibration import calibration_file
from finesweep.calibration.options import Calibration, Option, Speed, options
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.host.machine import Machine
from finesweep.host.signals import Signals
from finesweep.launch.profile import Profile, SettledProfile
from finesweep.launch.profile import of_run as profile_of
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.sweep.supervisor import Supervisor
from made_specs import made_spec
from unit.sweep.test_supervisor import SPACE, Notes, Worker

MACHINE = Machine(cores=4, gpus=("0",), memory_gb=16.0)
BY_RULE = Profile().settled(MACHINE, 20)


@dataclass
class Started(Worker):
    """A worker that knows which it is."""

    index: int = 0


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "demo")


@pytest.fixture
def watch(folder) -> Supervisor:
    """Return a supervisor whose workers are to find out how many they should be."""
    spec = made_spec(space=SPACE, budget={"trials": 20})
    run = made_records.run(1, ended=None, profile=BY_RULE.record(), measures=True)
    folder.write_run(run)
    found = options(Profile(), MACHINE, 20)
    calibration_file.write(folder, Calibration(1, "here", MACHINE, found, {}, 1e6, 20))
    sweep = OpenSweep(folder, made_records.manifest(), spec, BY_RULE, run)
    return Supervisor(sweep, Signals(), Notes(), start=lambda index: Started(pid=1_000_000 + index, index=index))  # type: ignore[arg-type]


def find(folder: SweepFolder, *speeds: tuple[int, float]) -> None:
    """Write what a worker has found, by the number of workers."""
    asked = calibration_file.of_run(folder, 1)
    assert asked is not None
    measured = tuple(Speed(Option(workers, 4 // workers, workers), value) for workers, value in speeds)
    calibration_file.write(folder, dataclasses.replace(asked, is_done=True, speeds=measured))


def settled(folder: SweepFolder) -> SettledProfile:
    (run,) = folder.runs()
    return profile_of(run.profile)


def measures(folder: SweepFolder) -> bool:
    (run,) = folder.runs()
    return run.measures


def test_as_many_workers_begin_to_get_ready_as_the_rule_says(watch, folder):
    watch._start_missing()
    assert sorted(watch.handles) == [0]
    watch._settle(watch.sweep.outcome())
    assert watch.sweep.run.measures
    assert measures(folder)
    assert watch.display.said == []


def test_those_that_are_missing_are_started_with_the_numbers_that_were_found(watch, folder):
    watch._start_missing()
    find(folder, (1, 100.0), (2, 190.0), (3, 200.0))
    started = []
    watch.start = lambda index: started.append((index, measures(folder)))
    watch._settle(watch.sweep.outcome())
    assert started == [(1, False)]
    assert sorted(watch.handles) == [0, 1]
    found = settled(folder)
    assert (found.workers, found.threads_per_worker, found.trials_per_gpu, watch.sweep.workers) == (2, 2, 2, 2)
    assert watch.sweep.profile.record() == found.record()
    assert watch.display.said == ["2 trials at a time on each GPU: 190 examples/s, against 100 with 1, 200 with 3."]


def test_what_was_settled_stays_when_the_run_ends(watch, folder):
    watch._start_missing()
    find(folder, (1, 100.0), (2, 190.0))
    watch._settle(watch.sweep.outcome())
    watch.sweep.end_run("all trials have finished")
    assert settled(folder).workers == 2


def test_a_worker_that_dies_while_it_measures_is_replaced_and_the_second_time_nothing_is_measured(watch, folder):
    watch._start_missing()
    watch.handles[0].kill()
    watch._reap()
    assert watch.sweep.run.measures
    assert sorted(watch.handles) == [0]
    watch.handles[0].kill()
    watch._reap()
    assert not watch.sweep.run.measures
    assert settled(folder).workers == 1
    assert watch.display.said[-1] == (
        "1 trial at a time on each GPU; nothing was measured, since workers died of it: the last was killed by SIGKILL."
    )


def test_once_the_user_wants_to_stop_no_worker_is_started_any_more(watch, folder):
    watch._start_missing()
    find(folder, (1, 100.0), (2, 190.0))
    watch.shutdown.stop("stopped by Ctrl-C")
    watch._settle(watch.sweep.outcome())
    assert measures(folder)
