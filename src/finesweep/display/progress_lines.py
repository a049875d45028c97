"""Writes the progress of a running sweep as lines: one for each change of a trial's state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finesweep.forecast import TimeLeft
from finesweep.results.ranking import order, ranks
from finesweep.text import clean, duration, metric, setting
from finesweep.trial import Direction, Params, Progress, TrialRecord, TrialState


@dataclass(frozen=True)
class Subject:
    """The sweep to show.

    Attributes:
        title: The sweep's name.
        direction: Whether a smaller or a larger objective is better.
        metric: Name of the objective.
        trials: The budget.
        parameters: Names of the space, in the order of the columns.
        hours: Hours that this run may still take, None for no limit.
        left: Estimates the time left; None to show none.
    """

    title: str
    direction: Direction
    metric: str
    trials: int
    parameters: Sequence[str]
    hours: float | None
    left: TimeLeft | None = None


class Announcer:
    """Announces each change of state once.

    Args:
        subject: The sweep to show.
        known: Records of earlier runs, which are not announced.
    """

    def __init__(self, subject: Subject, known: Sequence[TrialRecord]) -> None:
        self._subject = subject
        self._told = {(record.trial, record.attempt, record.state) for record in known}
        self._finished = {record.trial for record in known if record.state.finished}
        self._best = min(filter(ranks, known), key=self._order, default=None)
        self._waiting = {record.trial: record for record in known if record.state is TrialState.WAITING}

    @property
    def tally(self) -> str:
        """Finished trials of the budget: ``[3/20]``."""
        return f"[{len(self._finished):,}/{self._subject.trials:,}]"

    @property
    def best(self) -> str:
        """``best 0.4100, trial 1``, or nothing."""
        return f"best {metric(self._best.objective)}, trial {self._best.trial}" if self._best else ""

    def changes(
        self,
        records: Sequence[TrialRecord],
        progress: Sequence[Progress],
        only: Sequence[TrialState] = tuple(TrialState),
    ) -> Iterator[str]:
        """Yield a line for each change: ended trials in the order of their ends, then started ones."""
        news = [record for record in records if (record.trial, record.attempt, record.state) not in self._told]
        for record in sorted(news, key=lambda record: (record.ended, record.trial)):
            self._told.add((record.trial, record.attempt, record.state))
            line = self._ended(record)
            if record.state in only:
                yield line
        for running in progress:
            key = (running.trial, running.attempt, TrialState.RUNNING)
            if key not in self._told:
                self._told.add(key)
                if TrialState.RUNNING in only:
                    yield f"{self.tally} trial {running.trial} RUNNING{self._again(running)}{_params(running.params)}"

    def _ended(self, record: TrialRecord) -> str:
        if record.state.finished:
            self._finished.add(record.trial)
        if record.state is TrialState.WAITING:
            self._waiting[record.trial] = record
        if ranks(record) and (self._best is None or self._order(record) < self._order(self._best)):
            self._best = record
        return f"{self.tally} trial {record.trial} {record.state}{self._result(record)}{_params(record.params)}"

    def _result(self, record: TrialRecord) -> str:
        took = f" in {duration(record.trained_seconds)}"
        value = f" {self._subject.metric} {metric(record.objective)}" if metric(record.objective) else ""
        if ranks(record):
            return f"{value} ({'best so far' if record is self._best else self.best}){took}"
        if record.state is TrialState.WAITING:
            return f"{value} at {record.examples:,} examples"
        reason = f": {clean(record.reason)}" if record.reason else ""
        log = f" ({clean(record.log)})" if record.state is TrialState.FAILED else ""
        return f"{value}{took}{reason}{log}"

    def _again(self, running: Progress) -> str:
        """Say why a trial that waited runs again; empty for a retry, which the line of the fault has announced."""
        waited = self._waiting.get(running.trial)
        if waited is None or waited.attempt >= running.attempt:
            return ""
        is_kept = not waited.evaluations or running.step >= waited.evaluations[-1].step
        start = f"from {waited.examples:,} examples" if is_kept else "from an earlier step, as its state was not kept"
        return f" again {start}" + (", for the audit" if running.audit else "")

    def _order(self, record: TrialRecord) -> tuple[float, int, int]:
        return order(record, self._subject.direction)


def _params(params: Params) -> str:
    shown = " ".join(f"{clean(name, 60)}={setting(value)}" for name, value in params.items())
    return f"  {shown}" if shown else ""
