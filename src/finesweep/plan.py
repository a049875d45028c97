"""Owns which configurations are tried before any sampler proposes one, and when a sweep ends early."""

from __future__ import annotations

import itertools
import random
from collections.abc import Hashable, Iterable, Iterator, Sequence

from finesweep.readable import without_numbers
from finesweep.search_space import SearchSpace
from finesweep.spec import StopSpec, SweepSpec
from finesweep.training_fields import TRAINING_FIELDS
from finesweep.trial import Direction, Params, TrialRecord, TrialState, Value

SAME_FAILURES = 3


def planned_trials(spec: SweepSpec, model_defaults: Params, max_length: int) -> list[Params]:
    """Return the parameters of the first trials: the untuned default, ``start``, or the whole grid.

    A trial with a number below the list's length uses that entry, whoever runs it; so the plan is the
    same with one worker and with many.

    Args:
        spec: The sweep's spec.
        model_defaults: Defaults of the ``model.*`` parameters by dotted name.
        max_length: The default of ``data.max_length``.
    """
    space = SearchSpace(spec.space)
    if spec.search.sampler == "grid":
        points = space.grid()
        random.Random(spec.search.seed).shuffle(points)
        return [*spec.start, *_unlike(spec, points, spec.start)]
    defaults = {name: rule.default for name, rule in TRAINING_FIELDS.items()}
    baseline = space.untuned({**defaults, "data.max_length": max_length, **model_defaults})
    if not spec.search.baseline:
        return list(spec.start)
    return [baseline, *_without_first(spec, spec.start, baseline)]


Configuration = tuple[Hashable, ...]
"""What a trial trains with, as far as a space can change it."""


def configuration(spec: SweepSpec, params: Params) -> Configuration:
    """Return what a trial trains with; trials with the same configuration train the same.

    0.1 + 0.2 counts as 0.3, and 3 as 3.0. A parameter that is switched off follows from the one that does so.

    Args:
        spec: The sweep's spec.
        params: The trial's parameters.
    """
    return tuple(_comparable(params.get(name)) for name in spec.space)


def trials_wanted(spec: SweepSpec, plan: Sequence[Params]) -> int:
    """Return how many trials there will be: as many as the budget has, or as there are configurations."""
    if spec.search.sampler == "grid":
        return min(spec.budget.trials, len(plan))
    return len(plan[: spec.budget.trials]) + _count_unplanned(spec, plan, spec.budget.trials - len(plan))


def used_up(spec: SweepSpec, plan: Sequence[Params]) -> str | None:
    """Say that the space has fewer configurations than the budget has trials, None if it has not."""
    wanted = trials_wanted(spec, plan)
    if wanted == spec.budget.trials:
        return None
    return f"there are {wanted} configurations to try, and budget.trials is {spec.budget.trials}"


def _count_unplanned(spec: SweepSpec, plan: Sequence[Params], at_most: int) -> int:
    """Count the configurations that are not planned; stop counting where there are enough."""
    space = SearchSpace(spec.space)
    if at_most <= 0 or not space.can_repeat:
        return max(at_most, 0)
    unplanned = _unlike(spec, space.points(random.Random(0)), plan)
    return sum(1 for _ in itertools.islice(unplanned, at_most))


def _unlike(spec: SweepSpec, points: Iterable[Params], others: Sequence[Params]) -> Iterator[Params]:
    """Yield the points whose configuration neither others have nor a point before them."""
    taken = {configuration(spec, params) for params in others}
    for point in points:
        if (found := configuration(spec, point)) not in taken:
            taken.add(found)
            yield point


def _without_first(spec: SweepSpec, points: Sequence[Params], like: Params) -> list[Params]:
    """Return points without the first of one's configuration, which is tried already; more of them are asked for."""
    found = [configuration(spec, point) for point in points]
    same = configuration(spec, like)
    return [point for place, point in enumerate(points) if found[place] != same or same in found[:place]]


def _comparable(value: Value) -> Hashable:
    """Return a value so that equal settings are equal; ``true`` is not 1."""
    number = float(f"{value:.12g}") if isinstance(value, float) else value
    return (isinstance(value, bool), number)


def early_stop(stop: StopSpec, records: Sequence[TrialRecord], direction: Direction) -> str | None:
    """Say why the sweep should end before its budget, or None.

    Args:
        stop: The conditions.
        records: All finished trials so far.
        direction: The objective's direction.
    """
    best: float | None = None
    best_after = 0
    if stop.target is None and stop.no_gain_trials is None:
        return None
    finished = sorted((r for r in records if r.state.finished), key=lambda r: r.started + r.seconds)
    for count, record in enumerate(finished, start=1):
        objective = record.objective if record.state is TrialState.COMPLETE else None
        if objective is not None and direction.better(objective, best):
            best, best_after = objective, count
    if stop.target is not None and best is not None and not direction.better(stop.target, best):
        return f"the target {stop.target:g} is reached"
    if stop.no_gain_trials is not None and best is not None and len(finished) - best_after >= stop.no_gain_trials:
        return f"{stop.no_gain_trials} trials without a new best"
    return None


def same_failure(records: Sequence[TrialRecord], run: int) -> str | None:
    """Say what makes every trial of a run fail, None if nothing does.

    Three times the same failure before any success is taken for a fault of the set-up, which would burn
    the whole budget. The next run tries again.

    Args:
        records: How each ended trial ended.
        run: Number of the run.
    """
    ended = sorted((r for r in records if r.run == run and r.state.finished), key=lambda r: r.started + r.seconds)
    first = ended[:SAME_FAILURES]
    if len(first) < SAME_FAILURES or any(record.state is not TrialState.FAILED for record in first):
        return None
    if len({without_numbers(record.reason or "") for record in first}) > 1:
        return None
    return f"the first {SAME_FAILURES} trials failed alike: {first[0].reason}"
