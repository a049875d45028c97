"""Owns how a trial of the study says which trial of the sweep it is: number and attempt, as attributes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container

import optuna
from optuna.trial import FrozenTrial, TrialState

from finesweep.folder.claims import Claim
from finesweep.trial import TrialRecord

NUMBER, ATTEMPT = "number", "attempt"
"""Attributes of an Optuna trial that hold the sweep's own number for it, and which try it is."""


def marks(of: Claim | TrialRecord) -> dict[str, int]:
    """Return the attributes of a trial."""
    return {NUMBER: of.trial, ATTEMPT: of.attempt}


def mark(trial: FrozenTrial) -> tuple[int, int]:
    """Return a study trial's number and attempt in the sweep, -1 each where it has none."""
    number, attempt = (trial.user_attrs.get(name) for name in (NUMBER, ATTEMPT))
    return (number, attempt) if isinstance(number, int) and isinstance(attempt, int) else (-1, -1)


States = Container[TrialState] | None
"""Which of a study's trials are asked for; None for all."""


def as_seen(read: Callable[[States], list[FrozenTrial]], claim: Claim | None, states: States) -> list[FrozenTrial]:
    """Return a study's trials as a claimed trial is to see them.

    What waits in the queue is its own, if it waited at a rung, and nobody else's. To its sampler the others that
    wait look as if they had been pruned there: what they have shown so far is known, and they run no more.

    Args:
        read: Reads the study's trials that are in some states.
        claim: The claimed trial; None to see them as they are.
        states: What is asked for.
    """
    if claim is None:
        return read(states)
    if states is not None and TrialState.WAITING in states:  # as Optuna asks before it begins a trial
        # One that has not begun waits nowhere; to read them all would be most of what it costs.
        trials = read(None) if claim.attempt > 1 else []
        return [trial for trial in trials if trial.state in states and mark(trial)[0] == claim.trial]
    seen = (_as_pruned(trial) if trial.state is TrialState.WAITING else trial for trial in read(None))
    return [trial for trial in seen if states is None or trial.state in states]


def _as_pruned(trial: FrozenTrial) -> FrozenTrial:
    pruned = copy.copy(trial)
    if pruned.intermediate_values:
        pruned.state = TrialState.PRUNED
        pruned.value = pruned.intermediate_values[max(pruned.intermediate_values)]
    return pruned


def marked(template: FrozenTrial | None, claim: Claim | None) -> FrozenTrial | None:
    """Return what a new trial begins as: as a claim's, unless it has a template of its own."""
    if template is not None or claim is None:
        return template
    return optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=marks(claim))
