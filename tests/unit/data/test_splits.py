"""Rows drawn by chance: sizes, proportions, groups, repeatability."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.data.splits import hold_out, hold_out_groups, sample

CLASSES = st.lists(st.integers(0, 4), min_size=1, max_size=60)
FRACTIONS = st.floats(0.01, 0.99)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(CLASSES, st.data())
def test_a_sample_has_its_size_in_order_and_every_class_that_fits(classes: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(classes)))
    rows = sample(size, len(classes), rng(), classes)
    assert rows == sorted(set(rows))
    assert len(rows) == size
    if size >= len(set(classes)):
        assert {classes[row] for row in rows} == set(classes)


@given(CLASSES, FRACTIONS)
def test_holding_out_leaves_every_class_in_train(classes: list[int], fraction: float) -> None:
    rows = hold_out(fraction, len(classes), rng(), classes)
    assert rows == sorted(set(rows))
    assert {kind for row, kind in enumerate(classes) if row not in set(rows)} == set(classes)
    assert bool(rows) == (max(Counter(classes).values()) > 1)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), min_size=1, max_size=60), FRACTIONS)
def test_no_group_stands_on_both_sides(rows: list[tuple[int, int]], fraction: float) -> None:
    groups, classes = [group for group, _ in rows], [kind for _, kind in rows]
    drawn = set(hold_out_groups(fraction, groups, rng(), classes))
    left = set(range(len(rows))) - drawn
    assert not {groups[row] for row in drawn} & {groups[row] for row in left}
    assert {classes[row] for row in left} == set(classes)


def test_holding_out_keeps_proportions() -> None:
    classes = [0] * 700 + [1] * 200 + [2] * 100
    assert Counter(classes[row] for row in hold_out(0.1, 1000, rng(), classes)) == {0: 70, 1: 20, 2: 10}


def test_every_class_of_two_rows_is_held_out_where_the_fraction_allows() -> None:
    classes = [0] * 96 + [1] * 2 + [2] * 2
    assert Counter(classes[row] for row in hold_out(0.1, 100, rng(), classes)) == {0: 8, 1: 1, 2: 1}


def test_a_class_of_one_row_stays_in_train() -> None:
    classes = [0] * 10 + [1]
    assert all(classes[row] == 0 for row in hold_out(0.5, 11, rng(), classes))


@pytest.mark.parametrize("classes", [None, [0, 1] * 50])
def test_the_seed_alone_decides(classes: list[int] | None) -> None:
    draws = [hold_out(0.2, 100, rng(seed), classes) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    samples = [sample(20, 100, rng(seed), classes) for seed in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]


def test_groups_come_near_the_fraction_of_every_class() -> None:
    groups = [row // 5 for row in range(1000)]
    classes = [int(group % 4 == 0) for group in groups]
    drawn = Counter(classes[row] for row in hold_out_groups(0.1, groups, rng(), classes))
    # Each class can miss its share (75 and 25 rows) by one group of 5.
    assert abs(drawn[0] - 75) <= 5
    assert abs(drawn[1] - 25) <= 5


def test_a_group_too_big_for_the_fraction_is_not_taken_while_another_can_be() -> None:
    groups = ["big"] * 95 + ["small"] * 5
    for seed in range(5):
        assert hold_out_groups(0.1, groups, rng(seed), None) == list(range(95, 100))


def test_of_groups_that_are_all_too_big_the_smallest_is_taken() -> None:
    groups = ["a"] * 60 + ["b"] * 40
    for seed in range(5):
        assert hold_out_groups(0.1, groups, rng(seed), None) == list(range(60, 100))


def test_one_group_cannot_be_split() -> None:
    assert hold_out_groups(0.1, ["a"] * 10, rng(), None) == []


def test_rows_of_a_single_row_or_class_of_one_cannot_be_spared() -> None:
    assert hold_out(0.5, 1, rng(), None) == []
    assert hold_out(0.5, 2, rng(), [0, 1]) == []
