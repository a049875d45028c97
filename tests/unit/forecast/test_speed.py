from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import FAILED, record

from finesweep.forecast.speed import BETWEEN_SECONDS, AttemptTiming, ResampledSpeed
from finesweep.spec.trial_length import Workload

SMALL, LARGE = Workload(4_000, 8), Workload(4_000, 32)


def attempt(examples: int, seconds: float, plan: Workload = SMALL, run: int = 1) -> AttemptTiming:
    return AttemptTiming(plan, examples, seconds, run)


def times(attempts: list[AttemptTiming], examples: int, plan: Workload = SMALL) -> list[float]:
    """Draw a speed and then a time, many times."""
    source = random.Random(0)
    return [ResampledSpeed.drawn(attempts, source).seconds(plan, examples) - BETWEEN_SECONDS for _ in range(400)]


def test_a_record_says_what_its_last_attempt_did() -> None:
    one = record(0, 0.5, seconds=50.0, examples=3_000, examples_per_second=20.0, run=2)
    assert AttemptTiming.of(one, Workload(3_000, 8)) == AttemptTiming(Workload(3_000, 8), 1_000, 50.0, 2)


@pytest.mark.parametrize("speed", [None, 0.0, float("nan"), float("inf")])
def test_a_record_without_a_speed_says_nothing(speed: float | None) -> None:
    assert AttemptTiming.of(record(0, None, FAILED, examples_per_second=speed, examples=10), Workload(10, 8)) is None


def test_equal_attempts_take_what_they_took() -> None:
    assert statistics.median(times([attempt(1_000, 20.0)] * 12, 1_000)) == pytest.approx(20, rel=0.05)


def test_what_is_fixed_of_an_attempt_is_left_open() -> None:
    found = times([attempt(1_000, 20.0)] * 12, 10_000)
    # All of it is training, or about half of it is fixed.
    assert min(found) < 120
    assert max(found) > 190


def test_a_part_of_an_attempt_takes_nothing_that_is_fixed() -> None:
    speed = ResampledSpeed([attempt(1_000, 20.0)], 1.0, 0.5, random.Random(0))
    assert speed.seconds(SMALL, 1_000) == pytest.approx(20 + BETWEEN_SECONDS)
    assert speed.seconds(SMALL, 500, anew=False) == 5


def test_each_batch_size_has_its_own_speed_and_an_unknown_one_any() -> None:
    attempts = [attempt(1_000, 30.0) if n % 2 else attempt(1_000, 10.0, LARGE) for n in range(20)]
    small, large = (statistics.median(times(attempts, 1_000, plan)) for plan in (SMALL, LARGE))
    assert small == pytest.approx(30, rel=0.1)
    assert large == pytest.approx(10, rel=0.1)
    assert large < statistics.fmean(times(attempts, 1_000, Workload(4_000, 16))) < small


def test_the_longest_input_decides_too() -> None:
    attempts = [attempt(1_000, 30.0, Workload(4_000, 8, 512)), attempt(1_000, 10.0, Workload(4_000, 8, 64))] * 6
    assert statistics.median(times(attempts, 1_000, Workload(9_000, 8, 64))) == pytest.approx(10, rel=0.1)


def test_the_latest_attempts_count_most() -> None:
    slower = [attempt(1_000, 10.0)] * 15 + [attempt(1_000, 20.0)] * 15
    assert statistics.fmean(times(slower, 1_000)) > 15


def test_attempts_of_an_earlier_run_do_not_count_once_there_are_enough_of_this_one() -> None:
    earlier = [attempt(1_000, 100.0)] * 20
    few = times([*earlier, *[attempt(1_000, 10.0, run=2)] * 2], 1_000)
    enough = times([*earlier, *[attempt(1_000, 10.0, run=2)] * 5], 1_000)
    assert 12 < statistics.fmean(few) < 100
    assert statistics.median(enough) == pytest.approx(10, rel=0.05)


ATTEMPTS = st.tuples(st.integers(1, 10**7), st.floats(0.001, 1e6), st.sampled_from([SMALL, LARGE]))


@given(st.lists(ATTEMPTS, min_size=1), st.integers(0, 10**7))
def test_no_attempts_make_a_time_negative(done: list[tuple[int, float, Workload]], examples: int) -> None:
    attempts = [attempt(seen, seconds, plan) for seen, seconds, plan in done]
    assert 0 <= ResampledSpeed.drawn(attempts, random.Random(1)).seconds(SMALL, examples) < math.inf


@given(ATTEMPTS, st.integers(0, 10**7))
def test_more_work_like_the_same_attempt_takes_longer(one: tuple[int, float, Workload], examples: int) -> None:
    less, more = (
        ResampledSpeed.drawn([attempt(*one)], random.Random(1)).seconds(SMALL, x) for x in (examples, examples + 1_000)
    )
    assert less < more


def test_an_attempt_takes_after_those_of_its_length() -> None:
    short, long = attempt(500, 6.0), attempt(10_000, 30.0)
    speed = ResampledSpeed([short] * 6 + [long] * 6, 1.0, 0.2, random.Random(0))
    assert {speed.seconds(SMALL, 500) for _ in range(9)} == {6 + BETWEEN_SECONDS}
    assert {speed.seconds(SMALL, 10_000) for _ in range(9)} == {30 + BETWEEN_SECONDS}
