"""The rows on which a winner is most wrong are read from the sweep's data, and errors name the file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_boards import made_board

from finesweep.errors import FolderError
from finesweep.results.answers import Answers
from finesweep.results.board import Board
from finesweep.results.worst_rows import LONGEST, read_worst_rows

LOSSES = np.array([0.1, 5.0, 0.2, 2.0])


def board_of(folder: Path, columns: dict[str, list[Any]], answers: Answers, **data: Any) -> Board:
    (folder / "data").mkdir()
    pd.DataFrame(columns).to_parquet(folder / "data" / "validation.parquet")
    return made_board(folder, 5, answers=answers, data=data)


def test_rows_come_with_texts_labels_and_answers(tmp_path: Path) -> None:
    columns = {"text": list("abcd"), "text_pair": list("wxyz"), "label": [0, 1, 0, 0]}
    answers = Answers.of([0, 1, 0, 0], [0, 0, 0, 1], LOSSES, ("negative", "positive"))
    rows = read_worst_rows(board_of(tmp_path, columns, answers))
    assert [dataclasses.astuple(row) for row in rows[:2]] == [
        ("2", ("b", "x"), "positive", "negative", "5.0000"),
        ("4", ("d", "z"), "negative", "positive", "2.0000"),
    ]
    assert len(rows) == 4


def test_labels_may_be_several_or_numbers(tmp_path: Path) -> None:
    (tmp_path / "several").mkdir()
    several = Answers.of([[0, 1], []], [[1], [0]], LOSSES[:2], ("a", "b"))
    board = board_of(tmp_path / "several", {"text": ["x", "y"], "label": [[0, 1], []]}, several, labels=["a", "b"])
    assert [(row.label, row.given) for row in read_worst_rows(board)] == [("no label", "a"), ("a, b", "b")]
    (tmp_path / "numbers").mkdir()
    numbers = Answers.of([1.5, 2.0], [0.25, 2.0], LOSSES[:2][::-1], None)
    board = board_of(tmp_path / "numbers", {"text": ["x", "y"], "label": [1.5, 2.0]}, numbers, labels=None)
    assert [(row.label, row.given) for row in read_worst_rows(board)] == [("1.5", "0.25"), ("2", "2")]


def test_long_texts_are_cut_and_made_one_line(tmp_path: Path) -> None:
    answers = Answers.of([0], [1], LOSSES[:1], ("negative", "positive"))
    (row,) = read_worst_rows(board_of(tmp_path, {"text": ["a\x1b[31mb\n" * 10_000], "label": [0]}, answers))
    assert len(row.texts[0]) <= LONGEST
    assert row.texts[0].startswith("ab ab ab")


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["a"], "label": [0]},
        {"text": ["a", "b"], "label": [7, 9]},
        {"text": ["a", "b"], "label": ["x", "y"]},
        {"text": ["a", "b"]},
    ],
)
def test_other_rows_than_those_of_the_answers_are_an_error(tmp_path: Path, columns: dict[str, list[Any]]) -> None:
    answers = Answers.of([0, 1], [0, 0], LOSSES[:2], ("negative", "positive"))
    board = board_of(tmp_path, columns, answers)
    with pytest.raises(FolderError, match=r"validation\.parquet: these are not the rows of the winner's answers"):
        read_worst_rows(board)


def test_missing_or_damaged_rows_are_an_error(tmp_path: Path) -> None:
    board = made_board(tmp_path, 5, answers=Answers.of([0], [1], LOSSES[:1], ("negative", "positive")))
    with pytest.raises(FolderError, match=r"validation\.parquet"):
        read_worst_rows(board)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "validation.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(FolderError, match=r"validation\.parquet"):
        read_worst_rows(board)


def test_without_a_proven_winner_the_error_says_so(tmp_path: Path) -> None:
    board = dataclasses.replace(made_board(tmp_path, 5), evidence=None)
    with pytest.raises(FolderError, match="no proven winner"):
        read_worst_rows(board)
