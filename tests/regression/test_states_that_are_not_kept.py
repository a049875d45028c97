"""A trial that waited and whose state was not kept is trained again: the result is the same, the cost is counted."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Lab
from made_records import run as made_run

from finesweep.errors import FolderError
from finesweep.files import owned_folder
from finesweep.folder import disk, next_attempt, state_memory, waiting_states
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.launch import Profile
from finesweep.launch.profile import Limits
from finesweep.spec.sections import PruningSpec, SearchSpec
from finesweep.training.callback import TrialContext
from finesweep.training.fine_tuning import FineTuning
from finesweep.trial import Evaluation, TrialInterrupted, TrialRecord, TrialState, TrialWaits
from finesweep.worker.attempt import Attempt
from finesweep.worker.bare_record import bare_record
from finesweep.worker.rung_judge import RungJudge

RUNG, WHOLE, TRIALS = 96, 384, 8
PARAMS = {"learning_rate": 1e-3, "num_train_epochs": 2, "per_device_train_batch_size": 32, "logging_steps": 2}
COSTS = {"started", "seconds", "earlier_seconds", "examples_per_second", "peak_memory_mb"}
BY_STATE = {"resumed_step", "repeated_examples", "attempt"}


class Arm:
    """A copy of the prepared sweep, in which trial 0 is trained."""

    def __init__(self, lab: Lab, folder: Path, states_gb: float | None) -> None:
        shutil.copytree(lab.sweep_folder.path, folder)
        self.folder = SweepFolder(folder)
        search = SearchSpec(pruner="halving", sampler="random", baseline=False)
        spec = lab.spec.model_copy(update={"search": search, "pruning": PruningSpec(rungs=(0.5,))})
        self.context = TrialContext(self.folder, lab.manifest, spec, PARAMS)
        self.judge = RungJudge(self.folder, spec, 192, TRIALS)
        self.profile = Profile(limits=Limits(states_gb=states_gb))

    def attempt(self, stops: Callable[[Attempt], bool] = lambda _: False) -> None:
        """Carry out the next attempt at trial 0."""
        lease = next_attempt.claim(self.folder, 1, [0])
        assert lease is not None
        attempt: Attempt
        attempt = Attempt(self.context, lease.claim, self.profile, self.judge, lambda: stops(attempt))
        try:
            attempt.carry_out(lambda _: None)
        finally:
            lease.release()

    def wait(self) -> None:
        """Let trial 0 wait, then be promoted, and then be outdone."""
        with pytest.raises(TrialWaits):
            self.attempt()
        assert self.record.state is TrialState.WAITING
        self.others(range(1, 4), 10.0)
        assert self.judge.queue()[0] == 0
        self.others(range(4, 8), 1e-3)

    def others(self, trials: range, loss: float) -> None:
        """Let other trials reach the rung."""
        for trial in trials:
            lease = next_attempt.claim(self.folder, 1, [trial])
            assert lease is not None
            seen = (Evaluation(3, 0.5, RUNG, {"eval_loss": loss}, loss),)
            self.folder.record(TrialRecord(trial, 1, TrialState.WAITING, {}, 0.0, 1.0, "l", "h", evaluations=seen))
            lease.release()

    @property
    def record(self) -> TrialRecord:
        record = self.folder.read_record(0)
        assert record is not None
        return record

    @property
    def result(self) -> dict[str, object]:
        """What the trial has become, without what it took."""
        values = dataclasses.asdict(self.record)
        return {name: value for name, value in values.items() if name not in COSTS | BY_STATE}


@pytest.fixture(scope="module")
def kept(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Arm:
    """The trial as it ends if its state is kept."""
    arm = Arm(lab, tmp_path_factory.mktemp("kept") / "s", None)
    arm.wait()
    assert waiting_states.sizes(arm.folder).keys() == {0}
    arm.attempt()
    assert (arm.record.state, arm.record.resumed_step) == (TrialState.COMPLETE, 3)
    assert (arm.record.examples, arm.record.trained_examples) == (WHOLE, WHOLE)
    return arm


def test_who_waits_without_a_state_ends_the_same_and_is_not_judged_again_where_it_was_promoted(lab, tmp_path, kept):
    arm = Arm(lab, tmp_path / "s", 0.0)
    arm.wait()
    assert waiting_states.sizes(arm.folder) == {}
    waited = arm.record.seconds
    arm.attempt()
    assert arm.result == kept.result, "also the digest of its weights"
    record = arm.record
    assert (record.resumed_step, record.repeated_examples, record.trained_examples) == (0, RUNG, WHOLE + RUNG)
    assert math.isclose(record.trained_seconds, waited + record.seconds, abs_tol=2e-3)
    assert (record.promoted, kept.record.promoted) == (True, True)
    assert arm.folder.set_aside() == []


def test_while_it_is_trained_again_other_trials_see_all_that_is_known_of_it(lab, tmp_path):
    arm = Arm(lab, tmp_path / "s", 0.0)
    arm.wait()
    seen: list[int] = []

    def look(attempt: Attempt) -> bool:
        progress = arm.folder.read_progress(0)
        if progress is not None:
            seen.append(len(progress.evaluations))
        return attempt.watch.step == 2

    with pytest.raises(TrialInterrupted):
        arm.attempt(look)
    assert set(seen) == {1}
    assert len(arm.record.evaluations) == 1


def test_interrupted_while_it_is_trained_again_it_ends_the_same(lab, tmp_path, kept):
    arm = Arm(lab, tmp_path / "s", 0.0)
    arm.wait()
    with pytest.raises(TrialInterrupted):
        arm.attempt(lambda attempt: attempt.watch.step == 2)
    record = arm.record
    assert (record.state, record.examples, record.repeated_examples) == (TrialState.INTERRUPTED, 64, RUNG)
    assert waiting_states.sizes(arm.folder).keys() == {0}, "an interrupted trial keeps its state, whatever the limit"
    arm.attempt()
    assert arm.result == kept.result
    assert (arm.record.resumed_step, arm.record.trained_examples) == (2, WHOLE + RUNG)


def be_killed(arm: Arm) -> None:
    """Begin an attempt that is killed before its first step."""
    lease = next_attempt.claim(arm.folder, 1, [0])
    assert lease is not None
    arm.folder.record(bare_record(lease.claim, arm.folder, 1.0))
    lease.release()


def test_killed_while_it_is_trained_again_it_ends_the_same(lab, tmp_path, kept):
    arm = Arm(lab, tmp_path / "s", 0.0)
    arm.wait()
    be_killed(arm)
    arm.attempt()
    assert (arm.record.attempt, arm.result) == (3, kept.result)
    assert arm.record.trained_examples == WHOLE + RUNG


def test_a_state_that_is_still_there_after_a_kill_is_resumed_and_nothing_counts_twice(lab, tmp_path, kept):
    arm = Arm(lab, tmp_path / "s", None)
    arm.wait()
    be_killed(arm)
    arm.attempt()
    assert arm.result == kept.result
    assert (arm.record.resumed_step, arm.record.trained_examples) == (3, WHOLE)


def test_states_of_waiting_trials_make_way_for_weights_that_would_not_fit(lab, tmp_path, kept):
    arm = Arm(lab, tmp_path / "s", None)
    arm.wait()
    for trial in (1, 2):
        arm.folder.state(trial).mkdir()
        (arm.folder.state(trial) / "model.safetensors").write_bytes(bytes(1_000_000))
    full = disk.used_bytes(arm.folder.path) / disk.GB + 5e-5
    arm.profile = Profile(limits=Limits(disk_gb=full))
    arm.attempt()
    assert arm.result == kept.result
    assert waiting_states.sizes(arm.folder) == {}
    arm.profile = Profile(limits=Limits(disk_gb=1e-6))
    arm.folder.record(dataclasses.replace(arm.record, state=TrialState.INTERRUPTED, weights_sha256=None))
    with pytest.raises(FolderError, match=r"limits\.disk_gb"):
        arm.attempt()


@pytest.fixture
def in_memory(lab, tmp_path, monkeypatch) -> Iterator[tuple[Arm, Path]]:
    """An arm whose run has a folder in memory, and that folder."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(owned_folder, "MEMORY", tmp_path / "shm")
    monkeypatch.setattr(state_memory, "is_there", lambda: True)
    arm = Arm(lab, tmp_path / "s", None)
    arm.folder.write_run(made_run(1, token="0123456789abcdef"))
    with state_memory.made("0123456789abcdef"):
        place = state_memory.folder_of("0123456789abcdef")
        assert place is not None
        yield arm, place


def places(arm: Arm) -> list[str]:
    """Return in which folders trial 0 has a state."""
    return [state.parent.name for state in arm.folder.states_of(0)]


def test_a_state_in_memory_is_resumed_and_nothing_is_on_disk(in_memory, kept):
    arm, place = in_memory
    arm.wait()
    assert places(arm) == [place.name]
    arm.attempt()
    assert arm.result == kept.result, "also the digest of its weights"
    assert (arm.record.resumed_step, arm.record.repeated_examples) == (3, 0)
    assert places(arm) == []
    assert not list(place.glob("*trial*"))


def test_interrupted_after_its_state_was_in_memory_it_has_one_on_disk_alone(in_memory, kept):
    arm, _ = in_memory
    arm.wait()
    with pytest.raises(TrialInterrupted):
        arm.attempt(lambda attempt: attempt.watch.step == 5)
    assert places(arm) == ["states"]
    arm.attempt()
    assert arm.result == kept.result
    assert (arm.record.resumed_step, arm.record.repeated_examples) == (5, 0)


def test_a_state_that_was_moved_to_disk_is_resumed(in_memory, kept):
    arm, place = in_memory
    arm.wait()
    assert waiting_states.move_to_disk(arm.folder, 0, place)
    assert places(arm) == ["states"]
    arm.attempt()
    assert arm.result == kept.result
    assert (arm.record.resumed_step, arm.record.repeated_examples) == (3, 0)


def test_if_memory_is_lost_the_trial_is_trained_again_and_ends_the_same(in_memory, kept):
    arm, place = in_memory
    arm.wait()
    shutil.rmtree(place)
    arm.attempt()
    assert arm.result == kept.result
    assert (arm.record.resumed_step, arm.record.repeated_examples) == (0, RUNG)


def test_another_machine_trains_again_what_this_one_has_in_its_memory(in_memory, kept, tmp_path, monkeypatch):
    arm, place = in_memory
    arm.wait()
    with monkeypatch.context() as there:
        there.setattr(owned_folder, "MEMORY", tmp_path / "memory of the other machine")
        with pytest.raises(TrialInterrupted):
            arm.attempt(lambda attempt: attempt.watch.step == 2)
        assert places(arm) == ["states"]
    # Here the state is older than the evaluations on record, and the other one is newer.
    assert places(arm) == ["states", place.name]
    arm.attempt()
    assert arm.result == kept.result
    assert (arm.record.resumed_step, arm.record.repeated_examples) == (2, RUNG)
    assert places(arm) == []


def test_an_earlier_state_than_the_trial_has_on_record_leads_to_the_same_end(in_memory, kept, tmp_path, monkeypatch):
    """Another machine went on to a later step, and took its state with it."""
    arm, place = in_memory
    arm.wait()
    with monkeypatch.context() as there:
        there.setattr(owned_folder, "MEMORY", tmp_path / "memory of the other machine")
        with pytest.raises(TrialInterrupted):
            arm.attempt(lambda attempt: attempt.watch.step == 8)
        shutil.rmtree(arm.folder.state(0))
    assert places(arm) == [place.name]
    arm.attempt()
    assert arm.result == kept.result
    assert arm.record.resumed_step == 3


def test_a_damaged_state_in_memory_is_not_used(in_memory, kept):
    arm, _ = in_memory
    arm.wait()
    (arm.folder.states_of(0)[0] / "model.safetensors").write_bytes(b"damaged")
    arm.attempt()
    assert arm.result == kept.result
    assert arm.record.repeated_examples == RUNG


def test_where_memory_is_full_after_all_the_state_goes_to_disk(in_memory, kept, monkeypatch):
    arm, place = in_memory
    real = FineTuning.save_state

    def full(self: FineTuning, folder: Path) -> None:
        if folder.parent == place:
            folder.mkdir()
            raise FolderError(f"{folder}: the disk is full")
        real(self, folder)

    monkeypatch.setattr(FineTuning, "save_state", full)
    arm.wait()
    assert places(arm) == ["states"]
    assert not list(place.glob(".trial*"))
    arm.attempt()
    assert arm.result == kept.result
    assert arm.record.repeated_examples == 0


def test_a_state_that_goes_while_it_is_looked_for_is_no_damage(lab, tmp_path, kept, monkeypatch):
    """Only where two machines share a folder and no locks."""
    arm = Arm(lab, tmp_path / "s", None)
    arm.wait()
    from finesweep.training.saved_state import StateDamaged, read_state
    from finesweep.worker import attempt

    def gone(folder: Path) -> None:
        shutil.rmtree(folder)
        with pytest.raises(StateDamaged) as caught:
            read_state(folder)
        raise caught.value

    monkeypatch.setattr(attempt, "read_state", gone)
    arm.attempt()
    assert arm.result == kept.result
    assert arm.record.repeated_examples == RUNG
    assert arm.folder.set_aside() == []
