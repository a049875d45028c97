"""Compares trials at rungs, and decides which of them are promoted or end.

A rung is a number of training examples, the same for every batch size and every number of epochs. The decisions depend
on the trials' evaluations alone, not on which worker trained a trial, nor on the order.
"""

from __future__ import annotations

import hashlib
import itertools
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from finesweep.spec import ON_RUNGS, SweepSpec, TrialLength
from finesweep.spec.sections import FACTOR
from finesweep.text import metric
from finesweep.trial import Direction, Evaluation, TrialRecord, Value

ASHA_FACTOR = 2
"""Reduction factor of ``asha`` with either backend: 1 in ASHA_FACTOR trials is promoted at a rung."""

COHORT = 27
"""Approximate number of trials that halving compares with each other. Evidence for these constants:
``docs/pruning_evidence.md``."""

FEWEST = 8
"""Minimum number of other trials at a rung before a trial is compared with their median."""

TOLERANCE = 0.002
"""Minimum difference that counts, as a share of the trial's own value. On a plateau, before a model has learned
anything, values differ by less, and their order is chance."""


def rung_fractions(spec: SweepSpec) -> tuple[Fraction, ...]:
    """Return a spec's rungs in epochs or shares, ascending; empty if its pruner does not compare at rungs."""
    if spec.search.pruner not in ON_RUNGS:
        return ()
    return tuple(sorted({_fraction(rung) for rung in spec.pruning.rungs}))


def rung_examples(spec: SweepSpec, rows: int, whole: int = 0) -> tuple[int, ...]:
    """Return the rungs of a trial in training examples, ascending.

    Rungs in epochs are the same for all trials. If rungs are shares of a trial's own length, those with the same index
    are at the same share, also where a trial is so short that two of them are at the same example.

    Args:
        spec: The sweep's spec.
        rows: Training rows.
        whole: Training examples of the whole trial; needed only where rungs are shares of it.
    """
    fractions = rung_fractions(spec)
    if not spec.compares_shares:
        return tuple(dict.fromkeys(int(epochs * rows) for epochs in fractions))
    return tuple(int(share * whole) for share in fractions)


def rung_epochs(spec: SweepSpec, rows: int, settings: Mapping[str, Value]) -> tuple[Fraction, ...]:
    """Return the rungs of a trial in epochs, ascending.

    Args:
        spec: The sweep's spec.
        rows: Training rows.
        settings: Settings of the trial, as ``SweepSpec.merged`` returns them.
    """
    if not spec.compares_shares:
        return rung_fractions(spec)
    whole = TrialLength.of(settings, rows).total_examples
    return tuple(Fraction(examples, rows) for examples in rung_examples(spec, rows, whole))


def _fraction(rung: float | str) -> Fraction:
    return Fraction(rung[:-1]) / 100 if isinstance(rung, str) else Fraction(str(rung))


def is_audited(seed: int, trial: int, share: float) -> bool:
    """Return whether a weak trial is finished for the audit, which measures the cost of pruning.

    Args:
        seed: The sweep's seed.
        trial: The trial's number.
        share: Share of the pruned trials that are audited, 0 to 1.
    """
    # Drawn by a hash, so that every process and every attempt finds the same answer, and a larger share audits the
    # trials of a smaller one too.
    drawn = int.from_bytes(hashlib.sha256(f"audit:{seed}:{trial}".encode()).digest()[:4], "big")
    return drawn < share * 2**32


def is_outdone(value: float, by: float, direction: Direction, tolerance: float = TOLERANCE) -> bool:
    """Return whether a value is clearly worse than another one.

    Args:
        value: The value.
        by: The other one.
        direction: The objective's direction.
        tolerance: Minimum difference as a share of the value, 0 to 1.
    """
    # A share of the value, because losses and scores have no common unit.
    margin = tolerance * abs(value)
    return direction.better(by, value - margin if direction is Direction.MINIMIZE else value + margin)


def is_below_median(value: float, others: Sequence[float], direction: Direction, *, fewest: int = FEWEST) -> bool:
    """Return whether a trial is clearly worse than the median of the others at the same rung.

    Args:
        value: Its best objective so far.
        others: Best objectives of the others at this rung, however they ended.
        direction: The objective's direction.
        fewest: Minimum number of others, at least 1.
    """
    return len(others) >= fewest and is_outdone(value, statistics.median(others), direction)


@dataclass(frozen=True)
class RungStanding:
    """Progress of one trial along the rungs.

    Attributes:
        trial: Its number.
        values: Its best objective so far at each rung that it has reached, by the rung's index.
        waits: Whether it waits at the last of these rungs.
        is_over: Whether it has ended.
        is_spared: Whether it trains on in any case; with halving it takes no place of another trial.
    """

    trial: int
    values: Mapping[int, float] = field(default_factory=dict)
    waits: bool = False
    is_over: bool = False
    is_spared: bool = False


@dataclass(frozen=True)
class Rung:
    """The trials of a cohort at one rung.

    Attributes:
        best: Their numbers, best first.
        values: Their best objectives there, in that order.
        most_promoted: Number of places once all trials that can still arrive have arrived; at least 1. A trial that is
            clearly worse than the one at this place can no longer be promoted.
        promoted_now: Number of places now, counted over the trials that have arrived.
    """

    best: tuple[int, ...]
    values: tuple[float, ...]
    most_promoted: int
    promoted_now: int


@dataclass(frozen=True)
class Promotions:
    """The decisions on waiting trials.

    Attributes:
        promoted: Trials to be continued, those at the highest rung first.
        dropped: Trials to be ended, each with the rung at which it has lost.
    """

    promoted: tuple[int, ...] = ()
    dropped: Mapping[int, Rung] = field(default_factory=dict)


def best_so_far(evaluations: Iterable[Evaluation], direction: Direction) -> Iterator[tuple[Evaluation, float]]:
    """Yield each evaluation with an objective, and the trial's best objective up to and including it.

    Optuna's pruners judge by the same value: a running trial reports it as ``Report.best``.

    Args:
        evaluations: A trial's evaluations in order.
        direction: The objective's direction.
    """
    best: float | None = None
    for evaluation in evaluations:
        if evaluation.objective is None:
            continue
        if best is None or direction.better(evaluation.objective, best):
            best = evaluation.objective
        yield evaluation, best


def values_at(evaluations: Iterable[Evaluation], rungs: Sequence[int], direction: Direction) -> dict[int, float]:
    """Return a trial's best objective so far at each rung that it has reached, by the rung's index.

    Args:
        evaluations: Its evaluations in order.
        rungs: Training examples of each rung.
        direction: The objective's direction.
    """
    found: dict[int, float] = {}
    for evaluation, best in best_so_far(evaluations, direction):
        if evaluation.examples in rungs:
            found.setdefault(rungs.index(evaluation.examples), best)
    return found


def others_at(trial: int, examples: int, records: Iterable[TrialRecord], direction: Direction) -> str:
    """Describe the values of other trials after the same examples: ``3 other trials had 0.4100 to 0.6900 there``.

    Args:
        trial: The trial that is left out.
        examples: Training examples.
        records: Records of all trials.
        direction: The objective's direction.
    """
    others = (record for record in records if record.trial != trial)
    reached = [values_at(record.evaluations, (examples,), direction).get(0) for record in others]
    values = sorted((value for value in reached if value is not None), reverse=direction is Direction.MAXIMIZE)
    if not values:
        return "no other trial had come as far"
    count = "1 other trial" if len(values) == 1 else f"{len(values):,} other trials"
    return f"{count} had {' to '.join(dict.fromkeys((metric(values[0]), metric(values[-1]))))} there"


def promotions(
    standings: Mapping[int, RungStanding],
    trials: int,
    rungs: int,
    direction: Direction,
    *,
    factor: int = FACTOR,
    cohort: int = COHORT,
    tolerance: float = TOLERANCE,
) -> Promotions:
    """Decide by successive halving which of the waiting trials are promoted.

    At each rung of a cohort the best 1 in ``factor`` trials are promoted, at least one, and all trials within
    ``tolerance`` of the last of them.

    A trial is promoted as soon as it is among the best 1 in ``factor`` of those that have arrived; it does not wait for
    the others. It is dropped as soon as it would not be among the best 1 in ``factor`` even if all trials that are
    still to arrive were worse. Between these two it waits.

    The rule is that of Jamieson and Talwalkar (2016) in the asynchronous form of Li et al. (2020), who promote as soon
    as possible and stop no trial that could still be promoted. Treating near-equal values as equal is from Bohdal et
    al. (2023).

    Args:
        standings: Progress of each trial that was begun.
        trials: The budget, from which the cohorts follow.
        rungs: Number of rungs.
        direction: The objective's direction.
        factor: Reduction factor, at least 2.
        cohort: Approximate number of trials that are compared with each other.
        tolerance: Minimum difference that counts, as a share of the value.
    """
    promoted: list[tuple[int, int]] = []
    dropped: dict[int, Rung] = {}
    for part in cohorts(trials, cohort):
        out, farthest, waiting = _positions(part, standings)
        # From the lowest rung up: a trial that is dropped at one rung no longer counts as arriving at the next.
        for index in sorted(set(waiting.values()).intersection(range(rungs))):
            rung = _rung(farthest, out, standings, index, direction, factor)
            most_promoted, promoted_now = rung.most_promoted, rung.promoted_now
            for trial, value in zip(rung.best, rung.values, strict=True):
                if waiting.get(trial) != index:
                    continue
                # The place must be taken already: a trial that is still to arrive could be worse than this one.
                if most_promoted <= len(rung.best) and is_outdone(
                    value, rung.values[most_promoted - 1], direction, tolerance
                ):
                    dropped[trial] = rung
                    out.add(trial)
                elif promoted_now > 0 and not is_outdone(value, rung.values[promoted_now - 1], direction, tolerance):
                    promoted.append((-index, trial))
    return Promotions(tuple(trial for _, trial in sorted(promoted)), dropped)


def by_chance(
    standings: Mapping[int, RungStanding],
    trials: int,
    rungs: int,
    direction: Direction,
    *,
    factor: int = FACTOR,
    cohort: int = COHORT,
) -> tuple[int, ...]:
    """Return the waiting trials of the budget, those first that are most likely to be promoted.

    They are ordered by their places at their rungs, as a share of the places that will be promoted there. Of equal
    ones the trial at the higher rung comes first. The arguments are those of ``promotions``.
    """
    found: list[tuple[float, int, int]] = []
    for part in cohorts(trials, cohort):
        out, farthest, waiting = _positions(part, standings)
        for index in set(waiting.values()).intersection(range(rungs)):
            rung = _rung(farthest, out, standings, index, direction, factor)
            for place, trial in enumerate(rung.best):
                if waiting.get(trial) == index:
                    found.append((place / rung.most_promoted, -index, trial))
    return tuple(trial for *_, trial in sorted(found))


def cohorts(trials: int, cohort: int = COHORT) -> list[range]:
    """Split a budget into cohorts of about equal size, by trial number."""
    count = max(1, round(trials / cohort))
    bounds = [trials * part // count for part in range(count + 1)]
    return [range(low, high) for low, high in itertools.pairwise(bounds)]


def _positions(
    part: Iterable[int], standings: Mapping[int, RungStanding]
) -> tuple[set[int], dict[int, int], dict[int, int]]:
    """Return of a cohort: who has ended, the last rung of each trial, and that of each waiting trial."""
    members = _compared(part, standings)
    out = {trial for trial in members if trial in standings and standings[trial].is_over}
    farthest = {trial: _farthest(standings.get(trial)) for trial in members}
    waiting = {trial: farthest[trial] for trial in members if trial in standings and standings[trial].waits}
    return out, farthest, waiting


def _compared(part: Iterable[int], standings: Mapping[int, RungStanding]) -> list[int]:
    """Return the trials of a cohort that are compared: all but the spared ones."""
    return [trial for trial in part if trial not in standings or not standings[trial].is_spared]


def _rung(
    farthest: Mapping[int, int],
    out: Collection[int],
    standings: Mapping[int, RungStanding],
    index: int,
    direction: Direction,
    factor: int,
) -> Rung:
    """Return a cohort's state at a rung, given the last rung of each of its trials."""
    sign = 1 if direction is Direction.MINIMIZE else -1
    # A trial at a later rung still takes its place here, which it has won.
    there = [trial for trial, last in farthest.items() if last >= index and index in standings[trial].values]
    # Equal values are ordered by number, so that every process that reads the folder finds the same order.
    best = sorted(there, key=lambda trial: (sign * standings[trial].values[index], trial))
    coming = sum(last < index and trial not in out for trial, last in farthest.items())
    # Never 0: the best trial of a small cohort trains to its end. But it is sure of its place only when no other trial
    # can still arrive; until then `promoted_now` may be 0.
    most_promoted = max(1, (len(best) + coming) // factor)
    promoted_now = len(best) // factor if coming else most_promoted
    return Rung(tuple(best), tuple(standings[trial].values[index] for trial in best), most_promoted, promoted_now)


def _farthest(standing: RungStanding | None) -> int:
    """Return the index of the last rung that a trial has reached, -1 for none."""
    # Not the number of values: a step with a large batch can pass two rungs and is evaluated once.
    return -1 if standing is None else max(standing.values, default=-1)
