"""Reports what pruning saved and may have cost: examples, and audited trials that would have won."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from finesweep.spec import SweepSpec, TrialLength
from finesweep.text import metric
from finesweep.text.format import finite
from finesweep.trial import Direction, TrialRecord, TrialState

_CUT_SHORT = frozenset({TrialState.PRUNED, TrialState.WAITING})


@dataclass(frozen=True)
class Audit:
    """Results of the trials that were finished for the audit although the pruner would have ended them.

    Attributes:
        weak: Number of trials that the pruner found weak, audited ones included.
        finished: Number of audited trials.
        won: Number of audited trials that are better than every trial that was not found weak.
        best: Best objective of the audited trials, None if none has one.
        against: Best objective of the other trials, None if none has one.
    """

    weak: int
    finished: int
    won: int
    best: float | None
    against: float | None

    def text(self) -> str:
        """Return the result on one line."""
        trials = f"{self.finished:,} of {self.weak:,} pruned trials {_were(self.finished)} finished all the same"
        if self.best is None:
            return f"{trials}; none of them completed"
        against = f" against {metric(self.against)}" if self.against is not None else ""
        return f"{trials}; {self.won:,} would have won (best of them {metric(self.best)}{against})"


@dataclass(frozen=True)
class Trained:
    """Amount of training.

    Attributes:
        examples: Training examples of all trials.
        full: Examples of the same trials if none had been pruned, waited, or stopped early.
        early: Number of trials that completed by early stopping.
    """

    examples: int
    full: int
    early: int = 0

    def text(self) -> str:
        """Return it on one line: ``120,400 examples, 31 % of the 388,000 that these trials are in full``."""
        if self.examples >= self.full:
            return f"{self.examples:,} examples"
        share = f"{self.examples:,} examples, {100 * self.examples / self.full:.0f} % of the {self.full:,}"
        early = f"; {self.early:,} completed early, without a gain" if self.early else ""
        return f"{share} that these trials are in full{early}"


def audit(records: Iterable[TrialRecord], direction: Direction) -> Audit | None:
    """Compare the audited trials with the others.

    Returns:
        None if no audited trial has ended.
    """
    ended = [record for record in records if record.state.finished]
    audited = [record for record in ended if record.audit is not None]
    if not audited:
        return None
    values = _objectives(audited)
    against = _best(_objectives(record for record in ended if record.audit is None), direction)
    return Audit(
        weak=len(audited) + sum(record.state is TrialState.PRUNED for record in ended),
        finished=len(audited),
        won=sum(direction.better(value, against) for value in values),
        best=_best(values, direction),
        against=against,
    )


def trained(records: Iterable[TrialRecord], rows: int, spec: SweepSpec) -> Trained:
    """Add up the examples of a sweep, and those of the same trials in full.

    A diverged or failed trial counts with the examples it has, since it would have ended there anyway. Examples of
    attempts that were lost to a fault are unknown. Those that a trial without a saved state was trained again are
    counted each time.

    Args:
        records: The records of all ended or waiting trials.
        rows: Training rows.
        spec: The sweep's spec.
    """
    examples = full = early = 0
    for record in records:
        is_early = record.state is TrialState.COMPLETE and record.reason is not None
        was_cut = is_early or record.state in _CUT_SHORT
        planned = TrialLength.of(spec.merged(record.params), rows).total_examples if was_cut else 0
        examples += record.trained_examples
        full += max(planned, record.examples)
        early += is_early
    return Trained(examples, full, early)


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _objectives(records: Iterable[TrialRecord]) -> list[float]:
    complete = (finite(record.objective) for record in records if record.state is TrialState.COMPLETE)
    return [value for value in complete if value is not None]


def _best(values: Sequence[float], direction: Direction) -> float | None:
    return (min if direction is Direction.MINIMIZE else max)(values, default=None)
