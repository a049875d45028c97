"""Owns the estimate of how long a sweep still takes: a range that holds the truth in at least 8 of 10 sweeps.

What is left is drawn many times over: who trains how much (``remaining_work``), how long that takes (``speed``), and
which worker does it.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from finesweep.forecast.remaining_work import Draw, Outlook, Task
from finesweep.forecast.speed import Leg, Pace, between_attempts, kind, measured
from finesweep.forecast.work import Course, Span
from finesweep.trial import Progress, TrialRecord

_MOST_DRAWS = 120
_FEWEST_DRAWS = 30
_TASKS = 6_000
"""Tasks that are drawn at most in all: a tenth of a second of one core."""

_OUTSIDE = 0.1
"""Share of the draws that the range leaves out; more than it is needed for, since the draws are not the truth."""

_REFRESH_SECONDS = 5.0
_PROGRESS_SECONDS = 1.0
"""How old what a trial says of its progress may be."""

_LATELY_SECONDS = 60.0
_ATTEMPTS = 60
"""Attempts, the latest, that the pace is learned from."""


@dataclass
class TimeLeft:
    """Estimates a sweep's time left; drawn anew every few seconds only.

    Attributes:
        course: How far the sweep's trials go.
        trials: The budget in finished trials.
        workers: Trials that run at a time, as long as none is seen to.
    """

    course: Course
    trials: int
    workers: int = 1
    _drawn: tuple[object, float, Span | None] = field(default=((), 0.0, None), init=False, repr=False)
    _running: list[tuple[float, int]] = field(default_factory=list, init=False, repr=False)

    def estimate(
        self, records: Sequence[TrialRecord], progress: Sequence[Progress], now: float
    ) -> tuple[float, float] | None:
        """Return the low and the high end in seconds, None until a trial has ended.

        What ends a sweep before its budget is not foreseen: ``stop``, ``budget.hours``, a person.

        Args:
            records: How each ended trial ended.
            progress: The running trials.
            now: Unix time.
        """
        self._note_running(len(progress), now)
        state = (len(records), sum(record.state.finished for record in records), [one.trial for one in progress])
        before, drawn_at, found = self._drawn
        if state != before or not 0 <= now - drawn_at < _REFRESH_SECONDS:
            drawn_at, found = now, self._draw(records, progress, now)
            self._drawn = state, drawn_at, found
        if found is None:
            return None
        return max(found.low - (now - drawn_at), 0.0), max(found.high - (now - drawn_at), 0.0)

    def _note_running(self, count: int, now: float) -> None:
        """Remember the most trials that ran at a time lately: between two of them a worker has none."""
        lately = [(when, most) for when, most in self._running if now - when < _LATELY_SECONDS and most > count]
        self._running = [*lately, (now, count)] if count else lately

    def _draw(self, records: Sequence[TrialRecord], progress: Sequence[Progress], now: float) -> Span | None:
        pace = _pace(self.course, records, progress)
        if pace is None:
            return None
        outlook = Outlook.of(self.course, self.trials, records, progress, now)
        workers = max([count for _, count in self._running] or [self.workers, 1])
        source = random.Random(len(records))
        seconds: list[float] = []
        tasks = 0
        while len(seconds) < _FEWEST_DRAWS or (len(seconds) < _MOST_DRAWS and tasks < _TASKS):
            draw = outlook.draw(source)
            tasks += len(draw.tasks)
            seconds.append(_makespan(draw, pace, workers, source))
        return Span.of(seconds, _OUTSIDE)


def _pace(course: Course, records: Sequence[TrialRecord], progress: Sequence[Progress]) -> Pace | None:
    latest = heapq.nlargest(_ATTEMPTS, records, key=lambda record: record.started + record.seconds)
    legs = [leg for record in latest if (leg := Leg.of(record, course.plan(record.params))) is not None]
    starts = [*(record.started for record in latest), *(one.started for one in progress)]
    return measured(legs, between_attempts(starts, [record.started + record.seconds for record in latest]))


def _makespan(draw: Draw, pace: Pace, workers: int, source: random.Random) -> float:
    """Return when the last worker is done, each taking the next task as soon as it is free."""
    pace = pace.drawn(source)
    free = [_rest(task, pace, source) for task in draw.running]
    free += [0.0] * (workers - len(free))
    heapq.heapify(free)
    for task in draw.tasks:
        heapq.heapreplace(free, free[0] + _seconds(task, pace, source))
    others = sum(pace.between + pace.seconds(kind(task.plan), task.examples) for task in draw.standing)
    return max(free) + others * (draw.times - 1) / workers


def _seconds(task: Task, pace: Pace, source: random.Random) -> float:
    expected = pace.seconds(kind(task.plan), task.examples)
    return pace.between + expected * math.exp(source.gauss(0.0, pace.spread))


def _rest(task: Task, pace: Pace, source: random.Random) -> float:
    """Return the seconds that a running trial still takes: by its own pace, the more the further it is."""
    trial = task.begun
    assert trial is not None
    assert trial.elapsed is not None
    which = kind(trial.plan)
    done = trial.seen - trial.before
    rest = pace.seconds(which, task.examples) - pace.fixed
    if not done:
        return max(pace.seconds(which, task.examples) - trial.elapsed, 0.2 * rest)
    known = done / (done + 0.1 * trial.plan.examples)
    own = math.log(max(trial.elapsed, 1e-3) / max(pace.seconds(which, done), 1e-3))
    error = known * min(max(own, -1.0), 1.0) + source.gauss(0.0, pace.spread)
    return max(rest * math.exp(error) - source.uniform(0.0, _PROGRESS_SECONDS), 0.0)


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
