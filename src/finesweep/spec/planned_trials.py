"""Lists the configurations that are tried before any sampler proposes one, and counts those that a space has."""

from __future__ import annotations

import itertools
import random
from collections.abc import Hashable, Iterable, Iterator, Sequence

from finesweep.spec.known_good import known_good, may_start_well
from finesweep.spec.sections import SweepSpec
from finesweep.spec.training_arguments import TRAINING_FIELDS
from finesweep.trial import Params, Value


def planned_trials(
    spec: SweepSpec,
    model_defaults: Params,
    max_length: int,
    best: Sequence[Params] = (),
    width: int | None = None,
) -> list[Params]:
    """Return the parameters of the first trials: the untuned default, ``start``, or the whole grid.

    With ``start: auto`` they are known good configurations, at most a third of ``budget.trials``.

    Trial number N has entry N of the list, in whichever process it runs. So the plan does not depend on the number of
    workers.

    Args:
        spec: The sweep's spec.
        model_defaults: Defaults of the ``model.*`` parameters by dotted name.
        max_length: The default of ``data.max_length``.
        best: The best configurations of the earlier sweep that ``start`` names.
        width: Width of the model's layers; None if it is not known.
    """
    space, start = spec.search_space, spec.start if isinstance(spec.start, tuple) else best
    if spec.search.sampler == "grid":
        points = space.grid()
        # Shuffled, because a budget smaller than the grid covers only the first points.
        random.Random(spec.search.seed).shuffle(points)
        return [*start, *_unlike(spec, points, start)]
    of_library = {name: rule.default for name, rule in TRAINING_FIELDS.items()}
    defaults = {**of_library, "data.max_length": max_length, **model_defaults}
    first = [space.untuned(defaults)] if spec.search.baseline else []
    if may_start_well(spec):
        known = _unlike(spec, known_good(spec, defaults, width), first)
        return [*first, *itertools.islice(known, spec.budget.trials // 3)]
    return [*first, *(_without_first(spec, start, first[0]) if first else start)]


Configuration = tuple[Hashable, ...]
"""The values of all parameters of a space, comparable and hashable."""


def configuration(spec: SweepSpec, params: Params) -> Configuration:
    """Return a trial's configuration; two trials with the same configuration train the same.

    0.1 + 0.2 equals 0.3, and 3 equals 3.0. A parameter that is switched off counts as None.
    """
    return tuple(_comparable(params.get(name)) for name in spec.space)


def trials_wanted(spec: SweepSpec, planned: Sequence[Params]) -> int:
    """Return the number of trials of a sweep: its budget, or the number of configurations if that is smaller."""
    if spec.search.sampler == "grid":
        return min(spec.budget.trials, len(planned))
    return len(planned[: spec.budget.trials]) + _count_unplanned(spec, planned, spec.budget.trials - len(planned))


def used_up(spec: SweepSpec, planned: Sequence[Params]) -> str | None:
    """Return a message if the space has fewer configurations than the budget has trials, else None."""
    wanted = trials_wanted(spec, planned)
    if wanted == spec.budget.trials:
        return None
    return f"there are {wanted} configurations to try, and budget.trials is {spec.budget.trials}"


def _count_unplanned(spec: SweepSpec, planned: Sequence[Params], at_most: int) -> int:
    """Count the configurations that are not planned, up to ``at_most``."""
    space = spec.search_space
    if at_most <= 0 or not space.can_repeat:
        return max(at_most, 0)
    unplanned = _unlike(spec, space.points(random.Random(0)), planned)
    return sum(1 for _ in itertools.islice(unplanned, at_most))


def _unlike(spec: SweepSpec, points: Iterable[Params], others: Sequence[Params]) -> Iterator[Params]:
    """Yield the points whose configuration neither ``others`` nor an earlier point has."""
    taken = {configuration(spec, params) for params in others}
    for point in points:
        if (found := configuration(spec, point)) not in taken:
            taken.add(found)
            yield point


def _without_first(spec: SweepSpec, points: Sequence[Params], like: Params) -> list[Params]:
    """Return the points without the first one of the configuration of ``like``; the user asked for further ones."""
    found = [configuration(spec, point) for point in points]
    same = configuration(spec, like)
    return [point for place, point in enumerate(points) if found[place] != same or same in found[:place]]


def _comparable(value: Value) -> Hashable:
    """Return a value of which equal settings are equal; ``true`` differs from 1."""
    number = float(f"{value:.12g}") if isinstance(value, float) else value
    return (isinstance(value, bool), number)
