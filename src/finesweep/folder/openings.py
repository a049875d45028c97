"""Opens the sealed test rows for a winner, and keeps a note of each time."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from finesweep.errors import FolderError, Unreadable
from finesweep.files import write_json
from finesweep.files.checked_json import read_numbered
from finesweep.folder import checked_files
from finesweep.folder.checked_files import Fingerprint
from finesweep.folder.sweep_folder import SweepFolder

NAME = "openings"
_ROWS = Path("data", "test.parquet")


@dataclass(frozen=True)
class Opening:
    """One evaluation of a winner on the test rows.

    Attributes:
        command: The command that did it: ``run``, ``submit`` or ``confirm``.
        trial: The winner.
        when: Unix time.
        rows_digest: SHA-256 of the file with the rows.
    """

    command: str
    trial: int
    when: float
    rows_digest: str


def openings(folder: SweepFolder) -> list[Opening]:
    """Return the openings of a sweep's test rows, oldest first."""
    return [opening for _, opening in read_numbered(Opening, folder.path / NAME)]


def open_test(folder: SweepFolder, command: str, trial: int) -> Path | None:
    """Note that the test rows are opened now, and return their file; None without test rows.

    Args:
        folder: The sweep's folder.
        command: The command that opens them.
        trial: The winner that is evaluated.

    Raises:
        FolderError: The rows are not those that the sweep began with, or the note cannot be written.
    """
    file = folder.path / _ROWS
    known = checked_files.read(folder, folder.path)
    sealed = None if known is None else known.own.known.get(str(_ROWS))
    if sealed is None and not file.exists():
        return None
    digest = _digest(file)
    if known is not None and (sealed is None or sealed.sha256 != digest):
        raise FolderError(f"{file}: these are not the test rows that the sweep began with; put them back")
    notes = folder.path / NAME
    with folder.claims.locked():
        notes.mkdir(exist_ok=True)  # an earlier version has not made it
        taken = [int(item.stem) for item in notes.glob("*.json") if item.stem.isdecimal()]
        values = dataclasses.asdict(Opening(command, trial, time.time(), digest))
        write_json(notes / f"{max(taken, default=0) + 1:04d}.json", values)
    return file


def _digest(file: Path) -> str:
    try:
        return Fingerprint.of(file).sha256
    except Unreadable as error:
        raise FolderError(f"{file}: the test rows cannot be read: {error.reason}") from None
