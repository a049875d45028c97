"""Decides when a trial stops early, COMPLETE with its best, because its metric no longer improves."""

from __future__ import annotations

from finesweep.pruning.evaluation_schedule import examples_after
from finesweep.pruning.rules import is_outdone
from finesweep.spec import SweepSpec
from finesweep.trial import Evaluation

LOSS = "eval_loss"
"""The only metric that is judged without being asked for. Once a loss rises, it goes on rising; a trial's accuracy
often comes back (``docs/pruning.md``)."""


def out_of_patience(spec: SweepSpec, rows: int, best: Evaluation, latest: Evaluation) -> str | None:
    """Say why a trial is to end after an evaluation, None if it is not.

    Args:
        spec: The sweep's spec.
        rows: Training rows.
        best: The trial's best evaluation so far.
        latest: Its latest one; both have an objective.
    """
    waited = latest.examples - best.examples
    if spec.patience == "auto":
        return f"{LOSS} rises" if waited >= rows and _rises(spec, best, latest) else None
    # A rung's evaluation, which lies between those that were asked for, is no try of its own.
    if spec.patience != "none" and waited >= examples_after(spec.patience, rows, spec.evaluation.per_epoch):
        return f"no gain in {spec.patience} {'evaluation' if spec.patience == 1 else 'evaluations'}"
    return None


def _rises(spec: SweepSpec, best: Evaluation, latest: Evaluation) -> bool:
    if spec.objective.metric != LOSS or latest.objective is None or best.objective is None:
        return False
    return is_outdone(latest.objective, best.objective, spec.direction)
