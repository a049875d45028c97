"""Finds the validation and the test file beside a training file, by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from finesweep.data import readers
from finesweep.files.regular_file import names_in

ROLES = {
    "validation": ("validation", "valid", "val", "dev", "devel"),
    "test": ("test", "testing"),
}
"""Words in a file's name that give its role, the usual one first."""

_TRAINING = ("train", "training", "trn")
_PARTS = re.compile(r"[A-Za-z]+|[0-9]+|[^A-Za-z0-9_.\s-]+")


def siblings(train: Path) -> Mapping[str, Path]:
    """Return the files beside a training file whose names differ from it only in the word for the role.

    ``reviews_train.csv`` has ``reviews_dev.csv``, ``reviews.csv`` has ``reviews_test.csv``, ``train.csv`` has
    ``valid.csv``. A validation or test file has none.
    """
    parts = _parts(train)
    if any(word in parts for words in ROLES.values() for word in words):
        return {}
    rest = [part for part in parts if part not in _TRAINING]
    names = [name for name in names_in(train.parent) if Path(name).suffix.lower() in readers.SUFFIXES]
    beside = [train.parent / name for name in names if name != train.name]
    found = {}
    for role, words in ROLES.items():
        named = [file for word in words for file in beside if _is_for(file, word, rest)]
        named.sort(key=lambda file: file.suffix.lower() != train.suffix.lower())
        if named:
            found[role] = named[0]
    return found


def _is_for(file: Path, word: str, rest: Sequence[str]) -> bool:
    parts = _parts(file)
    return word in parts and [part for part in parts if part != word] == list(rest)


def _parts(file: Path) -> list[str]:
    return _PARTS.findall(file.stem.lower())
