"""Says how far trials of a sweep may go: what they plan to train, and where its pruner may end them."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finesweep.pruning import is_audited, rung_examples
from finesweep.spec import ON_RUNGS, SweepSpec, Workload
from finesweep.spec.planned_trials import planned_trials
from finesweep.trial import Params

SHARES: Mapping[str, tuple[float, float, float]] = {
    "median": (0.45, 0.65, 0.85),
    "asha": (0.35, 0.5, 0.75),
    "hyperband": (0.5, 0.7, 0.95),
}
"""Of the trials that come to a point of comparison, how many go on: low, likely, high. About half of them are above
the median, more where a sampler learns to propose good ones; brackets of `hyperband` that begin late prune less."""

LEARNING = frozenset({"tpe", "gp"})
"""Samplers that come to prefer a part of the space."""

_POOL = 200


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
        return Workload.of(self.spec.merged(params), self.rows)

    @functools.cached_property
    def planned(self) -> list[Workload]:
        """Plans of the first trials, as far as they are known before any sampler is asked."""
        known = planned_trials(self.spec, {}, self.spec.data.max_length or 512)
        return [self.plan(params) for params in known]

    @functools.cached_property
    def pool(self) -> list[Workload]:
        """Plans as a random sampler would propose them."""
        space, source = self.spec.search_space, random.Random(0)
        return [self.plan(space.draw(source)) for _ in range(_POOL)]

    def is_baseline(self, trial: int) -> bool:
        """Say whether a trial is the untuned default, which our pruners never end."""
        search = self.spec.search
        return trial == 0 and search.baseline and search.sampler != "grid" and search.pruner in ON_RUNGS

    def is_spared(self, trial: int) -> bool:
        """Say whether a trial is finished even if it is weak: for the audit, or since too few can be compared."""
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
