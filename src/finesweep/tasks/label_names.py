"""Turns labels into names: writes them as text, joins their spellings, sorts them, and lists them in messages."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from finesweep.errors import DataProblem, did_you_mean
from finesweep.tasks.label_column import decimal_comma, is_number, is_whole, readings
from finesweep.tasks.protocol import Task
from finesweep.text import first_few, shortened

FEW_CLASSES = 10
"""Up to this many classes are never too many for the rows."""

AS_WRITTEN = "`data: {labels: as_written}` takes each as it stands"

_SHOWN = 10
_LONGEST = 43


def texts(labels: Mapping[str, Iterable[Any]]) -> dict[str, list[str]]:
    """Return labels as text; if all are whole numbers, without the ``.0`` that a missing value in the column causes."""
    found = {split: [str(value).strip() for value in column] for split, column in labels.items()}
    distinct = set().union(*found.values())
    if any("." in text for text in distinct) and all(is_whole(text) for text in distinct):
        return {split: [text.partition(".")[0] for text in column] for split, column in found.items()}
    return found


def as_names(labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names of labels that are names already, or positions of names."""
    positions = {str(position): name for position, name in enumerate(names)}
    return [text if text in names else positions.get(text, text) for text in labels]


def joined(labels: Mapping[str, Sequence[str]]) -> tuple[dict[str, list[str]], list[str]]:
    """Join labels that are spellings of one label; return them with a note."""
    read = readings(Counter(labels["train"]), {text for column in labels.values() for text in column})
    ways = defaultdict(list)
    for text, name in read.items():
        ways[name].append(text)
    found = [f"{listed(sorted(same))} as {name!r}" for name, same in sorted(ways.items()) if same != [name]]
    notes = [f"Labels written in several ways are one: {first_few(found, _SHOWN, '; ')} ({AS_WRITTEN})."]
    splits = {split: [read[text] for text in column] for split, column in labels.items()}
    return splits, notes if found else []


def in_order(labels: Iterable[str]) -> list[str]:
    """Return the different labels: numbers sorted by value, other texts alphabetically."""
    found = set(labels)
    if decimal_comma(found):
        return sorted(found, key=lambda text: (float(text.replace(",", ".")), text))
    return sorted(found, key=lambda text: (float(text), text)) if all(map(is_number, found)) else sorted(found)


def check_known(labels: Mapping[str, Sequence[str]], known: Collection[str], why: str, unit: str = "rows") -> None:
    """Refuse labels that are not known.

    Args:
        labels: Labels by split.
        known: The labels that can be learned.
        why: Explains which these are.
        unit: The things that are counted, for the message.

    Raises:
        DataProblem: A split has other labels.
    """
    for split, column in labels.items():
        unknown = Counter(text for text in column if text not in known)
        if unknown:
            count = f"{unknown.total():,} of {len(column):,} {unit}"
            message = f"{listed(in_order(unknown))} cannot be learned ({count}); {why}"
            raise DataProblem(split, message, did_you_mean(next(iter(unknown)), known))


def alike_notes(names: Sequence[str]) -> Iterator[str]:
    """Yield remarks on labels that differ only slightly."""
    alike = defaultdict(list)
    for name in names:
        alike[" ".join(name.casefold().split())].append(name)
    for same in alike.values():
        if len(same) > 1:
            yield f"The labels {listed(same)} differ only in case or spaces and are separate classes."


def absent_notes(task: Task, splits: Mapping[str, Sequence[Any]], names: Sequence[str]) -> Iterator[str]:
    """Yield remarks on names that no row of a split has."""
    for split, column in splits.items():
        if absent := task.absent(column, names):
            yield f"No row of {split} has the label {listed(absent)}."


def named_outputs(names: Sequence[str]) -> dict[str, Any]:
    """Return the config fields of a head with one output per name."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: position for position, name in enumerate(names)},
    }


def listed(names: Sequence[str]) -> str:
    """List the first few names."""
    return first_few([repr(shortened(name, _LONGEST)) for name in names], _SHOWN)
