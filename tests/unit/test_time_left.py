from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import FAILED, INTERRUPTED, PRUNED, record, running

from finesweep.time_left import span, time_left


def test_nothing_is_known_before_a_trial_has_ended() -> None:
    assert time_left([], [running(0)], trials=10, now=50.0) is None
    assert time_left([record(0, None, INTERRUPTED)], [], trials=10, now=50.0) is None


def test_equal_trials_leave_no_doubt() -> None:
    records = [record(n, 0.5, seconds=60.0) for n in range(4)]
    assert time_left(records, [], trials=10, now=0.0) == (360.0, 360.0)


def test_pruned_and_failed_trials_count_with_the_time_they_took() -> None:
    records = [record(0, 0.5, PRUNED, seconds=10.0), record(1, None, FAILED, seconds=10.0), record(2, seconds=10.0)]
    assert time_left(records, [], trials=5, now=0.0) == (20.0, 20.0)


def test_a_running_trial_goes_on_at_its_own_pace() -> None:
    records = [record(n, 0.5, seconds=60.0) for n in range(4)]
    # 100 of 400 steps in 50 seconds: 150 seconds are left of it, and five trials of 60 follow.
    assert time_left(records, [running(4)], trials=10, now=450.0) == (450.0, 450.0)


def test_a_running_trial_without_a_step_takes_what_the_others_took() -> None:
    records = [record(n, 0.5, seconds=60.0) for n in range(4)]
    assert time_left(records, [running(4, step=0)], trials=5, now=420.0) == (40.0, 40.0)


def test_several_workers_share_the_work() -> None:
    records = [record(n, 0.5, seconds=60.0) for n in range(4)]
    progress = [running(4, step=0, started=0.0), running(5, step=0, started=0.0)]
    assert time_left(records, progress, trials=10, now=0.0) == (180.0, 180.0)


def test_trials_that_differ_widen_the_range() -> None:
    few = [record(0, seconds=30.0), record(1, seconds=90.0)]
    many = [record(n, seconds=90.0 if n % 2 else 30.0) for n in range(20)]
    low_few, high_few = time_left(few, [], trials=12, now=0.0) or (0, 0)
    low_many, high_many = time_left(many, [], trials=30, now=0.0) or (0, 0)
    assert low_few < low_many < 600 < high_many < high_few


def test_a_budget_that_is_used_up_takes_nothing() -> None:
    assert time_left([record(0), record(1)], [], trials=2, now=0.0) == (0.0, 0.0)
    assert time_left([record(0), record(1)], [], trials=1, now=0.0) == (0.0, 0.0)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=8),
    st.integers(0, 3),
    st.integers(1, 40),
    st.floats(-1e6, 1e6),
)
def test_the_range_is_in_order_and_never_negative(
    taken: list[float], running_now: int, trials: int, now: float
) -> None:
    records = [record(n, seconds=seconds) for n, seconds in enumerate(taken)]
    progress = [running(100 + n, step=n) for n in range(running_now)]
    low, high = time_left(records, progress, trials=trials, now=now) or (-1, -1)
    assert 0 <= low <= high


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0, 1, "a few s"),
        (0, 60, "up to 60 s"),
        (41, 42, "about 40 s"),
        (12, 80, "10 to 80 s"),
        (20, 110, "up to 2 min"),
        (700, 1210, "12 to 20 min"),
        (1190, 1210, "about 20 min"),
        (3600, 7200, "1.0 to 2.0 h"),
        (36_000, 72_000, "10 to 20 h"),
        (3.6e6, 7.2e6, "1,000 to 2,000 h"),
    ],
)
def test_span(low: float, high: float, shown: str) -> None:
    assert span(low, high) == shown
