"""Which sampler a trial has, and what a worker imports for the trials that it forks."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from made_records import record

from finesweep.backends.optuna import samplers
from finesweep.backends.optuna.drawing import suggest
from finesweep.folder.sweep_folder import make_folders
from finesweep.spec import LEARNING
from finesweep.spec.search_space import NEAR
from made_specs import made_spec

EARLY = """
import sys
from types import SimpleNamespace
from finesweep.backends.optuna.samplers import import_early
spec = SimpleNamespace(search=SimpleNamespace(sampler={sampler!r}))
import_early(spec, SimpleNamespace(count={count}))
print(sum(name.startswith("scipy") for name in sys.modules))
"""
THEN = """
import optuna
study = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=0, n_startup_trials=1))
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
print(sum(name.startswith("scipy") for name in sys.modules))
"""


def loaded(sampler: str, count: int, then: str = "") -> list[int]:
    """Return how many modules of scipy a new process has loaded, and how many after what follows."""
    code = EARLY.format(sampler=sampler, count=count) + then
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return [int(word) for word in said.split()]


@pytest.mark.parametrize(("sampler", "count"), [("gp", 4), ("tpe", 50)])
def test_nothing_is_imported_before_a_process_learns(sampler: str, count: int) -> None:
    assert loaded(sampler, count) == [0]


@pytest.mark.torch
def test_what_a_process_needs_is_imported_before_the_forks() -> None:
    early, after = loaded("gp", 5, THEN)
    assert early > 100
    assert after - early < 20


def test_the_library_draws_as_many_trials_at_random_as_the_forecast_reckons_with() -> None:
    default = inspect.signature(optuna.samplers.TPESampler).parameters["n_startup_trials"].default
    assert LEARNING["tpe"] == default


@pytest.mark.parametrize("is_taken", [True, False])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_gaussian_process_that_stays_at_a_bound_trains_no_configuration_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_taken: bool
) -> None:
    """A continuous axis has bounds, and a process proposes them again and again."""
    bound = {"learning_rate": 1e-3, "num_train_epochs": 3}
    spec = made_spec(
        space={"learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}, "num_train_epochs": {"low": 2, "high": 5}},
        search={"sampler": "gp"},
    )
    folder = make_folders(tmp_path / "sst2")
    if is_taken:
        folder.record(record(0, 0.5, params=bound))

    def stuck(name: str, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.PartialFixedSampler(bound, optuna.samplers.RandomSampler(seed=seed))

    monkeypatch.setattr(samplers, "made", stuck)
    work: Any = SimpleNamespace(spec=spec, planned=(), sweep_folder=folder)
    claim: Any = SimpleNamespace(trial=1, attempt=1)
    sampler = samplers.sampler_of(work, None, claim, None)  # type: ignore[arg-type]
    proposed = suggest(optuna.create_study(sampler=sampler).ask(), spec.search_space)
    assert (proposed == bound) is not is_taken
    assert spec.search_space.contains(proposed)
    assert proposed["num_train_epochs"] == 3
    assert 1e-3 * (1e-5 / 1e-3) ** NEAR <= proposed["learning_rate"] <= 1e-3  # type: ignore[operator]
