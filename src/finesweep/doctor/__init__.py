"""Finds what is wrong with a sweep: each finding is one line, with its evidence and the YAML that would cure it.

A finding is a pure function of one frozen value (``Case``). Nothing here reads trials or ranks them; ``results`` does,
and shows the findings. All of it is plain Python, because the command that shows a running sweep stays small.
"""

from finesweep.doctor.case import Case, CutTexts, Finding
from finesweep.doctor.finders import findings
from finesweep.doctor.row_facts import RowFacts

__all__ = [
    "Case",
    "CutTexts",
    "Finding",
    "RowFacts",
    "findings",
]
