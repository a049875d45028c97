"""Which first lines are headers, and which are rows already."""

from __future__ import annotations

import pytest

from finesweep.data import table_header

MOVIES = [(f"movie {n} was fine", "pos" if n % 2 else "neg") for n in range(10)]
LONG = "I have never seen such a thing in my life"


@pytest.mark.parametrize(
    ("first", "rows", "evidence", "certain"),
    [
        pytest.param(("so good", "pos"), MOVIES, "'pos' stands in its column 5 times more", True, id="a-class"),
        pytest.param(("so good", "3"), [("bad", "3"), ("ok", "1")], "'3' stands in its column once", True, id="id"),
        pytest.param(("x", "3.25"), [("y", "1.5"), ("z", "2.75")], "'3.25' is a number, as all", True, id="measure"),
        pytest.param(("a", "2020-01-31"), [("b", "2020-02-01")], "'2020-01-31' is a number", True, id="date"),
        pytest.param(("17", "a fine thing"), [("x1", "b"), ("x2", "c")], "'17' is a number", False, id="one-number"),
        pytest.param((LONG, "c"), [("short", "d"), ("thing", "e")], "is a long text", False, id="long"),
    ],
)
def test_a_first_line_that_is_a_row_is_noticed(
    first: tuple[str, ...], rows: list[tuple[str, ...]], evidence: str, certain: bool
) -> None:
    found = table_header.look(first, rows)
    assert not found.is_header
    assert evidence in found.evidence
    assert found.certain is certain


@pytest.mark.parametrize(
    ("first", "rows"),
    [
        pytest.param(("text", "label"), MOVIES, id="usual-names"),
        pytest.param(("Text", "verdict"), MOVIES, id="one-usual-name"),
        pytest.param(("film", "verdict"), MOVIES, id="other-names"),
        pytest.param(("", "0", "1"), [(str(n), *row) for n, row in enumerate(MOVIES)], id="numbers-that-pandas-gives"),
        pytest.param((f"{LONG}?", "How many stars?"), [(f"{LONG} {n}", str(n)) for n in range(9)], id="questions"),
        pytest.param(("film", "verdict"), [], id="no-rows"),
        pytest.param(("a", "b"), [("", "")], id="empty-cells"),
        pytest.param(("comment", LONG), [("fine", "x"), ("bad", "y")], id="a-name-beside-a-long-one"),
    ],
)
def test_a_header_is_left_alone(first: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    assert table_header.look(first, rows).is_header
