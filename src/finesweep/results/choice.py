"""Chooses the model that becomes the winner."""

from __future__ import annotations

from dataclasses import dataclass

from finesweep.folder import SweepFolder
from finesweep.results.confirmation import Candidate, Confirmation
from finesweep.trial import TrialRecord


@dataclass(frozen=True)
class Choice:
    """The model to export.

    Attributes:
        trial: Its trial in the search.
        record: The record of the training that left the weights: the trial's own, or that of a fresh seed.
        folder: The folder with this record and these weights: the sweep's, or its confirmation's.
        candidate: The confirmed candidate, None without a confirmation.
    """

    trial: int
    record: TrialRecord
    folder: SweepFolder
    candidate: Candidate | None = None


def choose(sweep_folder: SweepFolder, take: TrialRecord | None, confirmation: Confirmation | None) -> Choice | None:
    """Return the best fresh seed of the best confirmed trial, else the model of ``take``; None if no trial ranks.

    Args:
        sweep_folder: The sweep's folder.
        take: The trial that is taken without a confirmation, None if none ranks.
        confirmation: The sweep's confirmation, None if it has none.
    """
    candidate = confirmation.best if confirmation is not None else None
    if candidate is not None and candidate.best is not None:
        return Choice(candidate.trial, candidate.best, sweep_folder.confirmation, candidate)
    return None if take is None else Choice(take.trial, take, sweep_folder)
