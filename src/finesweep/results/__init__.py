"""Ranks trials, and writes the results of a sweep: leaderboard, checkpoints of the best, winner, model card.

Everything is read from the folder, so it can be done while trials run. Nothing here trains or imports torch.
"""

from finesweep.results.stop_conditions import early_stop, same_failure
from finesweep.results.winner import Evidence

__all__ = [
    "Evidence",
    "early_stop",
    "same_failure",
]
