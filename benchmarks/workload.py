"""Writes and reads what all arms of a benchmark get: rows, model, space and trials, in a JSON file."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import texts

ROOT = Path(__file__).parents[1]
"""Where ``python -m benchmarks`` is run."""


@dataclass(frozen=True)
class Source:
    """Where the texts come from.

    Attributes:
        name: Name of the data in tables; of made-up texts their kind.
        training: A CSV, None for made-up texts.
        validation: Another one; None to split rows off.
        text: Column of the texts.
        label: Column of the labels.
    """

    name: str
    training: Path | None = None
    validation: Path | None = None
    text: str = "text"
    label: str = "label"

    @classmethod
    def parse(cls, asked: str, text: str, label: str) -> Source:
        """Read ``NAME=train.csv`` or ``NAME=train.csv,validation.csv``, or the name of a kind of made-up texts.

        Raises:
            ValueError: It is neither.
        """
        name, equals, files = asked.partition("=")
        if not equals and name in texts.KINDS:
            return cls(name)
        if not name.isidentifier() or not files:
            raise ValueError(f"{asked}: neither NAME=FILE.csv nor one of {', '.join(texts.KINDS)}")
        training, _, validation = files.partition(",")
        return cls(name, Path(training).resolve(), Path(validation).resolve() if validation else None, text, label)

    def rows(self, training: int, validation: int, seed: int = 0) -> tuple[list[texts.Row], list[texts.Row]]:
        """Return at most so many training and validation rows.

        Raises:
            ValueError: A file cannot be used; names it.
        """
        if self.training is None:
            made = (texts.made_up(self.name, training, seed + 1), texts.made_up(self.name, validation, seed + 2))
            return texts.numbered(*made)
        found = texts.read(self.training, self.text, self.label)
        if self.validation is None:
            train, held_out = texts.split(found, 0.2, seed)
        else:
            train, held_out = found, texts.read(self.validation, self.text, self.label)
        return texts.numbered(texts.sampled(train, training, seed), texts.sampled(held_out, validation, seed))


@dataclass(frozen=True)
class Size:
    """How large a benchmark is.

    Attributes:
        model: One of ``models.SIZES``, or a folder with a model.
        train_rows: Training rows at most.
        validation_rows: Validation rows at most.
        trials: Trials of a sweep.
        space: What varies: name to ``low``, ``high``, ``log`` or ``choices``.
        max_length: Tokens at most.
    """

    model: str
    train_rows: int
    validation_rows: int
    trials: int
    space: Mapping[str, Any]
    max_length: int = 128


@dataclass(frozen=True)
class Workload:
    """What one sweep is about.

    Attributes:
        name: Name of the data.
        train: CSV with the columns text and label, labels from 0.
        validation: The same.
        labels: Number of labels.
        model: Folder with model and tokenizer.
        max_length: Tokens at most.
        trials: Trials of a sweep.
        space: What varies.
        fixed: Training arguments equal in all trials.
        seed: Of sampler, weights and data order.
    """

    name: str
    train: str
    validation: str
    labels: int
    model: str
    max_length: int
    trials: int
    space: Mapping[str, Any]
    fixed: Mapping[str, Any]
    seed: int = 0

    def write(self, file: Path) -> Path:
        """Write it; return the file."""
        file.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")
        return file

    @classmethod
    def read(cls, file: Path) -> Workload:
        """Read what was written."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    @functools.cached_property
    def train_rows(self) -> int:
        """Number of training rows."""
        return _rows(self.train)

    @functools.cached_property
    def validation_rows(self) -> int:
        """Number of validation rows."""
        return _rows(self.validation)


def make(source: Source, size: Size, folder: Path, fixed: Mapping[str, Any] | None = None) -> Workload:
    """Write rows and model of a workload.

    Args:
        source: The texts.
        size: How much of them, and on what model.
        folder: Where the files go; made if it is missing.
        fixed: Training arguments equal in all trials; a few usual ones if left out.

    Raises:
        ValueError: The texts cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    training, validation = source.rows(size.train_rows, size.validation_rows)
    texts.write(training, folder / "train.csv")
    texts.write(validation, folder / "validation.csv")
    model = Path(size.model).resolve() if "/" in size.model else folder / "model"
    if not model.exists():
        command = [sys.executable, "-m", "benchmarks.models", size.model, str(folder / "train.csv"), str(model)]
        subprocess.run(command, check=True, cwd=ROOT)
    return Workload(
        source.name,
        str(folder / "train.csv"),
        str(folder / "validation.csv"),
        1 + max(label for _, label in (*training, *validation)),
        str(model),
        size.max_length,
        size.trials,
        size.space,
        {"weight_decay": 0.01, "warmup_steps": 0.1} if fixed is None else fixed,
    )


def _rows(file: str) -> int:
    with Path(file).open(newline="", encoding="utf-8") as stream:
        return sum(1 for _ in csv.DictReader(stream))
