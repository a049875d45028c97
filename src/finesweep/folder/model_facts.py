"""Holds a sweep's model facts, as the manifest keeps them: name, place, limits, and how a trial loads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True)
class Loading:
    """How a trial loads its model.

    Attributes:
        output: The parameters of the head's last layer, whose rows stand for the labels.
        rows: For each label its row of that layer in the checkpoint; None if the layer is new.
        new: Every parameter that is drawn at random.
        notes: What is new, and the decision about the checkpoint's head; for the screen and the model card.
    """

    output: list[str]
    rows: list[int] | None
    new: list[str]
    notes: list[str]

    @property
    def without(self) -> list[str]:
        """The parameters that are drawn at random although the checkpoint may have them."""
        return self.output if self.rows is None else []


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a sweep's model.

    Attributes:
        name: As the user wrote it, or ``bert (from scratch)``.
        path: Absolute path of its folder; None for a model that is still to be made from scratch.
        revision: Commit on the Hub, else None.
        digest: The commit; SHA-256 over a local folder's files; or ``scratch``.
        max_tokens: Longest input in tokens, special tokens included.
        from_scratch: Whether there are no weights to start from.
        loading: How a trial loads it; None without weights, or in a folder of an older version.
    """

    name: str
    path: str | None
    revision: str | None
    digest: str
    max_tokens: Annotated[int, Field(ge=1)]
    from_scratch: bool
    loading: Loading | None = None

    @property
    def folder(self) -> Path:
        """Its folder.

        Raises:
            ValueError: It is still to be made from scratch.
        """
        if self.path is None:
            raise ValueError(f"{self.name} has no folder yet")
        return Path(self.path)
