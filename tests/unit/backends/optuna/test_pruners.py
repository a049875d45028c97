from __future__ import annotations

from typing import Any

import optuna
import pytest

from finesweep.backends.optuna.pruners import _most_evaluations, pruner_of
from finesweep.spec import SweepSpec
from made_specs import made_spec

ROWS = 100
EPOCHS = {"num_train_epochs": {"low": 2, "high": 5}}
BATCHES = {"per_device_train_batch_size": {"choices": [8, 32, 16]}}
RATE = {"learning_rate": {"low": 1e-5, "high": 1e-3}}

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def spec_of(space: Any = None, pruner: str = "hyperband", per_epoch: int = 1, **fixed: Any) -> SweepSpec:
    evaluation = {"per_epoch": per_epoch}
    return made_spec(search={"pruner": pruner}, evaluation=evaluation, space={**RATE, **(space or {})}, fixed=fixed)


@pytest.mark.parametrize(
    ("spec", "most"),
    [
        (spec_of(), 3),
        (spec_of(EPOCHS), 5),
        (spec_of(EPOCHS, per_epoch=4), 20),
        (spec_of({"num_train_epochs": {"choices": [4, 1]}}), 4),
        (spec_of(num_train_epochs=7), 7),
        (spec_of(num_train_epochs=2.7), 2),
        (spec_of(max_steps=13, per_epoch=4), 4),
        (spec_of(max_steps=130), 10),
        (spec_of(BATCHES, max_steps=8, per_epoch=4), 8),
        (spec_of(max_steps=8, per_epoch=4, gradient_accumulation_steps=4), 8),
        (spec_of(max_steps=1), 0),
    ],
)
def test_longest_trial_has_as_many_evaluations(spec: SweepSpec, most: int) -> None:
    """With 100 rows and a batch of 8 an epoch has 13 steps, and the end of an incomplete one is no rung."""
    assert _most_evaluations(spec, ROWS) == most


@pytest.mark.parametrize("name", ["none", "median", "halving", "asha", "hyperband"])
def test_each_pruner_can_be_made_for_a_trial_of_one_step(name: str) -> None:
    assert isinstance(pruner_of(spec_of(pruner=name, max_steps=1), ROWS), optuna.pruners.BasePruner)


def test_hyperband_prunes_in_each_of_its_brackets_within_max_steps() -> None:
    """A bracket whose first rung no trial reaches would let all its trials train to the end."""
    steps, spec = 4, spec_of(max_steps=13, per_epoch=4)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner_of(spec, ROWS))
    pruned = []
    for number in range(120):
        trial = study.ask()
        for step in range(1, steps + 1):
            trial.report(number % 7, step)
            if trial.should_prune():
                break
        bracket = study.pruner._get_bracket_id(study, study.trials[number])
        study.tell(trial, number % 7)
        pruned.append((bracket, step < steps))
    assert {bracket for bracket, _ in pruned} == {bracket for bracket, was in pruned if was}
