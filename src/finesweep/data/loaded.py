"""Holds a sweep's loaded rows and the facts about them that the manifest keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finesweep.tasks import Naive

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DataSource:
    """Origin of one split.

    Attributes:
        place: Absolute path of the file, or id of the data set.
        digest: SHA-256 of the file's bytes in hexadecimal; ``commit/config/split`` of a Hub data set.
        revision: Commit of the data set, None for a file.
    """

    place: str
    digest: str
    revision: str | None = None


@dataclass(frozen=True)
class DataFacts:
    """Facts about a sweep's data.

    Attributes:
        sources: By split that was read; a validation split made from train has none.
        rows: Number of rows by split.
        labels: Class names in the order of their ids; None for regression.
        text_pair: Whether a row has two texts.
        naive: Scores of the best constant answer; None in a folder of an older version.
    """

    sources: dict[str, DataSource]
    rows: dict[str, int]
    labels: list[str] | None
    text_pair: bool
    naive: Naive | None = None


@dataclass(frozen=True, eq=False)
class LoadedData:
    """Rows that are ready for the tokenizer.

    Attributes:
        frames: By split (``train``, ``validation``, perhaps ``test``): the columns ``text``, perhaps ``text_pair``, and
            ``label``, encoded by the task; if rows have groups, validation also has ``group``, the number of each row's
            group; nothing else.
        names: Class names in the order of their ids; None for regression.
        sources: By split that was read; a validation split made from train has none.
        notes: Remarks for the user.
        naive: Scores of the best constant answer.
    """

    frames: Mapping[str, pd.DataFrame]
    names: tuple[str, ...] | None
    sources: Mapping[str, DataSource]
    notes: tuple[str, ...]
    naive: Naive | None = None

    def facts(self) -> DataFacts:
        """Return the facts that the manifest keeps."""
        return DataFacts(
            sources=dict(self.sources),
            rows={split: len(frame) for split, frame in self.frames.items()},
            labels=None if self.names is None else list(self.names),
            text_pair="text_pair" in self.frames["train"].columns,
            naive=self.naive,
        )
