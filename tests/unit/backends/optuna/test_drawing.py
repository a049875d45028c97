"""Optuna draws the values that a search space has, in the types that a spec has, and no others."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from finesweep.backends.optuna.drawing import distribution_of, suggest
from finesweep.spec import Parameter, SearchSpace

AXES: dict[str, dict[str, Any]] = {
    "integers": {"low": 2, "high": 5},
    "integers on a logarithmic scale": {"low": 1, "high": 6, "log": True},
    "integer steps that miss the end": {"low": 1, "high": 10, "step": 4},
    "steps": {"low": 0.0, "high": 0.3, "step": 0.1},
    "steps that miss the end": {"low": 0.0, "high": 0.25, "step": 0.1},
    "steps from an integer": {"low": 1, "high": 2.5, "step": 0.5},
    "one integer": {"low": 3, "high": 3},
    "one number": {"low": 0.5, "high": 0.5},
    "a switch": {"choices": [True, False]},
    "choices of several types": {"choices": ["no", None, 1.5, 2]},
}
DRAWS = 80
"""Draws of at most six values: one is missed in less than one of 300,000 seeds."""


def study_of(seed: int = 0) -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))


# Optuna remarks on a range that is no multiple of its step; it draws the values of the axis all the same.
@pytest.mark.filterwarnings("ignore:The distribution is specified by")
@pytest.mark.parametrize("name", AXES)
def test_values_drawn_are_those_of_the_axis_in_their_types(name: str) -> None:
    axis = Parameter.model_validate(AXES[name])
    study, space = study_of(), SearchSpace({"axis": axis})
    drawn = [suggest(study.ask(), space)["axis"] for _ in range(DRAWS)]
    found = {(type(value), round(value, 9) if isinstance(value, float) else value) for value in drawn}
    assert found == {(type(value), round(value, 9) if isinstance(value, float) else value) for value in axis.values()}
    assert all(axis.contains(value) for value in drawn)


def test_logarithmic_axis_has_as_many_small_values_as_large_ones() -> None:
    study, space = study_of(), SearchSpace({"learning_rate": Parameter(low=1e-6, high=1e-2, log=True)})
    drawn = [suggest(study.ask(), space)["learning_rate"] for _ in range(400)]
    assert 150 < sum(value < 1e-4 for value in drawn) < 250  # 200, and five standard deviations


def test_range_with_one_integer_bound_gives_numbers_in_between() -> None:
    axis = Parameter(low=0, high=0.5)
    assert distribution_of(axis) == optuna.distributions.FloatDistribution(0.0, 0.5)
    assert isinstance(suggest(study_of().ask(), SearchSpace({"axis": axis}))["axis"], float)


def test_parameter_that_is_switched_off_is_not_drawn() -> None:
    space = SearchSpace(
        {
            "warmup_steps": Parameter(low=0.0, high=0.2, when={"lr_scheduler_type": "linear"}),
            "lr_scheduler_type": Parameter(choices=("linear", "constant")),
        }
    )
    study = study_of()
    drawn = []
    for _ in range(20):
        trial = study.ask()
        drawn.append(suggest(trial, space))
        assert trial.params == drawn[-1], "the study knows what is drawn"
    assert {("warmup_steps" in params, params["lr_scheduler_type"]) for params in drawn} == {
        (True, "linear"),
        (False, "constant"),
    }
