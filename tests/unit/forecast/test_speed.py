from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import FAILED, record

from finesweep.forecast.speed import Leg, between_attempts, measured
from finesweep.spec.trial_length import Workload

SMALL, LARGE = (8, None), (32, None)


def leg(examples: int, seconds: float, number: int = 0, kind: tuple[int, None] = SMALL, run: int = 1) -> Leg:
    return Leg(kind, examples, seconds, 100.0 * number, run)


def test_nothing_is_measured_without_attempts() -> None:
    assert measured([]) is None


def test_a_record_says_what_its_last_attempt_did() -> None:
    one = record(0, 0.5, seconds=50.0, examples=3_000, examples_per_second=20.0, run=2)
    assert Leg.of(one, Workload(3_000, 8)) == Leg(SMALL, 1_000, 50.0, 50.0, 2)


@pytest.mark.parametrize("speed", [None, 0.0, float("nan"), float("inf")])
def test_a_record_without_a_speed_says_nothing(speed: float | None) -> None:
    assert Leg.of(record(0, None, FAILED, examples_per_second=speed, examples=10), Workload(10, 8)) is None


def test_what_is_fixed_is_told_from_what_each_example_takes() -> None:
    pace = measured([leg(500 * n, 10 + 0.01 * 500 * n, n) for n in range(1, 13)])
    assert pace is not None
    assert pace.fixed == pytest.approx(10, rel=0.1)
    assert pace.seconds(SMALL, 20_000) == pytest.approx(210, rel=0.05)


def test_attempts_of_one_length_leave_open_what_is_fixed() -> None:
    pace = measured([leg(1_000, 20.0, n) for n in range(12)])
    assert pace is not None
    assert pace.seconds(SMALL, 1_000) == pytest.approx(20, rel=0.01)
    source = random.Random(0)
    drawn = [pace.drawn(source).seconds(SMALL, 10_000) for _ in range(200)]
    assert min(drawn) < 120
    assert max(drawn) > 190


def test_each_batch_size_has_its_own_speed_and_an_unknown_one_the_usual() -> None:
    legs = [leg(1_000, 30.0, n) if n % 2 else leg(1_000, 10.0, n, LARGE) for n in range(20)]
    pace = measured(legs)
    assert pace is not None
    small, large, unknown = (pace.seconds(kind, 1_000) for kind in (SMALL, LARGE, (16, None)))
    assert small == pytest.approx(30, rel=0.1)
    assert large == pytest.approx(10, rel=0.2)
    assert large < unknown < small


def test_the_latest_attempts_count_most_and_a_change_casts_doubt() -> None:
    steady = measured([leg(1_000, 10.0, n) for n in range(30)])
    slower = measured([leg(1_000, 10.0 if n < 15 else 20.0, n) for n in range(30)])
    assert steady is not None
    assert slower is not None
    assert slower.seconds(SMALL, 1_000) > 15
    assert slower.doubt > 2 * steady.doubt


def test_attempts_of_an_earlier_run_do_not_count_once_there_are_enough_of_this_one() -> None:
    earlier = [leg(1_000, 100.0, n) for n in range(20)]
    few = measured([*earlier, *(leg(1_000, 10.0, 20 + n, run=2) for n in range(2))])
    enough = measured([*earlier, *(leg(1_000, 10.0, 20 + n, run=2) for n in range(5))])
    assert few is not None
    assert enough is not None
    assert 12 < few.seconds(SMALL, 1_000) < 100
    assert enough.seconds(SMALL, 1_000) == pytest.approx(10, rel=0.01)


def test_between_two_attempts_some_time_is_lost() -> None:
    assert between_attempts([0.0], []) == 0.0
    assert between_attempts([0.0, 10.5, 21.0], [10.0, 20.5]) == 0.5
    # Two workers: each begins after the end that was latest before it.
    assert between_attempts([0.0, 0.0, 10.2, 14.2], [10.0, 14.0]) == pytest.approx(0.2)


def test_a_pause_between_two_runs_is_no_habit() -> None:
    starts = [11.0 * n for n in range(10)] + [5_000 + 11.0 * n for n in range(10)]
    assert between_attempts(starts, [start + 10 for start in starts]) == pytest.approx(1)


@given(
    st.lists(st.tuples(st.integers(1, 10**7), st.floats(0.001, 1e6), st.sampled_from([SMALL, LARGE])), min_size=1),
    st.integers(0, 10**7),
)
def test_no_attempts_make_a_time_negative_or_shrink_with_the_work(
    done: list[tuple[int, float, tuple[int, None]]], examples: int
) -> None:
    pace = measured([leg(seen, seconds, n, kind) for n, (seen, seconds, kind) in enumerate(done)])
    assert pace is not None
    for one in (pace, pace.drawn(random.Random(1))):
        assert 0 <= one.seconds(SMALL, examples) <= one.seconds(SMALL, examples + 1_000)
