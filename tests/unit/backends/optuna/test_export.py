"""An exported study is read by Optuna's own storage, and says what the board says."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from benchmarks.untrained import prepare
from optuna.storages.journal import JournalFileBackend

from finesweep.backends.optuna.export import export_study
from finesweep.errors import FolderError
from finesweep.folder import next_attempt
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.trial import Evaluation, TrialRecord, TrialState

PARAMS = {"learning_rate": 2e-4, "weight_decay": 0.1, "num_train_epochs": 3, "lr_scheduler_type": "linear"}


@pytest.fixture
def sweep_folder(tmp_path: Path) -> SweepFolder:
    return prepare(tmp_path / "s", 20)


def record(
    sweep_folder: SweepFolder, trial: int, state: TrialState, objective: float | None = None, reason: str | None = None
):
    evaluations = () if objective is None else (Evaluation(1, 1.0, 100, {}, objective),)
    ended = TrialRecord(
        trial, 1, state, PARAMS, 1_000.0, 60.0, "", "h", objective=objective, evaluations=evaluations, reason=reason
    )
    sweep_folder.record(ended)
    return ended


def opened(file: Path) -> optuna.Study:
    """Open a journal as optuna-dashboard does: by Optuna's own backend, with the one study that is in it."""
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(file)))
    (summary,) = optuna.get_all_study_summaries(storage)
    return optuna.load_study(study_name=summary.study_name, storage=storage)


def test_the_trials_of_every_state_are_there_under_their_numbers(sweep_folder: SweepFolder, tmp_path: Path) -> None:
    records = [
        record(sweep_folder, 0, TrialState.COMPLETE, 0.5),
        record(sweep_folder, 1, TrialState.PRUNED, 0.7, "median: weak"),
        record(sweep_folder, 2, TrialState.DIVERGED, 0.9, "the loss is NaN"),
        record(sweep_folder, 3, TrialState.FAILED, reason="ValueError: broken"),
        record(sweep_folder, 4, TrialState.WAITING, 0.6),
        record(sweep_folder, 5, TrialState.INTERRUPTED),
    ]
    lease = next_attempt.claim(sweep_folder, 1, [7])
    assert lease is not None
    sweep_folder.claims.note(lease.claim, PARAMS)
    assert export_study(sweep_folder, tmp_path / "study.journal") == 8
    lease.release()
    study = opened(tmp_path / "study.journal")
    assert (study.study_name, study.direction.name) == ("s", "MINIMIZE")
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(8))
    states = ["COMPLETE", "PRUNED", "PRUNED", "FAIL", "WAITING", "WAITING", "WAITING", "RUNNING"]
    assert [trial.state.name for trial in trials] == states
    assert [trial.params for trial in trials] == [PARAMS] * 6 + [{}, PARAMS]
    assert [trial.value for trial in trials] == [0.5, 0.7, 0.9, None, None, None, None, None]
    assert study.best_trial.number == 0
    for trial, ended in zip(trials, records, strict=False):
        assert trial.intermediate_values == ({} if ended.objective is None else {100: ended.objective})
        assert trial.user_attrs["state"] == ended.state
        assert trial.user_attrs.get("reason") == ended.reason
    assert trials[0].duration is not None
    assert trials[0].duration.total_seconds() == 60


def test_a_file_that_is_there_is_kept(sweep_folder: SweepFolder, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(FolderError, match=r"mine: is there already; name another file$"):
        export_study(sweep_folder, tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_sweep_without_trials_is_an_empty_study(sweep_folder: SweepFolder, tmp_path: Path) -> None:
    assert export_study(sweep_folder, tmp_path / "study.journal") == 0
    assert opened(tmp_path / "study.journal").trials == []
    assert all(json.loads(line) for line in (tmp_path / "study.journal").read_text().splitlines())


def test_optuna_prints_nothing_between_our_lines(
    sweep_folder: SweepFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(sweep_folder, 0, TrialState.COMPLETE, 0.5)
    optuna.logging.enable_propagation()
    try:
        with caplog.at_level("INFO", "optuna"):
            export_study(sweep_folder, tmp_path / "study.journal")
    finally:
        optuna.logging.disable_propagation()
    assert caplog.messages == []
