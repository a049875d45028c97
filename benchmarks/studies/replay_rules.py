"""Replays one sweep over recorded curves event by event, with each kind of pruner.

The rules are those that sweeps run by: ``finesweep.pruning.rules``, Optuna's pruners and Ray's scheduler themselves.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import optuna
from benchmarks.curves.recorded import Curve

from finesweep.pruning.rules import COHORT, FEWEST, TOLERANCE, RungStanding, is_below_median, promotions, values_at
from finesweep.spec.sections import FACTOR
from finesweep.trial import Direction, Evaluation

MINIMIZE = Direction.MINIMIZE


class Rule(Protocol):
    """How a pruner is replayed.

    Attributes:
        curves: The trials by number.
    """

    curves: Sequence[Curve]

    def stops(self, trial: int) -> Sequence[int]:
        """Return the examples after which it looks at a trial, ascending."""

    def judge(self, trial: int, examples: int) -> bool:
        """Say whether a trial goes on from there at once."""

    def complete(self, trial: int) -> None:
        """Note that a trial has completed."""

    def queue(self) -> Iterator[int]:
        """Yield waiting and new trials, the next to run first."""


@dataclass
class Unpruned:
    """Every trial is finished; what rules have in common."""

    curves: Sequence[Curve]
    begun: int = 0

    def stops(self, trial: int) -> Sequence[int]:
        """Look at nothing."""
        return ()

    def judge(self, trial: int, examples: int) -> bool:
        """Let all go on."""
        return True

    def complete(self, trial: int) -> None:
        """Do nothing about it."""

    def queue(self) -> Iterator[int]:
        """Take the next number."""
        if self.begun < len(self.curves):
            self.begun += 1
            yield self.begun - 1


@dataclass
class Fewer(Unpruned):
    """The plain rival of all pruning: of the trials only the first ones are run, to their ends."""

    share: float = 0.5

    def queue(self) -> Iterator[int]:
        """Take the next number."""
        return super().queue() if self.begun < self.share * len(self.curves) else iter(())


@dataclass
class AtRungs(Unpruned):
    """What rules have in common that compare trials at rungs.

    Attributes:
        rungs: Epochs; or shares of a trial's own length.
        own_length: Which of both they are.
        standings: What has been seen of each trial that was begun.
    """

    rungs: Sequence[float] = (1,)
    own_length: bool = False
    standings: dict[int, RungStanding] = field(default_factory=dict)

    def examples(self, trial: int) -> list[int]:
        """Return the rungs in a trial's examples."""
        curve = self.curves[trial]
        whole = curve.rows * curve.epochs if self.own_length else curve.rows
        return [int(rung * whole) for rung in self.rungs]

    def stops(self, trial: int) -> Sequence[int]:
        """Look at the rungs that the trial comes to."""
        return [rung for rung in self.examples(trial) if rung <= self.curves[trial].examples]

    def reach(self, trial: int, examples: int, *, waits: bool = False) -> RungStanding:
        """Note that a trial has come to a rung."""
        seen = [one for one in self.curves[trial].evaluations if one.examples <= examples]
        self.standings[trial] = RungStanding(trial, values_at(seen, self.examples(trial), MINIMIZE), waits)
        return self.standings[trial]


@dataclass
class Median(AtRungs):
    """Our median rule."""

    fewest: int = FEWEST

    def judge(self, trial: int, examples: int) -> bool:
        """Hold the trial against the others at this rung."""
        rung = self.examples(trial).index(examples)
        value = self.reach(trial, examples).values[rung]
        others = [one.values[rung] for one in self.standings.values() if one.trial != trial and rung in one.values]
        return not is_below_median(value, others, MINIMIZE, fewest=self.fewest)


@dataclass
class Halving(AtRungs):
    """Our successive halving, in which trials wait."""

    factor: int = FACTOR
    cohort: int = COHORT
    tolerance: float = TOLERANCE

    def judge(self, trial: int, examples: int) -> bool:
        """Let the trial wait, unless it is among the best so far."""
        self.reach(trial, examples, waits=True)
        return trial in self._promoted() and self._goes(trial)

    def complete(self, trial: int) -> None:
        """Wait for it no longer."""
        self._end(trial)

    def queue(self) -> Iterator[int]:
        """Take a trial that the rule promotes, else a new one."""
        for trial in itertools.chain(self._promoted(), super().queue()):
            self._goes(trial)
            yield trial
            return

    def _promoted(self) -> Sequence[int]:
        shape = len(self.curves), len(self.rungs), MINIMIZE
        settings: dict[str, Any] = {"factor": self.factor, "cohort": self.cohort, "tolerance": self.tolerance}
        found = promotions(self.standings, *shape, **settings)
        for trial in found.dropped:
            self._end(trial)
        return found.promoted

    def _goes(self, trial: int) -> bool:
        self.standings[trial] = RungStanding(trial, self._values(trial))
        return True

    def _end(self, trial: int) -> None:
        self.standings[trial] = RungStanding(trial, self._values(trial), is_over=True)

    def _values(self, trial: int) -> Mapping[int, float]:
        return self.standings[trial].values if trial in self.standings else {}


def steps_axis(seen: Evaluation) -> int:
    """Return where the stock call reports an evaluation: at its optimizer step."""
    return seen.step


def examples_axis(seen: Evaluation) -> int:
    """Return the examples seen."""
    return seen.examples


def epochs_axis(seen: Evaluation) -> int:
    """Return the epoch, for pruners that need evenly spaced steps."""
    return round(seen.epoch)


@dataclass
class Optuna(Unpruned):
    """A pruner of Optuna, told of one evaluation an epoch as the stock call tells it.

    Attributes:
        pruner: Makes the pruner.
        axis: Where on its axis an evaluation lies.
    """

    pruner: Callable[[], optuna.pruners.BasePruner] = optuna.pruners.MedianPruner
    axis: Callable[[Evaluation], int] = steps_axis
    asked: dict[int, optuna.Trial] = field(default_factory=dict)

    @cached_property
    def study(self) -> optuna.Study:
        """The study that the pruner reads."""
        return optuna.create_study(pruner=self.pruner(), sampler=optuna.samplers.RandomSampler(seed=0))

    def stops(self, trial: int) -> Sequence[int]:
        """Look at the end of each epoch."""
        return self.curves[trial].epoch_ends

    def judge(self, trial: int, examples: int) -> bool:
        """Report, and ask the pruner."""
        if trial not in self.asked:
            self.asked[trial] = self.study.ask()
        asked, curve = self.asked[trial], self.curves[trial]
        seen = curve.at(examples)
        assert seen.objective is not None
        asked.report(seen.objective, self.axis(seen))
        weak = examples < curve.examples and asked.should_prune()
        if weak:
            self.study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        return not weak

    def complete(self, trial: int) -> None:
        """Tell the last value, as the stock call does."""
        self.study.tell(self.asked[trial], self.curves[trial].evaluations[-1].objective)


@dataclass
class RayAsha(Unpruned):
    """Ray's ASHA, which stops trials and never takes one up again; told of one evaluation an epoch."""

    factor: int = 2

    @cached_property
    def scheduler(self) -> Any:
        """The scheduler."""
        from ray.tune.schedulers import ASHAScheduler

        settings: dict[str, Any] = {"max_t": 10**9, "grace_period": 1, "reduction_factor": self.factor}
        return ASHAScheduler(time_attr="epoch", metric="objective", mode="min", **settings)

    def stops(self, trial: int) -> Sequence[int]:
        """Look at the end of each epoch."""
        return self.curves[trial].epoch_ends

    def judge(self, trial: int, examples: int) -> bool:
        """Report, and hear what the scheduler decides."""
        curve, named = self.curves[trial], _Named(str(trial))
        seen = curve.at(examples)
        result = {"epoch": examples // curve.rows, "objective": seen.objective}
        if result["epoch"] == 1:
            self.scheduler.on_trial_add(None, named)
        decision = self.scheduler.on_trial_result(None, named, result)
        return bool(decision == self.scheduler.CONTINUE or examples == curve.examples)


@dataclass(frozen=True)
class _Named:
    trial_id: str


@dataclass(frozen=True)
class Outcome:
    """One replayed sweep.

    Attributes:
        reached: Examples trained, by trial.
        seconds: Wall clock.
        complete: Trials that completed.
    """

    reached: Sequence[int]
    seconds: float
    complete: frozenset[int]


def carry_out(rule: Rule, workers: int) -> Outcome:
    """Replay one sweep.

    Args:
        rule: The pruner, which holds the trials.
        workers: How many trials run at a time.
    """
    reached = [0] * len(rule.curves)
    complete: set[int] = set()
    running: list[tuple[float, int, int]] = []
    now = 0.0
    while True:
        while len(running) < workers and (trial := next(rule.queue(), None)) is not None:
            _send(rule, trial, now, reached, running)
        if not running:
            return Outcome(reached, now, frozenset(complete))
        now, trial, examples = heapq.heappop(running)
        reached[trial] = examples
        goes_on = examples not in rule.stops(trial) or rule.judge(trial, examples)
        if examples == rule.curves[trial].examples:
            complete.add(trial)
            rule.complete(trial)
        elif goes_on:
            _send(rule, trial, now, reached, running)


def _send(rule: Rule, trial: int, now: float, reached: Sequence[int], running: list[tuple[float, int, int]]) -> None:
    """Let a trial run to where the rule looks at it next, or to its end."""
    curve, done = rule.curves[trial], reached[trial]
    to = next((stop for stop in rule.stops(trial) if stop > done), curve.examples)
    heapq.heappush(running, (now + curve.seconds * (to - done) / curve.examples, trial, to))
