"""How long the rounds of a confirmation take, and which of its trials run."""

from __future__ import annotations

import random

from finesweep.forecast.seed_rounds import confirmation_seconds, round_seconds, rounds_left
from finesweep.spec.trial_length import Workload

PLAN = Workload(1_000, 8)


def took(candidates: int, seeds: int, workers: int) -> list[float]:
    source = random.Random(0)
    plans = [PLAN] * candidates
    return [confirmation_seconds(plans, seeds, lambda _: 10.0, workers, source) for _ in range(200)]


def test_each_candidate_is_trained_twice_at_least() -> None:
    assert set(took(3, 2, 1)) == {60.0}
    assert set(took(1, 9, 1)) == {20.0}, "nothing else is in question"
    assert min(took(3, 4, 1)) >= 60.0
    assert max(took(3, 4, 1)) == 120.0
    assert set(took(0, 3, 2)) == {0.0}


def test_a_round_waits_for_the_last_of_the_round_before() -> None:
    assert round_seconds([5.0, 1.0, 1.0], 2) == 5.0
    assert round_seconds([1.0, 1.0, 5.0], 2) == 6.0
    assert set(took(2, 3, 8)) == {10.0, 20.0}


CANDIDATES = (4, 7, 9) * 4
"""Three candidates with four seeds each."""


def test_first_two_seeds_of_all_candidates_run_and_of_later_ones_fewer_and_fewer() -> None:
    source = random.Random(0)
    for _ in range(100):
        first, *later = rounds_left(CANDIDATES, range(12), (), source)
        assert first == [0, 1, 2, 3, 4, 5]
        for before, after in zip([{4, 7, 9}, *({CANDIDATES[n] for n in each} for each in later)], later, strict=False):
            assert {CANDIDATES[number] for number in after} <= before
            assert len(after) > 1


def test_a_candidate_that_is_out_trains_no_more() -> None:
    source = random.Random(0)
    for _ in range(100):
        found = rounds_left(CANDIDATES, range(9, 12), {7}, source)
        assert found in ([[9, 11]], [])


def test_what_is_left_of_a_round_that_has_begun_runs() -> None:
    first = {rounds_left(CANDIDATES, range(7, 12), (), random.Random(seed))[0][0] for seed in range(20)}
    assert first == {7}
    assert rounds_left((), (), (), random.Random(0)) == []
