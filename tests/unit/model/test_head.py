"""What becomes of the head that a checkpoint brings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.model import head
from finesweep.model.head import Head, HeadFault, labels_of


def config(*labels: str) -> dict[str, object]:
    return {"id2label": {str(place): label for place, label in enumerate(labels)}}


def choose(there: dict[str, object], names: list[str] | None, rows_there: int | None, keep: bool | None) -> Head:
    return head.choose(there, names, len(names) if names else 1, rows_there, keep, layer="classifier")


def rows(there: dict[str, object], names: list[str] | None, rows_there: int | None, keep: bool | None = None) -> object:
    return choose(there, names, rows_there, keep).rows


@given(order=st.permutations(["bad", "fair", "good", "great"]))
def test_same_labels_in_any_order_give_each_its_own_row(order: list[str]) -> None:
    names = ["bad", "fair", "good", "great"]
    chosen = choose(config(*order), names, 4, None)
    assert chosen.rows is not None
    assert [order[row] for row in chosen.rows] == names
    assert ("another order" in chosen.note) == (order != names)


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (("POSITIVE", "NEGATIVE"), ["negative", "positive"], (1, 0)),
        (("a  b", "c"), ["C", "a b"], (1, 0)),
        (("1", "0"), ["0", "1"], (1, 0)),
        (("a", "A"), ["A", "a"], (1, 0)),
        (("a", "A"), ["a", "b"], None),
        (("a", "a"), ["a", "b"], None),
        (("a", "b", "c"), ["a", "b"], None),
        (("a", "b"), ["a", "c"], None),
        (("LABEL_0", "LABEL_1"), ["0", "1"], None),
        (("LABEL_0", "LABEL_1"), ["LABEL_0", "LABEL_1"], None),
        ((), ["a", "b"], None),
    ],
)
def test_labels_decide_whether_a_head_is_kept(
    labels: tuple[str, ...], names: list[str], expected: tuple[int, ...] | None
) -> None:
    assert rows(config(*labels), names, len(labels) or 2) == expected


@pytest.mark.parametrize(
    ("there", "labels"),
    [
        ({"label2id": {"b": 1, "a": 0}}, ("a", "b")),
        ({"id2label": {"0": "a", "2": "b"}}, ()),
        ({"id2label": {"0": "a", "1": ""}}, ()),
        ({"id2label": ["a", "b"]}, ()),
        ({"id2label": {"0": "LABEL_0", "1": "b"}}, ()),
        ({}, ()),
    ],
)
def test_labels_are_taken_only_where_the_config_names_them_all(
    there: dict[str, object], labels: tuple[str, ...]
) -> None:
    assert labels_of(there) == labels


@pytest.mark.parametrize(
    ("keep", "names", "there", "expected"),
    [
        (True, ["a", "b"], config("x", "y"), (0, 1)),
        (True, ["a", "b"], config("b", "a"), (1, 0)),
        (True, ["a", "b"], {}, (0, 1)),
        (True, None, {}, (0,)),
        (None, None, {}, None),
        (False, ["a", "b"], config("a", "b"), None),
    ],
)
def test_keep_head_overrules_the_labels(
    keep: bool | None, names: list[str] | None, there: dict[str, object], expected: tuple[int, ...] | None
) -> None:
    assert rows(there, names, 2 if names else 1, keep) == expected


@pytest.mark.parametrize(
    ("rows_there", "names", "message"),
    [
        (None, ["a", "b"], "the checkpoint has no head, 2 are needed"),
        (1, ["a", "b"], "the checkpoint's head has 1 output, 2 are needed"),
        (2, None, "the checkpoint's head has 2 outputs, 1 is needed"),
    ],
)
def test_a_head_that_does_not_fit_cannot_be_kept(rows_there: int | None, names: list[str] | None, message: str) -> None:
    with pytest.raises(HeadFault, match=message):
        rows({}, names, rows_there, True)


@pytest.mark.parametrize(
    ("there", "names", "rows_there", "keep", "note"),
    [
        (config("x", "y"), ["a", "b"], 2, None, "is for other labels (x, y) than the data's (a, b), so its last layer"),
        ({}, ["a", "b"], 2, None, "has no names for its 2 outputs, so its last layer (classifier) is new"),
        ({}, ["a", "b"], 1, None, "has 1 output, 2 are needed, so its last layer (classifier) is new."),
        (config("x", "y"), None, 2, None, "has 2 outputs, 1 is needed, so its last layer (classifier) is new."),
        ({}, None, 1, None, "What the checkpoint's head measures is not known, so its last layer (classifier) is new"),
        (config("x", "y"), ["a", "b"], 2, True, "is kept as it is, by `keep_head`: x is now a, y is now b."),
        ({}, ["a", "b"], 2, True, "row 0 is now a, row 1 is now b."),
        (config("a", "b"), ["a", "b"], 2, False, "is not kept, by `keep_head`: its last layer (classifier) is new."),
        (config("x\x1b[31m", "y"), ["a", "b"], 2, None, "other labels (x, y)"),
    ],
)
def test_the_note_says_which_and_why(
    there: dict[str, object], names: list[str] | None, rows_there: int, keep: bool | None, note: str
) -> None:
    assert note in choose(there, names, rows_there, keep).note


def test_without_a_head_there_is_nothing_to_say() -> None:
    assert choose({}, ["a", "b"], None, None).note == ""
