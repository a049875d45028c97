"""Defines the values of a trial: its parameters, states, evaluations and record."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Value = bool | int | float | str | None
"""Type of a hyperparameter's value."""

Params = Mapping[str, Value]
"""One trial's hyperparameters by dotted name; parameters that ``when:`` switches off are absent."""


class Direction(StrEnum):
    """Whether a smaller or a larger objective is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    def better(self, value: float, other: float | None) -> bool:
        """Return whether ``value`` is strictly better than ``other``; any value is better than None."""
        if other is None:
            return True
        return value < other if self is Direction.MINIMIZE else value > other


class TrialState(StrEnum):
    """State of a trial.

    PRUNED and DIVERGED are results, not errors. INTERRUPTED and WAITING are not final: the next run continues an
    interrupted trial, and a waiting one is at a rung until it is promoted or pruned. Only COMPLETE ranks.
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
        objective: The metric that the sweep ranks by; None if it was not finite.
    """

    step: int
    epoch: float
    examples: int
    metrics: Mapping[str, float | None]
    objective: float | None


@dataclass(frozen=True)
class Divergence:
    """Where and why a trial diverged.

    Attributes:
        reason: Explanation on one line.
        step: Optimizer steps done when it was detected.
        learning_rate: The learning rate at that step.
        last_finite_loss: The last finite training loss that was logged, None if there was none.
    """

    reason: str
    step: int
    learning_rate: float | None
    last_finite_loss: float | None


@dataclass(frozen=True)
class Progress:
    """State of a running trial, written at most once a second.

    Attributes:
        trial: Its number.
        attempt: 1 for the first try.
        params: Its hyperparameters.
        started: Unix time at which the attempt began.
        step: Optimizer steps done.
        total_steps: Optimizer steps planned.
        loss: The last logged training loss.
        best: The best objective so far.
        evaluations: Its evaluations in order.
        audit: Pruning reason of a trial that trains on for the audit; None if it is not audited.
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
    """Result of a trial; the source of truth for everything that is shown or ranked.

    Attributes:
        trial: Its number, from 0, the same everywhere.
        attempt: 1 for the first try.
        state: Final state, or INTERRUPTED, or WAITING at a rung; never RUNNING.
        reason: Why it is not COMPLETE, or why it ended early; else None.
        params: Its hyperparameters.
        objective: The best value of the objective, None if no evaluation finished.
        best_epoch: Epoch of that evaluation.
        best_step: Optimizer step of that evaluation.
        metrics: All metrics of that evaluation.
        evaluations: Every evaluation in order.
        divergence: Set if the state is DIVERGED.
        started: Unix time at which the attempt began.
        seconds: Wall clock of the attempt.
        examples: Training examples seen, from the first step on.
        examples_per_second: Training examples per second of the attempt, evaluation included.
        peak_memory_mb: Peak resident memory of the trial's process, plus peak GPU memory if any.
        log: The trial's log, relative to the sweep's folder.
        host: Name of the machine it ran on.
        effective: Every setting by its dotted name, searched or fixed, and the ``data.max_length`` in force.
        run: Number of the ``sweep run`` that ran the attempt.
        faults: Infrastructure faults that ended earlier attempts, oldest first.
        batch_divisor: Power of 2 that divided the batch per device, and multiplied the accumulation, because the batch
            was too large for the device; in an INTERRUPTED record, the divisor of the next attempt.
        resumed_step: Optimizer step of the saved state that the attempt resumed from; 0 if it began at the first step.
        earlier_seconds: Wall clock of the attempts before that state, and of those that were trained again.
        weights_sha256: Digest of the kept weights, None if none were kept.
        evaluated_rows: Validation rows that the objective is computed from.
        audit: Pruning reason of a trial kept for the audit; None if it is not audited.
        model_size: Number of the model's weights; None in a record of an older version.
        repeated_examples: Training examples of earlier attempts that were trained again, because the state of a trial
            that waited was not kept. They are not in ``examples``.
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
    model_size: int | None = None
    repeated_examples: int = 0

    @property
    def ended(self) -> float:
        """Unix time at which the attempt ended."""
        return self.started + self.seconds

    @property
    def trained_seconds(self) -> float:
        """Wall clock of all attempts that led to the result."""
        return self.earlier_seconds + self.seconds

    @property
    def trained_examples(self) -> int:
        """Training examples of all attempts, also of those that were trained again."""
        return self.examples + self.repeated_examples

    @property
    def has_waited(self) -> bool:
        """Whether it is known to have waited at a rung before its state was lost, or waits now."""
        return self.state is TrialState.WAITING or bool(self.repeated_examples)

    @property
    def resumed_at_evaluation(self) -> bool:
        """Whether it resumed from a state that was saved after an evaluation, as that of a trial that waits is."""
        return bool(self.resumed_step) and any(one.step == self.resumed_step for one in self.evaluations)

    @property
    def promoted(self) -> bool:
        """Whether it went on after it had waited at a rung, from its saved state or again from the first step."""
        return self.resumed_at_evaluation or bool(self.repeated_examples)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Report:
    """One evaluation as it is reported to the search.

    Attributes:
        evaluation: The evaluation.
        best: The trial's best objective so far.
        last: Whether training ends here, so that pruning is pointless.
        record: Makes the record if the search stops the trial here, without a reason; the attempt adds this.
    """

    evaluation: Evaluation
    best: float
    last: bool
    record: Callable[[], TrialRecord] | None = None


Reporter = Callable[[Report], None]
"""Takes a report; raises ``TrialPruned`` if the trial should stop, but never at the last evaluation."""


class TrialStopped(Exception):
    """Leaves a trial's training loop before its planned end."""


class TrialPruned(TrialStopped):
    """The pruner stops this trial; the message gives the reason.

    Attributes:
        record: The record if it was written already; None if the attempt still has to write it.
    """

    def __init__(self, reason: str, record: TrialRecord | None = None) -> None:
        self.record = record
        super().__init__(reason)


class TrialWaits(TrialStopped):
    """The trial has reached a rung and waits there until other trials reach it."""


class TrialInterrupted(TrialStopped):
    """The sweep was asked to stop; the next run resumes the trial."""


class AttemptOutdated(TrialStopped):
    """Another worker has taken over this trial; this attempt must not write anything more."""


class TrialDiverged(TrialStopped):
    """The loss or the gradients blew up.

    Attributes:
        divergence: Where and why.
    """

    def __init__(self, divergence: Divergence) -> None:
        self.divergence = divergence
        super().__init__(divergence.reason)
