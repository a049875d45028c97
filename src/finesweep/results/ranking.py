"""Ranks trials, groups the reasons of those that do not rank, and summarises a sweep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from finesweep.folder import Manifest, Run
from finesweep.folder.manifest import hours_ran
from finesweep.registry import TASKS
from finesweep.results.pruning_report import Audit, Trained, audit, trained
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
class FreshSeeds:
    """What a confirmation says about the ranking.

    Attributes:
        means: Mean over fresh seeds of each confirmed trial, best first; one or more.
        seeds: Number of fresh seeds of the first one.
        record: The record of its best fresh seed.
    """

    means: Mapping[int, float]
    seeds: int
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
        fresh: What the confirmation says, None without one.
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
    fresh: FreshSeeds | None = None

    @property
    def finished(self) -> int:
        """Number of trials that count against the budget."""
        return sum(count for state, count in self.counts.items() if state.finished)

    @property
    def gain(self) -> float | None:
        """Difference between the best trial and the untuned default, in the objective's unit; 0 or more.

        It is one of means over fresh seeds if the best trial was confirmed; None if the default then has no mean.
        """
        if self.best is None or self.baseline is None or not ranks(self.baseline):
            return None
        best, untuned = (self._value(record) for record in (self.best, self.baseline))
        return None if best is None or untuned is None else abs(best - untuned)

    def _value(self, record: TrialRecord) -> float | None:
        """Return the value by which a trial is compared with the best one."""
        return record.objective if self.fresh is None else self.fresh.means.get(record.trial)

    def headline(self) -> str:
        """Return the result on one line: ``eval_loss 0.3120 (trial 7), 0.0512 below the untuned default ...``."""
        if self.best is None:
            return "no trial ranks yet"
        over = f" on average over {self.fresh.seeds} fresh seeds" if self.fresh is not None else ""
        found = f"{clean(self.metric)} {metric(self._value(self.best))}{over} (trial {self.best.trial})"
        if self.verdict is not None:
            return f"{found}: {self.verdict}"
        if self.baseline is None:
            return found
        if self.gain is None:
            why = "was not confirmed" if ranks(self.baseline) else f"does not rank: {self.baseline.state}"
            return f"{found}; the untuned default (trial {self.baseline.trial}) {why}"
        if self.gain == 0:
            return f"{found}; no trial beat the untuned default"
        side = "below" if self.direction is Direction.MINIMIZE else "above"
        untuned = f"trial {self.baseline.trial}: {metric(self._value(self.baseline))}"
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


def rank(records: Sequence[TrialRecord], direction: Direction, confirmed: Sequence[int] = ()) -> list[Row]:
    """Rank trials; the order of ``records`` does not matter.

    Args:
        records: The records of all ended trials, one per trial.
        direction: Whether a smaller or a larger objective is better.
        confirmed: Numbers of the trials with a mean over fresh seeds, best first; they rank before all others.

    Returns:
        The ranking rows, best first, then those that do not rank, by state and number.
    """
    places = {trial: place for place, trial in enumerate(confirmed)}
    in_order = sorted(ranked(records, direction), key=lambda record: places.get(record.trial, len(places)))
    best_first = [Row(place, record) for place, record in enumerate(in_order, start=1)]
    return best_first + [Row(None, record) for record in unranked(records)]


def winner(records: Sequence[TrialRecord], direction: Direction) -> TrialRecord | None:
    """Return the trial of rank 1, None if nothing ranks."""
    return min(filter(ranks, records), key=lambda record: order(record, direction), default=None)


def reasons(records: Sequence[TrialRecord]) -> list[tuple[list[int], str]]:
    """Group the trials that do not rank by reason, most common reason first.

    Reasons that differ only in numbers are one group, which shows the reason of its lowest trial.

    Returns:
        The trials, ascending, and ``STATE: reason``.
    """
    groups: dict[str, list[int]] = {}
    shown: dict[str, str] = {}
    for record in sorted(unranked(records), key=lambda record: record.trial):
        text = f"{record.state}: {_why(record)}"
        key = without_numbers(text)
        groups.setdefault(key, []).append(record.trial)
        shown.setdefault(key, text)
    return sorted(((trials, shown[key]) for key, trials in groups.items()), key=lambda group: -len(group[0]))


def summarize(
    manifest: Manifest,
    records: Sequence[TrialRecord],
    runs: Sequence[Run],
    fresh: FreshSeeds | None = None,
) -> SweepSummary:
    """Summarise a sweep.

    Args:
        manifest: The sweep's manifest.
        records: The records of all ended trials.
        runs: Every ``sweep run``, oldest first.
        fresh: What the sweep's confirmation says, None without one.
    """
    direction = manifest.spec.direction
    budget = runs[-1].budget if runs else None
    best = winner(records, direction)
    if fresh is not None:
        best = next(record for record in records if record.trial == next(iter(fresh.means)))
    return SweepSummary(
        metric=manifest.spec.objective.metric,
        direction=direction,
        counts=dict(Counter(record.state for record in sorted(records, key=lambda r: _STATES.index(r.state)))),
        trials=budget.trials if budget else None,
        hours_budget=budget.hours if budget else None,
        hours=hours_ran(runs, records),
        best=best,
        baseline=baseline(manifest, records),
        trained=trained(records, manifest.data.rows["train"], manifest.spec),
        audit=audit(records, direction),
        verdict=verdict(manifest, best if fresh is None else fresh.record),
        fresh=fresh,
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


def baseline(manifest: Manifest, records: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the untuned default if the search has one and it has ended, else None."""
    search = manifest.spec.search
    if not search.baseline or search.sampler == "grid":
        return None
    return next((record for record in records if record.trial == 0), None)
