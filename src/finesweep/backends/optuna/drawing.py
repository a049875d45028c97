"""Draws the parameters of one trial from a search space, through Optuna."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from finesweep.spec import Parameter, SearchSpace
from finesweep.trial import Value


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Value]:
    """Draw the parameters of an Optuna trial; its public interface has a method for each kind of distribution."""

    def draw(name: str, parameter: Parameter) -> Any:
        of = distribution_of(parameter)
        if isinstance(of, CategoricalDistribution):
            return trial.suggest_categorical(name, of.choices)
        if isinstance(of, IntDistribution):
            return trial.suggest_int(name, of.low, of.high, step=of.step, log=of.log)
        assert isinstance(of, FloatDistribution)
        return trial.suggest_float(name, of.low, of.high, step=of.step, log=of.log)

    return space.draw(draw)


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """Return a parameter's distribution, as Optuna keeps it with each trial."""
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.is_integer:
        return IntDistribution(int(parameter.low), int(parameter.high), parameter.log, int(parameter.step or 1))
    return FloatDistribution(parameter.low, parameter.high, parameter.log, parameter.step)
