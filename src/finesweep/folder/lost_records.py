"""Finds trials whose records are gone although the leaderboard or the winner shows that they have ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finesweep.errors import FolderError
from finesweep.files import writing
from finesweep.files.atomic import read_json
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.text import first_few
from finesweep.trial import TrialState

_FINISHED = frozenset(str(state) for state in TrialState if state.finished)
_SHOWN = 5
"""Maximum number of files that a message names."""


def lost(folder: SweepFolder) -> list[int]:
    """Return the numbers of ended trials without a record, except those whose record was damaged.

    A damaged record is set aside and named, and its trial runs again.
    """
    told = {*_on_the_leaderboard(folder), *_exported(folder)}
    return sorted(trial for trial in told if folder.read_record(trial) is None and not _aside(folder, trial).exists())


def refuse(folder: SweepFolder, *, rerun: bool = False) -> None:
    """Refuse to train trials again silently whose results are lost.

    Args:
        folder: The sweep's folder.
        rerun: Whether to give the lost records up, so that their trials run again.

    Raises:
        FolderError: Records are lost.
    """
    trials = lost(folder)
    if trials and not rerun:
        raise FolderError(message(folder, trials))
    for trial in trials:
        with writing(folder.path):
            _aside(folder, trial).touch()


def message(folder: SweepFolder, trials: list[int]) -> str:
    """Return a message with the lost records and what to do."""
    names = first_few([folder.record_file(trial).name for trial in trials], _SHOWN)
    return (
        f"{folder.path / 'trials'}: {names} are gone, though these trials have ended; put them back, "
        "train them again with --rerun-lost, or start anew with --fresh"
    )


def _aside(folder: SweepFolder, trial: int) -> Path:
    """Return the path of a record that was damaged or given up."""
    file = folder.record_file(trial)
    return file.with_name(f"{file.name}.corrupt")


def _on_the_leaderboard(folder: SweepFolder) -> Iterator[int]:
    rows: Any = read_json(folder.leaderboard.with_suffix(".json"))
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("trial"), int) and row.get("state") in _FINISHED:
            yield row["trial"]


def _exported(folder: SweepFolder) -> Iterator[int]:
    evidence: Any = read_json(folder.winner / "evidence.json")
    if isinstance(evidence, dict) and isinstance(evidence.get("trial"), int):
        yield evidence["trial"]
