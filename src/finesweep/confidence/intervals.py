"""Computes intervals for means over rows: BCa bootstrap, and Wilson's for shares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finesweep.confidence.resamples import Resamples

LEVEL = 0.95
"""Confidence level of everything that is shown."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: Lower bound.
        high: Upper bound.
        level: Share of such intervals that hold the true value.
    """

    low: float
    high: float
    level: float = LEVEL


def bca(resamples: Resamples, level: float = LEVEL) -> list[Interval]:
    """Return the bias-corrected and accelerated interval of each column's mean (Efron 1987).

    ``scipy.stats.bootstrap`` computes the same for one column at a time, and draws anew for each. A column whose rows
    are all equal gets an interval of width 0.

    Args:
        resamples: The columns, and their resamples.
        level: Confidence level, between 0 and 1.
    """
    import numpy as np
    from scipy.special import ndtr, ndtri

    means, drawn = resamples.means, resamples.drawn
    below = ((drawn < means).mean(axis=0) + (drawn <= means).mean(axis=0)) / 2
    # A column whose every resample lies on one side has no finite correction.
    bias = ndtri(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    far = resamples.without.mean(axis=0) - resamples.without
    square = (far**2).sum(axis=0)
    acceleration = (far**3).sum(axis=0) / (6 * np.where(square > 0, square, 1.0) ** 1.5)
    bounds = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        moved = bias + ndtri(tail)
        at = ndtr(bias + moved / (1 - acceleration * moved))
        bounds.append([float(np.quantile(drawn[:, column], share)) for column, share in enumerate(at)])
    return [Interval(low, high, level) for low, high in zip(*bounds, strict=True)]


def wilson(successes: int, count: int, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of a share, as ``scipy.stats.binomtest(...).proportion_ci("wilson")`` does.

    It holds for rows that are independent of each other, and also where all or none succeed.

    Args:
        successes: From 0 to ``count``.
        count: At least 1.
        level: Confidence level, between 0 and 1.
    """
    # Computed here, because scipy.stats takes a second to import.
    normal = NormalDist().inv_cdf((1 + level) / 2)
    share, square = successes / count, normal**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = normal * math.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    # Rounding must not move the bound of a share that is 0 or 1.
    return Interval(0.0 if successes == 0 else middle - half, 1.0 if successes == count else middle + half, level)
