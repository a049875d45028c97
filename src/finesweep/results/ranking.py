"""Ranks trials, groups the reasons of those that do not rank, and summarises a sweep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from finesweep.folder import Manifest, Run
from finesweep.folder.manifest import hours_ran
from finesweep.registry import TASKS
from finesweep.results import pruning_report
from finesweep.results.pruning_report import Audit, Trained
from finesweep.text import clean, metric, without_numbers
from finesweep.text.format import finite
from finesweep.trial import Direction, TrialRecord, TrialState

_STATES = list(TrialState)


@dataclass(frozen=True)
class Row:
    """One trial on the leaderboard.

    Attributes:
        rank: From 1; None if the trial is not ranked.
        record: Its record.
    """

    rank: int | None
    record: TrialRecord


@dataclass(frozen=True)
class SweepSummary:
    """State of a sweep.

    Attributes:
        metric: Name of the objective.
        direction: Whether smaller or larger is better.
        counts: Trials by state; states without trials are absent.
        trials: The budget of the latest run in trials, None before the first.
        hours_budget: The budget of the latest run in hours, None for no limit.
        hours: Hours in which runs ran.
        best: The trial of rank 1.
        baseline: Trial 0, if it is the untuned default and has ended.
        trained: Examples trained, and those of the same trials if each had trained to its end.
        audit: Result of the pruning audit, None without audited trials.
        verdict: Message that the best trial does not beat a naive answer, None if it does.
    """

    metric: str
    direction: Direction
    counts: Mapping[TrialState, int]
    trials: int | None
    hours_budget: float | None
    hours: float
    best: TrialRecord | None
    baseline: TrialRecord | None
    trained: Trained | None = None
    audit: Audit | None = None
    verdict: str | None = None

    @property
    def finished(self) -> int:
        """Number of trials that count against the budget."""
        return sum(count for state, count in self.counts.items() if state.finished)

    @property
    def gain(self) -> float | None:
        """Difference between the best trial and the untuned default, in the objective's unit; 0 or more."""
        if self.best is None or self.baseline is None or not ranks(self.baseline):
            return None
        assert self.best.objective is not None
        assert self.baseline.objective is not None
        return abs(self.best.objective - self.baseline.objective)

    def headline(self) -> str:
        """Return the result on one line: ``eval_loss 0.3120 (trial 7), 0.0512 below the untuned default ...``."""
        if self.best is None:
            return "no trial ranks yet"
        found = f"{clean(self.metric)} {metric(self.best.objective)} (trial {self.best.trial})"
        if self.verdict is not None:
            return f"{found}: {self.verdict}"
        if self.baseline is None:
            return found
        if self.gain is None:
            return f"{found}; the untuned default (trial {self.baseline.trial}) does not rank: {self.baseline.state}"
        if self.gain == 0:
            return f"{found}; no trial beat the untuned default"
        side = "below" if self.direction is Direction.MINIMIZE else "above"
        untuned = f"trial {self.baseline.trial}: {metric(self.baseline.objective)}"
        return f"{found}, {metric(self.gain)} {side} the untuned default ({untuned})"


def ranks(record: TrialRecord) -> bool:
    """Return whether a trial takes part in the ranking: COMPLETE, with a finite objective."""
    return record.state is TrialState.COMPLETE and finite(record.objective) is not None


def order(record: TrialRecord, direction: Direction) -> tuple[float, int, int]:
    """Return a key that sorts ranking trials best first; of equals, the one with the lower number."""
    assert record.objective is not None
    value = record.objective if direction is Direction.MINIMIZE else -record.objective
    return value, record.trial, record.attempt


def cost(record: TrialRecord) -> tuple[int, float]:
    """Return a key that sorts trials by what they cost: examples, then size of the model, unknown last."""
    return record.examples, math.inf if record.model_size is None else record.model_size


def ranked(records: Sequence[TrialRecord], direction: Direction) -> list[TrialRecord]:
    """Return the ranking trials, best first."""
    return sorted(filter(ranks, records), key=lambda record: order(record, direction))


def unranked(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that do not rank, by state, then by number."""
    rest = (record for record in records if not ranks(record))
    return sorted(rest, key=lambda record: (_STATES.index(record.state), record.trial, record.attempt))


def without_running(records: Sequence[TrialRecord], running: Collection[int]) -> list[TrialRecord]:
    """Drop the records of earlier attempts of trials that run again."""
    return [record for record in records if record.state.finished or record.trial not in running]


def rank(records: Sequence[TrialRecord], direction: Direction) -> list[Row]:
    """Rank trials; the order of ``records`` does not matter.

    Args:
        records: The records of all ended trials, one per trial.
        direction: Whether a smaller or a larger objective is better.

    Returns:
        The ranking rows, best first, then those that do not rank, by state and number.
    """
    best_first = [Row(place, record) for place, record in enumerate(ranked(records, direction), start=1)]
    return best_first + [Row(None, record) for record in unranked(records)]


def winner(records: Sequence[TrialRecord], direction: Direction) -> TrialRecord | None:
    """Return the trial of rank 1, None if nothing ranks."""
    return min(filter(ranks, records), key=lambda record: order(record, direction), default=None)


def reasons(records: Sequence[TrialRecord]) -> list[tuple[int, str]]:
    """Group the trials that do not rank by reason, most common reason first.

    Reasons that differ only in numbers are one group, which shows the reason of its lowest trial.

    Returns:
        Count, and ``STATE: reason``.
    """
    counts: Counter[str] = Counter()
    shown: dict[str, str] = {}
    for record in sorted(unranked(records), key=lambda record: record.trial):
        text = f"{record.state}: {_why(record)}"
        key = without_numbers(text)
        counts[key] += 1
        shown.setdefault(key, text)
    return [(count, shown[key]) for key, count in counts.most_common()]


def summarize(manifest: Manifest, records: Sequence[TrialRecord], runs: Sequence[Run]) -> SweepSummary:
    """Summarise a sweep.

    Args:
        manifest: The sweep's manifest.
        records: The records of all ended trials.
        runs: Every ``sweep run``, oldest first.
    """
    direction = manifest.spec.direction
    budget = runs[-1].budget if runs else None
    best = winner(records, direction)
    return SweepSummary(
        metric=manifest.spec.objective.metric,
        direction=direction,
        counts=dict(Counter(record.state for record in sorted(records, key=lambda r: _STATES.index(r.state)))),
        trials=budget.trials if budget else None,
        hours_budget=budget.hours if budget else None,
        hours=hours_ran(runs, records),
        best=best,
        baseline=_baseline(manifest, records),
        trained=pruning_report.trained(records, manifest.data.rows["train"], manifest.spec),
        audit=pruning_report.audit(records, direction),
        verdict=verdict(manifest, best),
    )


def verdict(manifest: Manifest, best: TrialRecord | None) -> str | None:
    """Return a message if a sweep's best trial does not beat a naive answer; None if it does, or that is unknown."""
    naive = manifest.data.naive
    if naive is None or best is None:
        return None
    directions = TASKS.load(manifest.spec.task).metrics
    return naive.verdict(best.metrics, manifest.spec.objective.metric, directions)


def _why(record: TrialRecord) -> str:
    if record.reason:
        return clean(record.reason)
    if record.divergence is not None:
        return clean(record.divergence.reason)
    return "no evaluation gave a finite objective" if record.state is TrialState.COMPLETE else "no reason recorded"


def _baseline(manifest: Manifest, records: Sequence[TrialRecord]) -> TrialRecord | None:
    search = manifest.spec.search
    if not search.baseline or search.sampler == "grid":
        return None
    return next((record for record in records if record.trial == 0), None)
