"""Reads the texts of the rows on which a winner is most wrong, for a page that its user asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesweep.errors import FolderError, Unreadable
from finesweep.files import open_regular
from finesweep.files.parquet import read_columns
from finesweep.results.answers import shown
from finesweep.results.board import Board
from finesweep.text import clean, metric

_TEXT_BYTES = 4_000_000_000
"""Maximum size in bytes of all validation texts."""

LONGEST = 1_000
"""Maximum length of a text that is shown, in characters."""

_PARTS = ("text", "text_pair")


@dataclass(frozen=True)
class ShownRow:
    """A validation row with its answer, as text.

    Attributes:
        row: Its place in the validation rows, from 1.
        texts: Its text, or its two texts.
        label: Its label.
        given: The winner's answer.
        loss: The winner's loss.
    """

    row: str
    texts: tuple[str, ...]
    label: str
    given: str
    loss: str


def read_worst_rows(board: Board) -> list[ShownRow]:
    """Return the rows on which a board's winner is most wrong, largest loss first.

    Raises:
        FolderError: There is no proven winner, or the rows cannot be read.
    """
    if board.evidence is None:
        raise FolderError(
            f"{board.folder} has no proven winner, so the rows on which it is most wrong are not known; "
            "`sweep run` proves it when it ends"
        )
    file = board.folder / "data" / "validation.parquet"
    worst, names = board.evidence.answers.worst, board.manifest.data.labels
    try:
        rows = _rows(file, [one.row for one in worst])
        return [
            ShownRow(
                row=f"{one.row + 1:,}",
                texts=tuple(clean(row[part], LONGEST) for part in _PARTS if part in row),
                label=clean(shown(row["label"], names), 200),
                given=clean(one.given, 200),
                loss=metric(one.loss),
            )
            for one, row in zip(worst, rows, strict=True)
        ]
    except (IndexError, KeyError, TypeError, ValueError, OSError, Unreadable) as error:
        raise FolderError(f"{file}: these are not the rows of the winner's answers ({clean(error, 200)})") from None


def _rows(file: Path, places: list[int]) -> list[dict[str, Any]]:
    import pyarrow

    try:
        with open_regular(file) as stream:
            _, table = read_columns(stream, [*_PARTS, "label"], _TEXT_BYTES)
            found: list[dict[str, Any]] = table.take(places).to_pylist()
            return found
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from None
