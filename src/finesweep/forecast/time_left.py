"""Estimates how long a sweep still takes: a range that holds the truth in at least 8 of 10 sweeps.

The rest of the sweep is simulated many times. ``remaining_work`` draws from the ended trials how far future trials go,
and their values at rungs. ``speed`` draws how long an attempt takes. ``simulation`` decides when each trial runs:
workers take trials, and the sweep's own rule judges them at rungs. This module decides which attempts ``speed`` sees,
how often all is drawn, and the range that is shown.
"""

from __future__ import annotations

import heapq
import math
import operator
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from finesweep.forecast.course import Course, Span
from finesweep.forecast.remaining_work import Rest
from finesweep.forecast.speed import AttemptTiming, ResampledSpeed
from finesweep.trial import Progress, TrialRecord

_DRAWS = 32
_OUTSIDE = 0.07
"""Share of the draws outside the range. It is smaller than the allowed 0.2, because the draws are only a model."""

_REFRESH_SECONDS = 5.0
_LATELY_SECONDS = 60.0
_ATTEMPTS = 60
"""Number of latest attempts from which the speed is estimated."""


@dataclass
class TimeLeft:
    """Estimates a sweep's time left; it simulates every few seconds at most, because a simulation takes time.

    Attributes:
        course: How far the sweep's trials go.
        trials: The budget in finished trials.
        workers: Number of simultaneous trials, until some are observed.
        ends: Says whether the sweep ends before its budget, so that no further trial begins.
    """

    course: Course
    trials: int
    workers: int = 1
    ends: Callable[[], bool] = field(default=lambda: False, repr=False)
    _drawn: tuple[object, float, Span | None] = field(default=((), 0.0, None), init=False, repr=False)
    _running: list[tuple[float, int]] = field(default_factory=list, init=False, repr=False)

    @property
    def confirms(self) -> bool:
        """Whether the time left includes a confirmation that follows."""
        return self.course.spec.confirm is not None

    def estimate(
        self, records: Sequence[TrialRecord], progress: Sequence[Progress], now: float, allowed: float = math.inf
    ) -> tuple[float, float] | None:
        """Return the low and the high end in seconds, None until a trial has ended.

        A confirmation that follows is included.

        Args:
            records: The records of all ended trials.
            progress: The running trials.
            now: Unix time.
            allowed: Seconds that ``budget.hours`` leaves; a confirmation may take longer.
        """
        self._note_running(len(progress), now)
        state = (len(records), sum(record.state.finished for record in records), [one.trial for one in progress])
        before, drawn_at, found = self._drawn
        if state != before or not 0 <= now - drawn_at < _REFRESH_SECONDS:
            drawn_at, found = now, self._draw(records, progress, now, allowed)
            self._drawn = state, drawn_at, found
        if found is None:
            return None
        return max(found.low - (now - drawn_at), 0.0), max(found.high - (now - drawn_at), 0.0)

    def _note_running(self, count: int, now: float) -> None:
        """Keep the maximum of simultaneous trials of the last minute."""
        # Not the present number: a worker between two trials runs none, and is still there.
        lately = [(when, most) for when, most in self._running if now - when < _LATELY_SECONDS and most > count]
        self._running = [*lately, (now, count)] if count else lately

    def _draw(
        self, records: Sequence[TrialRecord], progress: Sequence[Progress], now: float, allowed: float
    ) -> Span | None:
        by_end = operator.attrgetter("ended")
        last = sorted(heapq.nlargest(_ATTEMPTS, records, key=by_end), key=by_end)
        found = (AttemptTiming.of(record, self.course.plan(record.params)) for record in last)
        attempts = [one for one in found if one is not None]
        if not attempts:
            return None
        rest = Rest.of(self.course, self.trials, records, progress, now, ends=self.ends())
        workers = max([count for _, count in self._running] or [self.workers, 1])
        # The same draws until a trial ends, so that the shown range does not jump from look to look.
        source = random.Random(len(records))
        speeds = (ResampledSpeed.drawn(attempts, source) for _ in range(_DRAWS))
        seconds = [rest.draw(speed, workers, source, allowed) for speed in speeds]
        return Span.of(seconds, _OUTSIDE)


def span(low: float, high: float) -> str:
    """Format a range of seconds with its own accuracy: ``12 to 20 min``, ``about 3 h``, ``a few s``."""
    unit, size = ("s", 5.0) if high < 90 else ("min", 60.0) if high < 5400 else ("h", 3600.0)
    digits = 1 if unit == "h" and high < 36_000 else 0
    step = 5 if unit == "s" else 1
    first, last = (f"{round(value / size, digits) * step:,.{digits}f}" for value in (low, high))
    if float(last.replace(",", "")) == 0:
        return "a few s"
    if float(first.replace(",", "")) == 0:
        return f"up to {last} {unit}"
    return f"about {last} {unit}" if first == last else f"{first} to {last} {unit}"
