"""Keeps the trials of an earlier sweep that tell the sampler of this one; they neither rank nor count here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from finesweep.files import Damaged, read_as, write_json
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.trial import Params, TrialState

_NAME = "foreign.json"


@dataclass(frozen=True)
class ForeignTrial:
    """An ended trial of another sweep.

    Attributes:
        trial: Its number there.
        state: Its final state.
        params: Its hyperparameters, as this sweep's space names them.
        objective: Its objective, None if no evaluation finished.
    """

    trial: int
    state: TrialState
    params: Params
    objective: float | None


@dataclass(frozen=True)
class Foreign:
    """Trials of another sweep.

    Attributes:
        folder: Its folder when it was read.
        trials: Those of its ended trials that would train the same here, by number.
    """

    folder: str
    trials: tuple[ForeignTrial, ...]

    def write(self, sweep_folder: SweepFolder) -> None:
        """Write them into a sweep's folder, so that it does not need the other folder any more.

        Raises:
            FolderError: The folder cannot be written.
        """
        write_json(sweep_folder.path / _NAME, dataclasses.asdict(self))


def read_foreign(sweep_folder: SweepFolder) -> Foreign | None:
    """Return the foreign trials of a sweep, None if it has none or their file is damaged."""
    try:
        return read_as(Foreign, sweep_folder.path / _NAME)
    except (OSError, Damaged):
        return None
