"""Draws how long a confirmation takes: rounds of fresh seeds, in which ever fewer candidates are in question."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from finesweep.pruning.seed_race import FIRST_SEEDS
from finesweep.spec import Workload

_STAY = (0.5, 1.0)
"""Share of the candidates that get one more seed after a round: least and most. Few seeds decide little."""


def confirmation_seconds(
    plans: Sequence[Workload],
    seeds: int,
    seconds: Callable[[Workload], float],
    workers: int,
    source: random.Random,
) -> float:
    """Draw the seconds of a confirmation.

    Args:
        plans: Workload of each candidate.
        seeds: Most seeds of each.
        seconds: Draws the seconds of one training.
        workers: Number of simultaneous trainings.
        source: Random generator.
    """
    took = round_seconds([seconds(plan) for plan in plans for _ in range(FIRST_SEEDS)], workers)
    left, share = list(range(len(plans))), source.uniform(*_STAY)
    for _ in range(FIRST_SEEDS, seeds):
        left = _fewer(left, share, source)
        took += round_seconds([seconds(plans[one]) for one in left], workers)
    return took


def rounds_left(
    candidates: Sequence[int], unseen: Collection[int], out: Collection[int], source: random.Random
) -> list[list[int]]:
    """Draw which trials of a confirmation will run, of those that have not begun; each round after the one before.

    Args:
        candidates: The candidate of each trial, by trial number. Its first trial is its first seed, and so on.
        unseen: Trials that have not begun and are not over.
        out: Candidates that need no more seeds.
        source: Random generator.
    """
    rounds = _rounds(candidates)
    found = [[number for each in rounds[:FIRST_SEEDS] for number in each.values() if number in unseen]]
    left, share = [one for one in dict.fromkeys(candidates) if one not in out], source.uniform(*_STAY)
    for each in rounds[FIRST_SEEDS:]:
        # Of a round that has begun, those that have not run yet are still in question.
        if all(number in unseen for number in each.values()):
            left = _fewer(left, share, source)
        found.append([each[one] for one in left if one in each and each[one] in unseen])
    return [each for each in found if each]


def _rounds(candidates: Sequence[int]) -> list[dict[int, int]]:
    """Return for each seed the trial of each candidate."""
    rounds: list[dict[int, int]] = []
    seeds = Counter[int]()
    for number, candidate in enumerate(candidates):
        if seeds[candidate] == len(rounds):
            rounds.append({})
        rounds[seeds[candidate]][candidate] = number
        seeds[candidate] += 1
    return rounds


def _fewer(left: Sequence[int], share: float, source: random.Random) -> list[int]:
    """Draw which candidates get one more seed; none if only one is in question, and it then needs no more."""
    found = [one for one in left if source.random() < share]
    return found if len(found) > 1 else []


def round_seconds(seconds: Sequence[float], workers: int) -> float:
    """Return the seconds of a round, which ends when all its trainings have ended.

    Args:
        seconds: Those of each training.
        workers: Number of simultaneous trainings.
    """
    free = [0.0] * max(workers, 1)
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free) if seconds else 0.0
