"""Owns how fast trials train here: the seconds that an attempt takes for its examples, as the records tell it."""

from __future__ import annotations

import bisect
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from finesweep.spec.trial_length import Workload
from finesweep.trial import TrialRecord, Value

Kind = tuple[int, Value]
"""What the speed depends on: rows per device and step, and the longest input."""

_HALF_LIFE = 12
"""Attempts after which one counts half as much as the latest."""

_OTHER_RUN = 0.2
"""How much an attempt of an earlier run counts, which may have run elsewhere."""

_ENOUGH = 5
"""Attempts of this run after which those of earlier ones do not count at all."""

_SMALLEST_SPREAD = 0.05
_NEIGHBOURS = 1.5
"""Attempts that follow each other are slow together: their mean is less sure than that of as many by chance."""

_SMALLEST_DOUBT = 0.12
"""The machine may have other things to do later than it had so far."""

_SPREAD_OF_FEW = 0.3
"""Spread that is assumed, as of ``_FEW`` further attempts, while few have ended."""

_FEW = 2

_USUAL_FIXED, _USUAL_FIXED_DOUBT = 0.25, 0.25
"""What is fixed of an attempt's time, as a share of it, before anything is seen, and its standard deviation."""

_LINE_SPREAD = 0.15
"""Standard deviation of a time from the line, as a share of it."""


@dataclass(frozen=True)
class Leg:
    """What one attempt has done.

    Attributes:
        kind: What its speed depends on.
        examples: Training examples of this attempt.
        seconds: Its wall clock.
        ended: Unix time.
        run: Number of its run.
    """

    kind: Kind
    examples: int
    seconds: float
    ended: float
    run: int

    @classmethod
    def of(cls, record: TrialRecord, plan: Workload) -> Leg | None:
        """Read the last attempt of a record; None where it says nothing of the speed."""
        speed = record.examples_per_second
        if not speed or not math.isfinite(speed) or not record.seconds > 0:
            return None
        examples = min(round(speed * record.seconds), record.examples)
        ended = record.started + record.seconds
        return cls(kind(plan), examples, record.seconds, ended, record.run) if examples > 0 else None


def kind(plan: Workload) -> Kind:
    """Return what a trial's speed depends on."""
    return plan.batch, plan.longest


@dataclass(frozen=True)
class Pace:
    """How long attempts take.

    Attributes:
        fixed: Seconds of an attempt beside its training.
        usual: Seconds for each example.
        by_kind: The same for those kinds that have been seen.
        spread: Standard deviation of an attempt's time from what is expected, as a share of it.
        doubt: Standard deviation of the expectation itself, as a share of it.
        fixed_doubt: Standard deviation of ``fixed``, in seconds; large where all attempts were equally long.
        between: Seconds between the end of an attempt and the start of the next in its place.
        typical: Seconds of a typical attempt, which no doubt about ``fixed`` changes.
    """

    fixed: float
    usual: float
    by_kind: Mapping[Kind, float] = field(default_factory=dict)
    spread: float = _SPREAD_OF_FEW
    doubt: float = _SPREAD_OF_FEW
    fixed_doubt: float = 0.0
    between: float = 0.0
    typical: float = 1.0

    def seconds(self, kind: Kind, examples: float) -> float:
        """Return the seconds that an attempt of so many examples is expected to take."""
        return self.fixed + self.by_kind.get(kind, self.usual) * max(examples, 0.0)

    def drawn(self, source: random.Random) -> Pace:
        """Draw a pace that fits what was seen as well: slower or faster, with more or less that is fixed."""
        level = math.exp(source.gauss(0.0, self.doubt))
        fixed = min(max(source.gauss(self.fixed, self.fixed_doubt), 0.0), 0.8 * self.typical)
        rest = max(self.typical - self.fixed, 1e-9)
        scale = level * (self.typical - fixed) / rest
        return replace(
            self,
            fixed=level * fixed,
            usual=scale * self.usual,
            by_kind={kind: scale * rate for kind, rate in self.by_kind.items()},
        )


def measured(legs: Sequence[Leg], between: float = 0.0) -> Pace | None:
    """Learn the pace from attempts; the latest count most.

    Args:
        legs: In any order.
        between: Seconds between the end of an attempt and the start of the next in its place.

    Returns:
        None where there are no attempts.
    """
    if not legs:
        return None
    newest = [leg for leg in legs if leg.run == max(leg.run for leg in legs)]
    ordered = sorted(newest if len(newest) >= _ENOUGH else legs, key=lambda leg: leg.ended)
    weights = _weights(ordered)
    usual = _ratio(ordered, weights, 0.0)
    factors = {kind: rate / usual for kind, rate in _by_kind(ordered, weights, 0.0, usual).items()}
    fixed, fixed_doubt = _fixed(ordered, weights, factors)
    usual = _ratio(ordered, weights, fixed)
    typical = sum(weight * leg.seconds for leg, weight in zip(ordered, weights, strict=True)) / sum(weights)
    pace = Pace(fixed, usual, _by_kind(ordered, weights, fixed, usual), fixed_doubt=fixed_doubt, typical=typical)
    return _judged(pace, ordered, weights, between)


def between_attempts(starts: Sequence[float], ends: Sequence[float]) -> float:
    """Return the seconds that usually pass from the end of an attempt until another begins in its place.

    Args:
        starts: Unix times at which attempts began.
        ends: Unix times at which some ended.
    """
    free = sorted(ends)
    gaps = []
    for start in sorted(starts):
        place = bisect.bisect_right(free, start)
        if place:
            gaps.append(start - free.pop(place - 1))
    return statistics.median(gaps) if gaps else 0.0


def _weights(legs: Sequence[Leg]) -> list[float]:
    newest = max(leg.run for leg in legs)
    ages = range(len(legs) - 1, -1, -1)
    return [
        0.5 ** (age / _HALF_LIFE) * (1.0 if leg.run == newest else _OTHER_RUN)
        for age, leg in zip(ages, legs, strict=True)
    ]


def _ratio(legs: Sequence[Leg], weights: Sequence[float], fixed: float) -> float:
    seconds = sum(weight * (leg.seconds - fixed) for leg, weight in zip(legs, weights, strict=True))
    return max(seconds, 0.0) / sum(weight * leg.examples for leg, weight in zip(legs, weights, strict=True))


def _by_kind(legs: Sequence[Leg], weights: Sequence[float], fixed: float, usual: float) -> dict[Kind, float]:
    """Return the seconds for each example by kind, each drawn a little to the usual ones."""
    typical = statistics.median(leg.examples for leg in legs)
    sums: dict[Kind, tuple[float, float]] = {}
    for leg, weight in zip(legs, weights, strict=True):
        seconds, examples = sums.get(leg.kind, (usual * typical * 0.3, typical * 0.3))
        sums[leg.kind] = seconds + weight * max(leg.seconds - fixed, 0.0), examples + weight * leg.examples
    return {kind: seconds / examples for kind, (seconds, examples) in sums.items()}


def _fixed(legs: Sequence[Leg], weights: Sequence[float], factors: Mapping[Kind, float]) -> tuple[float, float]:
    """Return the seconds at no examples, and their standard deviation.

    The least squares line of time over work, with errors in proportion to the time, held against what is usual.
    """
    masses = [weight / leg.seconds**2 for leg, weight in zip(legs, weights, strict=True)]
    work = [leg.examples * factors[leg.kind] for leg in legs]
    mass = sum(masses)
    mean_work = sum(w * x for w, x in zip(masses, work, strict=True)) / mass
    mean_seconds = sum(w * leg.seconds for w, leg in zip(masses, legs, strict=True)) / mass
    square = sum(w * (x - mean_work) ** 2 for w, x in zip(masses, work, strict=True))
    product = sum(
        w * (x - mean_work) * (leg.seconds - mean_seconds) for w, x, leg in zip(masses, work, legs, strict=True)
    )
    usual, usual_variance = _USUAL_FIXED * mean_seconds, (_USUAL_FIXED_DOUBT * mean_seconds) ** 2
    if square <= 0:
        return usual, math.sqrt(usual_variance)
    seen = mean_seconds - mean_work * product / square
    variance = _LINE_SPREAD**2 * (1 / mass + mean_work**2 / square)
    both = (seen / variance + usual / usual_variance) / (1 / variance + 1 / usual_variance)
    fixed = min(max(both, 0.0), 0.9 * min(leg.seconds for leg in legs))
    return fixed, math.sqrt(1 / (1 / variance + 1 / usual_variance))


def _judged(pace: Pace, legs: Sequence[Leg], weights: Sequence[float], between: float) -> Pace:
    """Correct the pace by how the latest attempts went, and say how sure it is."""
    errors = [math.log(leg.seconds / max(pace.seconds(leg.kind, leg.examples), 1e-9)) for leg in legs]
    mass = sum(weights)
    level = sum(w * error for w, error in zip(weights, errors, strict=True)) / mass
    squares = sum(w * (error - level) ** 2 for w, error in zip(weights, errors, strict=True))
    spread = math.sqrt((squares + _FEW * _SPREAD_OF_FEW**2 * weights[-1]) / (mass + _FEW * weights[-1]))
    spread = max(spread, _SMALLEST_SPREAD)
    count = mass**2 / sum(w * w for w in weights)
    half = len(errors) // 2
    change = statistics.fmean(errors[half:]) - statistics.fmean(errors[:half]) if half > 1 else 0.0
    factor = math.exp(min(max(level, -2.0), 2.0))
    return replace(
        pace,
        fixed=pace.fixed * factor,
        between=between,
        usual=pace.usual * factor,
        by_kind={kind: rate * factor for kind, rate in pace.by_kind.items()},
        spread=spread,
        # A machine that has become slower or faster may do so again, and where attempts differ much, so may what comes.
        doubt=math.hypot(_NEIGHBOURS * spread / math.sqrt(count), _SMALLEST_DOUBT, spread / 2, change / 2),
    )
