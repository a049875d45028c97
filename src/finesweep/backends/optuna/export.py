"""Writes a sweep's trials as an Optuna journal, which Optuna and optuna-dashboard open."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as StudyState

from finesweep.backends.optuna.pruners import step_of
from finesweep.backends.optuna.study import STATES, SweepStudy, quietly
from finesweep.errors import FolderError
from finesweep.files import create
from finesweep.folder import SweepFolder
from finesweep.trial import TrialRecord


class _Events(BaseJournalBackend):
    """A journal in memory, so that its file is written once and not once for each trial."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Return the events from a number on; see Optuna."""
        return self.events[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add events; see Optuna."""
        self.events += logs


def export_study(sweep_folder: SweepFolder, file: Path) -> int:
    """Write a sweep's trials into a new file; return their number.

    Each trial has its number in the sweep. A trial that is to be retried, waits at a rung or has not begun is WAITING.

    Raises:
        FolderError: The folder is no sweep's, the file exists already, or it cannot be written.
    """
    manifest = sweep_folder.manifest()
    runs = sweep_folder.runs()
    if not runs:
        raise FolderError(f"{sweep_folder.path}: it has no run yet, so there are no trials")
    spec = manifest.spec_for(runs[-1])
    trials = list(_trials(sweep_folder, SweepStudy(sweep_folder, spec, functools.partial(step_of, spec))))
    journal = _Events()
    with quietly():
        study = optuna.create_study(
            study_name=spec.name, storage=JournalStorage(journal), direction=StudyDirection[spec.direction.name]
        )
    study.add_trials(trials)
    text = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in journal.events)
    try:
        create(file, text.encode())
    except FileExistsError:
        raise FolderError(f"{file}: is there already; name another file") from None
    return len(trials)


def _trials(sweep_folder: SweepFolder, study: SweepStudy) -> Iterator[FrozenTrial]:
    """Yield a trial for each number, by number."""
    known = {record.trial: _recorded(study, record) for record in sweep_folder.records()}
    known |= {trial.number: trial for trial in study.running()}
    for number in range(max(known, default=-1) + 1):
        yield known.get(number) or create_trial(state=StudyState.WAITING)


def _recorded(study: SweepStudy, record: TrialRecord) -> FrozenTrial:
    trial = study.of_record(record, STATES[record.state] if record.state.finished else StudyState.WAITING)
    trial.set_user_attr("state", str(record.state))
    if record.reason is not None:
        trial.set_user_attr("reason", record.reason)
    if trial.state.is_finished():
        trial.datetime_start = datetime.fromtimestamp(record.started)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=record.seconds)
    return trial
