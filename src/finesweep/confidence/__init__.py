"""Says how sure a mean over rows is, and which of several means cannot be told from the best; on arrays alone.

Models are compared on the same rows, so all of them are resampled together. Nothing here knows of folders, trials or
metrics. What one row says is taken as given: the intervals are over the rows that could have been drawn, not over the
seeds that a model could have been trained with.
"""

from finesweep.confidence.comparison import best_set, leads
from finesweep.confidence.intervals import LEVEL, Interval, bca, wilson
from finesweep.confidence.resamples import Resamples

__all__ = ["LEVEL", "Interval", "Resamples", "bca", "best_set", "leads", "wilson"]
