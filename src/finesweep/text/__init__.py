"""Formats numbers, times, names and tables for people, and makes text from outside safe for a terminal.

It computes nothing and reads no file.
"""

from finesweep.text.format import clean, duration, first_few, headings, metric, setting, shortened, without_numbers

__all__ = [
    "clean",
    "duration",
    "first_few",
    "headings",
    "metric",
    "setting",
    "shortened",
    "without_numbers",
]
