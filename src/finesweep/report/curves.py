"""Computes what charts are drawn from: learning curves, the best value so far, and what trials cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finesweep.results.board import Board
from finesweep.results.ranking import ranks
from finesweep.text.format import finite
from finesweep.trial import TrialRecord, TrialState

MOST_POINTS = 10_000
"""Maximum number of points of all learning curves together."""

FIRST = 5
"""Number of trials whose curves are in colour."""


@dataclass(frozen=True)
class Curve:
    """A trial's objective at its evaluations.

    Attributes:
        trial: Its number.
        rank: From 1; None if it does not rank.
        state: Its state.
        points: Pairs of training examples seen and the objective there.
    """

    trial: int
    rank: int | None
    state: TrialState
    points: Sequence[tuple[int, float]]


def curves(board: Board) -> list[Curve]:
    """Return the curve of each trial that has one, ranked trials first.

    Curves of many trials lose points evenly, so that there are at most ``MOST_POINTS``; ends and best points stay.
    """
    every = max(1, math.ceil(sum(len(record.evaluations) for record in board.records) / MOST_POINTS))
    found = (Curve(row.record.trial, row.rank, row.record.state, _points(row.record, every)) for row in board.rows)
    return [curve for curve in found if curve.points]


def _points(record: TrialRecord, every: int) -> list[tuple[int, float]]:
    last = len(record.evaluations) - 1
    return [
        (one.examples, value)
        for index, one in enumerate(record.evaluations)
        if (value := finite(one.objective)) is not None
        and ((last - index) % every == 0 or index == 0 or one.step == record.best_step)
    ]


@dataclass(frozen=True)
class SearchState:
    """State of the search after one more trial had ended.

    Attributes:
        trial: The trial that had ended.
        ended: Number of trials that had ended.
        examples: Training examples of all of them.
        hours: Hours of all of them, added up.
        value: Its objective; None if it does not rank.
        best: Best objective of those that rank, None before the first.
    """

    trial: int
    ended: int
    examples: int
    hours: float
    value: float | None
    best: float | None


def progress(board: Board) -> list[SearchState]:
    """Return the state of the search after each finished trial, in the order in which they ended."""
    found: list[SearchState] = []
    examples, hours, best = 0, 0.0, None
    finished = [record for record in board.records if record.state.finished]
    for record in sorted(finished, key=lambda record: (record.ended, record.trial)):
        examples, hours = examples + record.trained_examples, hours + record.trained_seconds / 3600
        value = record.objective if ranks(record) else None
        if value is not None and board.summary.direction.better(value, best):
            best = value
        found.append(SearchState(record.trial, len(found) + 1, examples, hours, value, best))
    return found


@dataclass(frozen=True)
class Cost:
    """What the trials of one state took.

    Attributes:
        state: The state.
        trials: Their number.
        hours: Their hours, added up.
        device_hours: The same, times the GPUs that a trial had to itself.
        examples: Their training examples.
    """

    state: TrialState
    trials: int
    hours: float
    device_hours: float
    examples: int


def costs(board: Board) -> list[Cost]:
    """Return what the trials took, by state, without states that no trial has."""
    shares = {run.number: gpu_share(run.profile) for run in board.runs}
    return [_cost(state, [r for r in board.records if r.state is state], shares) for state in board.summary.counts]


def gpu_share(profile: Mapping[str, Any]) -> float:
    """Return the number of GPUs that a trial had to itself, by a run's profile; 0 without a GPU, or if unknown."""
    gpus, together = profile.get("gpus_per_trial"), profile.get("trials_per_gpu")
    return 1 / together if gpus == 1 and isinstance(together, int) and together > 0 else 0.0


def _cost(state: TrialState, records: Sequence[TrialRecord], shares: Mapping[int, float]) -> Cost:
    return Cost(
        state=state,
        trials=len(records),
        hours=sum(record.trained_seconds for record in records) / 3600,
        device_hours=sum(record.trained_seconds * shares.get(record.run, 0.0) for record in records) / 3600,
        examples=sum(record.trained_examples for record in records),
    )


def ends(found: Sequence[Curve], state: TrialState) -> Iterator[tuple[int, int, float]]:
    """Yield trial, examples and objective at the end of each curve of a state."""
    yield from ((curve.trial, *curve.points[-1]) for curve in found if curve.state is state)
