"""Which candidates of a confirmation get more seeds."""

from __future__ import annotations

import random
import statistics
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finesweep.pruning.seed_race import FIRST_SEEDS, LEAST_CHANCE, SeedRun, chances, seed_race
from finesweep.trial import Direction

MIN, MAX = Direction.MINIMIZE, Direction.MAXIMIZE
VALUES = st.floats(-1e3, 1e3, allow_nan=False)
FEW = st.lists(VALUES, min_size=1, max_size=5)
COSTLY = settings(max_examples=25)
CANDIDATES = st.dictionaries(st.integers(0, 50), FEW, min_size=1, max_size=11)


def plan(candidates: int, seeds: int) -> list[SeedRun]:
    return [SeedRun(seed * candidates + one, one) for seed in range(seeds) for one in range(candidates)]


def carried_out(true: dict[int, float], seeds: int, spread: float, draw: random.Random) -> list[SeedRun]:
    """Race until nothing may run; candidates are numbered from 0."""
    runs = {run.number: run for run in plan(len(true), seeds)}
    while (race := seed_race(list(runs.values()), MIN)).may_run or race.dropped:
        for number in race.dropped:
            runs[number] = SeedRun(number, runs[number].candidate, ended=True)
        for number in race.may_run:
            candidate = runs[number].candidate
            runs[number] = SeedRun(number, candidate, ended=True, value=draw.gauss(true[candidate], spread))
    return list(runs.values())


@COSTLY
@given(CANDIDATES, st.sampled_from(Direction))
def test_chances_add_up_to_one(values, direction):
    found = chances(values, direction)
    assert found.keys() == values.keys()
    assert sum(found.values()) == pytest.approx(1)
    assert all(0 <= chance <= 1 for chance in found.values())


@COSTLY
@given(CANDIDATES)
def test_chances_do_not_depend_on_direction_and_order(values):
    mirrored = {one: [-value for value in row] for one, row in reversed(values.items())}
    assert chances(mirrored, MAX) == pytest.approx(chances(values, MIN))


@COSTLY
@given(CANDIDATES, st.floats(0.01, 100))
@example({0: [279.0], 1: [279.0] * 3}, 1.5632523188582184)
def test_chances_do_not_depend_on_the_unit(values, unit):
    scaled = {one: [unit * value for value in row] for one, row in values.items()}
    # Rounding can move a draw across a tie, so a few draws in 10,000 may differ.
    assert chances(scaled, MIN) == pytest.approx(chances(values, MIN), abs=0.002)


@COSTLY
@given(st.lists(st.tuples(VALUES, VALUES), min_size=2, max_size=8))
def test_of_as_many_seeds_the_better_mean_has_the_better_chance(pairs):
    found = chances(dict(enumerate(pairs)), MIN)
    means = [statistics.fmean(pair) for pair in pairs]
    best, worst = min(range(len(pairs)), key=means.__getitem__), max(range(len(pairs)), key=means.__getitem__)
    assert found[best] >= found[worst] - 0.02  # draws are random


def test_seeds_that_agree_decide_by_the_mean_and_equal_ones_share():
    assert chances({0: [0.3, 0.3], 1: [0.4, 0.4], 2: [0.3, 0.3]}, MIN) == {0: 0.5, 1: 0.0, 2: 0.5}


def test_one_seed_each_tells_nothing():
    assert chances({4: [0.1], 7: [0.9]}, MIN) == {4: 0.5, 7: 0.5}


def test_chance_of_two_is_that_of_students_t():
    from scipy import stats

    first, second = [0.30, 0.31, 0.32], [0.31, 0.33, 0.35]
    squares = 2 * 0.01**2 + 2 * 0.02**2
    error = (squares / 4 * (1 / 3 + 1 / 3)) ** 0.5
    exact = stats.t.cdf((0.33 - 0.31) / error, 4)
    assert chances({0: first, 1: second}, MIN)[0] == pytest.approx(exact, abs=0.015)  # 3 deviations of 10,000 draws


def test_two_seeds_each_run_at_once_and_no_third():
    race = seed_race(plan(3, 4), MIN)
    assert race.may_run == tuple(range(3 * FIRST_SEEDS))
    assert not race.dropped


def test_third_seed_waits_for_all_second_ones():
    runs = [SeedRun(run.number, run.candidate, run.number < 5, 0.1 if run.number < 5 else None) for run in plan(3, 3)]
    assert seed_race(runs, MIN).may_run == (5,)


def valued(rows: list[list[float]], seeds: int) -> list[SeedRun]:
    """The plan of as many candidates as there are rows, with their first values."""
    return [
        SeedRun(run.number, run.candidate, True, row[place]) if place < len(row) else run
        for run in plan(len(rows), seeds)
        for row, place in [(rows[run.candidate], run.number // len(rows))]
    ]


def test_candidate_without_a_chance_gets_no_third_seed():
    race = seed_race(valued([[0.30, 0.31], [0.31, 0.30], [0.90, 0.91]], 3), MIN)
    assert race.may_run == (6, 7)
    assert race.dropped.keys() == {8}
    assert "5%" in race.dropped[8]
    assert race.chances[2] < LEAST_CHANCE < race.chances[0]


def test_one_left_gets_no_more_seeds():
    race = seed_race(valued([[0.30, 0.30001], [0.9, 0.90001]], 3), MIN)
    assert race.may_run == ()
    assert race.dropped.keys() == {4, 5}
    assert race.out == {1}


def test_candidate_that_is_out_stays_out():
    # Out after two seeds; then the first one turns out worse than it looked, and a fourth seed is planned.
    rows = [[0.30, 0.31, 0.9], [0.31, 0.30, 0.9], [0.40, 0.41]]
    first_two = seed_race(valued([row[:2] for row in rows], 3), MIN)
    assert first_two.dropped.keys() == {8}
    runs = [SeedRun(run.number, 2, ended=True) if run.number == 8 else run for run in valued(rows, 4)]
    assert seed_race(runs, MIN).may_run == (9, 10)
    assert 2 in seed_race(runs, MIN).out


def test_diverged_candidate_is_out_at_once():
    runs = [SeedRun(0, 0, True, diverged=True), *plan(2, 3)[1:]]
    race = seed_race(runs, MIN)
    assert race.may_run == (1, 3)
    assert race.dropped.keys() == {2}
    assert "diverged" in race.dropped[2]
    assert 0 not in race.chances
    ended = [runs[0], SeedRun(1, 1, True, 0.3), SeedRun(2, 0, True), SeedRun(3, 1, True, 0.3), *plan(2, 3)[4:]]
    assert seed_race(ended, MIN).dropped.keys() == {4, 5}


def test_failed_seed_counts_neither_for_nor_against():
    runs = valued([[0.30, 0.31], [0.31, 0.30]], 3)
    runs[3] = SeedRun(3, 1, ended=True)
    race = seed_race(runs, MIN)
    assert race.may_run == (4, 5)
    assert race.chances.keys() == {0, 1}


def test_all_seeds_failed_leaves_nothing_to_decide():
    runs = [SeedRun(run.number, run.candidate, ended=True) for run in plan(2, 2)]
    assert seed_race(runs, MIN) == seed_race(list(reversed(runs)), MIN)
    assert (seed_race(runs, MIN).may_run, dict(seed_race(runs, MIN).chances)) == ((), {})


def test_candidate_that_joins_later_gets_its_first_two_seeds():
    done = valued([[0.30, 0.31, 0.32], [0.31, 0.30, 0.33]], 3)
    runs = [*done, SeedRun(6, 2), SeedRun(7, 2), SeedRun(8, 2)]
    assert seed_race(runs, MIN).may_run == (6, 7)


@COSTLY
@given(st.integers(1, 11), st.integers(2, 6), st.integers(0, 1_000))
def test_every_race_ends_with_two_or_more_seeds_for_each(candidates, seeds, seed):
    draw = random.Random(seed)
    runs = carried_out({one: draw.uniform(0, 1) for one in range(candidates)}, seeds, 0.1, draw)
    counts = Counter(run.candidate for run in runs if run.value is not None)
    assert all(FIRST_SEEDS <= counts[one] <= seeds for one in range(candidates))


def test_best_candidate_is_seldom_raced_out():
    draw, lost, trained = random.Random(1), 0, 0
    for _ in range(60):
        true = {one: draw.gauss(0.3, 0.01) for one in range(4)}
        runs = carried_out(true, 4, 0.005, draw)
        values = {one: [run.value for run in runs if run.candidate == one and run.value is not None] for one in true}
        trained += sum(map(len, values.values()))
        lost += len(values[min(true, key=true.__getitem__)]) < max(map(len, values.values()))
    assert lost / 60 < 3 * LEAST_CHANCE  # at most two rounds decide, each wrongly with at most that chance
    assert trained / 60 < 15  # of 16
