"""Which trials have begun and are left to nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_records import COMPLETE, INTERRUPTED, PRUNED, WAITING, record

from finesweep.folder import SweepFolder, claims, next_attempt
from finesweep.folder.sweep_folder import make_folders
from finesweep.trial import TrialState


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "s")


def begin(folder: SweepFolder, trial: int) -> next_attempt.Lease:
    lease = next_attempt.claim(folder, 1, [trial])
    assert lease is not None
    return lease


@pytest.mark.parametrize(
    ("state", "found"), [(COMPLETE, []), (PRUNED, []), (WAITING, []), (INTERRUPTED, [0]), (None, [0])]
)
def test_a_trial_that_has_begun_is_unsettled_until_it_ends_or_waits(
    folder: SweepFolder, state: TrialState | None, found: list[int]
) -> None:
    assert next_attempt.unsettled(folder, 4) == []
    lease = begin(folder, 0)
    assert next_attempt.unsettled(folder, 4) == [0], "it runs"
    if state is not None:
        folder.record(record(0, 0.5, state))
    lease.release()
    assert next_attempt.unsettled(folder, 4) == found
    assert next_attempt.unsettled(folder, 0) == []


def test_a_trial_that_waits_to_be_finished_for_the_audit_is_unsettled(folder: SweepFolder) -> None:
    lease = begin(folder, 0)
    folder.record(record(0, 0.5, WAITING, audit="halving: it was weak"))
    lease.release()
    assert next_attempt.unsettled(folder, 4) == [0]


def test_a_trial_of_another_machine_is_unsettled_at_the_first_look(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its worker is dead is known after a minute."""
    with monkeypatch.context() as there:
        there.setattr(claims, "_here", lambda: ("elsewhere", "another boot"))
        begin(folder, 0).release()
    fresh = SweepFolder(folder.path)
    assert next_attempt.is_alive(fresh, 0)
    assert next_attempt.unsettled(fresh, 4) == [0]


def test_a_trial_that_was_promoted_and_then_killed_does_not_wait(folder: SweepFolder) -> None:
    first = begin(folder, 0)
    folder.record(record(0, 0.5, WAITING))
    first.release()
    begin(folder, 0).release()
    assert next_attempt.unsettled(folder, 4) == [0]
