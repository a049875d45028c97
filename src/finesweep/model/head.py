"""Decides about a checkpoint's head: it is kept, kept with its rows reordered, or replaced by a new one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finesweep.text import clean

_NAMELESS = re.compile(r"LABEL_[0-9]+")
_SHOWN = 5
_LONGEST = 60


@dataclass(frozen=True)
class Head:
    """Decision about a checkpoint's head.

    Attributes:
        rows: For each label of the data, its row in the head's last layer; None if that layer is new.
        note: Remark for the user with the decision and the reason; empty if the checkpoint has no head.
    """

    rows: tuple[int, ...] | None
    note: str = ""


class HeadFault(ValueError):
    """The head cannot be kept although the spec says so; the message gives the reason."""


def choose(
    config: Mapping[str, Any],
    names: Sequence[str] | None,
    needed: int,
    rows_there: int | None,
    keep: bool | None,
    *,
    layer: str,
) -> Head:
    """Decide about a checkpoint's head.

    It is kept if its labels are those of the data, in any order. Only then the meaning of its rows is known.

    Args:
        config: The checkpoint's ``config.json``.
        names: The data's labels in the order of their ids; None if labels are numbers.
        needed: Number of outputs that the task needs.
        rows_there: Number of rows of the last layer in the checkpoint; None if it lacks that layer.
        keep: The spec's ``keep_head``; None to decide by the labels.
        layer: Name of the last layer, for messages.

    Raises:
        HeadFault: The spec says to keep a head that is missing, or has another number of rows.
    """
    if keep and rows_there != needed:
        has = (
            "the checkpoint has no head" if rows_there is None else f"the checkpoint's head has {_outputs(rows_there)}"
        )
        raise HeadFault(f"{has}, {_needed(needed)}")
    if rows_there is None:
        return Head(None)
    labels = labels_of(config)
    order = _order(labels, names) if keep is not False and rows_there == needed and names is not None else None
    if order is not None:
        return Head(order, _kept_note(order, labels))
    if keep:
        return Head(
            tuple(range(needed)), f"The checkpoint's head is kept as it is, by `keep_head`{_as(labels, names)}."
        )
    return Head(None, _new_note(labels, names, needed, rows_there, keep, layer))


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of a config in the order of their ids; empty if it does not name them all."""
    named = config.get("id2label")
    if not isinstance(named, Mapping) and isinstance(config.get("label2id"), Mapping):
        named = {position: name for name, position in config["label2id"].items()}
    if not isinstance(named, Mapping):
        return ()
    by_id = {str(position): str(name).strip() for position, name in named.items()}
    labels = tuple(by_id.get(str(position), "") for position in range(len(by_id)))
    return labels if all(labels) and not any(_NAMELESS.fullmatch(label) for label in labels) else ()


def _order(labels: Sequence[str], names: Sequence[str]) -> tuple[int, ...] | None:
    """Return the position of each name among the labels, if both are the same set, apart from case and blanks."""
    for spelled in (str, _folded):
        places = {spelled(label): place for place, label in enumerate(labels)}
        wanted = [spelled(name) for name in names]
        if len(places) == len(labels) and places.keys() == set(wanted) and len(set(wanted)) == len(wanted):
            return tuple(places[name] for name in wanted)
    return None


def _folded(label: str) -> str:
    return " ".join(label.casefold().split())


def _kept_note(order: Sequence[int], labels: Sequence[str]) -> str:
    if list(order) == sorted(order):
        return f"The checkpoint's head is kept: its labels are those of the data ({_list(labels)})."
    return (
        "The checkpoint's head is kept: its labels are those of the data, in another order "
        f"({_list(labels)}), and its rows are put into the data's order."
    )


def _as(labels: Sequence[str], names: Sequence[str] | None) -> str:
    """Describe which label of the data each row of a kept head now stands for."""
    if names is None:
        return ""
    old = labels if len(labels) == len(names) else [f"row {position}" for position in range(len(names))]
    return f": {_list([f'{before} is now {after}' for before, after in zip(old, names, strict=True)])}"


def _new_note(
    labels: Sequence[str], names: Sequence[str] | None, needed: int, rows_there: int, keep: bool | None, layer: str
) -> str:
    new = f"so its last layer ({layer}) is new"
    if rows_there != needed:
        return f"The checkpoint's head has {_outputs(rows_there)}, {_needed(needed)}, {new}."
    if keep is False:
        return f"The checkpoint's head is not kept, by `keep_head`: its last layer ({layer}) is new."
    hint = "`model: {keep_head: true}` keeps it"
    if names is None:
        return f"What the checkpoint's head measures is not known, {new}; {hint}."
    if not labels:
        return f"The checkpoint's head has no names for its {_outputs(rows_there)}, {new}; {hint}."
    return (
        f"The checkpoint's head is for other labels ({_list(labels)}) than the data's ({_list(names)}), {new}; {hint}."
    )


def _outputs(count: int) -> str:
    return f"{count} output{'' if count == 1 else 's'}"


def _needed(count: int) -> str:
    return f"{count} {'is' if count == 1 else 'are'} needed"


def _list(names: Sequence[str]) -> str:
    return ", ".join(clean(name, _LONGEST) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
