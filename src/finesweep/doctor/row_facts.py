"""Counts labels and repeated texts of a sweep's rows, once, and keeps the counts in its folder."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finesweep.files import Damaged, read_as, write_json
from finesweep.folder import SweepFolder

if TYPE_CHECKING:
    import pandas as pd

_NAME = "row_facts.json"


@dataclass(frozen=True)
class RowFacts:
    """Counts of the rows that trials train and validate on.

    Attributes:
        train: Training rows of each label, in the order of the label ids; None if labels are numbers.
        validation: Validation rows of each label; None if labels are numbers.
        repeated: Validation rows whose texts are those of a training row too.
    """

    train: tuple[int, ...] | None
    validation: tuple[int, ...] | None
    repeated: int

    @classmethod
    def of(cls, frames: Mapping[str, pd.DataFrame], names: Sequence[str] | None) -> RowFacts:
        """Count the rows of splits with encoded labels."""
        train, validation = frames["train"], frames["validation"]
        columns = [name for name in ("text", "text_pair") if name in train]
        seen = set(_texts(train, columns))
        repeated = sum(row in seen for row in _texts(validation, columns))
        if names is None:
            return cls(None, None, repeated)
        return cls(_counts(train["label"], len(names)), _counts(validation["label"], len(names)), repeated)

    def write(self, sweep_folder: SweepFolder) -> None:
        """Write the counts into a sweep's folder.

        Raises:
            FolderError: The folder cannot be written.
        """
        write_json(sweep_folder.path / _NAME, dataclasses.asdict(self))

    @classmethod
    def read(cls, sweep_folder: SweepFolder) -> RowFacts | None:
        """Return a sweep's counts; None if its folder is of an older version or the file is damaged."""
        try:
            return read_as(cls, sweep_folder.path / _NAME)
        except (OSError, Damaged):
            return None


def _texts(frame: pd.DataFrame, columns: Sequence[str]) -> Iterable[tuple[str, ...]]:
    found: Iterable[tuple[str, ...]] = frame[list(columns)].itertuples(index=False, name=None)
    return found


def _counts(labels: Iterable[Any], names: int) -> tuple[int, ...]:
    counts = Counter(one for label in labels for one in (label if isinstance(label, list | tuple) else (label,)))
    return tuple(counts[position] for position in range(names))
