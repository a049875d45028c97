from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from finesweep.text.table import Cell, FittedColumn, FittedTable, cut_to_width, fit, lines, wrapped_name


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("trial", ["trial"]),
        ("learning_rate", ["learning_", "rate"]),
        ("per_device_train_batch_size", ["per_device_", "train_batch_", "size"]),
        ("model.hidden_dropout_prob", ["model.", "hidden_", "dropout_prob"]),
        ("best epoch", ["best epoch"]),
        ("averyveryverylongword", ["averyveryverylongword"]),
    ],
)
def test_names_break_at_their_joints(name: str, broken: list[str]) -> None:
    assert wrapped_name(name) == broken
    assert "".join(broken).replace(" ", "") == name.replace(" ", "")


def columns() -> list[FittedColumn]:
    return [
        FittedColumn("trial", [Cell("1"), Cell("12")], right=True),
        FittedColumn("loss", [Cell("0.5000"), Cell("")], drop=1, right=True),
        FittedColumn("rate", [Cell("1e-05"), Cell("3e-05")], drop=2),
    ]


def test_the_least_important_columns_go_first() -> None:
    assert [column.name for column in fit(columns(), 80)] == ["trial", "loss", "rate"]
    assert [column.name for column in fit(columns(), 20)] == ["trial", "loss", "rate"]
    assert [column.name for column in fit(columns(), 19)] == ["trial", "loss"]
    assert [column.name for column in fit(columns(), 12)] == ["trial"]
    assert [column.name for column in fit(columns(), 1)] == ["trial"]


def test_numbers_align_right_and_headings_stand_at_the_bottom() -> None:
    table = [FittedColumn("best epoch number", [Cell("7")], right=True), FittedColumn("state", [Cell("DONE")])]
    assert [line.plain for line in lines(table, 80)] == ["best epoch", "    number  state", "         7  DONE"]


def test_a_flexible_column_wraps_in_what_is_left() -> None:
    words = "lost against the best two of five others that had come as far"
    table = [
        FittedColumn("trial", [Cell("1"), Cell("2")]),
        FittedColumn("reason", [Cell(words), Cell("x" * 60)], flexible=True),
    ]
    assert [line.plain for line in lines(fit(table, 37), 37)] == [
        "trial  reason",
        "1      lost against the best two of",
        "       five others that had come as",
        "       far",
        "2      " + "x" * 30,
        "       " + "x" * 30,
    ]


@pytest.mark.parametrize("width", [1, 7, 12])
def test_a_text_is_wrapped_and_kept_where_no_width_is_left(width: int) -> None:
    table = [FittedColumn("trial", [Cell("1")]), FittedColumn("reason", [Cell("out of memory")], flexible=True)]
    shown = [line.plain for line in lines(fit(table, width), 80)]
    assert shown == ["trial  reason", "1      out of", "       memory"]


@given(st.text("ab日 ", max_size=80), st.integers(8, 60))
def test_wrapping_loses_no_character(text: str, width: int) -> None:
    table = [FittedColumn("reason", [Cell(text)], flexible=True)]
    shown = [line.plain for line in lines(fit(table, width), width)][1:]
    assert "".join(shown).replace(" ", "") == text.replace(" ", "")


def test_the_note_names_the_hidden_columns() -> None:
    console = Console(file=io.StringIO(), width=12, _environ={})
    console.print(FittedTable("A title", columns(), "and more"))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.splitlines()[:2] == ["A title", "trial"]
    assert "Not shown for lack of width: loss, rate" in " ".join(text.split())
    assert text.rstrip().endswith("and more")


@given(
    st.lists(st.tuples(st.text("abc_日", min_size=1, max_size=20), st.text("x日 ", max_size=30), st.integers(0, 3))),
    st.integers(1, 60),
)
def test_no_line_is_wider_than_asked(parts: list[tuple[str, str, int]], width: int) -> None:
    table = [FittedColumn(name, [Cell(text)], drop, flexible=drop == 1) for name, text, drop in parts]
    assert all(cell_len(line.plain) <= width for line in lines(fit(table, width), width))


@given(st.text("ab日", max_size=20), st.integers(0, 20))
def test_cut_to_width_texts_fit(text: str, width: int) -> None:
    assert cell_len(cut_to_width(text, width)) <= width
