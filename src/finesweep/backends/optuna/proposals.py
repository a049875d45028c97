"""Proposes configurations that no other trial of a sweep has: if a sampler repeats one, it is asked again.

With the random sampler a proposal depends on the seed and on the proposals of lower numbers. So a number has the same
parameters with any number of workers. The other samplers learn from ended trials. They are asked one at a time if a
configuration can repeat, and see those of all other trials in their records and claims.
"""

from __future__ import annotations

import copy
import hashlib
import random
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from finesweep.backends.optuna.drawing import distribution_of, suggest
from finesweep.folder import SweepFolder, next_attempt
from finesweep.spec import Parameter, SweepSpec
from finesweep.spec.planned_trials import Configuration, configuration
from finesweep.trial import Params

TRIES = 4
"""Number of times that a sampler is asked for one trial; then the space is searched for an unused configuration. Each
call fits the Gaussian process anew, and a sampler that has settled on a corner of the space hardly leaves it."""


def trial_seed(seed: int, trial: int) -> int:
    """Derive a sampler's seed; with one seed for all trials each process would draw the same parameters."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{trial}".encode()).digest()[:4], "big")


def unrepeated(spec: SweepSpec, propose: Callable[[], Params], taken: Container[Configuration], seed: int) -> Params:
    """Return the first proposal whose configuration is not taken.

    A sampler that proposes taken ones again and again has settled there. With a continuous axis the last proposal is
    then moved a little. Else any configuration that is not taken follows; the last proposal if there is none.

    Args:
        spec: The sweep's spec.
        propose: Draws the parameters of one trial.
        taken: The configurations of the other trials.
        seed: Decides where the search for an unused configuration begins.
    """
    for _ in range(TRIES):
        params = propose()
        if configuration(spec, params) not in taken:
            return params
    source = random.Random(seed)
    if not spec.search_space.can_repeat:
        return spec.search_space.near(params, source)
    points = spec.search_space.points(source)
    return next((point for point in points if configuration(spec, point) not in taken), params)


@dataclass
class RandomDraws:
    """The proposals of the random sampler by number, each drawn once.

    Attributes:
        spec: The sweep's spec.
        planned: Parameters of the first trials, which are not drawn.
    """

    spec: SweepSpec
    planned: Sequence[Params]
    _drawn: list[Params] = field(default_factory=list, init=False)
    _taken: set[Configuration] = field(default_factory=set, init=False)

    def of(self, trial: int) -> Params:
        """Return the parameters of a trial that is not planned."""
        if not self._taken:
            self._taken = {configuration(self.spec, params) for params in self.planned}
        while len(self.planned) + len(self._drawn) <= trial:
            params = self._next(len(self.planned) + len(self._drawn))
            self._drawn.append(params)
            self._taken.add(configuration(self.spec, params))
        return self._drawn[trial - len(self.planned)]

    def _next(self, trial: int) -> Params:
        seed, space = trial_seed(self.spec.search.seed, trial), self.spec.search_space
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        return unrepeated(self.spec, lambda: suggest(study.ask(), space), self._taken, seed)


class Unrepeated(BaseSampler):
    """Proposes like another sampler, but no configuration that is taken.

    A whole configuration is drawn before the first parameter is requested; the requests are then answered from it.

    Args:
        inner: The sampler.
        spec: The sweep's spec.
        taken: Returns the configurations of the other trials.
        seed: Decides where the search for an unused configuration begins.
    """

    def __init__(
        self, inner: BaseSampler, spec: SweepSpec, taken: Callable[[], Container[Configuration]], seed: int
    ) -> None:
        self._inner, self._spec, self._taken, self._seed = inner, spec, taken, seed
        self._params: Params = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Draw the configuration; return an empty space, since nothing is left to draw."""
        space = self._spec.search_space

        def propose() -> Params:
            return space.draw(DraftTrial(self._inner, study, trial).draw)

        # Here, because Optuna calls this method once for each trial, before it asks for a parameter.
        self._params = unrepeated(self._spec, propose, self._taken(), self._seed)
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing; see Optuna."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a parameter of the configuration."""
        return self._params[param_name]

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Notify the other sampler; see Optuna."""
        self._inner.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: optuna.trial.TrialState, values: Sequence[float] | None
    ) -> None:
        """Notify the other sampler; see Optuna."""
        self._inner.after_trial(study, trial, state, values)


class DraftTrial:
    """Stands for a trial whose parameters are only a draft: nothing of it reaches the study."""

    def __init__(self, sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler, self._study = sampler, study
        # A copy: what is drawn here must not stand in the study if the configuration is rejected.
        self._trial = copy.copy(trial)
        self._trial.params, self._trial.distributions = {}, {}
        space = sampler.infer_relative_search_space(study, trial)
        self._together = sampler.sample_relative(study, trial, space)

    def draw(self, name: str, parameter: Parameter) -> Any:
        """Draw a parameter's value as ``optuna.Trial`` does."""
        distribution = distribution_of(parameter)
        if distribution.single():
            value = _only_value(distribution)
        elif name in self._together:
            value = self._together[name]
        else:
            value = self._sampler.sample_independent(self._study, self._trial, name, distribution)
        self._trial.params = {**self._trial.params, name: value}
        self._trial.distributions = {**self._trial.distributions, name: distribution}
        return value


def taken_by_others(
    spec: SweepSpec, planned: Sequence[Params], sweep_folder: SweepFolder, trial: int
) -> set[Configuration]:
    """Return the configurations of a sweep's other trials, planned, running or ended."""
    known = [
        (number, params)
        for number, _ in next_attempt.open_claims(sweep_folder)
        for params in sweep_folder.params_of(number)
    ]
    # The records are read after the claims, so that a trial that ends in between is not missed.
    known += [(record.trial, record.params) for record in sweep_folder.records()]
    others = (params for number, params in known if number != trial and params)
    return {configuration(spec, params) for params in (*planned, *others)}


def _only_value(distribution: BaseDistribution) -> Any:
    """Return the value of a distribution with a single one."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low
