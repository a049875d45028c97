"""Counts how many trials a sweep has finished since its last new best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from finesweep.trial import Direction, TrialRecord, TrialState


@dataclass(frozen=True)
class Gains:
    """How a sweep has come to its best objective.

    A trial that waited at a rung and then lost its place counts from the time at which it began to wait.

    Attributes:
        best: The best objective of a COMPLETE trial, None without one.
        ended: When the trial with that objective has ended, in Unix time; None without one.
        since: Number of trials that have finished after the one with that objective; without one, of all that have
            finished.
        complete: Number of COMPLETE trials with an objective.
    """

    best: float | None = None
    ended: float | None = None
    since: int = 0
    complete: int = 0

    @classmethod
    def of(cls, records: Iterable[TrialRecord], direction: Direction) -> Gains:
        """Count in the order in which the trials have ended.

        Args:
            records: Records of all ended trials; those that have not finished do not count.
            direction: The objective's direction.
        """
        best: float | None = None
        ended: float | None = None
        since = complete = 0
        for record in sorted((r for r in records if r.state.finished), key=lambda r: r.ended):
            objective = record.objective if record.state is TrialState.COMPLETE else None
            since, complete = since + 1, complete + (objective is not None)
            if objective is not None and direction.better(objective, best):
                best, ended, since = objective, record.ended, 0
        return cls(best, ended, since, complete)
