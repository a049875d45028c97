"""Defines a reference, and keeps the references of a sweep in its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from finesweep.files import Damaged, read_as, write_json
from finesweep.folder import SweepFolder
from finesweep.text.format import finite
from finesweep.trial import Direction

_NAME = "references.json"


@dataclass(frozen=True)
class Reference:
    """The scores of a model that needs no transformer.

    Attributes:
        name: Its method, as it is shown.
        metrics: Its scores on all validation rows, by full name.
        seconds: Wall clock of its fitting and scoring.
        rows: Training rows that it was fitted on.
    """

    name: str
    metrics: dict[str, float]
    seconds: float
    rows: int

    @property
    def short(self) -> str:
        """Its name for a narrow table: ``TF-IDF`` for ``TF-IDF + ridge``."""
        return self.name.partition(" + ")[0]

    def value(self, metric: str) -> float | None:
        """Return a score, None if it has none or it is not finite."""
        return finite(self.metrics.get(metric))


@dataclass(frozen=True)
class _Written:
    """Content of ``references.json``."""

    references: tuple[Reference, ...]


def write_references(sweep_folder: SweepFolder, references: Sequence[Reference]) -> None:
    """Write a sweep's references into its folder.

    Raises:
        FolderError: The folder cannot be written.
    """
    write_json(sweep_folder.path / _NAME, {"references": [dataclasses.asdict(one) for one in references]})


def read_references(sweep_folder: SweepFolder) -> tuple[Reference, ...]:
    """Return a sweep's references; none if its folder is of an older version or the file is damaged."""
    try:
        return read_as(_Written, sweep_folder.path / _NAME).references
    except (OSError, Damaged):
        return ()


def best_reference(references: Sequence[Reference], metric: str, direction: Direction) -> Reference | None:
    """Return the reference with the best score, None if none has one; of equals the first."""
    best: Reference | None = None
    for one in references:
        value = one.value(metric)
        if value is not None and (best is None or direction.better(value, best.value(metric))):
            best = one
    return best
