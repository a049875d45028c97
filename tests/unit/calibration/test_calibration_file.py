"""How a run finds out its number of workers: asked once, measured by one worker, kept for the next run."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import socket
import threading
from pathlib import Path

import made_records
import pytest

from finesweep.calibration import calibration_file
from finesweep.calibration.calibration_file import awaited, by_rule, chosen_profile, known, launch, of_run, write
from finesweep.calibration.options import Calibration, Option, Speed
from finesweep.folder.manifest import Run
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.host.machine import Machine
from finesweep.launch.profile import Profile
from finesweep.launch.profile import of_run as profile_of
from finesweep.spec.sections import SweepSpec
from finesweep.trial import TrialInterrupted
from made_specs import made_spec

MACHINE = Machine(cores=2, gpus=("0",), memory_gb=16.0)
BOX = Machine(cores=64, gpus=("0", "1"), memory_gb=256.0)
ONE, TWO = Option(1, 2, 1), Option(2, 1, 2)
SPEEDS = (Speed(TWO, 410.0), Speed(ONE, 300.0))


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "demo")


def spec(**sections) -> SweepSpec:
    return made_spec(**{"space": {"per_device_train_batch_size": {"choices": [8, 16, 32]}}, **sections})


def asked(
    folder: SweepFolder, machine: Machine = MACHINE, trials: int = 20, profile: Profile | None = None, **sections
):
    settled = (profile or Profile()).settled(machine, trials)
    return launch(folder, spec(**sections), settled, machine, trials, rows=1000)


def answered(question: Calibration, **changes) -> Calibration:
    return dataclasses.replace(question, **{"is_done": True, "speeds": SPEEDS, **changes})


def test_where_it_matters_the_workers_are_asked(folder):
    profile, question = asked(folder)
    assert profile == Profile().settled(MACHINE, 20), "the numbers by the rule, until others are known"
    assert question is not None
    assert (question.host, question.machine, question.options) == (socket.gethostname(), MACHINE, (ONE, TWO))
    assert question.load == {"per_device_train_batch_size": 16}
    assert question.trials == 20
    assert question.examples > 20 * 1000


@pytest.mark.parametrize(
    ("machine", "trials", "profile", "sections"),
    [
        (Machine(8, (), 16.0), 20, Profile(), {}),
        (Machine(1, ("0",), 16.0), 20, Profile(), {}),
        (MACHINE, 1, Profile(), {}),
        (MACHINE, 20, Profile(workers=2), {}),
        (BOX, 20, Profile(trials_per_gpu=1), {}),
        (MACHINE, 20, Profile(), {"search": {"backend": "ray"}}),
    ],
)
def test_where_it_cannot_matter_nothing_is_asked(folder, machine, trials, profile, sections):
    found, question = asked(folder, machine, trials, profile, **sections)
    assert question is None
    assert found == profile.settled(machine, trials)


def test_the_next_run_on_the_same_machine_does_not_ask_again(folder):
    _, question = asked(folder)
    write(folder, answered(dataclasses.replace(question, run=1)))
    profile, again = asked(folder)
    assert again is None
    assert (profile.workers, profile.threads_per_worker) == (2, 1)
    profile, again = asked(folder, trials=5)
    assert (profile.workers, again) == (2, None), "fewer trials are no other question"


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "elsewhere"},
        {"machine": Machine(2, ("0",), 8.0)},
        {"options": (TWO,)},
        {"is_done": False},
        {"speeds": (), "remark": "too short"},
    ],
)
def test_what_was_found_elsewhere_or_not_at_all_answers_nothing(folder, changes):
    _, question = asked(folder)
    write(folder, answered(dataclasses.replace(question, run=1), **changes))
    assert asked(folder)[1] is not None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"calibrations": 5}', '{"calibrations": [{"run": 1}]}'])
def test_a_damaged_file_is_measured_anew(folder, content):
    folder.calibration_file.write_text(content)
    _, question = asked(folder)
    assert question is not None
    write(folder, dataclasses.replace(question, run=1))
    assert of_run(folder, 1) is not None


def test_a_folder_of_somebody_else_chooses_nothing_that_this_machine_does_not_have(folder):
    _, question = asked(folder)
    huge = Option(1000, 1000, 1000)
    write(folder, answered(question, options=(TWO, ONE, huge), speeds=(*SPEEDS, Speed(huge, 1e9))))
    assert asked(folder)[0].workers == 2


def test_each_run_has_one_entry_and_old_ones_go(folder):
    _, question = asked(folder)
    for run in range(1, calibration_file.KEPT + 6):
        write(folder, dataclasses.replace(question, run=run))
        write(folder, answered(dataclasses.replace(question, run=run)))
    entries = json.loads(folder.calibration_file.read_text())["calibrations"]
    assert [one["run"] for one in entries] == list(range(6, calibration_file.KEPT + 6))
    assert of_run(folder, 1) is None
    assert known(folder, question.host, MACHINE, question.options) is not None


def test_what_the_workers_found_is_the_outcome(folder):
    settled, question = asked(folder)
    write(folder, dataclasses.replace(question, run=1))
    assert (settled.workers, settled.threads_per_worker, settled.trials_per_gpu) == (1, 2, 1)
    assert chosen_profile(folder, 1, settled) is None
    write(folder, answered(dataclasses.replace(question, run=1), speeds=(Speed(ONE, 200.0), Speed(TWO, 300.0))))
    found = chosen_profile(folder, 1, settled)
    assert found is not None
    assert (found.profile.workers, found.profile.threads_per_worker) == (2, 1)
    assert found.note == "2 trials at a time on each GPU: 300 examples/s, against 200 with 1."


def test_where_nothing_was_found_the_rule_holds_and_it_is_said_why(folder):
    settled, question = asked(folder)
    found = chosen_profile(folder, 1, settled)
    assert found is not None
    assert found.note == "1 trial at a time on each GPU; nothing was measured, since calibration.json is gone."
    write(folder, answered(dataclasses.replace(question, run=1), speeds=(), remark="it is short"))
    found = chosen_profile(folder, 1, settled)
    assert found == by_rule(settled, "it is short")


def begun(folder: SweepFolder) -> tuple[Run, Calibration]:
    profile, question = asked(folder)
    question = dataclasses.replace(question, run=1)
    run = made_records.run(1, profile=profile.record(), measures=True)
    folder.write_run(run)
    write(folder, question)
    return run, question


def settled(run: Run) -> Run:
    """Return a run as the command writes it once the number of workers is known."""
    return dataclasses.replace(run, measures=False)


def test_one_worker_finds_out_and_all_wait_for_the_command(folder, monkeypatch):
    monkeypatch.setattr(calibration_file, "WAIT_SECONDS", 0.01)
    run, question = begun(folder)
    measured, results = [], []
    measuring = threading.Event()

    def find_out(wanted: Calibration) -> Calibration:
        measured.append(wanted)
        assert measuring.wait(10)
        return answered(wanted)

    def wait() -> None:
        results.append(awaited(folder, run, find_out, lambda: False))

    workers = [threading.Thread(target=wait) for _ in range(3)]
    for worker in workers:
        worker.start()
    measuring.set()
    deadline = threading.Event()
    while of_run(folder, 1) == question:
        deadline.wait(0.01)
    assert not results, "nobody begins before the command has settled the run"
    folder.write_run(settled(run))
    for worker in workers:
        worker.join(10)
    assert measured == [question]
    assert results == [settled(run)] * 3


def test_a_worker_that_is_told_to_stop_neither_waits_nor_answers(folder):
    run, question = begun(folder)
    assert awaited(folder, run, pytest.fail, lambda: True) is run

    def interrupted(_: Calibration) -> Calibration:
        told.append(True)
        raise TrialInterrupted("stopped")

    told: list[bool] = []
    assert awaited(folder, run, interrupted, lambda: bool(told)) is run
    assert of_run(folder, 1) == question


def test_who_measured_and_died_is_followed_by_another(folder, monkeypatch):
    monkeypatch.setattr(calibration_file, "WAIT_SECONDS", 0.01)
    run, _ = begun(folder)
    seen = []

    def find_out(wanted: Calibration) -> Calibration:
        seen.append(wanted.run)
        folder.write_run(settled(run))
        return answered(wanted)

    with (folder.data / ".calibration").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waits = iter([False] * 5)
        assert awaited(folder, run, find_out, lambda: next(waits, True)) == run
        assert seen == [], "somebody alive measures"
    assert awaited(folder, run, find_out, lambda: False) == settled(run)
    assert seen == [1]


def test_a_run_that_measures_nothing_is_not_waited_for(folder):
    run = made_records.run(1)
    assert awaited(folder, run, pytest.fail, lambda: False) is run


def test_a_run_of_an_earlier_version_is_read_and_not_waited_for(folder):
    """Its file does not say whether it measured, and its profile may have been left open when it was killed."""
    folder.write_run(made_records.run(1, profile=Profile().settled(MACHINE, 20).record()))
    (file,) = (folder.path / "runs").glob("*.json")
    values = json.loads(file.read_text())
    del values["measures"]
    values["profile"] |= dict.fromkeys(("workers", "threads_per_worker", "trials_per_gpu"), "auto")
    file.write_text(json.dumps(values))
    (run,) = folder.runs()
    assert awaited(folder, run, pytest.fail, lambda: False) is run
    assert profile_of(run.profile).workers == 1
