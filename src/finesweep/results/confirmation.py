"""Reads a sweep's confirmation: the best trials and the untuned default, trained again on fresh seeds."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finesweep.confidence import LEVEL, Interval
from finesweep.folder import Manifest, SweepFolder
from finesweep.pruning.seed_race import FIRST_SEEDS, SeedRun, seed_race
from finesweep.results.ranking import FreshSeeds, order, ranks
from finesweep.trial import Direction, TrialRecord, TrialState


@dataclass(frozen=True)
class Candidate:
    """One trial of the search, trained again on fresh seeds.

    Attributes:
        trial: Its number in the search.
        chosen: Its objective in the search, by which it was chosen.
        values: Its objectives on fresh seeds, by seed, in the order of the seeds.
        open: Number of its planned seeds that have not ended.
        has_diverged: Whether it diverged on a fresh seed. Then it has no mean: it cannot be relied on.
        is_out: Whether it gets no more seeds, since it diverged or its chance to be the best is too small.
        chance: Chance to have the best mean of all candidates; None before that is known, or if it was not computed.
        interval: Interval of its mean over all seeds; None before that is known.
        best: The record of its best fresh seed, in the confirmation's folder.
    """

    trial: int
    chosen: float
    values: Mapping[int, float]
    open: int = 0
    has_diverged: bool = False
    is_out: bool = False
    chance: float | None = None
    interval: Interval | None = None
    best: TrialRecord | None = None

    @property
    def mean(self) -> float | None:
        """The mean over its fresh seeds; None with fewer than two, or if one diverged."""
        if self.has_diverged or len(self.values) < FIRST_SEEDS:
            return None
        return statistics.fmean(self.values.values())

    def optimism(self, direction: Direction) -> float | None:
        """Return by how much the value that it was chosen by is better than its mean; negative if it is worse."""
        if self.mean is None:
            return None
        return self.mean - self.chosen if direction is Direction.MINIMIZE else self.chosen - self.mean


@dataclass(frozen=True)
class Confirmation:
    """The confirmation of a sweep.

    Attributes:
        candidates: The candidates: those with a mean first, best first, then the others by number.
        direction: Whether a smaller or a larger objective is better.
        planned: Number of planned trainings.
        ended: Number of those that have ended or are not needed.
        examples: Training examples of all of them, which are no part of the sweep's own.
        seconds: Their time, added up.
    """

    candidates: tuple[Candidate, ...]
    direction: Direction
    planned: int
    ended: int
    examples: int = 0
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to train."""
        return self.ended == self.planned

    @functools.cached_property
    def means(self) -> Mapping[int, float]:
        """Means by trial, best first; empty until each candidate has had its first seeds."""
        if any(one.open and len(one.values) < FIRST_SEEDS and not one.has_diverged for one in self.candidates):
            return {}
        return {one.trial: one.mean for one in self.candidates if one.mean is not None}

    @property
    def best(self) -> Candidate | None:
        """The candidate with the best mean; None until each has had its first seeds, or if none has a mean."""
        return self.candidates[0] if self.means else None

    def race(self, candidate: Candidate) -> str | None:
        """Return a candidate's state in the race in a word or two; None if its chance was not computed."""
        if candidate.has_diverged:
            return "diverged"
        if candidate.is_out:
            return "out"
        if candidate.mean is None:
            return "begun" if candidate.open else "no mean"
        rivals = [one for one in self.candidates if one.mean is not None and one is not candidate]
        if all(one.is_out for one in rivals):
            return "best"
        return None if candidate.chance is None else "in question"

    def is_unconfirmed(self, record: TrialRecord) -> bool:
        """Return whether a ranking trial is better by its one seed than the best mean, and had no fresh seeds."""
        if self.best is None or record.objective is None or any(one.trial == record.trial for one in self.candidates):
            return False
        return self.direction.better(record.objective, self.means[self.best.trial])

    @property
    def fresh(self) -> FreshSeeds | None:
        """What it says about the ranking; None until each candidate has had its first seeds, or without a mean."""
        best = self.best
        return None if best is None or best.best is None else FreshSeeds(self.means, len(best.values), best.best)


def seed_runs(manifest: Manifest, records: Sequence[TrialRecord]) -> list[SeedRun]:
    """Return the trials of a confirmation as its race sees them.

    Args:
        manifest: The confirmation's manifest.
        records: The records in its folder.
    """
    known = {record.trial: record for record in records}
    return [_seed_run(number, repeat.trial, known.get(number)) for number, repeat in enumerate(manifest.repeats)]


def _seed_run(number: int, candidate: int, record: TrialRecord | None) -> SeedRun:
    if record is None or not record.state.finished:
        return SeedRun(number, candidate)
    value = record.objective if ranks(record) else None
    return SeedRun(number, candidate, True, value, record.state is TrialState.DIVERGED)


def read_confirmation(
    sweep_folder: SweepFolder, records: Sequence[TrialRecord], *, compare: bool = True
) -> Confirmation | None:
    """Return the confirmation of a sweep, None if it has none.

    A candidate whose trial has another configuration now, or does not rank any more, is left out.

    Args:
        sweep_folder: The sweep's folder.
        records: The records of the search.
        compare: As in ``confirmation_of``.

    Raises:
        FolderError: The confirmation's manifest is damaged.
    """
    folder = sweep_folder.confirmation
    if not folder.spec_file.is_file():
        return None
    return confirmation_of(folder.manifest(), folder.records(), records, compare=compare)


def confirmation_of(
    manifest: Manifest, again: Sequence[TrialRecord], records: Sequence[TrialRecord], *, compare: bool = True
) -> Confirmation | None:
    """Return a confirmation.

    Args:
        manifest: The confirmation's manifest.
        again: The records in the confirmation's folder.
        records: The records of the search.
        compare: Whether to compute chances and intervals, which loads numpy and scipy.
    """
    direction, runs = manifest.spec.direction, seed_runs(manifest, again)
    race, found = seed_race(runs, direction) if compare else None, {record.trial: record for record in again}
    chosen = {record.trial: record for record in records if ranks(record)}
    planned = {repeat.trial: params for repeat, params in zip(manifest.repeats, manifest.planned, strict=True)}
    candidates = []
    for trial in (one for one in planned if one in chosen and dict(chosen[one].params) == dict(planned[one])):
        own = [run for run in runs if run.candidate == trial]
        best = min(
            (found[run.number] for run in own if run.value is not None),
            key=lambda record: order(record, direction),
            default=None,
        )
        candidates.append(
            Candidate(
                trial=trial,
                chosen=chosen[trial].objective or 0.0,
                values={manifest.repeats[run.number].seed: run.value for run in own if run.value is not None},
                open=sum(not run.ended for run in own),
                has_diverged=any(run.diverged for run in own),
                is_out=any(run.diverged for run in own) if race is None else trial in race.out,
                chance=None if race is None else race.chances.get(trial),
                best=best,
            )
        )
    if not candidates:
        return None
    best_first = _in_order(candidates, direction)
    return Confirmation(
        candidates=_with_intervals(best_first) if compare else best_first,
        direction=direction,
        planned=len(runs),
        ended=sum(run.ended for run in runs),
        examples=sum(record.examples for record in again),
        seconds=sum(record.trained_seconds for record in again),
    )


def _in_order(candidates: Sequence[Candidate], direction: Direction) -> tuple[Candidate, ...]:
    sign = 1 if direction is Direction.MINIMIZE else -1

    def place(one: Candidate) -> tuple[bool, float, int]:
        return one.mean is None, sign * (one.mean or 0.0), one.trial

    return tuple(sorted(candidates, key=place))


def _with_intervals(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates with the intervals of their means.

    The spread between seeds is that of all candidates together: two or three seeds alone tell too little about it.
    """
    valued = [(one, one.mean) for one in candidates if one.mean is not None]
    freedom = sum(len(one.values) - 1 for one, _ in valued)
    if not freedom:
        return tuple(candidates)
    from scipy.special import stdtrit  # scipy.stats has the same, and takes a second to import

    squares = sum((value - mean) ** 2 for one, mean in valued for value in one.values.values())
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(squares / freedom)
    surer = [
        dataclasses.replace(one, interval=_around(mean, half / math.sqrt(len(one.values)))) for one, mean in valued
    ]
    return (*surer, *(one for one in candidates if one.mean is None))


def _around(mean: float, width: float) -> Interval:
    return Interval(mean - width, mean + width)
