"""What a worker imports for the trials that it forks."""

from __future__ import annotations

import inspect
import subprocess
import sys

import optuna
import pytest

from finesweep.spec import LEARNING

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
