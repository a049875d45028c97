"""Proposes by a Gaussian process, from the trials that were pruned or have diverged too.

Optuna's ``GPSampler`` learns from completed trials alone, and by default from the tenth on. A pruner completes few
trials of a sweep, so most proposals would be random draws. Here the library's sampler sees a study of its own, in which
pruned trials are complete and values are ones that a Gaussian process can be fitted to.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from finesweep.backends.optuna.study import DIVERGED, TrialStorage, quietly
from finesweep.spec import LEARNING

STARTUP = LEARNING["gp"]
"""Number of trials with a value, planned ones included, before the process is fitted; until then draws are random."""


class GaussianProcess(BaseSampler):
    """Optuna's ``GPSampler`` on the study that ``learned`` makes.

    Its proposals follow from the study and the seed. Parameters with a ``when`` are drawn at random, and so is the
    whole configuration if the process cannot be fitted.

    Args:
        seed: Seed of the draws.
    """

    def __init__(self, seed: int) -> None:
        self._inner = GPSampler(seed=seed, n_startup_trials=STARTUP, warn_independent_sampling=False)
        self._seen: tuple[optuna.Study, FrozenTrial] | None = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that all trials have; see Optuna."""
        return self._inner.infer_relative_search_space(*self._view(study, trial))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose these parameters together; nothing if the process cannot be fitted. See Optuna."""
        try:
            return self._inner.sample_relative(*self._view(study, trial), search_space)
        except (ArithmeticError, AssertionError, IndexError, RuntimeError, ValueError) as error:
            # The libraries below raise these for numbers that they cannot work with. A random draw is as good as what a
            # search does before it knows anything. The line stands in the trial's log.
            print(f"gp: drawn at random, because the fit failed: {error}", flush=True)  # noqa: T201
            return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one parameter at random; see Optuna."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def _view(self, study: optuna.Study, trial: FrozenTrial) -> tuple[optuna.Study, FrozenTrial]:
        """Return the study that the inner sampler sees, with the trial that is proposed."""
        # Made once: all proposals for one trial rest on the same trials.
        if self._seen is None:
            others = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
            told = learned(others, study.direction)
            storage = TrialStorage(len(told), told)
            with quietly():
                view = optuna.create_study(storage=storage, direction=study.direction, sampler=RandomSampler(seed=0))
            view.ask()
            self._seen = view, view.get_trials(deepcopy=False)[-1]
        return self._seen


def learned(trials: Sequence[FrozenTrial], direction: StudyDirection) -> list[FrozenTrial]:
    """Return the trials from which a Gaussian process learns, as complete and running ones.

    A pruned trial has the value of its last report. One that has diverged has the worst value of all, however good it
    was before: the process must not propose that region again. So has a pruned one without a value.

    Args:
        trials: The other trials of a sweep, by number; failed ones are left out.
        direction: The study's direction.

    Returns:
        New trials, numbered from 0, in the same order.
    """
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    values = fit_values([None if DIVERGED in trial.user_attrs else trial.value for trial in ended], direction)
    known = {trial.number: value for trial, value in zip(ended, values, strict=True)}
    made: list[FrozenTrial] = []
    for trial in trials:
        value = known.get(trial.number)
        if value is None and trial.state is not TrialState.RUNNING:
            continue
        state = TrialState.RUNNING if value is None else TrialState.COMPLETE
        one = create_trial(state=state, value=value, params=trial.params, distributions=trial.distributions)
        one.number = len(made)
        made.append(one)
    return made


def fit_values(values: Sequence[float | None], direction: StudyDirection) -> list[float | None]:
    """Return values to which a Gaussian process can be fitted, in the same order, between -1 and 1.

    What is no finite number becomes the worst value. Bad values far from the others become less bad, since a single
    diverged trial would make all others look equal. The limit is Tukey's fence: the quartile on the worse side, and one
    and a half times the distance between the quartiles.

    Args:
        values: Objectives; None where there is none.
        direction: Whether smaller ones are better.

    Returns:
        None for all if no value is a finite number.
    """
    sign = -1.0 if direction is StudyDirection.MAXIMIZE else 1.0
    costs = [sign * value if value is not None and math.isfinite(value) else None for value in values]
    known = sorted(cost for cost in costs if cost is not None)
    if not known:
        return [None] * len(values)
    # Scaled first: the distance of two huge numbers may be infinite.
    scale = max(abs(known[0]), abs(known[-1])) or 1.0
    known = [cost / scale for cost in known]
    quartiles = statistics.quantiles(known, method="inclusive") if len(known) > 1 else known * 3
    worst = min(known[-1], quartiles[2] + 1.5 * (quartiles[2] - quartiles[0]))
    return [sign * (worst if cost is None else min(cost / scale, worst)) for cost in costs]
