"""Describes how far trials of a sweep may go: their planned training, and where the pruner may end them."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finesweep.pruning import is_audited, rung_examples
from finesweep.pruning.early_stopping import LOSS
from finesweep.pruning.evaluation_schedule import examples_after
from finesweep.spec import ON_RUNGS, SweepSpec, Workload
from finesweep.spec.planned_trials import planned_trials
from finesweep.trial import Params

SHARES: Mapping[str, tuple[float, float, float]] = {
    "median": (0.45, 0.65, 0.85),
    "asha": (0.35, 0.5, 0.75),
    "hyperband": (0.5, 0.7, 0.95),
}
"""Share of the trials at a rung that continue: low, likely, high. About half of them are above the median, and more if
a sampler learns to propose good ones; brackets of `hyperband` that begin late prune less."""

_POOL = 200


@dataclass(frozen=True)
class Span:
    """A range that should hold the truth in four of five sweeps.

    Attributes:
        low: One sweep in ten is below.
        middle: The median.
        high: One sweep in ten is above.
    """

    low: float
    middle: float
    high: float

    def times(self, factor: float) -> Span:
        """Return the range with its three values multiplied by a factor, 0 or more."""
        return Span(self.low * factor, self.middle * factor, self.high * factor)

    @classmethod
    def of(cls, values: Sequence[float], outside: float = 0.2) -> Span:
        """Return the range that holds all values but a share of them, half of it at each end.

        Args:
            values: At least one value.
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
        first: Parameters of the first trials, which no sampler proposes, as the manifest has them; None to take them
            from the spec, which does not know the best trials of an earlier sweep.
        candidates: In a confirmation, which trial of the search each of the first trials repeats; else empty.
    """

    spec: SweepSpec
    rows: int
    first: Sequence[Params] | None = None
    candidates: Sequence[int] = ()

    @property
    def halves(self) -> bool:
        """Whether the pruner promotes a fixed share of each cohort."""
        return self.spec.search.pruner == "halving"

    @functools.cached_property
    def rungs(self) -> tuple[int, ...]:
        """Training examples at which the spec's pruner may end a trial, ascending; 0 for each share of its length."""
        if self._own:
            return self._own
        if self.spec.search.pruner not in SHARES:
            return ()
        # Pruners of Optuna and Ray compare at the first evaluation, the second, the fourth and so on.
        each = self.rows / self.spec.evaluation.per_epoch
        return tuple(int(each * 2**power) for power in range(12))

    def rungs_of(self, plan: Workload) -> tuple[int, ...]:
        """Return the training examples at which the spec's pruner may end a trial, ascending."""
        if self._own and self.spec.compares_shares:
            return rung_examples(self.spec, self.rows, plan.examples)
        return self.rungs

    def plan(self, params: Params) -> Workload:
        """Return the workload of a trial with these parameters."""
        return Workload.of(self.spec.merged(params), self.rows)

    @functools.cached_property
    def planned(self) -> list[Workload]:
        """Workloads of the first trials, which are known before a sampler is asked."""
        known = self.first
        if known is None:
            known = planned_trials(self.spec, {}, self.spec.data.max_length or 512)
        return [self.plan(params) for params in known]

    @functools.cached_property
    def pool(self) -> list[Workload]:
        """Workloads of proposals by a random sampler."""
        space, source = self.spec.search_space, random.Random(0)
        return [self.plan(space.draw(lambda _, parameter: parameter.draw(source))) for _ in range(_POOL)]

    @property
    def has_baseline(self) -> bool:
        """Whether trial 0 is the untuned default."""
        return self.spec.search.baseline and self.spec.search.sampler != "grid"

    def is_baseline(self, trial: int) -> bool:
        """Return whether a trial is the untuned default, which pruners with rungs never end."""
        return trial == 0 and self.has_baseline and self.spec.search.pruner in ON_RUNGS

    def is_spared(self, trial: int) -> bool:
        """Return whether a trial is finished even if it is weak: for the audit, or as the untuned default."""
        search, audit = self.spec.search, self.spec.pruning.audit
        is_drawn = audit > 0 and search.pruner in ON_RUNGS and is_audited(search.seed, trial, audit)
        return is_drawn or self.is_baseline(trial)

    def share(self, source: random.Random) -> float:
        """Draw the share of the trials at a rung that continue."""
        low, likely, high = SHARES.get(self.spec.search.pruner, (1.0, 1.0, 1.0))
        return source.triangular(low, high, likely) if high > low else high

    @property
    def stops_early(self) -> bool:
        """Whether early stopping may end a trial."""
        patience = self.spec.patience
        return patience != "none" and (patience != "auto" or self.spec.objective.metric == LOSS)

    def early_end(self, plan: Workload, seen: int, source: random.Random) -> int:
        """Draw the examples at which early stopping ends a trial: at any evaluation at which it can.

        Args:
            plan: The trial's workload.
            seen: Examples that it has trained.
            source: Random generator.

        Returns:
            The examples; those of its whole workload if it is too short, or has passed the evaluation that was drawn.
        """
        per_epoch, patience = self.spec.evaluation.per_epoch, self.spec.patience
        if not self.stops_early or patience == "none":
            return plan.examples
        # `auto` waits for an epoch after the best evaluation, which is the first one at the earliest.
        first = 1 + (per_epoch if patience == "auto" else patience)
        last = (plan.examples * per_epoch - 1) // self.rows
        if first > last:
            return plan.examples
        found = examples_after(source.randint(first, last), self.rows, per_epoch)
        return found if found > seen else plan.examples

    def evaluated(self, plan: Workload, trained: int, validation_rows: int, *, complete: bool) -> int:
        """Return the number of validation rows that a trial evaluates, over all its evaluations.

        Args:
            plan: Its workload.
            trained: Its training examples.
            validation_rows: Rows of the validation set.
            complete: Whether it reaches its end; its best weights are then ranked on all rows.
        """
        each = min(self.spec.evaluation.rows, validation_rows)
        spaced = trained * self.spec.evaluation.per_epoch // self.rows
        # A rung and the end of training are evaluated in addition, unless a regular evaluation is at the same place. A
        # trial that ends at a rung was evaluated there.
        added = {rung for rung in self._own and self.rungs_of(plan) if rung <= trained} | (
            {trained} if complete else set()
        )
        between = sum(place * self.spec.evaluation.per_epoch % self.rows > 0 for place in added)
        again = validation_rows if complete and each < validation_rows else 0
        return (spaced + between) * each + again

    @functools.cached_property
    def _own(self) -> tuple[int, ...]:
        return rung_examples(self.spec, self.rows)


def stop(plan: Workload, seen: int, rungs: Sequence[int], shares: Sequence[float], source: random.Random) -> int:
    """Draw the examples at which a pruner ends a trial; those of its whole workload if none does.

    Args:
        plan: The trial's workload.
        seen: Examples that it has trained; it has passed the rungs up to there.
        rungs: Examples at which it may be ended, ascending.
        shares: Share of the trials that continue at each rung.
        source: Random generator.
    """
    for rung, share in zip(rungs, shares, strict=True):
        if rung >= plan.examples:
            break
        if rung > seen and source.random() >= share:
            return rung
    return plan.examples
