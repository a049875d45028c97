"""Intervals and comparisons: against scipy, on odd samples, and by how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from finesweep.confidence import Interval, Resamples, bca, best_set, leads, wilson


def drawn(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.gamma(1.0, 0.5, (rows, 1)) + rng.gamma(1.0, 0.2, (rows, columns))


def test_bca_is_that_of_scipy() -> None:
    values = drawn(300, 2) ** 2
    for column, found in enumerate(bca(Resamples.of(values, count=8_000))):
        theirs = scipy.stats.bootstrap(
            (values[:, column],), np.mean, method="BCa", n_resamples=8_000, random_state=np.random.default_rng(1)
        ).confidence_interval
        width = theirs.high - theirs.low
        # Two draws of 8,000 resamples know a bound to 2 % of the width.
        assert found.low == pytest.approx(theirs.low, abs=0.06 * width)
        assert found.high == pytest.approx(theirs.high, abs=0.06 * width)


def test_wilson_at_the_ends_stays_within_0_and_1() -> None:
    assert wilson(0, 10).low == 0.0
    assert wilson(10, 10).high == 1.0
    assert wilson(7, 10).low == pytest.approx(0.3968, abs=1e-4)  # from Wilson's formula by hand
    assert wilson(1, 1).low > 0.0


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (3, 7), (1, 100_000), (99_999, 100_000)])
def test_wilson_is_that_of_scipy(successes: int, count: int) -> None:
    for level in (0.5, 0.95, 0.999):
        theirs = scipy.stats.binomtest(successes, count).proportion_ci(level, method="wilson")
        found = wilson(successes, count, level)
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_all_rows_equal_give_an_interval_of_no_width() -> None:
    (found,) = bca(Resamples.of(np.full((50, 1), 0.25)))
    assert found == Interval(0.25, 0.25)


def test_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="two rows or groups"):
        Resamples.of(np.ones((1, 2)))
    with pytest.raises(ValueError, match="two rows or groups"):
        Resamples.of(np.ones((5, 2)), np.zeros(5, int))


def test_groups_are_drawn_as_a_whole() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    values = np.repeat(rng.normal(size=40), 10)[:, None]
    by_row, by_group = bca(Resamples.of(values))[0], bca(Resamples.of(values, groups))[0]
    widths = [one.high - one.low for one in (by_row, by_group)]
    # Ten equal rows are one: the true error is sqrt(10) times that of independent rows.
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(10), rel=0.15)


def test_groups_of_one_row_are_rows() -> None:
    values = drawn(60, 3)
    one, other = Resamples.of(values), Resamples.of(values, np.arange(60))
    assert np.allclose(one.drawn, other.drawn)
    assert np.allclose(one.covariance(), np.cov(values.T) / 60)


def test_first_is_always_in_the_set_and_one_trial_alone_too() -> None:
    for seed in range(20):
        values = drawn(30, 6, seed)
        assert best_set(Resamples.of(values, count=200))[values.mean(axis=0).argmin()]
    assert best_set(Resamples.of(drawn(30, 1))).tolist() == [True]


def test_equal_columns_are_tied_and_a_constant_difference_is_certain() -> None:
    values = drawn(200, 1)
    assert best_set(Resamples.of(np.hstack([values, values, values]))).tolist() == [True] * 3
    assert best_set(Resamples.of(np.hstack([values, values + 1e-3]))).tolist() == [True, False]
    assert best_set(Resamples.of(np.zeros((20, 2)))).tolist() == [True, True]


def test_pairing_tells_apart_what_single_intervals_do_not() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(1.0, 1.0, (500, 1)) + np.array([0.0, 0.02]) + rng.normal(0, 0.05, (500, 2))
    resamples = Resamples.of(values)
    first, second = bca(resamples)
    assert first.high > second.low
    assert best_set(resamples).tolist() == [True, False]


def test_lead_over_another_column_is_wider_than_that_of_one_pair() -> None:
    values = drawn(400, 12)
    resamples = Resamples.of(values)
    first = int(values.mean(axis=0).argmin())
    other = (first + 1) % 12
    found = leads(resamples, other)[first]
    difference = values[:, other] - values[:, first]
    assert (found.low + found.high) / 2 == pytest.approx(difference.mean())
    assert found.high - found.low > 2 * 1.96 * difference.std() / np.sqrt(400)
    assert leads(resamples, first)[first] == Interval(0.0, 0.0)


@pytest.mark.parametrize("columns", [2, 10])
def test_set_holds_the_best_in_95_percent_when_all_are_equally_good(columns: int) -> None:
    """The hardest case: whichever column is named the best, the sample puts others before it."""
    rng = np.random.default_rng(3)
    held = [
        best_set(Resamples.of(rng.normal(size=(60, 1)) + rng.normal(size=(60, columns)), count=400, seed=sample))[0]
        for sample in range(400)
    ]
    # 400 samples know a share of 95 % to 1.1 %.
    assert 0.92 <= np.mean(held) <= 0.98
