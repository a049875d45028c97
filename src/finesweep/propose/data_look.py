"""Reads a data file and the files beside it: finds the columns to learn from and the files to evaluate on."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finesweep import activity
from finesweep.data import readers
from finesweep.data.csv_table import Layout
from finesweep.data.readers import Table
from finesweep.errors import Problem, SpecError, Unreadable
from finesweep.files import read_bytes
from finesweep.model.text_length import Texts
from finesweep.propose import other_tasks
from finesweep.propose.column_roles import Column, Guess, NoGuess, columns_of, guess
from finesweep.propose.sibling_files import siblings
from finesweep.registry import TASKS
from finesweep.spec import DataSpec, yaml_source

SAMPLE = 1_000
"""Maximum number of rows whose texts are counted."""


class _Every(frozenset[str]):
    """Contains every name, so that all columns of a file are read."""

    def __contains__(self, name: object) -> bool:
        return True


_EVERY = _Every()


@dataclass(frozen=True)
class DataLook:
    """Findings about a data file.

    Attributes:
        guess: The guessed roles of the columns.
        rows: Number of rows.
        texts: The texts of some rows, as the model reads them.
        columns: Made-up names for a file without a header, in order; else empty.
        no_header: Why the first line is no header; empty if it is one.
        siblings: Files to evaluate on, by the key of ``data`` that names them.
        unused: Files with such names that are not used, with the reason.
    """

    guess: Guess
    rows: int
    texts: Sequence[Texts] = field(repr=False)
    columns: tuple[str, ...] = ()
    no_header: str = ""
    siblings: Mapping[str, Path] = field(default_factory=dict)
    unused: Mapping[Path, str] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The task that fits the label."""
        return self.guess.task

    def data_keys(self, path: Path, folder: Path) -> dict[str, Any]:
        """Return the keys of the section ``data`` that tell where the rows are.

        Args:
            path: The data file.
            folder: Folder of the spec.
        """
        files = {"train": path, **self.siblings}
        pair = {} if self.guess.pair is None else {"text_pair": self.guess.pair.name}
        keys: dict[str, Any] = {key: relative_path(file, folder) for key, file in files.items()}
        if self.columns:
            keys["columns"] = list(self.columns)
        label = list(self.guess.flags) or self.guess.label.name
        return keys | {"text": self.guess.text.name, **pair, "label": label}


def relative_path(file: Path, folder: Path) -> str:
    """Return a path relative to a folder; absolute if it would begin with ``~``, which means a home folder."""
    relative = os.path.relpath(file.absolute(), folder.absolute())
    return str(file.absolute()) if relative.startswith("~") else relative


def look(path: Path, name: str) -> DataLook:
    """Read a data file and judge its columns.

    Args:
        path: The file.
        name: The file as the user named it; every message begins with it.

    Raises:
        SpecError: It cannot be read, has no column for the text or the label, or is for a task that does not exist.
    """
    activity.tell(f"reading {name}")
    content = _content(path, name)
    table = full = readers.parse(content, path.suffix.lower(), name, _EVERY)
    numbered: tuple[str, ...] = ()
    if not table.look.is_header:
        numbered = tuple(f"column_{number}" for number in range(1, len(table.names) + 1))
        full = readers.parse(content, path.suffix.lower(), name, _EVERY, Layout(columns=numbered))
    activity.tell(f"looking at the columns of {name}")
    found = _guess(columns_of(full.names, full.columns, full.class_names), name)
    made_up = _made_up(found, numbered)
    look = DataLook(
        _renamed(found, made_up),
        len(full.places),
        _sample(found, full),
        tuple(made_up[column] for column in numbered),
        "" if table.look.is_header else table.look.evidence,
    )
    return _checked(_with_siblings(look, path, content), path, name)


def _content(path: Path, name: str) -> bytes:
    if path.suffix.lower() not in readers.SUFFIXES:
        raise SpecError.of(name, f"no data file; finesweep reads {', '.join(readers.SUFFIXES)}")
    try:
        return read_bytes(path, readers.most_bytes())
    except Unreadable as error:
        raise SpecError.of(name, error.reason) from None


def _guess(columns: Sequence[Column], name: str) -> Guess:
    hint = "to learn something else from it, name the columns in a YAML of your own"
    if (found := other_tasks.other_task(columns)) is not None:
        raise SpecError.of(name, f"{found}. There is no such task yet, only {', '.join(TASKS.names)}", hint)
    try:
        return guess(columns)
    except NoGuess as error:
        hint = "name the columns in a YAML of your own; for texts without labels there is no task yet"
        raise SpecError.of(name, str(error), hint) from None


def _made_up(found: Guess, numbered: Sequence[str]) -> dict[str, str]:
    """Return a name for each column of a file without a header."""
    names = {column: column for column in numbered}
    if not names:
        return names
    second = found.pair or found.second
    roles = [(found.text, "text"), (found.label, "label")]
    if second is not None:
        roles.append((second, "title" if second.length < found.text.length / 2 else "text_2"))
    return names | {column.name: role for column, role in roles}


def _renamed(found: Guess, names: Mapping[str, str]) -> Guess:
    def renamed(column: Column) -> Column:
        return replace(column, name=names.get(column.name, column.name))

    pair, second = (column and renamed(column) for column in (found.pair, found.second))
    return Guess(renamed(found.text), pair, renamed(found.label), second, found.flags)


def _sample(found: Guess, table: Table) -> list[Texts]:
    columns = [table.columns[column.name] for column in found.texts]
    rows = range(len(table.places))
    drawn = random.Random(0).sample(rows, min(SAMPLE, len(rows)))
    texts = [tuple(column[row] for column in columns) for row in drawn]
    return [row for row in texts if all(isinstance(text, str) and text for text in row)]


def _with_siblings(look: DataLook, path: Path, content: bytes) -> DataLook:
    used: dict[str, Path] = {}
    unused: dict[Path, str] = {}
    for role, file in siblings(path).items():
        reason = _reason_against(look, file, content)
        if reason:
            unused[file] = reason
        else:
            used[role] = file
    return replace(look, siblings=used, unused=unused)


def _reason_against(look: DataLook, file: Path, content: bytes) -> str:
    """Return why a file cannot be evaluated on; an empty string if it can."""
    found = look.guess
    wanted = {*(column.name for column in found.texts), *found.label_columns}
    try:
        other = _content(file, file.name)
        if other == content:
            return "it holds the same rows"
        layout = Layout(columns=look.columns or None)
        table = readers.parse(other, file.suffix.lower(), file.name, wanted, layout)
    except SpecError as error:
        return str(error.problems[0])
    if not table.look.is_header:
        return f"it has no header: {table.look.evidence}"
    if missing := sorted(wanted - set(table.names)):
        return f"it has no column {missing[0]!r}"
    return ""


def _checked(look: DataLook, path: Path, name: str) -> DataLook:
    """Drop sibling files that do not fit this file; refuse this file if it cannot be trained on."""
    problems = _problems(look, path)
    if not problems:
        return look
    for role, file in look.siblings.items():
        if alone := _problems(replace(look, siblings={role: file}), path):
            look = replace(look, unused={**look.unused, file: alone[0].message})
    kept = {role: file for role, file in look.siblings.items() if file not in look.unused}
    look = replace(look, siblings=kept)
    if problems := _problems(look, path):
        raise SpecError(Problem(name, problem.message, problem.hint) for problem in problems)
    return look


def _problems(look: DataLook, path: Path) -> Sequence[Problem]:
    """Return the problems that the check of a sweep's data finds."""
    from finesweep.data import loader

    activity.tell(f"checking the rows of {path.name}")
    source = yaml_source.parse("data: {}", path.name)
    spec = DataSpec.model_validate(look.data_keys(path, path.parent))
    try:
        loader.load(spec, TASKS.load(look.task)(), base=path.parent, seed=0, source=source)
    except SpecError as error:
        return error.problems
    return ()
