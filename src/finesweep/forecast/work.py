"""Forecasts the work of a sweep: training examples and evaluated rows of trials that have not been trained yet.

The unknown parts, the proposed configurations and the pruned trials, are drawn many times; the result is a range.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from finesweep.forecast.course import Course, Span
from finesweep.forecast.remaining_work import Rest
from finesweep.spec import SweepSpec, Workload

_DRAWS = 60


def expected_examples(spec: SweepSpec, rows: int, trials: int, pruned: bool) -> Span:
    """Estimate the training examples of a whole sweep.

    With `halving` the range is narrow, because rungs are fixed and shares nearly so. With other pruners it is as wide
    as ``SHARES``, because the share of promoted trials depends on their values. Trials that diverge, fail or stop early
    are not foreseen.

    Args:
        spec: The sweep's spec.
        rows: Training rows.
        trials: Trials of the sweep.
        pruned: Whether the spec's pruner ends trials; without, all train to their end.
    """
    return _forecast(Course(spec, rows), trials, pruned, lambda trained, _: trained)


def evaluated_rows(spec: SweepSpec, train_rows: int, validation_rows: int, trials: int, pruned: bool) -> Span:
    """Estimate the validation rows that a whole sweep evaluates, each counted as often as it is read.

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
    """Simulate whole sweeps and add up the costs of their trials; in a large sweep a part represents the rest."""
    source, rest = random.Random(0), Rest.of(course, trials)
    totals = []
    for _ in range(_DRAWS):
        simulation, fresh, _ = rest.simulation(_examples, 1, source)
        if pruned:
            simulation.run({}, fresh)
        drawn = [simulation.trials[number] for number in fresh]
        ends = [(trial.seen if pruned else trial.plan.examples, trial.plan.examples) for trial in drawn]
        totals.append(sum(cost(end, end >= planned) for end, planned in ends) * trials / len(fresh))
    return Span.of(totals)


def _examples(_: Workload, examples: int, **__: bool) -> float:
    return examples
