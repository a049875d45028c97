"""Only a trial that waits loses its saved state, and whoever may read it has it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_records import COMPLETE, INTERRUPTED, WAITING, record
from made_records import run as made_run

from finesweep.errors import FolderError
from finesweep.files import owned_folder
from finesweep.folder import leftovers, next_attempt, state_memory, waiting_states
from finesweep.folder.claims import Lease
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.trial import TrialState


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "s")


def save(folder: SweepFolder, trial: int) -> None:
    folder.state(trial).mkdir()
    (folder.state(trial) / "model.safetensors").write_bytes(b"12345")
    (folder.state(trial) / "state.json").write_bytes(b"{}")


def saved(folder: SweepFolder, trial: int, state: TrialState, **facts: object) -> None:
    lease = claimed(folder, trial)
    save(folder, trial)
    folder.record(record(trial, 0.5, state, **facts))
    lease.release()


def claimed(folder: SweepFolder, trial: int) -> Lease:
    lease = next_attempt.claim(folder, 1, [trial])
    assert lease is not None
    return lease


def names(folder: SweepFolder) -> set[str]:
    return {item.name for item in (folder.path / "states").iterdir()}


def test_sizes_are_those_of_complete_states(folder: SweepFolder) -> None:
    save(folder, 3)
    save(folder, 12_345)
    for name in ("trial-0004.corrupt", ".trial-0005.1.tmp", "trial-x"):
        (folder.path / "states" / name).mkdir()
    (folder.path / "states" / "trial-0006").write_bytes(b"no folder")
    (folder.path / "states" / "trial-0007").mkdir()
    assert waiting_states.sizes(folder) == {3: 7, 12_345: 7, 7: 0}
    shutil.rmtree(folder.path / "states")
    assert waiting_states.sizes(folder) == {}


def test_the_size_of_a_sparse_file_is_what_it_says(folder: SweepFolder) -> None:
    save(folder, 0)
    os.truncate(folder.state(0) / "model.safetensors", 10**12)
    assert waiting_states.sizes(folder) == {0: 10**12 + 2}


def test_the_state_of_a_trial_that_waits_is_deleted_whole(folder: SweepFolder) -> None:
    saved(folder, 0, WAITING)
    assert waiting_states.drop(folder, 0)
    assert names(folder) == set()
    assert not waiting_states.drop(folder, 0), "there is none any more"
    assert folder.set_aside() == []


@pytest.mark.parametrize("state", [INTERRUPTED, WAITING])
def test_others_keep_theirs(folder: SweepFolder, state: TrialState) -> None:
    saved(folder, 0, state, audit="weak" if state is WAITING else None)
    assert not waiting_states.drop(folder, 0)
    assert names(folder) == {"trial-0000"}


def test_who_has_claimed_a_trial_has_its_state(folder: SweepFolder) -> None:
    saved(folder, 0, WAITING)
    reader = claimed(folder, 0)
    assert not waiting_states.drop(folder, 0)
    reader.release()
    assert not waiting_states.drop(folder, 0), "it has gone on, though nobody has recorded how that ended"
    assert names(folder) == {"trial-0000"}


def test_without_a_record_nothing_is_deleted(folder: SweepFolder) -> None:
    save(folder, 0)
    assert not waiting_states.drop(folder, 0)
    lease = claimed(folder, 1)
    save(folder, 1)
    assert not waiting_states.drop(folder, 1), "it has been saved and is about to be recorded"
    lease.release()
    assert names(folder) == {"trial-0000", "trial-0001"}


def test_what_a_kill_leaves_of_a_deletion_is_removed(folder: SweepFolder) -> None:
    saved(folder, 0, WAITING)
    folder.state(0).rename(folder.path / "states" / ".trial-0000.dropped.tmp")
    assert waiting_states.sizes(folder) == {}
    assert folder.set_aside() == []
    leftovers.tidy(folder)
    assert names(folder) == set()
    (folder.path / "states" / ".trial-0000.dropped.tmp").mkdir()
    save(folder, 0)
    assert waiting_states.drop(folder, 0)
    assert names(folder) == set()


def test_a_folder_that_cannot_be_written_is_named(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(folder, 0, WAITING)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(FolderError, match="trial-0000: cannot be written"):
        waiting_states.drop(folder, 0)


def test_a_finished_trial_has_none(folder: SweepFolder) -> None:
    saved(folder, 0, COMPLETE)
    assert names(folder) == set()
    assert not waiting_states.drop(folder, 0)


def end_elsewhere(folder: SweepFolder, trial: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """End a trial on another machine, which does not see this one's memory."""
    with monkeypatch.context() as there:
        there.setattr(owned_folder, "MEMORY", tmp_path / "memory of the other machine")
        lease = claimed(folder, trial)
        folder.record(record(trial, 0.5, COMPLETE, attempt=lease.claim.attempt))
        lease.release()


def test_what_another_machine_has_ended_has_no_state_in_memory_any_more(folder, memory, tmp_path, monkeypatch) -> None:
    ended, waiting = in_memory(folder, memory, 0), in_memory(folder, memory, 1)
    end_elsewhere(folder, 0, tmp_path, monkeypatch)
    assert ended.exists()
    waiting_states.drop_ended(folder)
    assert (ended.exists(), waiting.exists()) == (False, True)
    assert not list(memory.glob(".trial*"))


def test_a_state_that_goes_while_it_is_deleted_is_no_fault(folder, memory, tmp_path, monkeypatch) -> None:
    """Whoever has recorded the trial's end deletes it at the same moment."""
    state = in_memory(folder, memory, 0)
    end_elsewhere(folder, 0, tmp_path, monkeypatch)
    real = Path.rename

    def gone(path: Path, target: Path) -> Path:
        shutil.rmtree(path)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", gone)
    waiting_states.drop_ended(folder)
    assert not state.exists()


def test_a_trial_that_runs_again_because_its_weights_were_damaged_keeps_its_state(folder, memory) -> None:
    saved(folder, 0, COMPLETE)
    assert folder.is_finished(0), "and it is not looked up again"
    other = SweepFolder(folder.path)
    other.record(record(0, None, INTERRUPTED))
    lease = claimed(other, 0)
    save(folder, 0)
    assert folder.is_finished(0)
    waiting_states.drop_ended(folder)
    assert names(folder) == {"trial-0000"}
    lease.release()


def test_only_a_trial_that_has_waited_and_has_no_state_trains_again(folder: SweepFolder) -> None:
    saved(folder, 0, WAITING, seconds=7.0, earlier_seconds=3.0)
    saved(folder, 1, INTERRUPTED, seconds=7.0)
    assert [waiting_states.seconds_again(folder, trial) for trial in range(3)] == [0.0, 0.0, 0.0]
    for trial in (0, 1):
        shutil.rmtree(folder.state(trial))
    assert [waiting_states.seconds_again(folder, trial) for trial in range(3)] == [10.0, 0.0, 0.0]


@pytest.fixture
def memory(folder: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in memory of the sweep's run."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(owned_folder, "MEMORY", tmp_path / "shm")
    monkeypatch.setattr(state_memory, "is_there", lambda: True)
    folder.write_run(made_run(token="0123456789abcdef"))
    with state_memory.made("0123456789abcdef"):
        found = state_memory.folder_of("0123456789abcdef")
        assert found is not None
        yield found


def in_memory(folder: SweepFolder, memory: Path, trial: int, state: TrialState = WAITING, **facts: object) -> Path:
    """Let a trial stop with its state in memory."""
    saved(folder, trial, state, **facts)
    return folder.state(trial).rename(memory / folder.state(trial).name)


def content(state: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in state.iterdir()}


def test_states_in_memory_are_found_and_dropped_as_those_on_disk(folder: SweepFolder, memory: Path) -> None:
    state = in_memory(folder, memory, 0)
    saved(folder, 1, WAITING, seconds=7.0)
    assert folder.states_of(0) == [state]
    assert waiting_states.sizes(folder) == {0: 7, 1: 7}
    assert waiting_states.sizes(folder, [memory]) == {0: 7}
    assert waiting_states.seconds_again(folder, 0) == 0.0
    assert waiting_states.drop(folder, 1, [memory]) is False
    assert waiting_states.drop(folder, 0)
    assert not list(memory.glob("*trial*"))
    assert names(folder) == {"trial-0001"}


def test_the_later_of_two_states_is_read_first(folder: SweepFolder, memory: Path) -> None:
    state = in_memory(folder, memory, 0)
    save(folder, 0)
    os.utime(folder.state(0), (1, 1))
    assert folder.states_of(0) == [state, folder.state(0)]
    os.utime(state, (0, 0))
    assert folder.states_of(0) == [folder.state(0), state]


def test_a_finished_trial_has_none_in_memory_either(folder: SweepFolder, memory: Path) -> None:
    state = in_memory(folder, memory, 0)
    lease = claimed(folder, 0)
    folder.record(record(0, 0.5, COMPLETE, attempt=lease.claim.attempt))
    lease.release()
    assert not state.exists()


@pytest.mark.parametrize(("state", "facts"), [(WAITING, {}), (INTERRUPTED, {}), (WAITING, {"audit": "weak"})])
def test_a_state_moves_to_disk_whole(folder: SweepFolder, memory: Path, state: TrialState, facts) -> None:
    before = content(in_memory(folder, memory, 0, state, **facts))
    assert waiting_states.move_to_disk(folder, 0, memory)
    assert content(folder.state(0)) == before
    assert names(folder) == {"trial-0000"}
    assert not list(memory.glob("*trial*"))
    assert not waiting_states.move_to_disk(folder, 0, memory), "there is none any more"
    assert content(folder.state(0)) == before


def test_who_has_claimed_a_trial_finds_its_state_where_it_was(folder: SweepFolder, memory: Path, monkeypatch) -> None:
    state = in_memory(folder, memory, 0)
    reader = claimed(folder, 0)
    assert not waiting_states.move_to_disk(folder, 0, memory)
    reader.release()
    other = in_memory(folder, memory, 1)
    real = waiting_states._copied

    def claimed_meanwhile(*arguments: object) -> bool:
        assert real(*arguments)
        claimed(folder, 1)
        return True

    monkeypatch.setattr(waiting_states, "_copied", claimed_meanwhile)
    assert not waiting_states.move_to_disk(folder, 1, memory)
    assert (state.is_dir(), other.is_dir(), names(folder)) == (True, True, set())


def test_when_time_is_up_a_state_stays_in_memory_and_nothing_of_it_on_disk(folder: SweepFolder, memory: Path) -> None:
    state = in_memory(folder, memory, 0)
    assert not waiting_states.move_to_disk(folder, 0, memory, time.monotonic() - 1)
    assert state.is_dir()
    assert names(folder) == set()


def test_a_slow_disk_takes_no_more_than_the_time_that_there_is(folder: SweepFolder, memory: Path, monkeypatch) -> None:
    state = in_memory(folder, memory, 0)
    (state / "state.json").unlink()
    monkeypatch.setattr(waiting_states, "_PIECE", 1)
    monkeypatch.setattr(os, "fsync", lambda _: time.sleep(0.3))
    assert not waiting_states.move_to_disk(folder, 0, memory, time.monotonic() + 0.2)
    assert state.is_dir()
    assert names(folder) == set()


def test_a_state_that_goes_while_it_is_copied_is_no_fault(folder: SweepFolder, memory: Path, monkeypatch) -> None:
    in_memory(folder, memory, 0)
    real = waiting_states.open_regular

    def gone(file: Path, **how: object):
        shutil.rmtree(file.parent)
        return real(file, **how)

    monkeypatch.setattr(waiting_states, "open_regular", gone)
    assert not waiting_states.move_to_disk(folder, 0, memory)
    assert names(folder) == set()


def test_a_disk_that_cannot_be_written_is_named_and_the_state_stays_in_memory(folder, memory, monkeypatch) -> None:
    state = in_memory(folder, memory, 0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FolderError, match="the disk is full"):
        waiting_states.move_to_disk(folder, 0, memory)
    assert state.is_dir()
    assert names(folder) == set()


def test_a_state_that_has_no_room_on_disk_is_not_copied(folder: SweepFolder, memory: Path, monkeypatch) -> None:
    """A copy that fills the disk would cost other trials their results."""
    state = in_memory(folder, memory, 0)
    monkeypatch.setattr(waiting_states, "_copied", lambda *_: pytest.fail("it is copied"))
    with pytest.raises(FolderError, match=r"moving the state of trial 0 to disk .* `limits\.disk_gb`"):
        waiting_states.move_to_disk(folder, 0, memory, disk_gb=1e-9)
    os.truncate(state / "model.safetensors", 10**13)
    with pytest.raises(FolderError, match=r"moving the state of trial 0 to disk .* are free"):
        waiting_states.move_to_disk(folder, 0, memory)
    assert state.is_dir()


def test_a_state_on_disk_is_not_replaced(folder: SweepFolder, memory: Path) -> None:
    """Two machines have each saved one: either leads to the same result, and the one on disk may be in use."""
    state = in_memory(folder, memory, 0)
    save(folder, 0)
    (folder.state(0) / "of another machine").touch()
    assert waiting_states.move_to_disk(folder, 0, memory)
    assert (folder.state(0) / "of another machine").exists()
    assert not state.exists()


def test_what_a_kill_leaves_in_memory_is_removed(folder: SweepFolder, memory: Path) -> None:
    for name in (".trial-0000.1.tmp", ".trial-0001.2.tmp"):
        (memory / name).mkdir()
    leftovers.remove_leftovers(folder, 0)
    assert [item.name for item in memory.glob(".trial*")] == [".trial-0001.2.tmp"]
    leftovers.tidy(folder)
    assert not list(memory.glob(".trial*"))
