"""Whose weights stay on the disk: those of the best trials, told without a look at each of thousands of records."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import COMPLETE, DIVERGED, INTERRUPTED, PRUNED, record

from finesweep.folder import Repeat
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.launch.profile import Profile
from finesweep.results.kept_weights import is_among_best, keep_if_best, remove_beaten
from finesweep.results.ranking import ranked
from finesweep.trial import Direction, TrialRecord, TrialState

SMALLER, LARGER = Direction.MINIMIZE, Direction.MAXIMIZE
ends = st.lists(
    st.tuples(st.one_of(st.none(), st.sampled_from([0.1, 0.2, 0.3])), st.sampled_from([COMPLETE, COMPLETE, PRUNED])),
    max_size=8,
)


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "s")


def with_weights(folder: SweepFolder, trial: int, objective: float | None, state: TrialState = COMPLETE) -> None:
    folder.checkpoint(trial).mkdir()
    folder.record(record(trial, objective, state))


@given(ends=ends, direction=st.sampled_from(Direction), keep=st.integers(1, 3))
def test_who_is_among_the_best_is_who_ranks_there(
    ends: list[tuple[float | None, TrialState]], direction: Direction, keep: int
) -> None:
    records = [record(trial, objective, state) for trial, (objective, state) in enumerate(ends)]
    best = ranked(records, direction)[:keep]
    assert [one for one in records if is_among_best(one, records, keep, direction)] == sorted(
        best, key=lambda one: one.trial
    )


def test_a_weak_trial_is_told_by_the_first_few_records() -> None:
    looked_at = []

    def others() -> Iterator[TrialRecord]:
        for trial in range(10_000):
            looked_at.append(trial)
            yield record(trial, random.Random(trial).random())

    assert not is_among_best(record(10_000, 0.5), others(), 1, SMALLER)
    assert len(looked_at) < 10


def test_a_weak_trial_is_told_without_a_look_at_trials_that_have_no_weights(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_weights(folder, 0, 0.1)
    for trial in range(1, 50):
        folder.record(record(trial, 0.2))
    looked_at = []
    read_record = SweepFolder.read_record

    def watched(self: SweepFolder, trial: int) -> TrialRecord | None:
        looked_at.append(trial)
        return read_record(self, trial)

    monkeypatch.setattr(SweepFolder, "read_record", watched)
    weak = record(50, 0.3)
    assert keep_if_best(folder, Profile(), weak, SMALLER, trainer=None) is weak
    assert looked_at == [0]


@pytest.mark.parametrize(("direction", "left"), [(SMALLER, {2}), (LARGER, {1})])
def test_the_weights_of_whoever_is_beaten_go(folder: SweepFolder, direction: Direction, left: set[int]) -> None:
    for trial, objective in enumerate([0.5, 0.9, 0.1]):
        with_weights(folder, trial, objective)
    remove_beaten(folder, 1, direction)
    assert folder.checkpoints() == left


def test_as_many_are_kept_as_are_asked_for_and_no_more(folder: SweepFolder) -> None:
    for trial, objective in enumerate([0.5, 0.9, 0.1]):
        with_weights(folder, trial, objective)
    remove_beaten(folder, 2, SMALLER)
    assert folder.checkpoints() == {0, 2}


def test_weights_without_a_result_stay_and_those_of_a_result_that_does_not_rank_go(folder: SweepFolder) -> None:
    with_weights(folder, 0, 0.5)
    with_weights(folder, 1, None, DIVERGED)
    with_weights(folder, 2, 0.9, INTERRUPTED)
    folder.checkpoint(3).mkdir()  # of a trial that is about to write its record
    remove_beaten(folder, 1, SMALLER)
    assert folder.checkpoints() == {0, 2, 3}


def test_what_is_no_trials_is_left_alone(folder: SweepFolder) -> None:
    with_weights(folder, 0, 0.5)
    with_weights(folder, 1, 0.1)
    damaged = folder.checkpoint(0).with_name("trial-0000.corrupt")
    damaged.mkdir()
    remove_beaten(folder, 1, SMALLER)
    assert folder.checkpoints() == {1}
    assert damaged.exists()


def test_confirmation_keeps_the_best_seed_of_each_repeated_trial(folder: SweepFolder) -> None:
    repeats = (Repeat(4, 1), Repeat(7, 1), Repeat(4, 2), Repeat(7, 2))
    for trial, objective in enumerate([0.5, 0.1, 0.4, 0.2]):
        with_weights(folder, trial, objective)
    remove_beaten(folder, 5, SMALLER, repeats=repeats)
    assert folder.checkpoints() == {1, 2}
    weak = record(3, 0.2)
    assert keep_if_best(folder, Profile(), weak, SMALLER, trainer=None, repeats=repeats) is weak
