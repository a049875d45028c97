"""Owns the estimate of how long a sweep still takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from finesweep.trial import Progress, TrialRecord

_SPREAD_OF_ONE = 0.5
"""Standard deviation over mean that is assumed while too few trials have ended to tell."""

_WIDTH = 1.3
"""Standard deviations to each side: four of five sums lie within, if they are normally distributed."""


def time_left(
    records: Sequence[TrialRecord], progress: Sequence[Progress], *, trials: int, now: float
) -> tuple[float, float] | None:
    """Estimate from the trials that have ended how long the others take.

    A trial not yet begun takes what those that ended took on average. The range allows for how much
    they differ, and for how few they are: the variance of a sum of n draws around n times a mean that
    was itself taken from m draws is s^2 (n + n^2 / m).

    Args:
        records: How each ended trial ended.
        progress: The running trials; as many are taken to run at a time until the end.
        trials: The budget in finished trials.
        now: Unix time.

    Returns:
        Seconds, the low and the high end; None until one trial has ended.
    """
    seconds = [record.seconds for record in records if record.state.finished]
    if not seconds:
        return None
    mean = sum(seconds) / len(seconds)
    waiting = max(trials - len(seconds) - len(progress), 0)
    running = [_rest(one, mean, now) for one in progress]
    uncertain = waiting + sum(not one.step for one in progress)
    deviation = _deviation(seconds, mean) * math.sqrt(uncertain + uncertain**2 / len(seconds))
    workers = max(len(progress), 1)
    middle = (sum(running) + waiting * mean) / workers
    margin = _WIDTH * deviation / workers
    return max(middle - margin, 0.0), middle + margin


def span(low: float, high: float) -> str:
    """Write a range of seconds no finer than it is known: ``12 to 20 min``, ``about 3 h``, ``under 1 min``."""
    unit, size = ("s", 5.0) if high < 90 else ("min", 60.0) if high < 5400 else ("h", 3600.0)
    digits = 1 if unit == "h" and high < 36_000 else 0
    step = 5 if unit == "s" else 1
    first, last = (f"{round(value / size, digits) * step:,.{digits}f}" for value in (low, high))
    if float(last.replace(",", "")) == 0:
        return "a few s"
    if float(first.replace(",", "")) == 0:
        return f"up to {last} {unit}"
    return f"about {last} {unit}" if first == last else f"{first} to {last} {unit}"


def _rest(progress: Progress, mean: float, now: float) -> float:
    """Estimate the rest of a running trial: by its own pace, or by the others' time before its first step."""
    elapsed = max(now - progress.started, 0.0)
    if not progress.step or not progress.total_steps:
        return max(mean - elapsed, 0.0)
    return elapsed * max(progress.total_steps - progress.step, 0) / progress.step


def _deviation(seconds: Sequence[float], mean: float) -> float:
    if len(seconds) < 3:
        return _SPREAD_OF_ONE * mean
    return math.sqrt(sum((value - mean) ** 2 for value in seconds) / (len(seconds) - 1))
