"""Owns how much work a sweep is: the training examples and evaluated rows of trials that nobody has trained yet.

What is not known, which configurations will be proposed and which trials will be pruned, is drawn many times
over; what comes out is a range.
"""

from __future__ import annotations

import bisect
import functools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from finesweep.pruning.rules import FEWEST, cohorts, is_audited, is_outdone, rung_examples
from finesweep.spec.planned_trials import planned_trials
from finesweep.spec.search_space import Parameter, SearchSpace
from finesweep.spec.sections import ON_RUNGS, SweepSpec
from finesweep.spec.trial_length import Workload
from finesweep.trial import Direction, Params, Value

SHARES: Mapping[str, tuple[float, float, float]] = {
    "median": (0.45, 0.65, 0.85),
    "asha": (0.35, 0.5, 0.75),
    "hyperband": (0.5, 0.7, 0.95),
}
"""Of the trials that come to a point of comparison, how many go on: low, likely, high. About half of them are above
the median, more where a sampler learns to propose good ones; brackets of `hyperband` that begin late prune less."""

LEARNING = frozenset({"tpe", "gp"})
"""Samplers that come to prefer a part of the space."""

_STARTUP = 10
"""Trials that a learning sampler draws at random at first."""

_DRAWS = 200
_MOST_TRIALS = 400
"""Trials that are drawn one by one; of a larger sweep they stand for the others."""


@dataclass(frozen=True)
class Span:
    """A range: in four of five sweeps the truth should lie within.

    Attributes:
        low: One sweep in ten is below.
        middle: As many are below as above.
        high: One in ten is above.
    """

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], outside: float = 0.2) -> Span:
        """Return the range that holds all of some values but a share of them, half of that at each end.

        Args:
            values: At least one.
            outside: That share, 0 to 1.
        """
        ordered = sorted(values)
        last = len(ordered) - 1
        return cls(*(ordered[round(last * part)] for part in (outside / 2, 0.5, 1 - outside / 2)))


@dataclass(frozen=True)
class Course:
    """How far trials of a sweep go.

    Attributes:
        spec: The sweep's spec.
        rows: Training rows.
    """

    spec: SweepSpec
    rows: int

    @property
    def halves(self) -> bool:
        """Whether a fixed share of each cohort goes on."""
        return self.spec.search.pruner == "halving"

    @functools.cached_property
    def rungs(self) -> tuple[int, ...]:
        """Training examples at which the spec's pruner may end a trial, ascending."""
        if self._own:
            return self._own
        if self.spec.search.pruner not in SHARES:
            return ()
        # Those of Optuna and Ray compare at the first evaluation, the second, the fourth and so on.
        each = self.rows / self.spec.evaluation.per_epoch
        return tuple(int(each * 2**power) for power in range(12))

    def plan(self, params: Params) -> Workload:
        """Return what a trial with these parameters would train."""
        return Workload.of({**self.spec.fixed, **params}, self.rows)

    @functools.cached_property
    def planned(self) -> list[Workload]:
        """Plans of the first trials, as far as they are known before any sampler is asked."""
        known = planned_trials(self.spec, {}, self.spec.data.max_length or 512)
        return [self.plan(params) for params in known]

    @functools.cached_property
    def pool(self) -> list[Workload]:
        """Plans as a random sampler would propose them."""
        return self.draw(_DRAWS, random.Random(0))

    def draw(self, count: int, source: random.Random) -> list[Workload]:
        """Draw plans as a random sampler would."""
        space = SearchSpace(self.spec.space)
        return [self.plan(_drawn(space, source)) for _ in range(count)]

    def is_baseline(self, trial: int) -> bool:
        """Say whether a trial is the untuned default, which our pruners never end."""
        return trial == 0 and self.spec.search.baseline and self.spec.search.pruner in ON_RUNGS

    def is_spared(self, trial: int) -> bool:
        """Say whether a trial is finished even if it is weak."""
        search, audit = self.spec.search, self.spec.pruning.audit
        is_drawn = audit > 0 and search.pruner in ON_RUNGS and is_audited(search.seed, trial, audit)
        return is_drawn or self.is_baseline(trial)

    def share(self, source: random.Random) -> float:
        """Draw how many of those that come to a rung go on."""
        low, likely, high = SHARES.get(self.spec.search.pruner, (1.0, 1.0, 1.0))
        return source.triangular(low, high, likely) if high > low else high

    def evaluated(self, trained: int, validation_rows: int, *, complete: bool) -> int:
        """Return the validation rows that a trial goes through.

        Args:
            trained: Its training examples.
            validation_rows: Rows of the validation set.
            complete: Whether it comes to its end; its best weights are then ranked on all rows.
        """
        each = min(self.spec.evaluation.rows, validation_rows)
        spaced = trained * self.spec.evaluation.per_epoch // self.rows
        between = sum(rung < trained and rung * self.spec.evaluation.per_epoch % self.rows > 0 for rung in self._own)
        at_end = complete and trained * self.spec.evaluation.per_epoch % self.rows > 0
        again = validation_rows if complete and each < validation_rows else 0
        return (spaced + between + at_end) * each + again

    @functools.cached_property
    def _own(self) -> tuple[int, ...]:
        return rung_examples(self.spec, self.rows)


def expected_examples(spec: SweepSpec, rows: int, trials: int, pruned: bool) -> Span:
    """Say how many training examples a whole sweep is.

    With `halving` the range is narrow, since rungs are fixed and shares nearly; with other pruners it is as wide as
    ``SHARES``, since how many trials go on depends on what they find. Trials that diverge, fail or end for lack of
    patience are not foreseen.

    Args:
        spec: The sweep's spec.
        rows: Training rows.
        trials: Trials of the sweep.
        pruned: Whether the spec's pruner ends trials; without, all train to their end.
    """
    return _forecast(Course(spec, rows), trials, pruned, lambda trained, _: trained)


def evaluated_rows(spec: SweepSpec, train_rows: int, validation_rows: int, trials: int, pruned: bool) -> Span:
    """Say how many validation rows the evaluations of a whole sweep go through, each counted as often as it is read.

    Args:
        spec: The sweep's spec.
        train_rows: Training rows.
        validation_rows: Validation rows.
        trials: Trials of the sweep.
        pruned: As for ``expected_examples``.
    """
    course = Course(spec, train_rows)
    return _forecast(
        course, trials, pruned, lambda trained, whole: course.evaluated(trained, validation_rows, complete=whole)
    )


def _forecast(course: Course, trials: int, pruned: bool, cost: Callable[[int, bool], int]) -> Span:
    """Draw whole sweeps and add up what their trials cost."""
    source = random.Random(0)
    drawn = min(trials, _MOST_TRIALS)
    known = course.planned[:drawn]
    totals = []
    for _ in range(_DRAWS):
        plans = [*known, *proposals(course.pool, drawn - len(known), source, course.spec.search.sampler)]
        ends = trained(course, plans, source) if pruned else [plan.examples for plan in plans]
        total = sum(cost(end, end >= plan.examples) for end, plan in zip(ends, plans, strict=True))
        totals.append(total * trials / drawn)
    return Span.of(totals)


def proposals(pool: Sequence[Workload], count: int, source: random.Random, sampler: str) -> list[Workload]:
    """Draw what a sampler may propose.

    One that learns comes to prefer something that cannot be known beforehand: each call chooses one plan, and
    how often it comes.

    Args:
        pool: Plans drawn at random from the space.
        count: How many to propose.
        source: Of randomness.
        sampler: The sampler's name.
    """
    drawn = source.choices(pool, k=max(count, 0))
    if sampler in LEARNING and len(drawn) > _STARTUP:
        favourite, often = source.choice(pool), source.random() * 0.7
        drawn[_STARTUP:] = [favourite if source.random() < often else plan for plan in drawn[_STARTUP:]]
    return drawn


def trained(course: Course, plans: Sequence[Workload], source: random.Random) -> list[int]:
    """Draw how many examples each trial of a sweep trains until it ends or is pruned."""
    rungs = course.rungs
    if course.halves:
        return [end for cohort in cohorts(len(plans)) for end in _halved(course, plans, cohort, source)]
    shares = [course.share(source)] * len(rungs)
    free = FEWEST if course.spec.search.pruner == "median" else 0
    return [
        plan.examples if trial < free or course.is_spared(trial) else stop(plan, 0, rungs, shares, source)
        for trial, plan in enumerate(plans)
    ]


def stop(plan: Workload, seen: int, rungs: Sequence[int], shares: Sequence[float], source: random.Random) -> int:
    """Draw the examples at which a trial ends that has come past some rungs.

    Args:
        plan: Its plan.
        seen: Examples that it has trained.
        rungs: Where it may be ended.
        shares: Of how many trials go on at each.
        source: Of randomness.
    """
    for rung, share in zip(rungs, shares, strict=True):
        if rung >= plan.examples:
            break
        if rung > seen and source.random() >= share:
            return rung
    return plan.examples


def _halved(course: Course, plans: Sequence[Workload], cohort: range, source: random.Random) -> list[int]:
    """Draw where the trials of a cohort end.

    What makes a trial good is drawn too: how far it is chance at each rung, how much the sampler gains from one trial
    to the next, and whether longer trials are better. So is by how much trials differ at each rung, in shares of their
    values: from one in a hundred, as near a plateau, to all of it, and the later the more.
    """
    ends = {trial: plans[trial].examples for trial in cohort}
    longest = max(ends.values())
    chance, length = source.random(), source.uniform(-0.5, 1.0)
    gain = source.random() if course.spec.search.sampler in LEARNING else 0.0
    worth = {
        trial: source.random() - gain * place / len(cohort) - length * ends[trial] / longest
        for place, trial in enumerate(cohort)
    }
    spreads = sorted(10 ** source.uniform(-2.0, 0.0) for _ in course.rungs)
    chosen = [trial for trial in cohort if not course.is_baseline(trial)]
    for rung, spread in zip(course.rungs, spreads, strict=True):
        there = [trial for trial in chosen if plans[trial].examples >= rung]
        values = [math.exp(spread * ((1 - chance) * worth[trial] + chance * source.random())) for trial in there]
        going = going_on(values, course.spec.pruning.factor)
        chosen = [there[place] for place in going]
        for trial in set(there).difference(chosen):
            ends[trial] = plans[trial].examples if course.is_spared(trial) else rung
    return list(ends.values())


def going_on(values: Sequence[float], factor: int, come: int = 0) -> dict[int, int]:
    """Say who of a cohort goes on from a rung with `halving`, and which arrival lets it.

    Args:
        values: What the trials have reached, smaller is better, in the order in which they come there.
        factor: Of how many one goes on.
        come: How many of them have come; whom their arrivals let go on is known, and left out.

    Returns:
        By the place of a trial in ``values`` that of the arrival, in the order in which they go on.
    """
    there: list[tuple[float, int]] = []
    found: dict[int, int] = {}
    for place, value in enumerate(values):
        bisect.insort(there, (value, place))
        places = len(there) // factor
        if len(there) == len(values):
            places = max(places, 1)
        if places > 0 and len(there) >= come:
            last, _ = there[places - 1]
            for reached, one in there:
                if is_outdone(reached, last, Direction.MINIMIZE):
                    break
                found.setdefault(one, place)
    return found


def _drawn(space: SearchSpace, source: random.Random) -> dict[str, Value]:
    params: dict[str, Value] = {}
    for name, parameter in space.parameters.items():
        if space.is_active(name, params):
            params[name] = _value(parameter, source)
    return params


def _value(parameter: Parameter, source: random.Random) -> Value:
    if parameter.choices is not None:
        return source.choice(parameter.choices)
    assert parameter.low is not None
    assert parameter.high is not None
    low, high = parameter.low, parameter.high
    if parameter.log:
        value = math.exp(source.uniform(math.log(low), math.log(high)))
        return round(value) if parameter.is_integer else value
    if parameter.countable:
        return min(low + source.randrange(parameter.size()) * (parameter.step or 1), high)
    return source.uniform(low, high)
