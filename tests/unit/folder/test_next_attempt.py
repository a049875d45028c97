"""Which trials have begun and are left to nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_records import COMPLETE, INTERRUPTED, PRUNED, WAITING, record

from finesweep.folder import SweepFolder, next_attempt
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
def test_a_trial_that_has_begun_is_broken_off_until_it_ends_or_waits(
    folder: SweepFolder, state: TrialState | None, found: list[int]
) -> None:
    lease = begin(folder, 0)
    assert next_attempt.broken_off(folder, 4) == [], "it runs, and others have not begun"
    if state is not None:
        folder.record(record(0, 0.5, state))
    lease.release()
    assert next_attempt.broken_off(folder, 4) == found
    assert next_attempt.broken_off(folder, 0) == []


def test_a_trial_that_was_promoted_and_then_killed_does_not_wait(folder: SweepFolder) -> None:
    first = begin(folder, 0)
    folder.record(record(0, 0.5, WAITING))
    first.release()
    begin(folder, 0).release()
    assert next_attempt.broken_off(folder, 4) == [0]
