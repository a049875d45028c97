"""Evaluations lie at the same example counts whatever the batch size."""

import math

from hypothesis import given
from hypothesis import strategies as st

from finesweep.pruning.evaluation_schedule import Schedule
from finesweep.spec.trial_length import TrialLength


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
