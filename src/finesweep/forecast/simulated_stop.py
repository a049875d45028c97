"""Draws whether ``stop`` ends a simulated sweep before its budget."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from finesweep.pruning.gains import Gains
from finesweep.spec import StopSpec
from finesweep.trial import Direction

_UNKNOWN = 2
"""Weight of not knowing how likely a trial reaches the target, in complete trials."""

_LEAST_CHANCE = 1e-3
"""Smallest chance that is drawn where nothing is known."""


_EARLIEST, _USUAL, _LATEST = 10, 18, 34
"""Trials after which ``stop.auto`` ends a sweep: the fewest, the most frequent number, the most."""

_TRIES = 20


@dataclass
class SimulatedStop:
    """The conditions of ``stop`` in one simulation.

    Attributes:
        stop: The conditions.
        gains: State of the sweep when the simulation begins.
        best_at: When the best trial has ended, in seconds since the simulation began; it may be below 0.
        chance: Chance of a complete trial to reach the target, 0 to 1.
        power: The n-th complete trial is a new best with the chance (1 / n) ** power: 1 where trials are drawn at
            random, less where a sampler learns.
        source: Random generator.
        marks: With halving, the value at each rung, by its index, with which a complete trial is a new best; rungs of
            which too little is known are left out.
        direction: Direction of these values.
        doubt: How seldom the values at a rung tell which trial is better in the end, 0 to 1.
        more: With ``stop.auto``, the number of further trials after which the sweep ends, at least 1; None for never.
    """

    stop: StopSpec
    gains: Gains
    best_at: float
    chance: float
    power: float
    source: random.Random
    marks: Mapping[int, float] = field(default_factory=dict)
    direction: Direction = Direction.MINIMIZE
    doubt: float = 0.0
    more: int | None = None
    _since: int = field(init=False)
    _complete: int = field(init=False)

    def __post_init__(self) -> None:
        self._since, self._complete = self.gains.since, self.gains.complete

    def ends_after(self, at: float, values: Mapping[int, float], *, complete: bool) -> bool:
        """Return whether the sweep ends after one more trial.

        Args:
            at: When the trial has ended or begun to wait, in seconds since the simulation began.
            values: With halving, the trial's best objective at each rung, by the rung's index.
            complete: Whether this trial was trained to its end; pruned ones have no objective.
        """
        # A trial that began to wait before the best one ended counts as ended before it.
        self._since += at > self.best_at
        if complete:
            self._complete += 1
            if self.stop.target is not None and self.source.random() < self.chance:
                return True
            if self._is_gain(values):
                self._since, self.best_at = 0, at
        patience = self.stop.no_gain_trials
        return patience is not None and self._complete > 0 and self._since >= patience

    def ends_with(self, begun: int) -> bool:
        """Return whether ``stop.auto`` ends the sweep once so many further trials have ended or wait."""
        return self.more is not None and begun >= self.more

    def _is_gain(self, values: Mapping[int, float]) -> bool:
        common = values.keys() & self.marks.keys()
        if not common:
            return bool(self.source.random() < (1 / self._complete) ** self.power)
        # Halving trains only good trials to their end, and the later ones were compared with more others.
        rung = max(common)
        is_gain = self.direction.better(values[rung], self.marks[rung])
        if not is_gain and self.source.random() < self.doubt:
            is_gain = bool(self.source.random() < (1 / self._complete) ** self.power)
        if is_gain:
            self.marks = {**self.marks, **values}
        return is_gain


def trials_until_poor(known: int, left: int, source: random.Random) -> int | None:
    """Draw after how many further trials ``stop.auto`` ends a sweep, None for never.

    Of replayed sweeps of 20 trials one half ended before, of 30 trials nine of ten (``docs/search.md``). One that has
    come further may end after any number of trials, or not at all.

    Args:
        known: Trials that have ended or wait.
        left: Trials that have not begun.
        source: Random generator.
    """
    draws = (source.triangular(_EARLIEST, _LATEST, _USUAL) for _ in range(_TRIES))
    at = next((one for one in draws if one > known), known + 1 + 2 * left * source.random())
    more = math.ceil(at - known)
    return more if more <= left else None


def chance_to_reach(target: float, objectives: Sequence[float], direction: Direction, source: random.Random) -> float:
    """Draw the chance of a complete trial to reach a target.

    The objectives are resampled, and their better half is taken as one side of a normal distribution. With few of them,
    any chance may be drawn.

    Args:
        target: The objective to reach.
        objectives: Those of the complete trials, finite; none of them has reached it.
        direction: Their direction.
        source: Random generator.
    """
    if source.random() * (len(objectives) + _UNKNOWN) < _UNKNOWN:
        return math.exp(source.uniform(math.log(_LEAST_CHANCE), 0.0))
    sign = 1.0 if direction is Direction.MINIMIZE else -1.0
    drawn = [sign * value for value in source.choices(objectives, k=len(objectives))]
    middle = statistics.median(drawn)
    spread = math.sqrt(statistics.fmean((value - middle) ** 2 for value in drawn if value <= middle))
    distance = sign * target - middle
    return statistics.NormalDist().cdf(distance / spread) if spread > 0 else float(distance >= 0)
