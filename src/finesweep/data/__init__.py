"""Reads data files and Hub data sets into clean rows with encoded labels, or reports every problem in them.

Splits are drawn repeatably. scikit-learn's stratified split refuses a class of one row, and its split by groups and
classes makes equal folds instead of a given share. Nothing is guessed about what the columns mean; that is
``propose``. ``data.loader`` imports pandas and is imported by its path.
"""

from finesweep.data.loaded import DataFacts, LoadedData

__all__ = [
    "DataFacts",
    "LoadedData",
]
