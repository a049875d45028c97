"""Only a trial that waits loses its saved state, and whoever may read it has it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from made_records import COMPLETE, INTERRUPTED, WAITING, record

from finesweep.errors import FolderError
from finesweep.folder import leftovers, next_attempt, waiting_states
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


def test_only_a_trial_that_has_waited_and_has_no_state_trains_again(folder: SweepFolder) -> None:
    saved(folder, 0, WAITING, seconds=7.0, earlier_seconds=3.0)
    saved(folder, 1, INTERRUPTED, seconds=7.0)
    assert [waiting_states.seconds_again(folder, trial) for trial in range(3)] == [0.0, 0.0, 0.0]
    for trial in (0, 1):
        shutil.rmtree(folder.state(trial))
    assert [waiting_states.seconds_again(folder, trial) for trial in range(3)] == [10.0, 0.0, 0.0]
