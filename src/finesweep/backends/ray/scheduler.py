"""Makes the scheduler that decides which trials Ray stops; it sees only evaluations, also those of earlier runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from finesweep.backends.optuna.study import SweepStudy
from finesweep.backends.ray.trial import LAST, OBJECTIVE, STEP
from finesweep.files import last_lines
from finesweep.pruning.rules import ASHA_FACTOR
from finesweep.spec import SweepSpec
from finesweep.trial import Direction, TrialRecord

LONGEST = 10**9
"""Longest trial on a scheduler's axis; by default Ray would end trials at 100."""

MOST_SAID = 300
"""Maximum length of an error in characters; a longer one is cut after a sentence."""

MODES = {Direction.MINIMIZE: "min", Direction.MAXIMIZE: "max"}
"""Ray's names of the directions."""


class FairScheduler(FIFOScheduler):  # type: ignore[misc]
    """Passes evaluations on, and stops no trial that has ended its training.

    Attributes:
        stopped: Ids of the Ray trials that it has stopped.
        errors: Errors of Ray trials by id, if their process or machine died.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.stopped: set[str] = set()
        self.errors: dict[str, str] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Judge an evaluation; see Ray."""
        if OBJECTIVE not in result:
            return str(TrialScheduler.CONTINUE)
        # Also at the end of a training: the scheduler compares other trials with this value.
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if result[LAST]:
            return str(TrialScheduler.CONTINUE)
        if decision == TrialScheduler.STOP:
            self.stopped.add(trial.trial_id)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Do nothing: the trial's evaluations are known, and its last report need not be one."""

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Keep the error; the search is notified next, without it.

        Ray has written it to a file here, but ``get_error`` does not have it yet.
        """
        self.errors[trial.trial_id] = _last_line(trial.error_file)


class _Asha(FairScheduler, ASHAScheduler):  # type: ignore[misc]
    """Successive halving."""


@dataclass(frozen=True)
class _Past:
    """A trial that an earlier run has finished, as a scheduler needs it."""

    trial_id: str


def scheduler_of(spec: SweepSpec, records: Sequence[TrialRecord], study: SweepStudy) -> FairScheduler:
    """Return the scheduler that stops weak trials, with the evaluations of all earlier runs.

    Args:
        spec: The sweep's spec.
        records: The records of all ended trials.
        study: Decides what is reported of an evaluation.
    """
    scheduler = _made(spec)
    for record in records:
        past = _Past(f"past-{record.trial}")
        scheduler.on_trial_add(None, past)
        # Each report counts as the last one, so that nothing of an earlier run is stopped.
        for step, objective in sorted(study.reports(record.evaluations).items()):
            scheduler.on_trial_result(None, past, {STEP: step, OBJECTIVE: objective, LAST: True})
    return scheduler


def _made(spec: SweepSpec) -> FairScheduler:
    axis: dict[str, Any] = {"time_attr": STEP, "metric": OBJECTIVE, "mode": MODES[spec.direction]}
    if spec.search.pruner == "asha":
        # The steps are then evaluations, each at its number of examples, so that every rung is reached exactly.
        return _Asha(max_t=LONGEST, grace_period=1, reduction_factor=ASHA_FACTOR, **axis)
    return FairScheduler()


def _last_line(file: str | None) -> str:
    """Return the last line of an error; for a killed process, how it ended, as far as Ray knows."""
    lines = last_lines(Path(file)) if file else []
    text = lines[-1].rpartition("Worker exit detail: ")[2] if lines else ""
    return text if len(text) <= MOST_SAID else text[:MOST_SAID].rpartition(". ")[0] or text[:MOST_SAID]
