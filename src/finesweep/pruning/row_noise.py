"""Estimates the seed noise from the validation rows.

All trials of a sweep share a seed. So trials with similar parameters differ less than trainings with other seeds would,
and their differences alone make the noise look too small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

FEWEST_ROWS = 10
"""Minimum number of validation rows; fewer say nothing about others."""


def row_noise(best: np.ndarray, others: Sequence[np.ndarray]) -> float:
    """Return by how much two trainings differ because each is better on other rows, as a standard deviation of one.

    The standard error of the mean of paired differences says how far two trials are apart by chance among the rows. Of
    two trainings with a standard deviation each it is the square root of 2 times that. Trainings that differ in their
    seed differ by at least as much, because a seed may also be better on all rows.

    Args:
        best: The metric's part of each row for the best trial, (rows,).
        others: The same for other trials, each (rows,).

    Returns:
        The median over the other trials, in the metric's unit; 0 without any. A trial that is equal to the best one on
        all rows is left out.
    """
    if len(best) < FEWEST_ROWS:
        return 0.0
    errors = [float((one - best).std(ddof=1)) / math.sqrt(2 * len(best)) for one in others]
    known = [error for error in errors if 0 < error < math.inf]
    return float(np.median(known)) if known else 0.0
