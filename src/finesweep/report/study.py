"""Builds an Optuna study from a board's records, with texts that Plotly shows literally."""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as StudyState

from finesweep.backends.optuna.drawing import distribution_of
from finesweep.backends.optuna.study import STATES, quietly
from finesweep.report.literal import literal
from finesweep.results.board import Board
from finesweep.results.ranking import ranks
from finesweep.spec import Parameter
from finesweep.trial import TrialRecord, TrialState, Value


class _FinishedStorage(InMemoryStorage):
    """Gives out its trials as they are: Optuna's plots copy all of them for each parameter, and change none."""

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[StudyState] | None = None
    ) -> list[FrozenTrial]:
        """Return all trials by number; see Optuna."""
        found: list[FrozenTrial] = super().get_all_trials(study_id, False, states)
        return found


def study_of(board: Board) -> optuna.Study:
    """Return a study in memory with every finished trial whose parameters lie in the space.

    Names of parameters and choices are escaped as by ``literal``. A trial keeps its state as other trials of the sweep
    see it; one that is COMPLETE without a finite objective is FAIL.
    """
    axes = board.manifest.spec.space
    distributions = {name: _distribution(axis) for name, axis in axes.items()}
    with quietly():
        study = optuna.create_study(storage=_FinishedStorage(), direction=StudyDirection[board.summary.direction.name])
    trials = (_trial(record, distributions) for record in board.records if record.state.finished)
    study.add_trials([trial for trial in trials if trial is not None])
    return study


def _distribution(axis: Parameter) -> BaseDistribution:
    if axis.choices is None:
        return distribution_of(axis)
    return CategoricalDistribution(list(dict.fromkeys(map(_choice, axis.choices))))


def _choice(value: Value) -> Value:
    return literal(value) if isinstance(value, str) else value


def _trial(record: TrialRecord, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial | None:
    began = datetime.fromtimestamp(record.started)
    is_ranked = ranks(record)
    state = STATES[record.state] if is_ranked or record.state is not TrialState.COMPLETE else StudyState.FAIL
    parts: dict[str, Any] = {"state": state, "value": record.objective if is_ranked else None}
    try:
        trial = create_trial(
            params={literal(name): _choice(value) for name, value in record.params.items()},
            distributions={literal(name): distributions[name] for name in record.params},
            user_attrs={"trial": record.trial, "state": str(record.state)},
            **parts,
        )
    except (KeyError, TypeError, ValueError):  # the record was edited
        return None
    trial.datetime_start, trial.datetime_complete = began, began + timedelta(seconds=record.seconds)
    return trial
