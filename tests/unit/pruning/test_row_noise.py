"""The seed noise, as the validation rows tell it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from finesweep.pruning.row_noise import FEWEST_ROWS, row_noise

ROWS = 400


def trainings(count: int, own: float, seed: int = 0) -> list[np.ndarray]:
    """Losses of trainings that share what is hard, and are each better on other rows."""
    rng = np.random.default_rng(seed)
    hard = rng.gamma(1.0, 0.4, ROWS)
    return [hard + own * rng.standard_normal(ROWS) for _ in range(count)]


def test_it_is_what_the_means_of_trainings_differ_by() -> None:
    found = [row_noise(best, others) for best, *others in (trainings(5, 0.2, seed) for seed in range(20))]
    means = [one.mean() for seed in range(50) for one in trainings(5, 0.2, seed)]
    within = np.array(means).reshape(50, 5).std(axis=1, ddof=1).mean()
    assert np.mean(found) == pytest.approx(0.2 / math.sqrt(ROWS), rel=0.05)
    assert np.mean(found) == pytest.approx(within, rel=0.15)


def test_a_trial_that_is_much_worse_on_all_rows_does_not_count_for_more() -> None:
    best, *others = trainings(4, 0.2)
    assert row_noise(best, [one + 5.0 for one in others]) == pytest.approx(row_noise(best, others))


def test_equal_trials_and_few_rows_say_nothing() -> None:
    best, other = trainings(2, 0.2)
    assert row_noise(best, []) == row_noise(best, [best, best.copy()]) == 0.0
    assert row_noise(best, [best, other]) == row_noise(best, [other])
    few = FEWEST_ROWS - 1
    assert row_noise(best[:few], [other[:few]]) == 0.0 < row_noise(best[: few + 1], [other[: few + 1]])


def test_values_that_are_no_numbers_are_left_out() -> None:
    best, other = trainings(2, 0.2)
    odd = other.copy()
    odd[0] = math.nan
    assert row_noise(best, [odd, other]) == row_noise(best, [other])
