"""Loads the ``data:`` of a spec into clean rows with encoded labels, or collects all problems in it."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from finesweep import activity
from finesweep.data import cleaning, flag_columns, hub_datasets, readers, splits
from finesweep.data.csv_table import Layout
from finesweep.data.loaded import DataSource, LoadedData
from finesweep.data.readers import Table
from finesweep.errors import DataProblem, Problem, SpecError, Unreadable, did_you_mean
from finesweep.files import read_bytes
from finesweep.files.regular_file import check, names_in
from finesweep.hub import HubError, snapshot
from finesweep.spec import DataSpec, YamlSource
from finesweep.spec.yaml_source import expand
from finesweep.tasks import Task, label_cells, label_column
from finesweep.text import first_few

SPLITS = ("train", "validation", "test")
_CAPS = {"train": "max_train_rows", "validation": "max_eval_rows", "test": "max_test_rows"}
_VALIDATION_NAMES = ("validation", "dev", "valid")
_ROLES = ("text", "text_pair", "label", "group")
_INDEX = re.compile(r"(Unnamed: \d+)?")
_SHOWN = 5


def load(spec: DataSpec, task: Task, *, base: Path, seed: int, source: YamlSource) -> LoadedData:
    """Read, check and clean the rows of every split, encode their labels, split and cap them.

    Args:
        spec: The section ``data``.
        task: Encodes the labels.
        base: Folder that relative paths start from.
        seed: Seed of the validation split and of the samples.
        source: The YAML, for the positions in messages.

    Raises:
        SpecError: With every problem of the first step that finds any: reading and columns, rows, labels.
    """
    return _Loader(spec, task, base, seed, source).load()


class _Loader:
    """Loads one spec's data step by step; a step's problems are collected over all splits."""

    def __init__(self, spec: DataSpec, task: Task, base: Path, seed: int, source: YamlSource) -> None:
        self.spec, self.task, self.base, self.seed, self.source = spec, task, base, seed, source
        given = {role: column for role in _ROLES if (column := getattr(spec, role)) is not None}
        self.roles: dict[str, str] = {**given, "label": ", ".join(spec.label_columns)}
        named = [(role, [column]) for role, column in self.roles.items() if role != "label"]
        named.append(("label", list(spec.label_columns)))
        self.named = [(role, column) for role, columns in named for column in columns]
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.shown: dict[str, str] = {}
        self.sources: dict[str, DataSource] = {}

    def load(self) -> LoadedData:
        self._check_roles()
        tables = self._hub_tables() if self.spec.dataset is not None else self._file_tables()
        self._check_sources()
        for split, table in tables.items():
            self._check_columns(split, table)
        self._raise_problems()
        if len(self.spec.label_columns) > 1:
            tables = {split: self._with_one_label(split, table) for split, table in tables.items()}
            self._raise_problems()
        frames = {split: self._clean(split, table) for split, table in tables.items()}
        self._raise_problems()
        class_names = self._class_names(tables)
        frames = self._with_labels(frames, class_names or ())
        names = self._encode(frames, class_names)
        frames = self._separated(frames, names)
        self._note_overlaps(frames)
        frames = {split: self._capped(split, frame, len(names or ())) for split, frame in frames.items()}
        self._raise_problems()
        kept = [role for role in ("text", "text_pair", "label") if role in self.roles]
        final = {split: frame[kept].reset_index(drop=True) for split, frame in frames.items()}
        if self.spec.group is not None:
            # Numbers alone: the column may name persons.
            final["validation"]["group"] = pd.factorize(frames["validation"]["group"])[0]
        train, validation = (final[split]["label"].tolist() for split in ("train", "validation"))
        return LoadedData(final, names, self.sources, tuple(self.notes), self.task.naive(train, validation, names))

    def _add(self, key: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.source.where("data", key), message, hint))

    def _raise_problems(self) -> None:
        if self.problems:
            raise SpecError(dict.fromkeys(self.problems))

    def _check_roles(self) -> None:
        for (first, column), (second, other) in itertools.combinations(self.named, 2):
            if column == other and "group" not in (first, second):
                self._add(second, f"{column!r} is the column of data.{first} already")

    def _wanted(self) -> set[str]:
        return {column for _, column in self.named}

    def _file_tables(self) -> dict[str, Table]:
        given = {split: value for split in SPLITS if (value := getattr(self.spec, split)) is not None}
        tables = {split: self._file_table(split, given_path) for split, given_path in given.items()}
        return {split: table for split, table in tables.items() if table is not None}

    def _file_table(self, split: str, given: str) -> Table | None:
        path = self.base / expand(Path(given))
        data = self._bytes(split, path, given)
        if data is None:
            return None
        self.shown[split] = given
        self.sources[split] = DataSource(str(path.resolve()), hashlib.sha256(data).hexdigest(), None)
        try:
            table = readers.parse(data, path.suffix.lower(), given, self._wanted(), self._layout())
        except SpecError as error:
            self.problems.extend(error.problems)
            return None
        self._note_index(split, table)
        return table

    def _bytes(self, split: str, path: Path, given: str) -> bytes | None:
        """Read a file once, so that digest and rows come from the same bytes; None if it cannot be read."""
        known = ", ".join(readers.SUFFIXES)
        try:
            check(path)
            if path.suffix.lower() in readers.SUFFIXES:
                activity.tell(f"reading {given}")
                return read_bytes(path, readers.most_bytes())
            kind = path.suffix or "a file without suffix"
            command = readers.command_for(path, given)
            self._add(split, f"{given!r}: no reader for {kind}; there are {known}", command)
        except Unreadable as error:
            if error.missing:
                self._add(split, f"no such file: {path}", did_you_mean(path.name, names_in(path.parent)))
            else:
                self._add(split, f"{given!r}: {error.reason}")
        return None

    def _note_index(self, split: str, table: Table) -> None:
        for name in table.names:
            if _INDEX.fullmatch(name) and name not in self._wanted():
                self.notes.append(f"{self._name(split)}: the column {name!r} looks like row numbers and is not used.")

    def _layout(self) -> Layout:
        return Layout(self.spec.columns, self.spec.header, self.spec.quoting)

    def _name(self, split: str) -> str:
        return f"{split} ({self.shown[split]})" if split in self.shown else split

    def _hub_tables(self) -> dict[str, Table]:
        dataset = self.spec.dataset or ""
        activity.tell(f"fetching the data set {dataset}")
        try:
            found = snapshot(dataset, kind="dataset", revision=self.spec.revision)
        except HubError as error:
            raise SpecError.of(self.source.where("data", "dataset"), error.message, error.hint) from error
        if found.note:
            self.notes.append(found.note)
        config = self.spec.config

        def pick(names: Sequence[str]) -> Mapping[str, str]:
            picked = self._picked(names)
            self._raise_problems()
            for use, name in picked.items():
                self.shown[use] = f"{dataset}, split {name}"
                digest = f"{found.commit}/{config or 'default'}/{name}"
                self.sources[use] = DataSource(dataset, digest, found.commit)
            return picked

        try:
            return hub_datasets.read(found.path, config, pick, self._wanted(), self.spec.quoting)
        except DataProblem as error:
            where = self.source.where("data", error.about)
            raise SpecError.of(where, f"{dataset}: {error.message}", error.hint) from error

    def _picked(self, names: Sequence[str]) -> dict[str, str]:
        validation = next((name for name in _VALIDATION_NAMES if name in names), None)
        wanted = {
            "train": self.spec.train or "train",
            "validation": self.spec.validation or validation,
            "test": self.spec.test,
        }
        for use, name in wanted.items():
            if name is not None and name not in names:
                message = f"{self.spec.dataset} has no split {name!r}; there are {', '.join(names)}"
                self._add(use, message, did_you_mean(name, names))
        return {use: name for use, name in wanted.items() if name is not None}

    def _check_sources(self) -> None:
        for first, second in itertools.combinations(self.sources, 2):
            if self.sources[first].digest == self.sources[second].digest:
                message = f"{self.shown[second]} holds the same rows as data.{first}, byte for byte"
                hint = "leave out data.validation for a seeded split of train" if second == "validation" else ""
                self._add(second, message, hint or f"leave out data.{second}")

    def _check_columns(self, split: str, table: Table) -> None:
        if not table.look.is_header and (table.look.certain or not self._wanted() <= set(table.names)):
            self._refuse_first_line(split, table)
            return
        names = first_few([name[:60] for name in table.names], 30)
        for role, column in self.named:
            if column not in table.names:
                message = f"{self.shown[split]} has no column {column!r}; there are {names}"
                self._add(role, message, did_you_mean(column, table.names))

    def _refuse_first_line(self, split: str, table: Table) -> None:
        """Ask for the names of the columns, because the first line looks like a row."""
        asked = {role: column for role, column in self.roles.items() if column not in table.names}
        names = ", ".join(asked.get(name, name) for name in table.look.names)
        message = f"the first line looks like a row, not like a header: {table.look.evidence}"
        hint = f"write `data: {{columns: [{names}]}}`, or `header: true` if it does name the columns"
        self.problems.append(Problem(f"{self.shown[split]}:1", message, hint))

    def _with_one_label(self, split: str, table: Table) -> Table:
        try:
            return flag_columns.joined(table, self.spec.label_columns, self.roles["label"], self._name(split))
        except DataProblem as error:
            self._add(error.about, error.message, error.hint)
            return table

    def _clean(self, split: str, table: Table) -> pd.DataFrame:
        try:
            frame, notes = cleaning.clean_rows(table, self.roles, self._name(split), several=self.task.takes_several)
        except DataProblem as error:
            self._add(error.about, error.message, error.hint)
            return pd.DataFrame()
        self.notes.extend(f"{self._name(split)}: {note}." for note in table.notes)
        self.notes.extend(notes)
        return frame

    def _with_labels(self, frames: Mapping[str, pd.DataFrame], names: Sequence[str]) -> dict[str, pd.DataFrame]:
        """Drop rows whose label is a word for a missing one."""
        texts = {label_column.text_of(label) for frame in frames.values() for label in frame["label"]}
        words = self._words_for_none(texts) - set(names)
        kept = {}
        for split, frame in frames.items():
            try:
                kept[split], note = cleaning.without_labels(frame, words, self._name(split))
            except DataProblem as error:
                self._add(error.about, error.message, error.hint)
            else:
                self.notes.extend(filter(None, [note]))
        self._raise_problems()
        return kept

    def _words_for_none(self, texts: Collection[str]) -> frozenset[str]:
        if self.spec.labels == "as_written":
            return frozenset()
        # `missing_words` keeps a word such as NULL as a class if fewer than two labels would be left. With several
        # labels per row one label is enough to learn, so the word always means that there is none.
        alone = frozenset(filter(label_column.is_null, texts)) if self.task.takes_several else frozenset()
        return label_column.missing_words(texts) | alone

    def _class_names(self, tables: Mapping[str, Table]) -> tuple[str, ...] | None:
        """Return the class names that come with the data: those of train, or else those of another split."""
        named = [table.class_names.get(self.roles["label"]) for table in tables.values()]
        return next(filter(None, named), None)

    def _encode(self, frames: Mapping[str, pd.DataFrame], names: Sequence[str] | None) -> tuple[str, ...] | None:
        """Replace the labels by numbers, in place; return the class names."""
        try:
            labels = {split: frame["label"] for split, frame in frames.items()}
            if self.task.takes_several:
                labels, notes = label_cells.split(labels, self.spec.label_separator)
                self.notes.extend(notes)
            encoded = self.task.encode(labels, names, as_written=self.spec.labels == "as_written")
        except DataProblem as error:
            message = f"{self._name(error.about)}: {error.message}"
            raise SpecError.of(self.source.where("data", "label"), message, error.hint) from error
        for split, frame in frames.items():
            frame["label"] = list(encoded.splits[split])
        self.notes.extend(encoded.notes)
        return encoded.names

    def _separated(self, frames: dict[str, pd.DataFrame], names: Sequence[str] | None) -> dict[str, pd.DataFrame]:
        """Make sure that there is a validation split, and that no group is in two splits."""
        if self.spec.group is not None:
            frames = {split: self._with_groups(split, frame) for split, frame in frames.items()}
            self._check_groups(frames)
        if "validation" in frames:
            return frames
        train = frames["train"]
        rows = self._validation_rows(train)
        if not rows:
            message = f"{self._name('train')}: none of the {len(train):,} rows can be spared for validation"
            raise SpecError.of(self.source.where("data", "train"), message, "give data.validation")
        chosen = np.zeros(len(train), dtype=bool)
        chosen[rows] = True
        made = {"train": train[~chosen], "validation": train[chosen]}
        self._note_split(made, names)
        return {**made, **{split: frame for split, frame in frames.items() if split not in made}}

    def _validation_rows(self, train: pd.DataFrame) -> list[int]:
        # Stream 0 of the seed; the samples in _capped use 1 to 3. So a cap does not change the split.
        rng = np.random.default_rng([self.seed, 0])
        strata = self.task.strata(train["label"].tolist())
        if self.spec.group is None:
            return splits.hold_out(self.spec.validation_fraction, len(train), rng, strata)
        return splits.hold_out_groups(self.spec.validation_fraction, train["group"].tolist(), rng, strata)

    def _note_split(self, made: Mapping[str, pd.DataFrame], names: Sequence[str] | None) -> None:
        rows = {split: len(frame) for split, frame in made.items()}
        manner = [self.task.split_by] if self.task.split_by else []
        manner += [f"whole groups of {self.spec.group!r}"] if self.spec.group else []
        how = ", ".join([*manner, f"seed {self.seed}"])
        self.notes.append(f"validation: {rows['validation']:,} of {sum(rows.values()):,} rows of train, {how}.")
        if absent := self.task.absent(made["validation"]["label"].tolist(), names):
            shown = ", ".join(repr(name) for name in absent[:_SHOWN]) + (", ..." if len(absent) > _SHOWN else "")
            self.notes.append(f"validation: too few rows to have the label {shown}.")

    def _with_groups(self, split: str, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the groups as text; a row without a group becomes a group of its own."""
        groups = ["" if value is None or value != value else str(value).strip() for value in frame["group"]]
        if lone := groups.count(""):
            what = f"rows without {self.spec.group!r}, each a group of its own"
            self.notes.append(f"{self._name(split)}: {what}: {lone:,}.")
        own = [group or (split, position) for position, group in enumerate(groups)]
        return frame.assign(group=pd.Series(own, index=frame.index, dtype=object))

    def _check_groups(self, frames: Mapping[str, pd.DataFrame]) -> None:
        for first, second in itertools.combinations(frames, 2):
            shared = set(frames[first]["group"]) & set(frames[second]["group"])
            if shared:
                example = min(shared)
                message = f"groups that stand in {first} and in {second}: {len(shared):,}, as {example!r}"
                self._add("group", message, f"leave out data.{second} or move their rows to one side")
        self._raise_problems()

    def _note_overlaps(self, frames: Mapping[str, pd.DataFrame]) -> None:
        """Tell the user how many texts of the evaluation splits are in train too."""
        columns = [role for role in ("text", "text_pair") if role in self.roles]
        seen = set(frames["train"][columns].itertuples(index=False, name=None))
        for split in [split for split in frames if split != "train"]:
            count = sum(row in seen for row in frames[split][columns].itertuples(index=False, name=None))
            if count:
                size = len(frames[split])
                self.notes.append(f"{split}: {count:,} of {size:,} texts are in train too, so its scores are too good.")

    def _capped(self, split: str, frame: pd.DataFrame, names: int) -> pd.DataFrame:
        key = _CAPS[split]
        limit = getattr(self.spec, key)
        if limit is None or limit >= len(frame):
            return frame
        strata = self.task.strata(frame["label"].tolist())
        if split == "train" and strata is not None and limit < (count := len(set(strata))):
            what = "labels" if count <= names else "strata of labels"
            self._add(key, f"fewer rows ({limit}) than {what} ({count})", "allow a row of each")
            return frame
        rng = np.random.default_rng([self.seed, 1 + SPLITS.index(split)])
        rows = splits.sample(limit, len(frame), rng, strata)
        self.notes.append(f"{split}: a sample of {limit:,} of {len(frame):,} rows, seed {self.seed} (data.{key}).")
        return frame.iloc[rows]
