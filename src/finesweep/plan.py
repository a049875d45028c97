"""Owns which configurations are tried before any sampler proposes one, and when a sweep ends early."""

from __future__ import annotations

import random
from collections.abc import Sequence

from finesweep.readable import without_numbers
from finesweep.search_space import SearchSpace
from finesweep.spec import StopSpec, SweepSpec
from finesweep.training_fields import TRAINING_FIELDS
from finesweep.trial import Direction, Params, TrialRecord, TrialState, Value

SAME_FAILURES = 3


def planned_trials(spec: SweepSpec, model_defaults: Params, max_length: int) -> list[dict[str, Value]]:
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
        return [*spec.start, *(point for point in points if point not in spec.start)]
    defaults = {name: rule.default for name, rule in TRAINING_FIELDS.items()}
    baseline = space.untuned({**defaults, "data.max_length": max_length, **model_defaults})
    return [*([baseline] if spec.search.baseline else []), *spec.start]


def trials_wanted(spec: SweepSpec, plan: Sequence[Params]) -> int:
    """Return how many trials the budget asks for; a grid has no more than its points."""
    return min(spec.budget.trials, len(plan)) if spec.search.sampler == "grid" else spec.budget.trials


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
