"""Which trainings of a confirmation a worker may claim, and which it ends."""

from __future__ import annotations

import dataclasses

import pytest
from made_records import manifest, record

from finesweep.folder import Repeat, next_attempt
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.trial import TrialState
from finesweep.worker.seed_queue import SeedQueue

PARAMS = {1: {"learning_rate": 1e-5}, 2: {"learning_rate": 2e-5}, 3: {"learning_rate": 3e-5}}


@pytest.fixture
def queue(tmp_path) -> SeedQueue:
    """A confirmation of the trials 1, 2 and 3 with four seeds each."""
    repeats = tuple(Repeat(trial, seed) for seed in range(4) for trial in PARAMS)
    made = dataclasses.replace(manifest(), planned=[PARAMS[one.trial] for one in repeats], repeats=repeats)
    return SeedQueue(make_folders(tmp_path / "confirm"), made, 1)


def end(folder: SweepFolder, number: int, value: float | None, state: TrialState = TrialState.COMPLETE) -> None:
    lease = next_attempt.claim(folder, 1, [number])
    assert lease is not None
    folder.record(record(number, value, state))
    lease.release()


def test_two_seeds_of_each_are_open_at_first(queue):
    assert list(queue.queue()) == [0, 1, 2, 3, 4, 5]


def test_training_without_a_chance_is_ended_with_its_reason(queue):
    for number, value in enumerate([0.30, 0.31, 0.90, 0.31, 0.30, 0.91]):
        end(queue.sweep_folder, number, value)
    assert list(queue.queue()) == [6, 7]
    ended = queue.sweep_folder.read_record(8)
    assert (ended.state, ended.params) == (TrialState.PRUNED, PARAMS[3])
    assert ended.reason == "its candidate's chance to be the best is below 5%"
    assert not queue.sweep_folder.is_finished(11), "the fourth round is decided after the third"
    assert list(queue.queue()) == [6, 7]


def test_candidate_that_diverges_is_ended_before_its_second_seed(queue):
    end(queue.sweep_folder, 1, None, TrialState.DIVERGED)
    assert list(queue.queue()) == [0, 2, 3, 5]
    assert "diverged with another seed" in queue.sweep_folder.read_record(4).reason


def test_training_that_runs_elsewhere_is_not_ended(queue):
    held = next_attempt.claim(queue.sweep_folder, 1, [4])
    end(queue.sweep_folder, 1, None, TrialState.DIVERGED)
    queue.queue()
    assert queue.sweep_folder.read_record(4) is None
    held.release()


def test_race_of_one_left_ends_all_trainings(queue):
    for number, value in enumerate([0.30, 0.80, 0.90, 0.30001, 0.80001, 0.90001]):
        end(queue.sweep_folder, number, value)
    assert list(queue.queue()) == []
    assert all(map(queue.sweep_folder.is_finished, range(9)))
    assert list(queue.queue()) == []
    assert all(map(queue.sweep_folder.is_finished, range(12)))
