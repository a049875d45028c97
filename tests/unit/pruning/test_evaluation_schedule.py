"""Evaluations lie at the same example counts whatever the batch size."""

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from finesweep.pruning.evaluation_schedule import Schedule
from finesweep.spec.trial_length import TrialLength
from finesweep.trial import Evaluation


def schedule(rows: int, batch: int, epochs: float, per_epoch: int) -> Schedule:
    steps = math.ceil(rows / batch)
    return Schedule(TrialLength(rows, batch, steps, math.ceil(epochs * steps)), per_epoch)


def rungs(plan: Schedule) -> list[int]:
    return [rung for step in range(1, plan.length.total_steps + 1) if (rung := plan.rung(step)) is not None]


@given(
    rows=st.integers(10, 5000),
    batches=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    epochs=st.integers(1, 4),
    per_epoch=st.integers(1, 4),
)
def test_trials_of_any_batch_size_are_evaluated_at_the_same_counts(rows, batches, epochs, per_epoch):
    plans = [schedule(rows, batch, epochs, per_epoch) for batch in batches]
    if min(plan.length.steps_per_epoch for plan in plans) < per_epoch:
        return  # fewer steps than evaluations: some fall together
    assert rungs(plans[0]) == rungs(plans[1])
    assert len(rungs(plans[0])) == epochs * per_epoch


@given(st.integers(10, 5000), st.integers(1, 64), st.floats(0.1, 5), st.integers(1, 5))
def test_the_last_step_is_always_evaluated_and_rungs_ascend(rows, batch, epochs, per_epoch):
    plan = schedule(rows, batch, epochs, per_epoch)
    assert plan.rung(plan.length.total_steps) is not None
    assert rungs(plan) == sorted(rungs(plan))


def test_examples_count_the_short_last_batch():
    plan = schedule(rows=100, batch=32, epochs=2, per_epoch=1)
    assert [plan.length.examples(step) for step in (1, 3, 4, 5, 8)] == [32, 96, 100, 132, 200]


def test_an_epoch_ends_on_a_rung_of_whole_epochs():
    assert rungs(schedule(rows=100, batch=32, epochs=3, per_epoch=1)) == [100, 200, 300]
    assert rungs(schedule(rows=100, batch=8, epochs=1, per_epoch=2)) == [50, 100]


def test_the_end_of_an_epoch_counts_whole_if_its_evaluation_is_reported_at_a_rung_just_before():
    for batch, reported in ((1, 200), (8, 198), (32, 198)):
        steps = math.ceil(100 / batch)
        plan = Schedule(TrialLength(100, batch, steps, 6 * steps), 1, (Fraction(198, 100),), rungs_first=True)
        ends = [Evaluation(epoch * steps, epoch, plan.rung(epoch * steps) or 0, {}, 0.5) for epoch in range(1, 6)]
        assert [end.examples for end in ends] == [100, reported, 300, 400, 500]
        assert [plan.waited(ends[0], end) for end in ends] == [0, 100, 200, 300, 400]
        assert [plan.waited(ends[1], end) for end in ends[1:]] == [0, 100, 200, 300]


def test_an_evaluation_that_is_reported_at_a_rung_just_after_it_counts_as_the_one_that_was_asked_for():
    plan = Schedule(TrialLength(100, 16, 7, 28), 2, (Fraction(56, 100),), rungs_first=True)
    half, whole = (Evaluation(step, step / 7, plan.rung(step) or 0, {}, 0.5) for step in (4, 7))
    assert (half.examples, whole.examples, plan.waited(half, whole)) == (56, 100, 50)


def test_a_rung_between_two_evaluations_counts_where_it_is():
    plan = Schedule(TrialLength(100, 10, 10, 30), 1, (Fraction(175, 100),), rungs_first=True)
    first, rung = (Evaluation(step, step / 10, plan.rung(step) or 0, {}, 0.5) for step in (10, 18))
    assert (rung.examples, plan.waited(first, rung)) == (175, 75)
