"""Every backend with every sampler and pruner keeps the same promises; no model is trained here."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from finesweep.backends.driver import SearchDriver
from finesweep.errors import TrialFailed
from finesweep.plan import planned_trials, trials_wanted
from finesweep.registry import BACKENDS
from finesweep.run_dir import Claim, RunDir, make_folders
from finesweep.search_space import SearchSpace
from finesweep.spec import SweepSpec
from finesweep.trial import (
    Divergence,
    Evaluation,
    TrialDiverged,
    TrialInterrupted,
    TrialPruned,
    TrialRecord,
    TrialState,
)

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

EVERY_KIND = {
    "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "weight_decay": {"low": 0.0, "high": 0.3, "step": 0.1},
    "num_train_epochs": {"low": 2, "high": 5},
    "gradient_accumulation_steps": {"low": 1, "high": 8, "log": True},
    "per_device_train_batch_size": {"choices": [8, 16, 32]},
    "lr_scheduler_type": {"choices": ["linear", "polynomial", "constant"]},
    "warmup_steps": {"low": 0.0, "high": 0.2, "when": {"lr_scheduler_type": ["linear", "polynomial"]}},
}
COUNTABLE = {name: EVERY_KIND[name] for name in ("weight_decay", "num_train_epochs", "per_device_train_batch_size")}
CASES = [(name, sampler) for name in BACKENDS.names for sampler in BACKENDS.load(name).samplers]
PRUNERS = [(name, pruner) for name in BACKENDS.names for pruner in BACKENDS.load(name).pruners]


class RecordedWork:
    """A ``Work`` whose training is a function of the parameters; everything else is the real thing."""

    def __init__(self, folder: Path, spec: SweepSpec, body: Callable[[int, dict], object], run: int = 1) -> None:
        self.run_dir: RunDir = make_folders(folder)
        self.spec, self.body, self.run = spec, body, run
        self.plan = planned_trials(spec, {}, 128)

    def claim(self) -> Claim | None:
        return self.run_dir.claim(self.run, trials_wanted(self.spec, self.plan))

    def isolated(self, claim: Claim, body: Callable[[], None]) -> None:
        body()

    def train(self, claim, params, report) -> float:
        state, objective, error = TrialState.COMPLETE, None, None
        try:
            for index, value in enumerate(self.body(claim.trial, params), start=1):
                objective = value if objective is None else min(value, objective)
                report(Evaluation(index, float(index), index * 100, {}, value), objective, False)
        except (TrialPruned, TrialDiverged, TrialInterrupted, TrialFailed) as stop:
            error = stop
            state = {
                TrialPruned: TrialState.PRUNED,
                TrialDiverged: TrialState.DIVERGED,
                TrialInterrupted: TrialState.INTERRUPTED,
                TrialFailed: TrialState.FAILED,
            }[type(stop)]
        self.run_dir.record(
            TrialRecord(
                claim.trial, claim.attempt, state, params, time.time(), 0.0, "", "h", str(error or ""), objective
            )
        )
        if error is not None:
            raise error
        assert objective is not None
        return objective

    def search(self) -> list[TrialRecord]:
        BACKENDS.load(self.spec.search.backend)().search(self)
        return self.run_dir.records()


def make_spec(space=None, *, trials: int = 12, **search) -> SweepSpec:
    values = {
        "name": "conformance",
        "base": Path(),
        "model": {"name": "m"},
        "data": {"train": "t.csv"},
        "objective": {"metric": "eval_loss", "direction": "minimize"},
        "budget": {"trials": trials},
        "search": {"pruner": "none", **search},
        "space": space or EVERY_KIND,
    }
    return SweepSpec.model_validate(values, strict=False)


def by_learning_rate(trial: int, params) -> list[float]:
    return [params.get("learning_rate", 0.1) * 1000 + 1]


@pytest.mark.parametrize(("backend", "sampler"), CASES)
def test_parameters_lie_in_the_space_and_differ_and_the_budget_is_met(tmp_path, backend, sampler):
    space = COUNTABLE if sampler == "grid" else EVERY_KIND
    spec = make_spec(space, backend=backend, sampler=sampler)
    records = RecordedWork(tmp_path / "s", spec, by_learning_rate).search()
    assert [record.trial for record in records] == list(range(12))
    assert {record.state for record in records} == {TrialState.COMPLETE}
    for record in records:
        assert SearchSpace(spec.space).contains(record.params), record.params
    assert len({tuple(sorted(record.params.items())) for record in records}) == 12


@pytest.mark.parametrize(("backend", "sampler"), CASES)
def test_a_trials_parameters_follow_from_seed_and_number(tmp_path, backend, sampler):
    space = COUNTABLE if sampler == "grid" else EVERY_KIND
    runs = [
        RecordedWork(
            tmp_path / str(i), make_spec(space, backend=backend, sampler=sampler, trials=6, seed=seed), by_learning_rate
        )
        for i, seed in enumerate((7, 7, 8))
    ]
    params = [[record.params for record in work.search()] for work in runs]
    assert params[0] == params[1] != params[2]


@pytest.mark.parametrize("backend", BACKENDS.names)
@pytest.mark.parametrize(
    "stop",
    [
        TrialPruned("weak"),
        TrialFailed(0, "broken", "log"),
        TrialDiverged(Divergence("NaN", 1, 1e-3, None)),
    ],
    ids=lambda stop: type(stop).__name__,
)
def test_a_first_trial_that_ends_badly_is_recorded_and_the_next_ones_run(tmp_path, backend, stop):
    """Stock: `ValueError: No trials are completed yet`, or the error itself, ends the whole search."""

    def body(trial, params):
        if trial in (0, 2):
            raise stop
        return [1.0]

    records = RecordedWork(tmp_path / "s", make_spec(backend=backend, trials=5), body).search()
    assert [record.state is TrialState.COMPLETE for record in records] == [False, True, False, True, True]


@pytest.mark.parametrize(("backend", "pruner"), PRUNERS)
def test_weak_trials_are_stopped_and_strong_ones_are_not(tmp_path, backend, pruner):
    def body(trial, params):
        return [3.0 - step * 0.1 + trial for step in range(8)]

    spec = make_spec(backend=backend, pruner=pruner, sampler="random", trials=16)
    states = [record.state for record in RecordedWork(tmp_path / "s", spec, body).search()]
    assert states[0] is TrialState.COMPLETE
    assert (TrialState.PRUNED in states) == (pruner != "none")


@pytest.mark.parametrize("backend", BACKENDS.names)
def test_a_diverged_trial_stays_in_the_samplers_memory(tmp_path, backend):
    """Stock tells FAIL, which the sampler ignores: it walks into the same corner again."""

    def body(trial, params):
        if params["learning_rate"] > 1e-4:
            raise TrialDiverged(Divergence("NaN", 1, params["learning_rate"], None))
        return [1.0]

    space = {"learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}}
    records = RecordedWork(tmp_path / "s", make_spec(space, backend=backend, trials=40), body).search()
    late = [record.state is TrialState.DIVERGED for record in records[20:]]
    # Half of the space diverges, so 10 of the last 20 would without memory; 5 or fewer has odds of 2 %.
    assert sum(late) <= 5


@pytest.mark.parametrize("backend", BACKENDS.names)
def test_an_interrupted_trial_runs_again_under_its_number_with_its_parameters(tmp_path, backend):
    """The second run has another seed: what the sampler would propose now is not what was interrupted."""

    def interrupted(trial, params):
        if trial == 2:
            raise TrialInterrupted("stopped")
        return [1.0]

    first = make_spec(backend=backend, trials=3, sampler="random", seed=1)
    before = RecordedWork(tmp_path / "s", first, interrupted).search()
    assert [record.state for record in before][2] is TrialState.INTERRUPTED
    second = make_spec(backend=backend, trials=5, sampler="random", seed=2)
    after = RecordedWork(tmp_path / "s", second, by_learning_rate, run=2).search()
    assert [(record.trial, record.attempt) for record in after] == [(0, 1), (1, 1), (2, 2), (3, 1), (4, 1)]
    assert after[2].params == before[2].params
    assert {record.state for record in after} == {TrialState.COMPLETE}


def _killed_trial(folder: Path, spec: SweepSpec) -> None:
    import os
    import signal

    def body(trial, params):
        if trial == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return [1.0]

    RecordedWork(folder, spec, body).search()


@pytest.mark.parametrize("backend", BACKENDS.names)
def test_a_killed_search_goes_on_with_the_same_parameters_and_without_zombies(tmp_path, backend):
    spec = make_spec(backend=backend, trials=4, sampler="random")
    process = multiprocessing.get_context("spawn").Process(target=_killed_trial, args=(tmp_path / "s", spec))
    process.start()
    process.join()
    assert process.exitcode == -9
    records = RecordedWork(tmp_path / "s", spec, by_learning_rate, run=2).search()
    assert [(record.trial, record.attempt) for record in records] == [(0, 1), (1, 2), (2, 1), (3, 1)]
    undisturbed = RecordedWork(tmp_path / "u", spec, by_learning_rate).search()
    assert [record.params for record in records] == [record.params for record in undisturbed]
    assert _running(tmp_path / "s", spec.name) == []


def _running(folder: Path, name: str) -> list[int]:
    import optuna

    from finesweep.backends.optuna import open_storage

    study = optuna.load_study(study_name=name, storage=open_storage(folder / "study.journal"))
    return [trial.number for trial in study.trials if not trial.state.is_finished()]


def _count(trial: object, params: object) -> float:
    return 1.0


def test_the_driver_carries_no_model():
    """Ray sends it to every actor; stock sends the whole Trainer."""
    assert len(pickle.dumps(SearchDriver(_count))) < 4096
