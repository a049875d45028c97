"""Answers of a winner are counted by label, and the rows on which it is most wrong are found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.files import Damaged, as_kind
from finesweep.results.answers import MOST_WORST, Answers, Confusion, WorstRow

NAMES = ("ham", "spam", "other")


def test_each_pair_of_label_and_answer_is_counted():
    found = Answers.of([0, 0, 1, 1, 1], [0, 1, 1, 0, 0], np.zeros(5), NAMES)
    cells = [dataclasses.astuple(one) for one in found.confusions]
    assert cells == [("ham", "ham", 1), ("ham", "spam", 1), ("spam", "ham", 2), ("spam", "spam", 1)]
    assert found.by_label == {"ham": 3, "spam": 2}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_counts_add_up_to_the_rows(pairs):
    labels, answers = zip(*pairs, strict=True)
    found = Answers.of(labels, answers, np.arange(len(pairs)), NAMES)
    assert sum(one.rows for one in found.confusions) == sum(found.by_label.values()) == len(pairs)
    assert sum(one.rows for one in found.confusions if one.label == one.given) == sum(a == b for a, b in pairs)
    assert [one.row for one in found.worst] == list(range(len(pairs)))[::-1][:MOST_WORST]


def test_of_several_labels_each_is_counted_by_itself():
    found = Answers.of([(0, 1), (1,), ()], [(0,), (1, 2), ()], np.array([1.0, 3.0, 0.0]), NAMES)
    assert set(found.confusions) == {
        Confusion("ham", "ham", 1),
        Confusion("spam", "spam", 1),
        Confusion("spam", None, 1),
        Confusion(None, "other", 1),
    }
    assert found.by_label == {"ham": 1, "spam": 1, "other": 1}
    assert [one.given for one in found.worst] == ["spam, other", "ham", "no label"]


def test_numbers_have_no_confusions():
    found = Answers.of([1.0, 2.5], [1.25, 1.0], np.array([0.0625, 2.25]), None)
    assert found == Answers((), (WorstRow(1, "1", 2.25), WorstRow(0, "1.25", 0.0625)))
    assert found.by_label == {}


def test_equal_losses_keep_the_order_of_the_rows():
    assert [one.row for one in Answers.of([0] * 30, [0] * 30, np.zeros(30), NAMES).worst] == list(range(MOST_WORST))


def test_answers_are_read_as_written(tmp_path: Path):
    found = Answers.of([0, 1], [1, 1], np.array([0.5, 0.25]), NAMES)
    assert as_kind(Answers, dataclasses.asdict(found)) == found
    with pytest.raises(Damaged, match="rows"):
        as_kind(Answers, {"confusions": [{"label": "a", "given": "b", "rows": "many"}], "worst": []})
