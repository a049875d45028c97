"""Draws the parameters of one trial from a search space, through Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from finesweep.spec import Parameter, SearchSpace
from finesweep.trial import Value


class Suggesting(Protocol):
    """The part of Optuna's trial interface that draws parameters."""

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Any:
        """Draw one of some values."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Draw an integer."""
        ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Draw a number."""
        ...


def suggest(trial: Suggesting, space: SearchSpace) -> dict[str, Value]:
    """Draw every parameter that exists, given those drawn before it."""
    params: dict[str, Value] = {}
    for name, parameter in space.parameters.items():
        if space.is_active(name, params):
            params[name] = _suggest_one(trial, name, parameter)
    return params


def _suggest_one(trial: Suggesting, name: str, parameter: Parameter) -> Value:
    if parameter.choices is not None:
        value: Value = trial.suggest_categorical(name, parameter.choices)
        return value
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.is_integer:
        return trial.suggest_int(
            name, int(parameter.low), int(parameter.high), step=int(parameter.step or 1), log=parameter.log
        )
    return trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """Return a parameter's distribution, as Optuna keeps it with each trial."""
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.is_integer:
        return IntDistribution(int(parameter.low), int(parameter.high), parameter.log, int(parameter.step or 1))
    return FloatDistribution(parameter.low, parameter.high, parameter.log, parameter.step)
