"""Which rows are kept, and what is said about the others."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from finesweep.data.cleaning import clean_rows, without_labels
from finesweep.data.readers import Table
from finesweep.errors import DataProblem

ROLES = {"text": "body", "label": "stars"}


def table(texts: list[Any], labels: list[Any], names: tuple[str, ...] | None = None, **more: list[Any]) -> Table:
    columns = {"body": texts, "stars": labels, **more}
    places = list(range(2, len(texts) + 2))
    return Table(tuple(columns), columns, places, "line", {"stars": names} if names else {})


@pytest.mark.parametrize("empty", ["", "  \t", None, float("nan")])
def test_a_row_without_text_is_dropped_and_counted(empty: object) -> None:
    frame, notes = clean_rows(table(["a", empty, "b"], [1, 2, 3]), ROLES, "train (my.csv)")
    assert frame["text"].tolist() == ["a", "b"]
    assert frame["label"].tolist() == [1, 3]
    assert frame.index.tolist() == [2, 4]
    assert notes == ["train (my.csv): 1 row (line 3) with no text in 'body' left out."]


@pytest.mark.parametrize("alien", [["a"], {"a": 1}, b"a"])
def test_a_row_whose_text_is_no_text_is_dropped_and_counted(alien: object) -> None:
    frame, notes = clean_rows(table(["a", alien], [1, 2]), ROLES, "train")
    assert frame["text"].tolist() == ["a"]
    assert notes == ["train: 1 row (line 3) with something other than text in 'body' left out."]


@pytest.mark.parametrize("empty", ["", "  ", None, float("nan")])
def test_a_missing_label_is_dropped_counted_and_its_first_rows_named(empty: object) -> None:
    frame, notes = clean_rows(table(list("abcdefgh"), ["x", *[empty] * 6, "y"]), ROLES, "train")
    assert frame["label"].tolist() == ["x", "y"]
    assert notes == ["train: 6 rows (lines 3, 4, 5, 6, 7, ...) with no label in 'stars' left out."]


def test_a_row_that_lacks_both_is_counted_once() -> None:
    _, notes = clean_rows(table(["a", "", ""], [1, None, 2]), ROLES, "train")
    assert notes == ["train: 2 rows (lines 3, 4) with no text in 'body' left out."]


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["", " "], [1, 2], "every row has no text in 'body'"),
        ([[1], [2]], [1, 2], "every row has something other than text in 'body'"),
        (["a", "b"], ["", None], "every row has no label in 'stars'"),
        (["a", ""], [None, 1], "no row has both text and a label"),
        (["a", "b"], [1, [1, 2]], "the label in line 3 is neither a number nor text nor a boolean"),
        (["a", "b"], [{"x": 1}, 1], "the label in line 2 is neither"),
    ],
)
def test_nothing_left_is_a_problem(texts: list[Any], labels: list[Any], message: str) -> None:
    with pytest.raises(DataProblem, match=message):
        clean_rows(table(texts, labels), ROLES, "train")


@pytest.mark.parametrize("number", [7, 7.5, Decimal("7.5"), True])
def test_numbers_as_texts_become_text(number: object) -> None:
    frame, _ = clean_rows(table([number], [1]), ROLES, "train")
    assert frame["text"].tolist() == [str(number)]


def test_labels_keep_their_kind_and_lose_their_margins() -> None:
    labels = [" pos ", 3, True, 2.5, Decimal("2"), Decimal("2.5")]
    frame, _ = clean_rows(table(list("abcdef"), labels), ROLES, "train")
    assert [(type(label), label) for label in frame["label"]] == [
        (str, "pos"),
        (int, 3),
        (bool, True),
        (float, 2.5),
        (int, 2),
        (float, 2.5),
    ]


def test_a_pair_without_its_second_text_is_dropped() -> None:
    roles = {**ROLES, "text_pair": "other"}
    frame, notes = clean_rows(table(["a", "b"], [1, 2], other=["", "c"]), roles, "train")
    assert frame["text_pair"].tolist() == ["c"]
    assert notes == ["train: 1 row (line 2) with no text in 'other' left out."]


def test_minus_one_is_no_label_where_classes_have_names() -> None:
    frame, _ = clean_rows(table(["a", "b"], [-1, 1], ("no", "yes")), ROLES, "test")
    assert frame["label"].tolist() == ["yes"]
    with pytest.raises(DataProblem, match="every row has no label"):
        clean_rows(table(["a", "b"], [-1, -1], ("no", "yes")), ROLES, "test")


def test_minus_one_is_a_label_like_others_where_they_have_none() -> None:
    frame, _ = clean_rows(table(["a", "b"], [-1, 1]), ROLES, "train")
    assert frame["label"].tolist() == [-1, 1]


def test_positions_become_the_names_that_the_file_gives_them() -> None:
    labels = [1, 0, 1.0, "no", 2, True]
    frame, _ = clean_rows(table(list("abcdef"), labels, ("no", "1")), ROLES, "train")
    assert frame["label"].tolist() == ["1", "no", "1", "no", 2, True]


@pytest.mark.parametrize(
    ("texts", "note"),
    [
        (["12", "7.5"], "train: every text in 'body' is a number; is this the right column?"),
        (["a", 7], "train: 1 row (line 3) with a number in 'body', taken as text."),
        ([1, 2], "train: 2 rows (lines 2, 3) with a number in 'body', taken as text."),
        (["NULL", "a"], "train: 1 row (line 2) with only a word such as 'NULL' in 'body', kept."),
    ],
)
def test_numbers_and_words_for_nothing_are_remarked_among_texts(texts: list[Any], note: str) -> None:
    assert clean_rows(table(texts, [1, 2]), ROLES, "train")[1] == [note]


def test_rows_with_a_word_for_no_label_are_left_out_and_named() -> None:
    frame, _ = clean_rows(table(list("abc"), ["x", "NULL", "y"]), ROLES, "train")
    kept, note = without_labels(frame, {"NULL", "nan"}, "train")
    assert kept["label"].tolist() == ["x", "y"]
    assert note.startswith("train: 1 row (line 3) with 'NULL' for a label, taken as none and left out (data.labels")
    assert without_labels(kept, {"NULL"}, "train")[1] == ""
    with pytest.raises(DataProblem, match="test: every row has 'x', 'y' for a label"):
        without_labels(kept, {"x", "y"}, "test")
