"""Orders the references like trials, and compares the best trial with the best of them."""

from __future__ import annotations

from collections.abc import Sequence

from finesweep.references import Reference, best_reference
from finesweep.results.ranking import SweepSummary
from finesweep.text import clean, metric
from finesweep.trial import Direction


def in_order(references: Sequence[Reference], summary: SweepSummary) -> tuple[Reference, ...]:
    """Return references best first; those without a value of the objective come last."""
    sign = 1 if summary.direction is Direction.MINIMIZE else -1

    def place(reference: Reference) -> tuple[bool, float]:
        value = reference.value(summary.metric)
        return value is None, sign * (value or 0.0)

    return tuple(sorted(references, key=place))


def against_reference(
    summary: SweepSummary, found: float | None, references: Sequence[Reference]
) -> tuple[str | None, bool]:
    """Compare a trial's objective, or its mean over fresh seeds, with the best reference.

    Returns:
        The result in words, as ``0.2100 above TF-IDF + ...``, and whether it is no better; None if no reference
        has a value of the objective.
    """
    reference = best_reference(references, summary.metric, summary.direction)
    value = reference.value(summary.metric) if reference is not None else None
    if reference is None or value is None or found is None:
        return None, False
    if not summary.direction.better(found, value):
        return f"no better than {clean(reference.name)} ({metric(value)})", True
    side = "below" if found < value else "above"
    return f"{metric(abs(found - value))} {side} {clean(reference.name)} ({metric(value)})", False
