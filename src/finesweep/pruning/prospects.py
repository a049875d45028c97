"""Estimates what the trials that a sweep has left are still expected to gain, and the seed noise.

A Gaussian process is laid through the objectives of the trials. It has a noise term, and not one setting but many,
drawn at random and weighted by how well they explain the objectives: ten trials do not tell which of them is right.
Functions are drawn from it. For each of them the rest of the sweep is played: trials where the other functions have
their best, with noise, and the waiting trials. The gain is how much better the trial that would then be chosen is
*without* its noise, since the luck of a seed is no gain.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finesweep.pruning.rules import best_so_far
from finesweep.spec import Parameter, SearchSpace
from finesweep.spec.search_space import same
from finesweep.trial import Direction, Params, TrialRecord, TrialState, Value

FEWEST = 10
"""Minimum number of trials with an objective. Evidence for these constants: ``docs/search.md``."""

PATIENCE = 5
"""Minimum number of trials since the last gain that was more than ``SHARE`` of the seed noise."""

SHARE = 0.5
"""A sweep ends when the expected gain is below this share of the seed noise."""

SURE = 0.5
"""Minimum share of the trials that the others predict within one standard deviation; 0.68 if all is well."""

MOST = 100
"""Maximum number of trials that are looked at; the time grows with its cube."""

_MOST_VALUES = MOST * 4 // 3
"""Number of trials with a value above which more than ``MOST`` are left without the outliers, at most a quarter."""

_NEW = 150
"""Configurations among which a future trial is."""

_SETTINGS, _KEPT, _FUNCTIONS = 400, 40, 6
"""Settings that are drawn, those that are kept by their weights, and functions that are drawn with each."""

_LENGTHS = math.log(0.5), 0.8
"""Mean and standard deviation of the logarithm of a length scale, on axes from 0 to 1."""

_NOISES = math.log(0.05), math.log(1.5)
"""Lowest and highest logarithm of the noise, in standard deviations of the function."""

_TINY = 1e-6

_INCOMPLETE = (TrialState.WAITING, TrialState.PRUNED)


@dataclass(frozen=True)
class Prospects:
    """What the rest of a sweep is expected to bring; in the objective's unit, whatever its direction.

    Attributes:
        begun: Trials with an objective.
        left: Trials of the budget that have not begun.
        best: The best objective.
        since: Trials that have ended since the last gain.
        gain: Expected gain of the rest, at least 0.
        seeds: The seed noise, the standard deviation between trainings that differ only in their seed.
        sure: Share of the trials that the others predict within one standard deviation, 0 to 1.
    """

    begun: int
    left: int
    best: float
    since: int
    gain: float
    seeds: float
    sure: float

    @property
    def are_poor(self) -> bool:
        """Whether the rest is not worth its time, as far as that can be known."""
        # Between huge objectives the difference may be infinite.
        return self.since >= PATIENCE and self.sure >= SURE and self.gain < SHARE * self.seeds < math.inf


def are_too_many(records: Sequence[TrialRecord], space: SearchSpace) -> bool:
    """Return whether more than ``MOST`` trials have a value, outliers left out, so that ``prospects`` says nothing."""
    return sum(_has_value(one) and space.contains(one.params) for one in records) > _MOST_VALUES


def prospects(
    records: Sequence[TrialRecord],
    space: SearchSpace,
    direction: Direction,
    left: int,
    seed: int,
    seed_noise: float = 0.0,
) -> Prospects | None:
    """Estimate what the rest of a sweep brings; equal records give equal estimates, in whatever order they stand.

    Args:
        records: Records of all trials that have ended or wait.
        space: The search space.
        direction: The objective's direction.
        left: Trials of the sweep that have not begun.
        seed: The sweep's seed.
        seed_noise: What is known of it besides the objectives, in the objective's unit; the larger one of this and the
            process's noise term counts.

    Returns:
        None if too little is known, all trials have begun, or there are more than ``MOST``.
    """
    if are_too_many(records, space):
        return None  # before each incomplete trial is compared with each complete one
    known = sorted((one for one in records if space.contains(one.params)), key=lambda one: one.trial)
    trials = _without_outliers(_tried(known, -1.0 if direction is Direction.MAXIMIZE else 1.0, direction))
    begun, complete = len(trials), [one for one in trials if one.is_complete]
    if not FEWEST <= begun <= MOST or len(complete) < 2 or left <= 0:
        return None
    costs = np.array([one.cost for one in trials])
    scale = float(np.abs(costs).max()) or 1.0  # the distance of two huge numbers may be infinite
    middle, spread = float((costs / scale).mean()), float((costs / scale).std())
    if spread <= 1e-12:
        return None  # equal values say nothing about others
    chosen = min(complete, key=lambda one: (one.cost, one.trial))
    estimate = _played(trials, (costs / scale - middle) / spread, trials.index(chosen), space, left, seed)
    unit = spread * scale
    seeds = max(estimate.noise * unit, seed_noise)
    return Prospects(
        begun=begun,
        left=left,
        best=-chosen.cost if direction is Direction.MAXIMIZE else chosen.cost,
        since=_since(trials, complete, chosen.cost + SHARE * seeds),
        gain=max(estimate.gain * unit, 0.0),
        seeds=seeds,
        sure=estimate.sure,
    )


@dataclass(frozen=True)
class _Tried:
    """A trial with a cost, the objective with the sign that makes small ones good; expected, where it is incomplete."""

    trial: int
    params: Params
    cost: float
    ended: float
    is_complete: bool


@dataclass(frozen=True)
class _Estimate:
    gain: float
    noise: float
    sure: float


def _has_value(one: TrialRecord) -> bool:
    """Return whether a trial has an objective, or an evaluation from which one is expected."""
    if one.state is TrialState.COMPLETE:
        return one.objective is not None and math.isfinite(one.objective)
    values = (seen.objective for seen in one.evaluations) if one.state in _INCOMPLETE else ()
    return any(value is not None and math.isfinite(value) for value in values)


def _tried(records: Sequence[TrialRecord], sign: float, direction: Direction) -> list[_Tried]:
    """Return the trials with an objective; an incomplete one has that which it would end with on average.

    Diverged trials are left out. Beside a good trial they would look like a large difference between seeds.
    """
    curves = {
        one.trial: [(seen.examples, sign * best) for seen, best in best_so_far(one.evaluations, direction)]
        for one in records
    }
    complete = {
        one.trial: sign * one.objective
        for one in records
        if one.state is TrialState.COMPLETE and one.objective is not None and math.isfinite(one.objective)
    }
    found = []
    for one in records:
        cost = complete.get(one.trial)
        if cost is None:
            if one.state not in _INCOMPLETE:
                continue
            curve = curves[one.trial]
            if not curve or not math.isfinite(curve[-1][1]):
                continue
            examples, cost = curve[-1]
            falls = [end - at for number, end in complete.items() if (at := _at(curves[number], examples)) is not None]
            cost += sum(falls) / len(falls) if falls else 0.0
            if not math.isfinite(cost):
                continue  # the distance of two huge numbers
        found.append(_Tried(one.trial, one.params, cost, one.ended, one.trial in complete))
    return found


def _at(curve: Sequence[tuple[int, float]], examples: int) -> float | None:
    """Return a trial's best cost after so many examples, None before its first evaluation."""
    return next((cost for at, cost in reversed(curve) if at <= examples), None)


def _without_outliers(trials: Sequence[_Tried]) -> list[_Tried]:
    """Leave out trials that are much worse than the others, by Tukey's fence.

    A training that collapsed beside a good one would look like a large difference between seeds. Where it is left out
    nothing is known, so more is expected there.
    """
    if len(trials) < FEWEST:
        return list(trials)
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.quantile([one.cost for one in trials], (0.25, 0.75))
        fence = high + 1.5 * (high - low)
    return [one for one in trials if one.cost <= fence]


def _since(trials: Sequence[_Tried], complete: Sequence[_Tried], near: float) -> int:
    """Count the trials that have ended after the first complete one whose cost is as good as this."""
    first = min(one.ended for one in complete if one.cost <= near)
    return sum(one.ended > first for one in trials)


def _played(
    trials: Sequence[_Tried], costs: np.ndarray, chosen: int, space: SearchSpace, left: int, seed: int
) -> _Estimate:
    """Play the rest of the sweep on functions through the costs, whose mean is 0 and whose deviation is 1."""
    source, count = random.Random(f"{seed} {len(trials)}"), len(trials)
    rng = np.random.default_rng(source.getrandbits(64))
    new = [space.draw(lambda _, parameter: parameter.draw(source)) for _ in range(_NEW)]
    distances = _distances([*(one.params for one in trials), *new], space)
    functions, noise, sure = _functions(distances, costs, rng)
    # Where the others are best: what is known now, and no more, says where the future trials are.
    best_new = functions[:, count:].argmin(axis=1) + count
    open_ones = np.array([at for at, one in enumerate(trials) if not one.is_complete], int)
    gains = []
    for function, deviation in zip(functions, noise, strict=True):
        places = np.concatenate([rng.choice(best_new, min(left, MOST)), open_ones])
        seen = function[places] + deviation * rng.standard_normal(len(places))
        taken = places[seen.argmin()] if seen.min() < costs[chosen] else chosen
        gains.append(float(function[chosen] - function[taken]))
    return _Estimate(statistics.fmean(gains), float(noise.mean()), sure)


def _distances(configurations: Sequence[Params], space: SearchSpace) -> np.ndarray:
    """Return the squared distances of configurations along each axis, as (axes, configurations, configurations).

    An axis with a list has no order: different values are 1 apart. A configuration without a parameter is 1 away from
    those that have it, in a direction of its own.
    """
    count = len(configurations)
    found = np.zeros((len(space.parameters), count, count))
    for axis, (name, parameter) in enumerate(space.parameters.items()):
        there = np.array([name in params for params in configurations])
        places = np.array([_place(parameter, params[name]) if name in params else 0.5 for params in configurations])
        apart = places[:, None] - places[None, :]
        between = (apart != 0).astype(float) if parameter.choices is not None else apart**2
        found[axis] = np.where(there[:, None] & there[None, :], between, 0.0)
        found[axis] += there[:, None] != there[None, :]
    return found


def _place(parameter: Parameter, value: Value) -> float:
    """Return where a value lies on its axis, 0 to 1; of a list its number."""
    if parameter.choices is not None:
        return float(next(at for at, choice in enumerate(parameter.choices) if same(value, choice)))
    assert isinstance(value, int | float)
    assert parameter.low is not None
    assert parameter.high is not None
    low, high, at = float(parameter.low), float(parameter.high), float(value)
    if low == high:
        return 0.5
    return math.log(at / low) / math.log(high / low) if parameter.log else (at - low) / (high - low)


@dataclass(frozen=True)
class _Fit:
    """A Gaussian process with one setting, its mean and its scale chosen to fit."""

    weights: np.ndarray
    noise: float
    root: np.ndarray
    mean: float
    precision: float
    scale: float
    evidence: float


def _functions(
    distances: np.ndarray, costs: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Draw functions: their values at all configurations, the noise of each, and how often the trials are predicted."""
    count = len(costs)
    lengths = np.exp(rng.normal(*_LENGTHS, (_SETTINGS, len(distances))))
    noises = np.exp(rng.uniform(*_NOISES, _SETTINGS))
    known = distances[:, :count, :count]
    fits = [_fit(known, costs, 1 / length**2, float(noise)) for length, noise in zip(lengths, noises, strict=True)]
    evidence = np.array([fit.evidence for fit in fits])
    shares = np.cumsum(np.exp(evidence - evidence.max()))
    picked = np.searchsorted(shares / shares[-1], (rng.random() + np.arange(_KEPT)) / _KEPT)
    drawn, noise, predicted = [], [], []
    for fit in (fits[min(place, _SETTINGS - 1)] for place in picked):
        scale = math.sqrt(fit.scale * (count - 1) / rng.chisquare(count - 1))
        drawn.append(_drawn(fit, distances, costs, scale, rng))
        noise += [scale * fit.noise] * _FUNCTIONS
        predicted.append(_predicted(fit, costs))
    return np.vstack(drawn), np.array(noise), statistics.fmean(predicted)


def _kernel(distances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the Matérn kernel of order 5/2."""
    apart = np.sqrt(5 * np.tensordot(weights, distances, 1))
    kernel: np.ndarray = (1 + apart + apart**2 / 3) * np.exp(-apart)
    return kernel


def _fit(known: np.ndarray, costs: np.ndarray, weights: np.ndarray, noise: float) -> _Fit:
    count = len(costs)
    root = np.linalg.cholesky(_kernel(known, weights) + (noise**2 + _TINY) * np.eye(count))
    ones, values = np.linalg.solve(root, np.column_stack([np.ones(count), costs])).T
    precision = float(ones @ ones)
    mean = float(ones @ values) / precision
    rest = values - mean * ones
    scale = max(float(rest @ rest) / (count - 1), _TINY**2)
    evidence = -np.log(np.diag(root)).sum() - 0.5 * math.log(precision) - 0.5 * (count - 1) * math.log(scale)
    return _Fit(weights, noise, root, mean, precision, scale, float(evidence))


def _drawn(fit: _Fit, distances: np.ndarray, costs: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Draw functions, as (functions, configurations)."""
    count = len(costs)
    every = _kernel(distances, fit.weights)
    across = np.linalg.solve(fit.root, every[:count])
    ones, values = np.linalg.solve(fit.root, np.column_stack([np.ones(count), costs - fit.mean])).T
    short = 1 - across.T @ ones  # how much of the mean, which is not known either, is in each value
    spread = every - across.T @ across + np.outer(short, short) / fit.precision
    root = np.linalg.cholesky(spread + _TINY * np.eye(len(every)))
    drawn: np.ndarray = fit.mean + across.T @ values + scale * (rng.standard_normal((_FUNCTIONS, len(every))) @ root.T)
    return drawn


def _predicted(fit: _Fit, costs: np.ndarray) -> float:
    """Return the share of the trials that the others predict within one standard deviation."""
    inverse = np.linalg.inv(fit.root @ fit.root.T)
    inverse -= np.outer(inverse.sum(1), inverse.sum(1)) / inverse.sum()
    alone = np.diag(inverse)
    return float((np.abs(inverse @ costs / alone) < np.sqrt(fit.scale / alone)).mean())
