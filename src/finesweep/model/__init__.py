"""Finds the model that a spec names, checks its files without running them, and loads it whole or not at all.

Code that comes with a model never runs without the user's word. Nothing here trains. ``model.pretrained`` imports torch
and is imported by its path.
"""

from finesweep.model.folder_check import check_files
from finesweep.model.source import ResolvedModel

__all__ = [
    "ResolvedModel",
    "check_files",
]
