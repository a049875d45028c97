"""Orders the references like trials, and compares the best trial with the best of them."""

from __future__ import annotations

from collections.abc import Sequence

from finesweep.references import Reference, best_reference
from finesweep.results.ranking import SweepSummary
from finesweep.text import clean, metric
from finesweep.trial import Direction, TrialRecord


def in_order(references: Sequence[Reference], summary: SweepSummary) -> tuple[Reference, ...]:
    """Return references best first; those without a value of the objective come last."""
    sign = 1 if summary.direction is Direction.MINIMIZE else -1

    def place(reference: Reference) -> tuple[bool, float]:
        value = reference.value(summary.metric)
        return value is None, sign * (value or 0.0)

    return tuple(sorted(references, key=place))


def against_reference(
    summary: SweepSummary, take: TrialRecord, references: Sequence[Reference]
) -> tuple[str | None, bool]:
    """Compare a trial with the best reference.

    Returns:
        The result in words, as ``0.2100 above TF-IDF + ...``, and whether the trial is no better; None if no reference
        has a value of the objective.
    """
    reference = best_reference(references, summary.metric, summary.direction)
    value = reference.value(summary.metric) if reference is not None else None
    if reference is None or value is None or take.objective is None:
        return None, False
    if not summary.direction.better(take.objective, value):
        return f"no better than {clean(reference.name)} ({metric(value)})", True
    side = "below" if take.objective < value else "above"
    return f"{metric(abs(take.objective - value))} {side} {clean(reference.name)} ({metric(value)})", False
