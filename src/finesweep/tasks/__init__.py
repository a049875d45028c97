"""Says what can be learned: which labels a task takes, how predictions are scored, what a naive answer scores.

A task is a file here and a line in ``registry.TASKS``. Tasks read no files and train nothing.
"""

from finesweep.tasks.label_column import LabelColumn, LabelKind
from finesweep.tasks.naive_answer import Naive
from finesweep.tasks.protocol import Task, scores_of

__all__ = [
    "LabelColumn",
    "LabelKind",
    "Naive",
    "Task",
    "scores_of",
]
