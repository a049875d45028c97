"""Owns how a trial of the study says which trial of the sweep it is: number and attempt, as attributes."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState

from finesweep.claims import Claim
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


def marked(template: FrozenTrial | None, claim: Claim | None) -> FrozenTrial | None:
    """Return what a new trial begins as: as a claim's, unless it has a template of its own."""
    if template is not None or claim is None:
        return template
    return optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=marks(claim))
