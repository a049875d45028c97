"""Reads the splits of a Hub data set from its snapshot folder, without the library's cache and without network."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from finesweep.data import csv_quotes
from finesweep.data.packed_file import refuse_large
from finesweep.data.readers import Table, from_arrow, most_bytes
from finesweep.errors import DataProblem, SpecError, Unreadable, did_you_mean
from finesweep.files import read_bytes
from finesweep.host.temporary_folders import temporary_folder
from finesweep.spec import Quoting

Pick = Callable[[Sequence[str]], Mapping[str, str]]
"""Chooses splits from their names; returns the split's name by what it is used as."""

_LONGEST_REASON = 300
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")


def read(
    folder: Path, config: str | None, pick: Pick, columns: Collection[str], quoting: Quoting | None = None
) -> dict[str, Table]:
    """Read the picked splits.

    ``datasets`` caches by path and time alone, so its cache is put into a temporary folder. The rows are then those of
    the files as they are now.

    Args:
        folder: The snapshot.
        config: Configuration, None for the data set's default.
        pick: Chooses the splits; its exceptions pass through.
        columns: Columns whose values are needed.
        quoting: Meaning of double quotes in CSV and TSV files; None to judge them by their look.

    Returns:
        A table for every picked split.

    Raises:
        DataProblem: The configuration does not exist, or ``datasets`` cannot read the files.
    """
    import datasets
    import yaml

    foreign = (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError)
    with temporary_folder() as cache, _quiet():
        try:
            splits, notes = _built(folder, config, cache, quoting)
        except DataProblem:
            raise
        except (*foreign, yaml.YAMLError, datasets.exceptions.DatasetsError) as error:
            raise DataProblem("dataset", f"`datasets` cannot read its files: {_reason(error)}") from error
        picked = pick(list(splits))
        return {use: _table(splits[name], name, columns, notes) for use, name in picked.items()}


def _built(
    folder: Path, config: str | None, cache: str, quoting: Quoting | None
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return the splits, and remarks that apply to all of them."""
    import datasets

    options: dict[str, Any] = {"path": str(folder), "cache_dir": cache, **_choice(folder, config)}
    # Made without options first: it finds the files and their reader, on which the options depend.
    builder = datasets.load_dataset_builder(**options)
    _check_files(builder.config.data_files or {}, folder)
    notes: list[str] = []
    if builder.name == "csv":
        files = [Path(file) for files in (builder.config.data_files or {}).values() for file in files]
        told = _told_quoting(builder.config, quoting)
        judged = told is None and _has_plain_quotes(files, builder.config.sep or ",")
        notes += [csv_quotes.PLAIN_NOTE] * judged
        # By default, pandas would read the words NA, null and None as missing values.
        options |= {"keep_default_na": False, "na_values": [""], "quoting": csv.QUOTE_NONE if judged else told or 0}
        builder = datasets.load_dataset_builder(**options)
    elif quoting is not None:
        raise DataProblem("quoting", f"is for CSV and TSV files; these are {builder.name}", "leave it out")
    builder.download_and_prepare()
    return builder.as_dataset(), tuple(notes)


def _choice(folder: Path, config: str | None) -> dict[str, str]:
    """Return the arguments of ``load_dataset_builder`` that select the configuration."""
    import datasets

    known = datasets.get_dataset_config_names(str(folder))
    if config is None:
        default = datasets.get_dataset_default_config_name(str(folder))
        if default is None:
            raise DataProblem("config", f"needed; there are {', '.join(known)}", f"as config: {known[0]}")
        return {"name": default}
    if config in known:
        return {"name": config}
    if _FOLDER.match(config) and (folder / config).is_dir():
        return {"data_dir": config}
    message = f"no configuration is called {config!r}; there are {', '.join(known)}"
    raise DataProblem("config", message, did_you_mean(config, known))


def _check_files(files: Mapping[str, Sequence[str]], folder: Path) -> None:
    """Refuse huge files, and a README that points outside the data set: to another user's files, or to a server."""
    for file in (file for paths in files.values() for file in paths):
        # In the Hub's cache the files are links to blobs, so a link must not be resolved here.
        path = Path(file)
        if ".." in path.parts or not path.is_relative_to(folder):
            raise DataProblem("dataset", f"its README names a file that is not its own: {file}")
        try:
            refuse_large(path, most_bytes())
        except Unreadable as error:
            name = path.relative_to(folder)
            raise DataProblem("dataset", f"{name}: {error.reason}", "take another data set") from None


def _told_quoting(config: Any, quoting: Quoting | None) -> int | None:
    """Return the constant of `csv` that the spec or the data set's README names; None if neither does."""
    if quoting is not None:
        return csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL
    return None if config.quoting == csv.QUOTE_MINIMAL else int(config.quoting)


def _has_plain_quotes(files: Sequence[Path], delimiter: str) -> bool:
    """Return whether double quotes are plain characters, judged as in the user's own files.

    Raises:
        DataProblem: A quoted field seems to swallow rows.
    """
    plain = []
    for file in files:
        try:
            text = read_bytes(file, most_bytes()).decode()
            plain.append(csv_quotes.split(text, delimiter, None, file.name).note != "")
        except SpecError as error:
            first = error.problems[0]
            raise DataProblem("dataset", f"{first.where}: {first.message}", first.hint) from None
        except (Unreadable, UnicodeDecodeError, TypeError):
            continue  # the library reports the fault
    return any(plain)


def _reason(error: BaseException) -> str:
    """Return the text of the first error in one line; the last one often says only that there was an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return textwrap.shorten(str(error) or type(error).__name__, _LONGEST_REASON)


def _table(split: Any, name: str, columns: Collection[str], notes: tuple[str, ...]) -> Table:
    import datasets

    present = [column for column in split.column_names if column in columns]
    arrow = split.select_columns(present).with_format("arrow")[:]
    # A list of labels has its names inside.
    inner = {column: getattr(feature, "feature", feature) for column, feature in split.features.items()}
    labels = {column: feature for column, feature in inner.items() if isinstance(feature, datasets.ClassLabel)}
    named = {column: tuple(feature.names) for column, feature in labels.items()}
    table = from_arrow(arrow, split.column_names, name, named)
    return dataclasses.replace(table, notes=(*notes, *table.notes))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's progress bars and log; every important message is raised as an error too."""
    import datasets

    shown, verbosity = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not shown:
            datasets.enable_progress_bars()
