"""Decides whether a trial stops early because its metric no longer improves; its best value then counts."""

from __future__ import annotations

from finesweep.pruning.evaluation_schedule import examples_after
from finesweep.pruning.rules import is_outdone
from finesweep.spec import SweepSpec
from finesweep.trial import Evaluation

LOSS = "eval_loss"
"""The only metric with early stopping by default. A loss that rises keeps rising, but a trial's accuracy often recovers
(``docs/pruning_evidence.md``)."""


def out_of_patience(
    spec: SweepSpec, rows: int, best: Evaluation, latest: Evaluation, waited: int | None = None
) -> str | None:
    """Return the reason for early stopping after an evaluation, None to train on.

    Args:
        spec: The sweep's spec.
        rows: Training rows.
        best: The trial's best evaluation so far.
        latest: Its latest one; both have an objective.
        waited: Training examples between the two, as ``Schedule.waited`` counts them; None to take what they report.
    """
    # In examples, because the number of steps between two evaluations depends on the batch size.
    if waited is None:
        waited = latest.examples - best.examples
    if spec.patience == "auto":
        # Only an epoch after the best value: with several evaluations in an epoch, one can be worse by chance.
        return f"{LOSS} rises" if waited >= rows and _rises(spec, best, latest) else None
    # Patience counts the evaluations that the spec asks for. A rung's extra evaluation between them does not count.
    if spec.patience != "none" and waited >= examples_after(spec.patience, rows, spec.evaluation.per_epoch):
        return f"no gain in {spec.patience} {'evaluation' if spec.patience == 1 else 'evaluations'}"
    return None


def _rises(spec: SweepSpec, best: Evaluation, latest: Evaluation) -> bool:
    if spec.objective.metric != LOSS or latest.objective is None or best.objective is None:
        return False
    return is_outdone(latest.objective, best.objective, spec.direction)
