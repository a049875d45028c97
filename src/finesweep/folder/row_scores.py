"""Defines what a finished trial keeps of each validation row: its part in every metric."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class RowScores:
    """A trial's metrics row by row, for its best weights, on all validation rows.

    Attributes:
        trial: Its number.
        attempt: The attempt whose record it belongs to.
        rows: Number of validation rows.
        labels: Digest of the rows' true labels; equal in all trials that were evaluated on the same rows.
        values: By full name of a metric, a number for each row in the rows' order: little-endian single precision in
            base64. Their mean over the rows is the metric (``Task.row_scores``).
    """

    trial: int
    attempt: int
    rows: int
    labels: str
    values: Mapping[str, str]

    @classmethod
    def of(cls, trial: int, attempt: int, values: Mapping[str, np.ndarray], labels: np.ndarray) -> RowScores:
        """Pack a trial's numbers.

        Args:
            trial: Its number.
            attempt: The attempt.
            values: By full name of a metric, (rows,).
            labels: True labels of the rows in the same order, first dimension rows.
        """
        import numpy as np

        packed = {
            name: base64.b64encode(np.asarray(one, "<f4").tobytes()).decode("ascii") for name, one in values.items()
        }
        digest = hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()[:32]
        return cls(trial, attempt, len(labels), digest, packed)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the numbers by full name of a metric, each (rows,) in double precision.

        A metric whose text does not hold one number for each row is left out.
        """
        import numpy as np

        found = {}
        for name, text in self.values.items():
            try:
                content = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                continue
            if len(content) == 4 * self.rows:
                found[name] = np.frombuffer(content, "<f4").astype(np.float64)
        return found
