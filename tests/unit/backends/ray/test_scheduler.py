"""Ray's schedulers judge evaluations alone, never a trial's last one, and know what earlier runs have seen."""

from __future__ import annotations

import dataclasses
import types
from pathlib import Path

import pytest

from finesweep.backends.optuna.pruners import step_of
from finesweep.backends.optuna.study import SweepStudy
from finesweep.backends.ray.scheduler import scheduler_of
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.spec.sections import SweepSpec
from finesweep.trial import Evaluation, TrialRecord, TrialState
from made_specs import made_spec


@dataclasses.dataclass(frozen=True)
class Trial:
    trial_id: str


def spec_with(pruner: str, direction: str = "minimize") -> SweepSpec:
    objective = {"metric": "eval_loss", "direction": direction}
    return made_spec(objective=objective, search={"pruner": pruner, "backend": "ray"})


def scheduler_with(pruner: str, records=(), direction: str = "minimize"):
    spec = spec_with(pruner, direction)
    study = SweepStudy(SweepFolder(Path("nowhere")), spec, lambda evaluation: step_of(spec, evaluation))
    return scheduler_of(spec, records, study)


def told(scheduler, number: int, values, *, last: bool = False) -> list[str]:
    """Return what a scheduler decides on a trial's evaluations, one after the other."""
    trial = Trial(f"t{number}")
    scheduler.on_trial_add(None, trial)
    results = [{"step": step, "objective": value, "last": last} for step, value in enumerate(values, start=1)]
    return [scheduler.on_trial_result(None, trial, result) for result in results]


def record_of(number: int, values, state: TrialState = TrialState.COMPLETE) -> TrialRecord:
    evaluations = tuple(Evaluation(i, float(i), i, {}, value) for i, value in enumerate(values, start=1))
    return TrialRecord(number, 1, state, {}, 0.0, 1.0, "log", "host", objective=values[-1], evaluations=evaluations)


@pytest.mark.parametrize("pruner", ["asha"])
def test_a_weak_trial_is_stopped_and_a_strong_one_is_not(pruner):
    scheduler = scheduler_with(pruner)
    for number in range(6):
        told(scheduler, number, [1.0, 0.9, 0.8, 0.7])
    assert told(scheduler, 7, [5.0]) == ["STOP"]
    assert told(scheduler, 8, [0.5, 0.4, 0.3, 0.2]) == ["CONTINUE"] * 4
    assert scheduler.stopped == {"t7"}


def test_without_a_pruner_nothing_is_stopped():
    scheduler = scheduler_with("none")
    told(scheduler, 0, [1.0])
    assert told(scheduler, 1, [9.0]) == ["CONTINUE"]


@pytest.mark.parametrize("pruner", ["asha"])
def test_the_larger_is_the_better_where_the_objective_is_maximized(pruner):
    scheduler = scheduler_with(pruner, direction="maximize")
    for number in range(6):
        told(scheduler, number, [0.5, 0.6])
    assert told(scheduler, 7, [0.1]) == ["STOP"]
    assert told(scheduler, 8, [0.9, 0.9]) == ["CONTINUE"] * 2


@pytest.mark.parametrize("pruner", ["asha"])
def test_a_trial_that_has_ended_its_training_is_not_stopped_and_one_that_repeats_itself_may_go_on(pruner):
    """What a resumed trial says again must not end it; stock asserts that it never hears of a stopped trial again."""
    scheduler = scheduler_with(pruner)
    for number in range(6):
        told(scheduler, number, [1.0, 0.9, 0.8])
    assert told(scheduler, 7, [5.0, 5.0], last=True) == ["CONTINUE"] * 2
    assert scheduler.stopped == set()
    third = {"step": 3, "objective": 0.1, "last": False}
    assert scheduler.on_trial_result(None, Trial("t7"), third) == "CONTINUE"


@pytest.mark.parametrize("pruner", ["none", "asha"])
def test_what_is_no_evaluation_is_passed_over_and_does_no_harm_later(pruner):
    scheduler = scheduler_with(pruner)
    silent = Trial("silent")
    scheduler.on_trial_add(None, silent)
    assert scheduler.on_trial_result(None, silent, {"ended": "{}"}) == "CONTINUE"
    scheduler.on_trial_complete(None, silent, {"ended": "{}"})
    assert told(scheduler, 1, [1.0, 0.9]) == ["CONTINUE"] * 2


@pytest.mark.parametrize("pruner", ["asha"])
def test_what_earlier_runs_have_seen_counts(pruner):
    seen = [record_of(number, [1.0, 0.9, 0.8]) for number in range(6)]
    assert told(scheduler_with(pruner, seen), 9, [5.0])[0] == "STOP"
    assert told(scheduler_with(pruner), 9, [5.0])[0] == "CONTINUE"


def test_asha_compares_at_every_doubling_of_the_evaluations():
    scheduler = scheduler_with("asha")
    told(scheduler, 0, [1.0] * 8)
    decisions = told(scheduler, 1, [0.9, 2.0, 0.9, 0.9, 2.0, 2.0, 2.0, 2.0])
    assert [i for i, decision in enumerate(decisions, start=1) if decision == "STOP"] == [2, 8]


def test_no_trial_is_stopped_for_its_length():
    """Stock ends every trial at 100."""
    assert set(told(scheduler_with("asha"), 0, [1.0 / i for i in range(1, 300)])) == {"CONTINUE"}


def test_why_a_trial_broke_off_is_the_last_line_of_its_error(tmp_path):
    scheduler, killed = scheduler_with("none"), "Worker exit type: SYSTEM_ERROR Worker exit detail: End of file."
    texts = {
        "a": "Failure # 1\nTraceback\n  here\nOSError: no room\n",
        "b": "",
        "c": f"Failure # 2\nIt died.\n{killed}\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        scheduler.on_trial_error(None, types.SimpleNamespace(trial_id=name, error_file=str(tmp_path / name)))
    (tmp_path / "long").write_text(f"It died. {'x' * 200}. {'y' * 200}.\n")
    scheduler.on_trial_error(None, types.SimpleNamespace(trial_id="f", error_file=str(tmp_path / "long")))
    assert scheduler.errors.pop("f") == f"It died. {'x' * 200}"
    for name, file in (("d", None), ("e", str(tmp_path / "gone"))):
        scheduler.on_trial_error(None, types.SimpleNamespace(trial_id=name, error_file=file))
    assert scheduler.errors == {"a": "OSError: no room", "b": "", "c": "End of file.", "d": "", "e": ""}
