"""Decides which candidates of a confirmation need more seeds, as pure rules.

Each candidate is trained with two seeds. From then on a round is one more seed for each candidate that is still in
question. A candidate is out for good once its chance to have the best mean falls below ``LEAST_CHANCE``. When one is
left, nothing is in question any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finesweep.trial import Direction

LEAST_CHANCE = 0.05
"""Chance to be the best below which a candidate gets no more seeds."""

FIRST_SEEDS = 2
"""Seeds that each candidate gets; with one, nothing would be known about how seeds differ."""

DRAWS = 10_000
"""Draws of the means; a chance of 0.05 is then known to 0.0022 (one standard deviation)."""

_ROUNDING = 1e-12
"""Means are equal if they differ by less than this share of the largest value."""


@dataclass(frozen=True)
class SeedRun:
    """One candidate's training with one seed.

    Attributes:
        number: Number of the trial that trains it.
        candidate: Number of the candidate.
        ended: Whether the trial has ended.
        value: Its objective; None without a result.
        diverged: Whether it diverged, which puts its candidate out.
    """

    number: int
    candidate: int
    ended: bool = False
    value: float | None = None
    diverged: bool = False


@dataclass(frozen=True)
class SeedRace:
    """State of a race.

    Attributes:
        may_run: Numbers of the trials that may run now, in order.
        dropped: Numbers of the trials that need not run, each with the reason.
        chances: Chance of each candidate with a result to have the best mean, by candidate.
        out: Candidates that are out.
    """

    may_run: tuple[int, ...]
    dropped: Mapping[int, str]
    chances: Mapping[int, float]
    out: frozenset[int]


def seed_race(runs: Sequence[SeedRun], direction: Direction) -> SeedRace:
    """Return which trials of a confirmation may run, and which need not.

    What is decided about a round depends on the rounds before it alone, so all workers decide the same.

    Args:
        runs: All planned trials. The first one of a candidate is its first seed, and so on.
        direction: Whether a smaller or a larger objective is better.
    """
    rounds = _rounds(runs)
    diverged = {run.candidate for run in runs if run.diverged}
    out, dropped, may_run = set(diverged), dict[int, str](), list[int]()
    known = dict[int, list[float]]()
    likely: Mapping[int, float] = {}
    for number, each in enumerate(rounds):
        if number >= FIRST_SEEDS:
            if may_run:  # an earlier round has not ended
                break
            out |= {candidate for candidate, chance in likely.items() if _is_out(chance, likely)}
        is_decided = number >= FIRST_SEEDS and len({run.candidate for run in runs} - out) < 2
        for run in each:
            if run.ended:
                known.setdefault(run.candidate, []).extend([run.value] if run.value is not None else [])
            elif reason := _needless(run.candidate in diverged, run.candidate in out, is_decided):
                dropped[run.number] = reason
            else:
                may_run.append(run.number)
        if number + 1 >= FIRST_SEEDS:
            valued = {one: values for one, values in known.items() if one not in diverged and values}
            likely = chances(valued, direction)
    if not may_run:
        out |= {candidate for candidate, chance in likely.items() if _is_out(chance, likely)}
    return SeedRace(tuple(may_run), dropped, likely, frozenset(out))


def chances(values: Mapping[int, Sequence[float]], direction: Direction) -> dict[int, float]:
    """Return each candidate's chance to have the best mean over all seeds; the chances add up to 1.

    The values of a candidate are taken as normal, with a spread that all candidates share and that is estimated from
    the differences between seeds. Nothing is assumed about spread and means beforehand. So few seeds decide little.

    Args:
        values: Finite objectives by candidate, one or more for each.
        direction: Whether a smaller or a larger objective is better.
    """
    import numpy as np

    names = sorted(values)
    if not names:
        return {}
    seeds = np.array([len(values[name]) for name in names])
    freedom = int((seeds - 1).sum())
    if not freedom:
        return dict.fromkeys(names, 1 / len(names))
    sign = 1.0 if direction is Direction.MINIMIZE else -1.0
    rows = [sign * np.asarray(values[name], dtype=float) for name in names]
    squares = sum(float(((row - row.mean()) ** 2).sum()) for row in rows)
    random = np.random.default_rng(0)
    spread = np.sqrt(squares / random.chisquare(freedom, DRAWS))[:, None]
    noise = random.standard_normal((DRAWS, len(names)))
    means = np.array([row.mean() for row in rows]) + spread / np.sqrt(seeds) * noise
    # Equal ones share. Rounding alone must not decide, as between one value and the mean of three equal ones.
    rounding = _ROUNDING * max(float(np.abs(row).max()) for row in rows)
    is_best = means <= means.min(axis=1, keepdims=True) + rounding
    shares = (is_best / is_best.sum(axis=1, keepdims=True)).mean(axis=0)
    return dict(zip(names, shares.tolist(), strict=True))


def _needless(has_diverged: bool, is_out: bool, is_decided: bool) -> str | None:
    """Return why a candidate needs no further seed, None if it does."""
    if has_diverged:
        return "its candidate has diverged with another seed"
    if is_out:
        return f"its candidate's chance to be the best is below {LEAST_CHANCE:.0%}"
    return "no other candidate is in question any more" if is_decided else None


def _is_out(chance: float, every: Mapping[int, float]) -> bool:
    """Return whether a chance is too small; the largest one never is, however many candidates share the chances."""
    return chance < LEAST_CHANCE and chance < max(every.values())


def _rounds(runs: Sequence[SeedRun]) -> list[list[SeedRun]]:
    """Group trials by the place that their seed has among those of their candidate."""
    rounds: list[list[SeedRun]] = []
    places = dict[int, int]()
    for run in sorted(runs, key=lambda run: run.number):
        place = places.get(run.candidate, 0)
        places[run.candidate] = place + 1
        if place == len(rounds):
            rounds.append([])
        rounds[place].append(run)
    return rounds
