"""Cells that hold several labels are parted as people mean them, or as they say."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.errors import DataProblem
from finesweep.tasks import label_cells


def split(cells: list[Any], separator: str | None = None) -> tuple[list[tuple[Any, ...]], list[str]]:
    found, notes = label_cells.split({"train": pd.Series(cells, dtype=object)}, separator)
    return found["train"].tolist(), notes


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        pytest.param(["a|b", "b", "", "c|"], [("a", "b"), ("b",), (), ("c",)], id="bars"),
        pytest.param(["a | b", "|b||", " a"], [("a", "b"), ("b",), ("a",)], id="blanks-and-empty-parts"),
        pytest.param(["a|a", "b"], [("a", "a"), ("b",)], id="twice"),
        pytest.param(["a;b", "c"], [("a", "b"), ("c",)], id="semicolon-without-evidence"),
        pytest.param(["x, y", "y", "x"], [("x", "y"), ("y",), ("x",)], id="comma-with-evidence"),
        pytest.param(["1,2", "2", "3"], [("1", "2"), ("2",), ("3",)], id="numbers-are-no-decimals-here"),
        pytest.param(["Arts, Crafts", "Food"], [("Arts, Crafts",), ("Food",)], id="comma-in-a-name"),
        pytest.param(["a,b|c", "c"], [("a,b", "c"), ("c",)], id="bar-before-comma"),
        pytest.param(["['a', 'b']", "[]", '["c"]'], [("a", "b"), (), ("c",)], id="lists-as-text"),
        pytest.param(["['', 'a']", "{'b', 'a'}"], [("a",), ("a", "b")], id="lists-with-an-empty-text-and-sets"),
        pytest.param([("a", "b"), (), ("c",)], [("a", "b"), (), ("c",)], id="lists"),
        pytest.param([3, True, "a"], [(3,), (True,), ("a",)], id="single-values"),
        pytest.param([(0, 1, 0), (1, 1, 0), (0, 0, 0)], [(1,), (0, 1), ()], id="flags-in-lists"),
        pytest.param([(0, 1), (1, 0)], [(0, 1), (1, 0)], id="lists-of-two-labels"),
        pytest.param([(0, 1), (1, 1)], [(1,), (0, 1)], id="two-flags"),
    ],
)
def test_cells_are_parted_as_they_look(cells: list[Any], found: list[tuple[Any, ...]]):
    assert split(cells)[0] == found


def test_separator_that_is_set_is_taken_and_missed():
    assert split(["a/b|c", "b"], "/")[0] == [("a", "b|c"), ("b",)]
    assert split(["a b", "b"], " ")[0] == [("a", "b"), ("b",)]
    assert split(["a|b"], "/") == ([("a|b",)], ["No label cell holds the separator '/'."])


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        (["a|b", "b"], "Labels are parted at '|' (`data: {label_separator: ...}` names another separator)."),
        (["x, y", "z"], "A comma in a label cell is taken for a part of one label's name"),
        ([(0, 1, 1), (1, 0, 0)], "The lists hold a 0 or 1 for each of 3 labels, which are called 0 to 2."),
    ],
)
def test_what_was_decided_is_said(cells: list[Any], note: str):
    assert split(cells)[1][0].startswith(note)


@pytest.mark.parametrize("cell", ["[a, b]", "[[1], 2]", "{'a': 1}", "[" * 3_000 + "]" * 3_000, f"['{'x' * 20_000}']"])
def test_text_that_only_looks_like_a_list_is_refused(cell: str):
    with pytest.raises(DataProblem, match="is no list of labels"):
        split([cell])


@given(st.lists(st.none() | st.integers() | st.floats() | st.text("ab|,;[]' ", max_size=6), max_size=12))
def test_any_cells_become_tuples_or_a_problem(cells: list[Any]):
    try:
        found, _ = split(cells)
    except DataProblem:
        return
    assert all(isinstance(cell, tuple) for cell in found)
