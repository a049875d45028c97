"""Draws the duration of future attempts from those that have ended."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from finesweep.spec import Workload
from finesweep.trial import TrialRecord

BETWEEN_SECONDS = 0.2
"""Seconds between the end of an attempt and the start of the next one in its place, for the study and a fork."""

_HALF_LIFE = 12
"""Half-life of an attempt's weight, in later attempts."""

_ENOUGH = 5
"""Number of attempts of the latest run from which earlier runs, perhaps on another machine, are ignored."""

_MOST_FIXED = 0.6
"""Maximum share of an attempt's time that does not depend on its examples: model, Trainer, import."""

_NEAREST = 5
"""Number of most similar attempts from which a future one is drawn."""

_DOUBT = 0.2
"""Standard deviation of the logarithm of the machine's later speed: it may get other work to do."""


@dataclass(frozen=True)
class AttemptTiming:
    """Duration of an ended attempt.

    Attributes:
        plan: Workload of its trial.
        examples: Training examples of this attempt.
        seconds: Its wall clock.
        run: Number of its run.
    """

    plan: Workload
    examples: int
    seconds: float
    run: int = 0

    @classmethod
    def of(cls, record: TrialRecord, plan: Workload) -> AttemptTiming | None:
        """Read the last attempt of a record; None if it tells nothing about the speed."""
        speed = record.examples_per_second
        if not speed or not math.isfinite(speed) or not record.seconds > 0:
            return None
        examples = min(round(speed * record.seconds), record.examples)
        return cls(plan, examples, record.seconds, record.run) if examples > 0 else None

    def is_like(self, plan: Workload) -> bool:
        """Return whether the settings that decide the speed are equal: rows per device and step, and longest input."""
        return (self.plan.batch, self.plan.longest) == (plan.batch, plan.longest)


@dataclass
class ResampledSpeed:
    """A resample of the ended attempts, from which the durations of future ones are drawn.

    A future attempt takes as long as a similar one of the sample, scaled by the number of examples.

    Attributes:
        attempts: The sample, at least one.
        level: Factor on all times.
        fixed: Share of an attempt's time that does not depend on its examples.
        source: Random generator.
    """

    attempts: Sequence[AttemptTiming]
    level: float
    fixed: float
    source: random.Random
    _like: dict[object, Sequence[AttemptTiming]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def drawn(cls, attempts: Sequence[AttemptTiming], source: random.Random) -> ResampledSpeed:
        """Draw a speed.

        Args:
            attempts: In the order of their ends; the latest have the largest weights.
            source: Random generator.
        """
        newest = [one for one in attempts if one.run == max(each.run for each in attempts)]
        found = newest if len(newest) >= _ENOUGH else attempts
        weights = [0.5 ** (age / _HALF_LIFE) for age in reversed(range(len(found)))]
        # The effective sample size of the weights: so many equal ones would be as sure.
        count = max(round(sum(weights) ** 2 / sum(weight**2 for weight in weights)), 2)
        level = math.exp(source.gauss(0.0, _DOUBT))
        return cls(source.choices(found, weights, k=count), level, source.uniform(0.0, _MOST_FIXED), source)

    def seconds(self, plan: Workload, examples: int, *, anew: bool = True) -> float:
        """Draw the seconds that some examples of a trial take.

        Args:
            plan: Workload of the trial.
            examples: Number of examples.
            anew: Whether a new attempt trains them; its fixed time, and the time between two attempts, are then added.
        """
        like = self.source.choice(self._nearest(plan, examples))
        share = (1 - self.fixed) * examples / like.examples + self.fixed * anew
        return BETWEEN_SECONDS * anew + self.level * like.seconds * share

    def _nearest(self, plan: Workload, examples: int) -> Sequence[AttemptTiming]:
        """Return the most similar attempts: first of the same kind, then of about the same length."""
        key = (plan.batch, plan.longest, examples)
        if key not in self._like:
            found = [one for one in self.attempts if one.is_like(plan)] or self.attempts
            self._like[key] = heapq.nsmallest(
                _NEAREST, found, lambda one: abs(math.log(max(examples, 1) / one.examples))
            )
        return self._like[key]
