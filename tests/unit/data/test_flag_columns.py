"""Columns of 0 and 1 become one column of labels."""

from __future__ import annotations

from typing import Any

import pytest

from finesweep.data import flag_columns
from finesweep.data.readers import Table
from finesweep.errors import DataProblem


def joined(**columns: list[Any]) -> Table:
    rows = len(next(iter(columns.values())))
    table = Table(tuple(columns), columns, range(2, rows + 2), "line")
    return flag_columns.joined(table, list(columns), "labels", "train")


def test_row_has_the_labels_whose_flag_is_set():
    table = joined(rude=["1", "0", "0"], mad=[True, False, False], sad=[1.0, 1, 0])
    assert table.columns["labels"] == [["rude", "mad", "sad"], ["sad"], []]
    assert table.class_names["labels"] == ("rude", "mad", "sad")


@pytest.mark.parametrize("unknown", [None, "", float("nan"), "-1", -1])
def test_row_with_a_flag_that_is_not_known_has_no_label(unknown: Any):
    assert joined(rude=[1, 0], mad=[0, unknown]).columns["labels"] == [["rude"], None]


@pytest.mark.parametrize("strange", ["2", 0.5, "maybe"])
def test_value_that_is_no_flag_is_refused_with_its_place(strange: Any):
    with pytest.raises(DataProblem, match=r"'mad' has .* in line 3"):
        joined(rude=[1, 0], mad=[0, strange])
