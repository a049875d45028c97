"""Defines what a trial is made of: parameters, states, evaluations, reports and its record."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Value = bool | int | float | str | None
"""What a hyperparameter can be."""

Params = Mapping[str, Value]
"""One trial's hyperparameters by dotted name; parameters that ``when:`` switches off are absent."""


class Direction(StrEnum):
    """Whether a smaller or a larger objective is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    def better(self, value: float, other: float | None) -> bool:
        """Say whether ``value`` beats ``other`` strictly; anything beats None."""
        if other is None:
            return True
        return value < other if self is Direction.MINIMIZE else value > other


class TrialState(StrEnum):
    """Where a trial stands.

    PRUNED and DIVERGED are results, not errors. INTERRUPTED and WAITING are none: the trial is tried again by
    the next run, or waits at a rung for its turn. Only COMPLETE ranks.
    """

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    DIVERGED = "DIVERGED"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"

    @property
    def finished(self) -> bool:
        """Whether the trial counts against the budget."""
        return self in _FINISHED


_FINISHED = frozenset({TrialState.COMPLETE, TrialState.PRUNED, TrialState.DIVERGED, TrialState.FAILED})


@dataclass(frozen=True)
class Evaluation:
    """One pass over the validation set.

    Attributes:
        step: Optimizer steps done.
        epoch: Passes over the training set done, a fraction in mid-epoch.
        examples: Training examples seen; the axis on which trials are compared.
        metrics: ``eval_*`` by name; a value that was not finite is None.
        objective: The metric the sweep ranks by, None where it was not finite.
    """

    step: int
    epoch: float
    examples: int
    metrics: Mapping[str, float | None]
    objective: float | None


@dataclass(frozen=True)
class Divergence:
    """Where and why a trial blew up.

    Attributes:
        reason: One line for a person.
        step: Optimizer steps done when it was noticed.
        learning_rate: The learning rate at that step.
        last_finite_loss: The last finite training loss that was logged, None if there was none.
    """

    reason: str
    step: int
    learning_rate: float | None
    last_finite_loss: float | None


@dataclass(frozen=True)
class Progress:
    """How far a running trial is; rewritten at most once a second while it runs.

    Attributes:
        trial: Its number.
        attempt: 1 for the first try.
        params: Its hyperparameters.
        started: Unix time at which the attempt began.
        step: Optimizer steps done.
        total_steps: Optimizer steps planned.
        loss: The last logged training loss.
        best: The best objective so far.
        evaluations: What its evaluations have said, in order.
        audit: On what grounds it would have been pruned, were it not to be finished all the same; else None.
    """

    trial: int
    attempt: int
    params: Params
    started: float
    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    best: float | None = None
    evaluations: tuple[Evaluation, ...] = ()
    audit: str | None = None


@dataclass(frozen=True)
class TrialRecord:
    """How one trial ended; the source of truth for everything that is shown or ranked.

    Attributes:
        trial: Its number, from 0, the same everywhere.
        attempt: 1 for the first try.
        state: One of the ends, or WAITING at a rung; never RUNNING.
        reason: Why it is not COMPLETE, or why it ended early; else None.
        params: Its hyperparameters.
        objective: The best value of the objective, None if no evaluation finished.
        best_epoch: Epoch of that evaluation.
        best_step: Optimizer step of that evaluation.
        metrics: All metrics of that evaluation.
        evaluations: Every evaluation in order.
        divergence: Set where the state is DIVERGED.
        started: Unix time at which the attempt began.
        seconds: Wall clock of the attempt.
        examples: Training examples seen.
        examples_per_second: Training examples per second of the attempt, evaluation included.
        peak_memory_mb: Peak resident memory of the trial's process, plus peak GPU memory if any.
        log: The trial's log, relative to the sweep's folder.
        host: Name of the machine it ran on.
        effective: Every setting by its dotted name, searched or fixed, and the ``data.max_length`` in force.
        run: Number of the ``sweep run`` that it was tried in.
        faults: Faults of the infrastructure that ended earlier attempts, oldest first.
        batch_divisor: What the batch per device was divided by, and the accumulation multiplied by, since it
            was too large for the device; of an INTERRUPTED record, what the next attempt divides by.
        resumed_step: Optimizer steps done by earlier attempts whose saved state it went on from.
        earlier_seconds: Wall clock of those attempts.
        weights_sha256: Digest of the kept weights, None where none were kept.
        evaluated_rows: Validation rows that the objective rests on.
        audit: On what grounds it would have been pruned, had it not been drawn to be finished all the same; else
            None.
    """

    trial: int
    attempt: int
    state: TrialState
    params: Params
    started: float
    seconds: float
    log: str
    host: str
    reason: str | None = None
    objective: float | None = None
    best_epoch: float | None = None
    best_step: int | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    evaluations: tuple[Evaluation, ...] = ()
    divergence: Divergence | None = None
    examples: int = 0
    examples_per_second: float | None = None
    peak_memory_mb: float | None = None
    effective: Mapping[str, Any] = field(default_factory=dict)
    run: int = 0
    faults: tuple[str, ...] = ()
    batch_divisor: int = 1
    resumed_step: int = 0
    earlier_seconds: float = 0.0
    weights_sha256: str | None = None
    evaluated_rows: int | None = None
    audit: str | None = None

    @property
    def trained_seconds(self) -> float:
        """Wall clock of all attempts that its result comes from."""
        return self.earlier_seconds + self.seconds

    @property
    def promoted(self) -> bool:
        """Whether it went on from an evaluation, as where it had waited at a rung."""
        return bool(self.resumed_step) and any(one.step == self.resumed_step for one in self.evaluations)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values that JSON can hold."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Report:
    """One evaluation as the search is told of it.

    Attributes:
        evaluation: The evaluation.
        best: The trial's best objective so far.
        last: Whether training ends here, so that there is nothing left to stop.
        record: The record that stands if the search stops the trial here, but for its reason; the attempt adds it.
    """

    evaluation: Evaluation
    best: float
    last: bool
    record: TrialRecord | None = None


Reporter = Callable[[Report], None]
"""Tells of a report; raises ``TrialPruned`` where the trial should stop, which is never at its end."""


class TrialStopped(Exception):
    """Leaves a trial's training loop before its planned end."""


class TrialPruned(TrialStopped):
    """The pruner sees no chance for this trial; the message says on what grounds.

    Attributes:
        record: The record that stands already, None where it is still to be made.
    """

    def __init__(self, reason: str, record: TrialRecord | None = None) -> None:
        self.record = record
        super().__init__(reason)


class TrialWaits(TrialStopped):
    """The trial has come to a rung and waits there, since others are still to come."""


class TrialInterrupted(TrialStopped):
    """The sweep was told to stop; the trial is run again by the next run."""


class AttemptOutdated(TrialStopped):
    """Another process tries the trial again; this attempt may write nothing more."""


class TrialDiverged(TrialStopped):
    """The loss or the gradients blew up.

    Attributes:
        divergence: Where and why.
    """

    def __init__(self, divergence: Divergence) -> None:
        self.divergence = divergence
        super().__init__(divergence.reason)
