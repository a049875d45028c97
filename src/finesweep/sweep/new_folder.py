"""Writes what a new folder gets beside rows and model: references, facts about the rows, and foreign trials."""

from __future__ import annotations

from finesweep import activity
from finesweep.doctor import RowFacts
from finesweep.folder import SweepFolder
from finesweep.references import write_references
from finesweep.registry import TASKS
from finesweep.sweep.preflight import Checked


def write(folder: SweepFolder, checked: Checked) -> None:
    """Write the files, once.

    Args:
        folder: The sweep's folder.
        checked: The spec, with its rows and the trials of the sweep that it starts from.

    Raises:
        FolderError: The folder cannot be written.
    """
    from finesweep.references import fitting

    spec, data = checked.loaded.spec, checked.data
    activity.tell("fitting the references: what the rows give without a transformer")
    write_references(folder, list(fitting.fitted(TASKS.load(spec.task)(), data.frames, data.names, spec.search.seed)))
    RowFacts.of(data.frames, data.names).write(folder)
    if checked.foreign is not None:
        checked.foreign.write(folder)
