"""Draws how long attempts take here from those that have ended."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from finesweep.spec import Workload
from finesweep.trial import TrialRecord

BETWEEN_SECONDS = 0.2
"""Seconds from the end of an attempt to the start of the next one in its place: the study, a fork."""

_HALF_LIFE = 12
"""Attempts after which one counts half as much as the latest."""

_ENOUGH = 5
"""Attempts of the latest run after which those of earlier runs, perhaps on another machine, do not count."""

_MOST_FIXED = 0.6
"""Largest share of an attempt's time that does not depend on its examples: model, Trainer, import."""

_NEAREST = 5
"""Attempts, the most alike, of which one to come takes after one."""

_DOUBT = 0.2
"""Standard deviation of the machine's later speed from that so far: it may get other work to do."""


@dataclass(frozen=True)
class AttemptTiming:
    """What an attempt that has ended took.

    Attributes:
        plan: What its trial would train.
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
        """Read the last attempt of a record; None where it says nothing of the speed."""
        speed = record.examples_per_second
        if not speed or not math.isfinite(speed) or not record.seconds > 0:
            return None
        examples = min(round(speed * record.seconds), record.examples)
        return cls(plan, examples, record.seconds, record.run) if examples > 0 else None

    def is_like(self, plan: Workload) -> bool:
        """Say whether what decides the speed is the same: rows per device and step, and the longest input."""
        return (self.plan.batch, self.plan.longest) == (plan.batch, plan.longest)


@dataclass
class ResampledSpeed:
    """Attempts that were drawn with replacement: those to come take as long as these, in proportion to their examples.

    Attributes:
        attempts: What was drawn, at least one.
        level: Factor on all times.
        fixed: Share of an attempt's time that does not depend on its examples.
        source: Of randomness.
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
            attempts: In the order in which they ended; the latest count most.
            source: Of randomness.
        """
        newest = [one for one in attempts if one.run == max(each.run for each in attempts)]
        found = newest if len(newest) >= _ENOUGH else attempts
        weights = [0.5 ** (age / _HALF_LIFE) for age in reversed(range(len(found)))]
        count = max(round(sum(weights) ** 2 / sum(weight**2 for weight in weights)), 2)
        level = math.exp(source.gauss(0.0, _DOUBT))
        return cls(source.choices(found, weights, k=count), level, source.uniform(0.0, _MOST_FIXED), source)

    def seconds(self, plan: Workload, examples: int, *, anew: bool = True) -> float:
        """Draw the seconds of an attempt from the end of the one before it, or of a part of one that is under way."""
        like = self.source.choice(self._nearest(plan, examples))
        share = (1 - self.fixed) * examples / like.examples + self.fixed * anew
        return BETWEEN_SECONDS * anew + self.level * like.seconds * share

    def _nearest(self, plan: Workload, examples: int) -> Sequence[AttemptTiming]:
        """Return the attempts that are most like one: first of the same kind, then about as long."""
        key = (plan.batch, plan.longest, examples)
        if key not in self._like:
            found = [one for one in self.attempts if one.is_like(plan)] or self.attempts
            self._like[key] = heapq.nsmallest(
                _NEAREST, found, lambda one: abs(math.log(max(examples, 1) / one.examples))
            )
        return self._like[key]
