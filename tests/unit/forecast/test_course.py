"""How far trials may go: their evaluations, the draws of a pruner, the trials that it spares."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_replays import spec_with

from finesweep.forecast.course import SHARES, Course, Span, stop
from finesweep.pruning.evaluation_schedule import Schedule
from finesweep.spec.trial_length import TrialLength, Workload

ROWS = 1_000
VALIDATION = 300
WHOLE = Workload(4_000, 1)


def scheduled(course: Course, steps: int) -> int:
    """Count the evaluations of a trial of batches of one row, as training places them."""
    length = TrialLength(course.rows, 1, course.rows, steps)
    schedule = Schedule(
        length,
        course.spec.evaluation.per_epoch,
        tuple(Fraction(str(rung)) for rung in course.spec.pruning.rungs if course.spec.search.pruner == "halving"),
    )
    return sum(schedule.rung(step) is not None for step in range(1, steps + 1))


@given(
    trained=st.integers(1, 3_500),
    per_epoch=st.sampled_from([1, 2, 3, 7]),
    rungs=st.lists(st.sampled_from([0.25, 0.5, 0.75, 1.0, 1.5, 2.25, 3.0]), min_size=1, max_size=3, unique=True),
    pruner=st.sampled_from(["halving", "none"]),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_complete_trial_has_the_evaluations_of_its_schedule(trained, per_epoch, rungs, pruner) -> None:
    course = Course(spec_with(pruner, evaluation={"per_epoch": per_epoch}, pruning={"rungs": rungs}), ROWS)
    assert (
        course.evaluated(Workload(trained, 1), trained, VALIDATION, complete=True)
        == scheduled(course, trained) * VALIDATION
    )


@pytest.mark.parametrize(("rung", "evaluations"), [(750, 1), (1_500, 3), (2_000, 4)])
def test_trial_that_ends_at_a_rung_was_evaluated_there(rung: int, evaluations: int) -> None:
    course = Course(spec_with("halving", pruning={"rungs": [0.75, 1.5, 2.0]}), ROWS)
    assert (
        course.evaluated(WHOLE, rung, VALIDATION, complete=False)
        == evaluations * VALIDATION
        == scheduled(course, rung) * 300
    )


def test_only_a_complete_trial_is_ranked_on_all_rows() -> None:
    course = Course(spec_with("none", evaluation={"rows": 50}), ROWS)
    assert course.evaluated(WHOLE, 2_000, VALIDATION, complete=False) == 2 * 50
    assert course.evaluated(WHOLE, 2_000, VALIDATION, complete=True) == 2 * 50 + VALIDATION


RUNGS = (100, 200, 400)


@pytest.mark.parametrize(
    ("seen", "shares", "end"),
    [
        pytest.param(0, (1, 1, 1), 500, id="none-ends"),
        pytest.param(0, (0, 0, 0), 100, id="first"),
        pytest.param(100, (0, 0, 0), 200, id="a-passed-rung-does-not-end-it"),
        pytest.param(400, (0, 0, 0), 500, id="past-all"),
        pytest.param(0, (1, 1, 0), 400, id="last"),
    ],
)
def test_trial_ends_at_a_rung_that_it_has_not_passed(seen: int, shares: tuple[float, ...], end: int) -> None:
    assert stop(Workload(500, 8), seen, RUNGS, shares, random.Random(0)) == end


def test_rung_at_the_end_of_a_trial_ends_nothing() -> None:
    assert stop(Workload(200, 8), 100, RUNGS, (0, 0, 0), random.Random(0)) == 200
    assert stop(Workload(50, 8), 0, RUNGS, (0, 0, 0), random.Random(0)) == 50


def test_as_many_trials_continue_as_the_share_says() -> None:
    source = random.Random(1)
    ends = [stop(Workload(500, 8), 0, (100,), (0.7,), source) for _ in range(2_000)]
    assert ends.count(500) / 2_000 == pytest.approx(0.7, abs=0.04)  # four standard deviations


@pytest.mark.parametrize("pruner", ["median", "asha", "hyperband", "halving", "none"])
def test_drawn_share_lies_in_the_range_of_its_pruner(pruner: str) -> None:
    source, (low, _, high) = random.Random(0), SHARES.get(pruner, (1, 1, 1))
    drawn = [Course(spec_with(pruner), ROWS).share(source) for _ in range(100)]
    assert low <= min(drawn) <= max(drawn) <= high
    assert (len(set(drawn)) > 1) == (pruner in SHARES)


@pytest.mark.parametrize(
    ("pruner", "rungs"),
    [
        ("none", []),
        ("halving", [500, 2_000]),
        ("median", [500, 2_000]),
        ("asha", [250, 500, 1_000, 2_000]),
        ("hyperband", [250, 500, 1_000, 2_000]),
    ],
)
def test_rungs_are_the_specs_or_evaluations_that_double(pruner: str, rungs: list[int]) -> None:
    course = Course(spec_with(pruner, evaluation={"per_epoch": 4}, pruning={"rungs": [2, 0.5]}), ROWS)
    assert list(course.rungs[: len(rungs)]) == rungs
    assert len(course.rungs) == len(rungs) or pruner in ("asha", "hyperband")


def test_untuned_default_and_audited_trials_are_spared() -> None:
    def spared(pruner: str, audit: float = 0, **search: object) -> list[int]:
        search = {"pruner": pruner, "sampler": "random", **search}
        course = Course(spec_with(pruner, search=search, pruning={"audit": audit}), ROWS)
        return [trial for trial in range(20) if course.is_spared(trial)]

    assert spared("halving") == [0]
    assert spared("halving", baseline=False) == []
    assert spared("halving", sampler="grid") == [], "a grid has no baseline"
    assert spared("asha", audit=1) == [], "the pruners of the libraries spare none"
    assert spared("median", audit=1) == list(range(20))
    assert 0 < len(spared("halving", audit=0.3, baseline=False)) < 15


def test_pool_is_the_same_in_each_process() -> None:
    start = [{"learning_rate": 2e-5, "num_train_epochs": 5, "per_device_train_batch_size": 8}]
    one, other = (Course(spec_with("none", start=start), ROWS) for _ in range(2))
    assert one.pool == other.pool
    assert {plan.batch for plan in one.pool} == {8, 16, 32}
    assert one.planned[1] == Workload(5 * ROWS, 8)


def test_span_of_unsorted_values_leaves_out_both_ends() -> None:
    assert Span.of([3, 1, 2]) == Span(1, 2, 3)
    assert Span.of([9, *range(9), 10], outside=0.4) == Span(2, 5, 8)


def test_rungs_of_shares_follow_the_length_of_each_trial() -> None:
    course = Course(spec_with("halving", pruning={"rungs": ["50%", "25%"]}), ROWS)
    assert [course.rungs_of(Workload(examples, 8)) for examples in (2_000, 5_000)] == [(500, 1_000), (1_250, 2_500)]
    # At a quarter and at half of two epochs, and at the end of each.
    assert course.evaluated(Workload(2_000, 8), 2_000, VALIDATION, complete=True) == 3 * VALIDATION
    assert Course(spec_with("none", pruning={"rungs": ["25%"]}), ROWS).rungs_of(WHOLE) == ()
