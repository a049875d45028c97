"""Where the trials to come end: by early stopping, as those did that ended before, and as halving lets them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from made_records import COMPLETE, PRUNED, record
from sweep_replays import ROWS, spec_with

from finesweep.forecast.course import Course
from finesweep.forecast.simulation import SimulatedTrial
from finesweep.forecast.trial_ends import Ended, trial_ends
from finesweep.spec.trial_length import Workload
from finesweep.trial import TrialState

WHOLE = Workload(4 * ROWS, 8)


def ended(count: int, examples: int, state: TrialState = COMPLETE) -> list[Ended]:
    return [(record(number, 0.5, state, examples=examples), WHOLE) for number in range(10, 10 + count)]


def drawn(known: list[Ended], pruner: str = "halving", **sections: Any) -> list[int]:
    """Return the ends of a trial of four epochs, in 400 simulations."""
    course, source = Course(spec_with(pruner, **{"patience": "auto", **sections}), ROWS), random.Random(0)
    return [trial_ends(course, known, 0, source)(99, SimulatedTrial(WHOLE, WHOLE.examples)) for _ in range(400)]


def test_trials_end_early_as_those_did_that_halving_let_train() -> None:
    """Thirty were pruned after an epoch, and each of the ten others ended at half of its length."""
    found = drawn([*ended(30, ROWS, PRUNED), *ended(10, 2 * ROWS)])
    # All but those of the prior, which has the weight of 4 of 44 trials.
    assert found.count(2 * ROWS) / len(found) > 0.85


def test_a_trial_that_halving_ended_later_than_others_ended_says_nothing_about_them() -> None:
    found = drawn([*ended(20, 3 * ROWS, PRUNED), *ended(20, 2 * ROWS)], patience="none")
    assert found.count(2 * ROWS) / len(found) == pytest.approx(20 / 44, abs=0.1)
    assert set(found) == {2 * ROWS, 4 * ROWS}


def test_before_any_trial_has_ended_some_end_at_each_evaluation_at_which_they_can() -> None:
    found = drawn([])
    assert set(found) == {2 * ROWS, 3 * ROWS, 4 * ROWS}
    assert 0.5 < found.count(4 * ROWS) / len(found) < 0.75
    assert set(drawn([], patience=2)) == {3 * ROWS, 4 * ROWS}
    assert set(drawn([], patience="none")) == {4 * ROWS}


def test_an_objective_that_recovers_ends_no_trial() -> None:
    accuracy = {"metric": "eval_accuracy", "direction": "maximize"}
    assert set(drawn([], objective=accuracy)) == {4 * ROWS}
    assert set(drawn([], objective=accuracy, patience=1)) == {2 * ROWS, 3 * ROWS, 4 * ROWS}


@pytest.mark.parametrize(("per_epoch", "patience", "first"), [(1, "auto", 2.0), (4, "auto", 1.25), (4, 3, 1.0)])
def test_first_early_end_is_at_the_first_evaluation_at_which_patience_can_end(
    per_epoch: int, patience: object, first: float
) -> None:
    course = Course(spec_with("none", evaluation={"per_epoch": per_epoch}, patience=patience), ROWS)
    source = random.Random(0)
    found = {course.early_end(WHOLE, 0, source) for _ in range(500)}
    assert min(found) == first * ROWS
    assert max(found) == 4 * ROWS - ROWS // per_epoch
    assert course.early_end(Workload(int(first * ROWS), 8), 0, source) == first * ROWS, "a short trial ends at its end"
    assert all(course.early_end(WHOLE, 3 * ROWS, source) > 3 * ROWS for _ in range(50)), "what is past is past"


def test_trial_with_very_many_evaluations_is_drawn_at_once() -> None:
    course = Course(spec_with("none", evaluation={"per_epoch": 1_000}, patience="auto"), ROWS)
    assert course.early_end(Workload(10_000 * ROWS, 8), 0, random.Random(0)) < 10_000 * ROWS
