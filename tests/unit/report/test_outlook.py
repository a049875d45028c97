"""What further trials bring is estimated from the trials so far, and compared with recorded curves."""

from __future__ import annotations

import dataclasses
import itertools
import random
import statistics
from pathlib import Path

import pytest
from benchmarks.curves.recorded import read_curves
from hypothesis import given
from hypothesis import strategies as st
from made_boards import made_board
from made_records import COMPLETE, FAILED, record

from finesweep.report.curves import progress
from finesweep.report.outlook import expected_gain, look_ahead, sentences

TABLES = Path(__file__).parents[3] / "benchmarks" / "curves"


def test_gain_of_four_values_is_computed_by_hand():
    # Of two of 1, 2, 4, 8 the best is 1 in three of six choices, 2 in two and 4 in one: 11 / 6 on average.
    fall = 11 / 6 - 1
    assert expected_gain([4, 1, 8, 2], 4, 2) == pytest.approx(fall * (1 / 5 + 1 / 6) / (1 / 3 + 1 / 4))


def test_draws_without_a_value_count_as_the_weakest():
    assert expected_gain([1, 3], 4, 5) == pytest.approx(expected_gain([1, 3, 3, 3], 4, 5))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.integers(0, 50), st.integers(0, 20))
def test_gain_is_never_negative_and_grows_with_the_draws(values, more, absent):
    drawn = len(values) + absent
    gain = expected_gain(values, drawn, more)
    slack = 1e-9 * max(map(abs, values)) + 1e-12
    assert -slack <= gain <= expected_gain(values, drawn, more + 1) + slack


def test_equal_values_and_single_draws_promise_nothing():
    assert expected_gain([0.5] * 10, 10, 100) == pytest.approx(0, abs=1e-12)
    assert expected_gain([0.5], 1, 100) == 0


def test_gain_of_exponential_draws_is_theirs():
    # The best of n exponential draws with mean 1, mirrored: its mean falls by 1 / 11 + ... + 1 / 20.
    draw = random.Random(1)
    found = [expected_gain([-draw.expovariate(1) for _ in range(10)], 10, 10) for _ in range(4_000)]
    truth = sum(1 / n for n in range(11, 21))
    assert statistics.mean(found) == pytest.approx(truth, rel=0.03)  # four standard errors


@pytest.mark.parametrize("table", ["curves", "quickstart", "pretrained"])
@pytest.mark.parametrize(("drawn", "more"), [(10, 10), (8, 16)])
def test_gain_on_recorded_curves_is_right_within_a_factor_of_three(table, drawn, more):
    draw, truth, told = random.Random(0), [], []
    for seed, _ in itertools.product(read_curves(TABLES / f"{table}.csv").values(), range(300)):
        values = [curve.best for curve in draw.sample(seed, drawn + more)]
        truth.append(min(values[:drawn]) - min(values))
        told.append(expected_gain(values[:drawn], drawn, more))
    assert 0.7 < statistics.mean(told) / statistics.mean(truth) < 3


def ahead_of(folder: Path, objectives: list[float | None], trials: int, **summary: float):
    records = [record(n, value, COMPLETE if value else FAILED, examples=1_000) for n, value in enumerate(objectives)]
    board = made_board(folder, trials, records)
    board = dataclasses.replace(board, summary=dataclasses.replace(board.summary, **summary))
    return board, progress(board)


def test_budget_that_is_left_is_looked_at(tmp_path: Path) -> None:
    values = [0.5 + n / 100 for n in range(10)]
    ahead = look_ahead(*ahead_of(tmp_path, values, 30, hours_budget=None))
    assert ahead is not None
    assert (ahead.more, ahead.is_left, ahead.chance) == (20, True, pytest.approx(2 / 3))
    assert [count for count, _ in ahead.course] == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    assert ahead.course[-1][1] == pytest.approx(0.5 - expected_gain(values, 10, 20))


@pytest.mark.parametrize(("hours", "more", "is_left"), [(1.0, 10, True), (1.6, 2, True), (2.1, 10, False)])
def test_hours_end_the_budget_before_its_trials(tmp_path: Path, hours: float, more: int, is_left: bool) -> None:
    values = [0.5 + n / 100 for n in range(10)]
    ahead = look_ahead(*ahead_of(tmp_path, values, 1_000, hours_budget=2.0, hours=hours))
    assert ahead is not None
    assert (ahead.more, ahead.is_left) == (more, is_left)


def test_no_value_beyond_what_a_metric_can_reach_is_expected(tmp_path: Path) -> None:
    ahead = look_ahead(*ahead_of(tmp_path, [0.001, 0.5, 0.6, 0.9, 2.0], 500))
    assert ahead is not None
    assert all(0 <= value <= 0.001 for _, value in ahead.course)


def test_few_ranked_trials_have_a_chance_and_no_expectation(tmp_path: Path) -> None:
    board, found = ahead_of(tmp_path, [0.5, None, 0.6, None, None, None], 6)
    ahead = look_ahead(board, found)
    assert ahead is not None
    assert ahead.course == []
    text = " ".join(sentences(board, found, ahead))
    assert "one of 6 more trials is better than all of these is 50 %" in text
    assert "On average" not in text


def test_without_a_ranked_trial_nothing_is_said(tmp_path: Path) -> None:
    board, found = ahead_of(tmp_path, [None, None], 5)
    assert look_ahead(board, found) is None
    assert list(sentences(board, found, None)) == []
