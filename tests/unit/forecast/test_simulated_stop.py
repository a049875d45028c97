"""When `stop` ends a simulated sweep."""

from __future__ import annotations

import random
import statistics

import pytest

from finesweep.forecast.simulated_stop import SimulatedStop, chance_to_reach, trials_until_poor
from finesweep.pruning.gains import Gains
from finesweep.spec import StopSpec
from finesweep.trial import Direction

NEVER = 1e9
"""A power with which no trial after the first is a new best."""


def stop(
    gains: Gains | None = None,
    *,
    target: float | None = None,
    no_gain_trials: int | None = None,
    best_at: float = 0.0,
    chance: float = 0.0,
    power: float = NEVER,
    marks: dict[int, float] | None = None,
    seed: int = 0,
) -> SimulatedStop:
    asked = StopSpec(target=target, no_gain_trials=no_gain_trials)
    return SimulatedStop(asked, gains or Gains(), best_at, chance, power, random.Random(seed), marks or {})


def ended(found: SimulatedStop, *, complete: bool = True, most: int = 100) -> int:
    """Return after how many trials the sweep has ended."""
    return next(count for count in range(1, most) if found.ends_after(float(count), {}, complete=complete))


def test_sweep_ends_after_so_many_trials_without_a_gain() -> None:
    assert ended(stop(no_gain_trials=3)) == 4, "the first is a gain"
    assert ended(stop(Gains(0.5, 0.0, since=2, complete=5), no_gain_trials=3)) == 1
    assert ended(stop(Gains(0.5, 0.0, since=0, complete=5), no_gain_trials=3), complete=False) == 3


def test_without_a_complete_trial_there_is_nothing_to_gain_on() -> None:
    found = stop(no_gain_trials=3)
    assert not any(found.ends_after(1.0, {}, complete=False) for _ in range(50))


def test_trials_that_waited_since_before_the_best_one_do_not_count() -> None:
    found = stop(Gains(0.5, 0.0, complete=5), best_at=10.0, no_gain_trials=3)
    assert not any(found.ends_after(9.0, {}, complete=False) for _ in range(50))
    assert [found.ends_after(11.0, {}, complete=False) for _ in range(3)] == [False, False, True]


def test_new_bests_become_rare() -> None:
    """With trials drawn at random the n-th is the best so far once in n times."""
    few, many = (
        statistics.fmean(
            ended(stop(Gains(0.5, 0.0, complete=n), power=1.0, no_gain_trials=5, seed=seed), most=9_999)
            for seed in range(100)
        )
        for n in (1, 1_000)
    )
    assert many < 5.5 < 7 < few


def test_a_value_that_is_better_at_the_last_common_rung_is_a_gain() -> None:
    found = stop(Gains(0.5, 0.0, complete=5), marks={0: 0.6, 1: 0.5}, no_gain_trials=2)
    assert not found.ends_after(1.0, {0: 0.1, 1: 0.7}, complete=True)
    assert not found.ends_after(2.0, {0: 0.9, 1: 0.4}, complete=True)
    assert not found.ends_after(3.0, {0: 0.9, 1: 0.45}, complete=True), "no gain on 0.4"
    assert found.ends_after(4.0, {0: 0.9, 1: 0.45}, complete=True)


def test_target_ends_the_sweep_with_its_chance() -> None:
    assert ended(stop(target=0.1, chance=1.0)) == 1
    assert not stop(target=0.1, chance=1.0).ends_after(1.0, {}, complete=False)


@pytest.mark.parametrize("direction", list(Direction))
def test_a_target_that_is_far_off_is_seldom_reached(direction: Direction) -> None:
    sign = 1 if direction is Direction.MINIMIZE else -1
    source = random.Random(0)
    values = [sign * (0.5 + source.gauss(0, 0.05)) for _ in range(30)]

    def often(target: float) -> float:
        return sum(chance_to_reach(sign * target, values, direction, source) for _ in range(300)) / 300

    assert often(0.1) < 0.05 < often(0.43) < 0.3 < often(0.5) < 0.7


def test_equal_objectives_and_none_are_no_problem() -> None:
    source = random.Random(0)
    for values in ([], [0.5], [0.5] * 9):
        assert all(0 <= chance_to_reach(0.4, values, Direction.MINIMIZE, source) <= 1 for _ in range(99))


@pytest.mark.parametrize(("known", "left"), [(0, 20), (0, 30), (9, 21), (15, 5), (33, 1), (60, 40)])
def test_a_sweep_with_poor_prospects_ends_after_its_tenth_trial_or_not_at_all(known: int, left: int) -> None:
    drawn = [trials_until_poor(known, left, random.Random(seed)) for seed in range(300)]
    ends = [known + one for one in drawn if one is not None]
    assert all(max(10, known) < end <= known + left for end in ends)
    assert None in drawn, "it may use its budget"


def test_only_the_sweep_with_a_drawn_end_ends_by_its_prospects() -> None:
    assert not stop().ends_with(99)
    found = stop()
    found.more = 3
    assert [found.ends_with(begun) for begun in (2, 3, 4)] == [False, True, True]
