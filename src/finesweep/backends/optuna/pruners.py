"""Lists the pruners by their names in a spec, and makes Optuna's pruner for a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from finesweep.pruning.rules import ASHA_FACTOR
from finesweep.spec import SweepSpec, TrialLength
from finesweep.text import metric
from finesweep.trial import Evaluation, Report

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class PrunerEntry:
    """One line of the pruner table.

    Attributes:
        kind: Name of the class in ``optuna.pruners``.
        settings: Its arguments.
        counts_evaluations: Whether its rungs are powers of the step. It then gets the number of the evaluation as the
            step, 1, 2, 3; all others get the examples seen.
        longest: Name of its argument for the last step of the longest trial; None if it takes none.
    """

    kind: str
    settings: Mapping[str, int] = field(default_factory=dict)
    counts_evaluations: bool = False
    longest: str | None = None

    @property
    def compares(self) -> bool:
        """Whether it compares the reports of trials."""
        return self.kind != "NopPruner"


# Pruners with rungs are finesweep's own: worker.rung_judge compares trials, with either backend.
PRUNERS = {
    "none": PrunerEntry("NopPruner"),
    "median": PrunerEntry("NopPruner"),
    "halving": PrunerEntry("NopPruner"),
    "asha": PrunerEntry(
        "SuccessiveHalvingPruner", {"min_resource": 1, "reduction_factor": ASHA_FACTOR}, counts_evaluations=True
    ),
    "hyperband": PrunerEntry("HyperbandPruner", {"min_resource": 1}, counts_evaluations=True, longest="max_resource"),
}
"""Pruners by their names in a spec."""


def pruner_of(spec: SweepSpec, rows: int) -> optuna.pruners.BasePruner:
    """Return Optuna's pruner for a spec; it prunes nothing if the spec's pruner has rungs.

    Args:
        spec: The sweep's spec.
        rows: Training rows.
    """
    import optuna

    entry = PRUNERS[spec.search.pruner]
    longest = {entry.longest: max(_most_evaluations(spec, rows), 2)} if entry.longest else {}
    pruner: optuna.pruners.BasePruner = getattr(optuna.pruners, entry.kind)(**entry.settings, **longest)
    return pruner


def _most_evaluations(spec: SweepSpec, rows: int) -> int:
    """Return the number of evenly spaced evaluations in the longest trial of a space."""
    # The more rows a step has, the more epochs are `max_steps`.
    names = ("num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps")
    largest = {name: max(spec.space[name].ends().values()) for name in names if name in spec.space}  # type: ignore[type-var]
    length = TrialLength.of(spec.merged(largest), rows)
    return length.total_steps * spec.evaluation.per_epoch // length.steps_per_epoch


def step_of(spec: SweepSpec, evaluation: Evaluation) -> int | None:
    """Return the step of an evaluation on the pruner's axis, None if it is between two rungs."""
    if not PRUNERS[spec.search.pruner].counts_evaluations:
        return evaluation.examples
    count = evaluation.epoch * spec.evaluation.per_epoch
    # The end of an incomplete epoch is no rung.
    return round(count) if abs(count - round(count)) <= 0.01 else None


def grounds(spec: SweepSpec, report: Report) -> str:
    """Describe what a trial had reached when it was pruned."""
    reached = f"{spec.objective.metric} {metric(report.best)} after {report.evaluation.examples:,} examples"
    return f"{spec.search.pruner}: {reached}"
