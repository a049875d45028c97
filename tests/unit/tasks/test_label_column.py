"""What people mean by the labels that they write."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.tasks import label_column
from finesweep.tasks.label_column import LabelKind

GROUPS = ["a|b", "b|c", "a", "c"]


@pytest.mark.parametrize(
    ("labels", "name", "kind", "is_measure"),
    [
        pytest.param(["pos", "neg"] * 5, "label", LabelKind.CLASSES, False, id="words"),
        pytest.param([n % 30 for n in range(300)], "label", LabelKind.IDS, False, id="ids-0-to-29"),
        pytest.param([str(1 + n % 150) for n in range(600)], "intent", LabelKind.IDS, False, id="ids-from-1"),
        pytest.param([1, 2, 3, 4, 5], "stars", LabelKind.IDS, False, id="five-stars-in-five-rows"),
        pytest.param([1.0, 0.0, None, 1.0], "label", LabelKind.IDS, False, id="ids-that-a-missing-one-made-floats"),
        pytest.param([-1, 0, 1] * 4, "label", LabelKind.IDS, False, id="few-whole-numbers"),
        pytest.param([n % 101 for n in range(900)], "score", LabelKind.NUMBERS, True, id="named-a-score"),
        pytest.param(list(range(30)), "label", LabelKind.NUMBERS, True, id="a-number-for-each-row"),
        pytest.param([18 + n % 60 for n in range(900)], "label", LabelKind.NUMBERS, True, id="ages"),
        pytest.param([7 * n for n in range(40)] * 3, "label", LabelKind.NUMBERS, True, id="whole-numbers-with-gaps"),
        pytest.param([n / 7 for n in range(90)], "label", LabelKind.NUMBERS, True, id="fractions"),
        pytest.param(["0.5", "1.0", "1.5", "2.0"] * 9, "label", LabelKind.CLASSES, False, id="few-fractions"),
        pytest.param(["9.95", "12.5", "3.1"], "label", LabelKind.NUMBERS, True, id="a-fraction-for-each-row"),
        pytest.param([f"{n // 10},{n % 10}" for n in range(50)], "label", LabelKind.DECIMAL_COMMAS, True, id="commas"),
        pytest.param(["0,5", "1,0"] * 9, "label", LabelKind.DECIMAL_COMMAS, False, id="few-commas"),
        pytest.param(["TRUE", "false", "True"], "label", LabelKind.BOOLEANS, False, id="booleans"),
        pytest.param([True, False, None], "label", LabelKind.BOOLEANS, False, id="booleans-of-json"),
        pytest.param(["yes", "no", "NULL"], "label", LabelKind.BOOLEANS, False, id="yes-and-no"),
        pytest.param(GROUPS, "label", LabelKind.SEVERAL, False, id="several"),
        pytest.param(["a;b", "b; a", "a"], "label", LabelKind.SEVERAL, False, id="several-with-semicolon"),
        pytest.param(["['a', 'b']", "['b']"], "label", LabelKind.SEVERAL, False, id="lists-as-text"),
        pytest.param(["sports|tennis", "sports|golf"], "label", LabelKind.CLASSES, False, id="paths"),
        pytest.param(["Arts, Crafts", "Food, Drink"], "label", LabelKind.CLASSES, False, id="names-with-commas"),
        pytest.param(["1.5", "NULL", "nan", "", "inf", "2.5", "4.1"], "y", LabelKind.NUMBERS, True, id="not-finite"),
        pytest.param([0.5, float("nan"), float("inf"), 1.25, 3.5], "y", LabelKind.NUMBERS, True, id="not-finite-float"),
    ],
)
def test_a_label_column_is_of_the_kind_that_people_meant(
    labels: list[Any], name: str, kind: LabelKind, is_measure: bool
) -> None:
    found = label_column.look(labels, name)
    assert (found.kind, found.is_measure) == (kind, is_measure), found.reason


def test_numbers_with_names_of_their_own_are_classes() -> None:
    found = label_column.look(list(range(40)), "label", [f"n{n}" for n in range(40)])
    assert (found.kind, found.is_measure) == (LabelKind.CLASSES, False)


@pytest.mark.parametrize(
    ("texts", "missing"),
    [
        pytest.param({"pos", "neg", "NULL", "nan", "<NA>", r"\N"}, {"NULL", "nan", "<NA>", r"\N"}, id="nulls"),
        pytest.param({"favor", "against", "none", "NA"}, set(), id="none-is-a-stance"),
        pytest.param({"0", "1", "None", "n/a", "?"}, {"None", "n/a", "?"}, id="among-numbers"),
        pytest.param({"true", "false", "None"}, {"None"}, id="among-booleans"),
        pytest.param({"null", "alternative"}, set(), id="two-labels-remain"),
    ],
)
def test_words_for_nothing_are_missing_labels(texts: set[str], missing: set[str]) -> None:
    assert label_column.missing_words(texts) == missing


@pytest.mark.parametrize(
    ("texts", "is_decimal"),
    [
        (["3,5", "4", "0,25"], True),
        (["-1,5", ",5"], True),
        (["1,250", "3,500"], False),
        (["1,250", "3,5"], True),
        (["3,5", "4.5"], False),
        (["1,2,3", "4,5"], False),
        (["3", "4"], False),
        (["3,5", "x"], False),
    ],
)
def test_a_decimal_comma_is_told_from_other_commas(texts: list[str], is_decimal: bool) -> None:
    assert label_column.decimal_comma(texts) is is_decimal


@pytest.mark.parametrize(
    ("train", "others", "read"),
    [
        pytest.param({"pos": 3, "Pos": 1, "neg": 2}, ["POS"], {"Pos": "pos", "POS": "pos"}, id="case"),
        pytest.param({"a  b": 1, "A b": 2}, [], {"a  b": "A b"}, id="blanks"),
        pytest.param({"caf\u00e9": 2, "cafe\u0301": 1, "bar": 1}, [], {"cafe\u0301": "caf\u00e9"}, id="accents"),
        pytest.param({"a": 1, "A": 1, "b": 2}, [], {}, id="letters-that-stand-alone"),
        pytest.param(
            {"TRUE": 1, "true": 1, "False": 3}, [], {"TRUE": "true", "true": "true", "False": "false"}, id="TRUE"
        ),
        pytest.param({"True": 1, "False": 3}, [], {}, id="booleans-of-one-kind"),
        pytest.param({"yes": 1, "no": 1}, ["Yes"], {"Yes": "yes"}, id="yes-in-another"),
        pytest.param({"Y": 3, "n": 1}, ["y"], {"Y": "y"}, id="letters-for-yes"),
        pytest.param(
            {"1": 1, "false": 1, "true": 2, "0": 1}, [], {"1": "true", "0": "false", "true": "true"}, id="kinds-mixed"
        ),
        pytest.param({"1": 1, "0": 1}, [], {}, id="digits"),
        pytest.param({"01": 1, "1": 3, "12": 1, "0.50": 1, ".5": 2}, [], {"01": "1", "0.50": ".5"}, id="zeros"),
    ],
)
def test_ways_to_write_one_label_are_joined(train: dict[str, int], others: list[str], read: dict[str, str]) -> None:
    found = label_column.readings(train, others)
    assert found == {text: text for text in [*train, *others]} | read


@given(st.dictionaries(st.text("aAbB 1", min_size=1).map(str.strip).filter(bool), st.integers(1, 9), min_size=1))
def test_a_label_is_read_as_one_that_is_read_as_itself(train: dict[str, int]) -> None:
    found = label_column.readings(train)
    assert found.keys() == train.keys()
    assert all(found.get(name, name) == name for name in found.values())


@given(st.lists(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), max_size=30))
def test_any_column_gets_a_judgement(labels: list[Any]) -> None:
    found = label_column.look(labels)
    random.Random(0).shuffle(labels)
    again = label_column.look(labels)
    assert (found.kind, found.is_measure, found.values) == (again.kind, again.is_measure, again.values)
