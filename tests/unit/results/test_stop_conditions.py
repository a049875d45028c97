"""When a sweep ends before its budget: by its target, without gain, or after three equal failures."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import COMPLETE, DIVERGED, FAILED, INTERRUPTED, PRUNED, WAITING, record

from finesweep.results.stop_conditions import early_stop, same_failure
from finesweep.spec import StopSpec
from finesweep.trial import Direction, TrialRecord

MIN, MAX = Direction.MINIMIZE, Direction.MAXIMIZE


@pytest.mark.parametrize(
    ("objective", "direction", "reached"),
    [(0.6, MIN, False), (0.5, MIN, True), (-3.0, MIN, True), (0.4, MAX, False), (0.5, MAX, True), (0.9, MAX, True)],
)
def test_target_is_reached_in_the_objectives_direction(objective: float, direction: Direction, reached: bool) -> None:
    found = early_stop(StopSpec(target=0.5), [record(0, objective)], direction)
    assert found == ("the target 0.5 is reached" if reached else None)


@pytest.mark.parametrize("state", [PRUNED, DIVERGED, FAILED, INTERRUPTED, WAITING])
def test_only_a_complete_trial_reaches_the_target(state: Any) -> None:
    assert early_stop(StopSpec(target=0.5), [record(0, 0.6), record(1, 0.1, state)], MIN) is None


def test_target_of_0_is_a_target() -> None:
    assert early_stop(StopSpec(target=0.0), [record(0, 0.0)], MIN) == "the target 0 is reached"


def test_trials_count_in_the_order_in_which_they_end() -> None:
    """Trial 0 takes long and ends last, as the best."""
    records = [record(0, 0.1, seconds=1_000.0), record(1, 0.5), record(2, 0.6), record(3, 0.7)]
    assert early_stop(StopSpec(no_gain_trials=1), records, MIN) is None
    assert early_stop(StopSpec(no_gain_trials=2), records[1:], MIN) == "2 trials without a new best"
    assert early_stop(StopSpec(no_gain_trials=3), records[1:], MIN) is None


def test_equal_value_is_no_new_best() -> None:
    records = [record(0, 0.5), record(1, 0.5), record(2, 0.5)]
    assert early_stop(StopSpec(no_gain_trials=2), records, MIN) == "2 trials without a new best"


@pytest.mark.parametrize(
    ("state", "counts"), [(PRUNED, True), (DIVERGED, True), (FAILED, True), (INTERRUPTED, False), (WAITING, False)]
)
def test_finished_trials_of_each_kind_are_trials_without_gain(state: Any, counts: bool) -> None:
    records = [record(0, 0.5), record(1, 0.1, state), record(2, 0.1, state)]
    assert (early_stop(StopSpec(no_gain_trials=2), records, MIN) is not None) is counts


def test_sweep_without_a_complete_trial_waits_for_one() -> None:
    records = [record(trial, None, FAILED) for trial in range(9)]
    assert early_stop(StopSpec(no_gain_trials=2, target=0.5), records, MIN) is None


def test_spec_without_conditions_ends_nothing() -> None:
    assert early_stop(StopSpec(), [record(trial, 0.5) for trial in range(99)], MIN) is None


@given(st.lists(st.tuples(st.sampled_from([COMPLETE, PRUNED]), st.integers(0, 5)), max_size=12), st.integers(1, 4))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_sweep_goes_on_exactly_as_long_as_there_is_gain(ends: list[Any], patience: int) -> None:
    records = [record(trial, float(value), state) for trial, (state, value) in enumerate(ends)]
    complete = [(one.objective or 0.0, one.trial) for one in records if one.state is COMPLETE]
    without_gain = len(records) - 1 - min(complete)[1] if complete else 0
    for shuffled in (records, records[::-1]):
        found = early_stop(StopSpec(no_gain_trials=patience), shuffled, MIN)
        assert (found is not None) == (without_gain >= patience)


def failed(trial: int, reason: str | None = "RuntimeError: x", run: int = 1, **fields: Any) -> TrialRecord:
    return record(trial, None, FAILED, reason=reason, run=run, **fields)


def test_three_failures_that_differ_in_numbers_alone_are_alike() -> None:
    records = [failed(trial, f"ValueError: 3 labels, row {trial}, 0x7f{trial}") for trial in range(3)]
    found = "the first 3 trials failed alike: ValueError: 3 labels, row 0, 0x7f0"
    assert all(same_failure(order, run=1) == found for order in itertools.permutations(records))
    assert same_failure(records[:2], run=1) is None
    assert same_failure([*records, record(3, 0.5, run=1), failed(4, "other")], run=1) == found


@pytest.mark.parametrize(
    "first",
    [
        record(0, 0.5, run=1),
        record(0, None, PRUNED, reason="RuntimeError: x", run=1),
        record(0, None, DIVERGED, reason="RuntimeError: x", run=1),
        failed(0, "ValueError: x"),
        failed(0, None),
    ],
    ids=["complete", "pruned", "diverged", "another-failure", "no-reason"],
)
def test_run_that_begins_otherwise_is_not_stopped(first: TrialRecord) -> None:
    assert same_failure([first, failed(1), failed(2), failed(3)], run=1) is None


def test_first_trials_are_those_that_end_first() -> None:
    late = record(0, 0.5, run=1, seconds=900.0)
    assert same_failure([late, failed(1), failed(2), failed(3)], run=1) is not None
    assert same_failure([late, failed(1), failed(2), failed(9)], run=1) is None, "one succeeds before the third fails"


def test_trial_that_is_not_finished_is_no_beginning() -> None:
    others = [record(0, None, INTERRUPTED, run=1), record(1, 0.5, WAITING, run=1)]
    assert same_failure([*others, failed(2), failed(3), failed(4)], run=1) is not None


def test_failures_of_an_earlier_run_do_not_stop_the_next_one() -> None:
    earlier = [failed(trial) for trial in range(3)]
    assert same_failure(earlier, run=2) is None
    assert same_failure([*earlier, failed(3, run=2), failed(4, run=2)], run=2) is None
    assert same_failure([*earlier, *(failed(trial, run=2) for trial in (3, 4, 5))], run=2) is not None
