"""Estimates what further trials bring: the chance of a better one, and the expected improvement of the best value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finesweep.report.curves import SearchState
from finesweep.results.board import Board
from finesweep.text import clean
from finesweep.trial import Direction

ENOUGH = 3
"""Minimum number of ranked trials from which an improvement is expected; fewer say nothing about their spread."""

STEPS = 12
"""Maximum number of points of the expected course."""


@dataclass(frozen=True)
class Outlook:
    """What the rest of the budget is expected to bring; without a rest, what as many trials again would.

    Attributes:
        more: Number of further trials.
        is_left: Whether the budget has them.
        chance: Chance that one of them is better than all so far, 0 to 1.
        course: Pairs of a number of further trials and the best value that is then expected; empty if too few trials
            rank.
    """

    more: int
    is_left: bool
    chance: float
    course: Sequence[tuple[int, float]] = ()


def look_ahead(board: Board, found: Sequence[SearchState]) -> Outlook | None:
    """Return what further trials bring, None before the first ranked trial."""
    if not found or (best := found[-1].best) is None:
        return None
    ended, left = len(found), _left(board, len(found))
    more = left or ended
    direction = board.summary.direction
    sign = 1.0 if direction is Direction.MINIMIZE else -1.0
    values = [sign * one.value for one in found if one.value is not None]
    course: list[tuple[int, float]] = []
    if len(values) >= ENOUGH:
        # No loss or error is below 0, and no score above 1.
        room = max(best if direction is Direction.MINIMIZE else 1.0 - best, 0.0)
        every = max(1, math.ceil(more / STEPS))
        counts = [*range(every, more, every), more]
        gains = ((count, min(expected_gain(values, ended, count), room)) for count in counts)
        course = [(count, best - sign * gain) for count, gain in gains]
    # Of n + m trials in random order each is equally likely to be the best.
    return Outlook(more, left > 0, more / (ended + more), course)


def _left(board: Board, ended: int) -> int:
    """Return how many trials the budget still has, by its trials and by its hours at the speed so far."""
    summary = board.summary
    left = max((summary.trials or 0) - ended, 0)
    if summary.hours_budget is not None and summary.hours > 0:
        left = min(left, int(max(summary.hours_budget - summary.hours, 0.0) * ended / summary.hours))
    return left


def expected_gain(values: Sequence[float], drawn: int, more: int) -> float:
    """Return by how much the best of ``drawn`` values is expected to fall with ``more`` draws from the same source.

    The best value of n draws falls in proportion to the harmonic number of n, if the best draws thin out exponentially.
    So the fall over the second half of the draws, averaged over all their orders, gives that over further ones.

    Args:
        values: Values of draws, smaller is better, one or more.
        drawn: Number of all draws; those without a value count as the largest one.
        more: Number of further draws, 0 or more.
    """
    half = drawn // 2
    if not half:
        return 0.0
    ordered = sorted(values)[:drawn]
    ordered += [ordered[-1]] * (drawn - len(ordered))
    fall = _expected_best(ordered, drawn - half) - ordered[0]
    return fall * _harmonic(drawn, drawn + more) / _harmonic(drawn - half, drawn)


def _expected_best(ordered: Sequence[float], count: int) -> float:
    """Return the mean of the best of ``count`` values over all choices of so many of the ordered ones."""
    size, share, total = len(ordered), count / len(ordered), 0.0
    for place, value in enumerate(ordered[: size - count + 1], 1):
        total += share * value  # this value is chosen and none of the better ones
        share *= (size - place - count + 1) / max(size - place, 1)
    return total


def _harmonic(low: int, high: int) -> float:
    return math.fsum(1 / place for place in range(low + 1, high + 1))


def sentences(board: Board, found: Sequence[SearchState], ahead: Outlook | None) -> Iterator[str]:
    """Yield what the search still brought at its end, and what more trials may bring."""
    if board.early_end is not None:
        yield f"The search ended {board.early_end.why}."
    if ahead is None or found[-1].best is None:
        return
    name = clean(board.summary.metric) + (" of one seed" if board.summary.fresh is not None else "")
    since = sum(one.best == found[-1].best for one in found) - 1
    if since:
        yield f"The last {since:,} of {len(found):,} trials did not improve the best {name}."
    which = f"the {ahead.more:,} trials that the budget has left" if ahead.is_left else f"{ahead.more:,} more trials"
    yield (
        f"If further trials are like those so far, the chance that one of {which} is better than all of these is "
        f"{100 * ahead.chance:.0f} %."
    )
    if ahead.course:
        gain = abs(ahead.course[-1][1] - found[-1].best)
        yield (
            f"On average they improve it by about {gain:.1g}. This follows from how the best value falls over all "
            "orders of the trials so far; it is rough and rather too large."
        )
