"""Estimates how much work a sweep is, and how long what is left of it takes.

A sweep is simulated with its own pruning rule; no library knows that rule. Nothing here reads the folder or measures;
``calibration`` measures.
"""

from finesweep.forecast.course import Course, Span
from finesweep.forecast.eta import TimeLeft
from finesweep.forecast.work import expected_examples

__all__ = [
    "Course",
    "Span",
    "TimeLeft",
    "expected_examples",
]
