"""Forecasts the work of a sweep: training examples and evaluated rows of trials that have not been trained yet.

The unknown parts, the proposed configurations and the pruned trials, are drawn many times; the result is a range.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from finesweep.forecast.course import Course, Span
from finesweep.forecast.remaining_work import Rest
from finesweep.spec import StopSpec, SweepSpec, Workload
from finesweep.trial import Params

_DRAWS = 60


def expected_examples(
    spec: SweepSpec, rows: int, trials: int, pruned: bool, first: Sequence[Params] | None = None
) -> Span:
    """Estimate the training examples of a whole sweep.

    With `halving` the range is narrow, because rungs are fixed and shares nearly so. With other pruners it is as wide
    as ``SHARES``, because the share of promoted trials depends on their values. Early stopping and ``stop`` are drawn,
    within what is usual for them. Trials that diverge or fail are not foreseen.

    Args:
        spec: The sweep's spec.
        rows: Training rows.
        trials: Trials of the sweep.
        pruned: Whether the spec's pruner ends trials; without, only early stopping does.
        first: Parameters of the first trials; see ``Course``.
    """
    return _forecast(_course(spec, rows, pruned, first), trials, lambda _, trained, __: trained)


def evaluated_rows(
    spec: SweepSpec,
    train_rows: int,
    validation_rows: int,
    trials: int,
    pruned: bool,
    first: Sequence[Params] | None = None,
) -> Span:
    """Estimate the validation rows that a whole sweep evaluates, each counted as often as it is read.

    Args:
        spec: The sweep's spec.
        train_rows: Training rows.
        validation_rows: Validation rows.
        trials: Trials of the sweep.
        pruned: As for ``expected_examples``.
        first: Parameters of the first trials; see ``Course``.
    """
    own = Course(spec, train_rows)  # which evaluates at its rungs, whether it prunes there or not
    course = _course(spec, train_rows, pruned, first)

    def rows(plan: Workload, trained: int, complete: bool) -> int:
        return own.evaluated(plan, trained, validation_rows, complete=complete)

    return _forecast(course, trials, rows)


def in_full(spec: SweepSpec) -> SweepSpec:
    """Return a spec by which all trials train to their end."""
    search = spec.search.model_copy(update={"pruner": "none"})
    return spec.model_copy(update={"search": search, "patience": "none", "stop": StopSpec()})


def _course(spec: SweepSpec, rows: int, pruned: bool, first: Sequence[Params] | None) -> Course:
    search = spec.search if pruned else spec.search.model_copy(update={"pruner": "none"})
    return Course(spec.model_copy(update={"search": search}), rows, first)


def _forecast(course: Course, trials: int, cost: Callable[[Workload, int, bool], int]) -> Span:
    """Simulate whole sweeps and add up the costs of their trials; in a large sweep a part represents the rest.

    A trial that ``stop`` ends in its midst counts up to its last rung.
    """
    source, rest = random.Random(0), Rest.of(course, trials)
    totals = []
    for _ in range(_DRAWS):
        simulation, fresh, _ = rest.simulation(_examples, 1, source)
        simulation.run({}, fresh)
        drawn = [simulation.trials[number] for number in fresh]
        # Halving prunes at a rung before the drawn end; the other pruners draw the end.
        ends = [trial.end if course.halves or not course.rungs else trial.plan.examples for trial in drawn]
        costs = [
            cost(trial.plan, trial.seen, trial.seen >= end)
            for trial, end in zip(drawn, ends, strict=True)
            if trial.seen
        ]
        totals.append(sum(costs) * (1 if simulation.is_stopped else trials / len(fresh)))
    return Span.of(totals)


def _examples(_: Workload, examples: int, **__: bool) -> float:
    return examples
