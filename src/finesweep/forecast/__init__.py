"""Estimates how much work a sweep is, and how long the rest of it takes.

A sweep is simulated with its own pruning rule, which no library has. Nothing here reads the folder or measures;
``calibration`` measures.
"""

from finesweep.forecast.course import Course, Span
from finesweep.forecast.time_left import TimeLeft
from finesweep.forecast.work import expected_examples

__all__ = [
    "Course",
    "Span",
    "TimeLeft",
    "expected_examples",
]
