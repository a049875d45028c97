"""Finds which of several means cannot be told from the smallest, with one error rate for all comparisons.

The sample that ranks the candidates also chooses the first one, and the first one looks too good. An interval around
the difference to the first, as if it had been named beforehand, would be too narrow, and would leave out the truly best
too often. So no candidate is compared with the first alone. Each is asked by itself: would it, if it were truly the
best, trail any other as far as it does? All its comparisons share one critical value, the quantile of their largest
studentised difference over the resamples (multiple comparisons with the best: Gupta 1965, Hsu 1984; by bootstrap:
Romano and Wolf 2005). The answer "no" is wrong for the truly best one in at most 5 % of samples, whichever is first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finesweep.confidence.intervals import LEVEL, Interval

if TYPE_CHECKING:
    import numpy as np

    from finesweep.confidence.resamples import Resamples

_ROUNDING = 1e-6
"""Differences below this share of the values' size are equal: the rows' values have single precision."""


def best_set(resamples: Resamples, level: float = LEVEL) -> np.ndarray:
    """Return which columns may have the smallest true mean, (columns,) of bool.

    The set holds the column with the smallest true mean with probability ``level`` or more. The column with the
    smallest sample mean is always in it.

    Args:
        resamples: The columns, and their resamples.
        level: Confidence level, between 0 and 1.
    """
    import numpy as np

    means, drawn = resamples.means, resamples.drawn
    error = _errors_of_differences(resamples)
    slack = _slack(resamples.units)
    kept = np.ones(len(means), dtype=bool)
    for column in range(len(means)):
        behind, scale = means[column] - means, error[column]
        certain = scale == 0
        if np.any(certain & (behind > _ROUNDING * np.abs(means).max(initial=0.0))):
            kept[column] = False  # it is worse than another one by the same on every row
            continue
        # A rival that is clearly worse cannot lead in a sample, so it does not widen the margin for all others
        # (moment selection: Andrews and Soares 2010).
        rivals = ~certain & (behind >= -slack * scale)
        if not rivals.any():
            continue
        trails = (behind[rivals] / scale[rivals]).max()
        centred = drawn[:, column, None] - drawn[:, rivals] - behind[rivals]
        kept[column] = trails <= np.quantile((centred / scale[rivals]).max(axis=1), level)
    return kept


def leads(resamples: Resamples, column: int, level: float = LEVEL) -> list[Interval]:
    """Return for each column the interval of how far its true mean is below that of one column.

    All intervals hold together with probability ``level``: their width is a quantile of the largest studentised
    difference. So they also hold for a column that was chosen because it looks best.

    Args:
        resamples: The columns, and their resamples.
        column: Index of the column that all are compared with; its own interval is 0 to 0.
        level: Confidence level, between 0 and 1.
    """
    import numpy as np

    means, drawn = resamples.means, resamples.drawn
    found, error = means[column] - means, _errors_of_differences(resamples)[column]
    others = error > 0
    centred = drawn[:, [column]] - drawn[:, others] - found[others]
    largest = np.abs(centred / error[others]).max(axis=1, initial=0.0)
    margin = np.quantile(largest, level) * error
    return [Interval(float(one - far), float(one + far), level) for one, far in zip(found, margin, strict=True)]


def _errors_of_differences(resamples: Resamples) -> np.ndarray:
    """Return the standard errors of the differences of the means, (columns, columns); 0 where they never differ."""
    import numpy as np

    covariance = resamples.covariance()
    variances = np.diag(covariance)
    square = variances[:, None] + variances - 2 * covariance
    size = np.abs(resamples.means).max(initial=0.0)
    floor = np.maximum(_ROUNDING * np.sqrt(variances.max(initial=0.0)), _ROUNDING**2 * size)
    error = np.sqrt(np.maximum(square, 0.0))
    return np.where(error > floor, error, 0.0)


def _slack(units: int) -> float:
    """Return how many standard errors a rival must be worse to be left out: it grows slowly with the sample."""
    import math

    return math.sqrt(max(math.log(units), 1.0))
