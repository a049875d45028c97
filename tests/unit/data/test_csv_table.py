"""Which names the columns of a CSV or TSV have, and what is said of its lines."""

from __future__ import annotations

import pytest

from finesweep.data import csv_table
from finesweep.data.csv_table import Layout, Rows
from finesweep.errors import SpecError

ROWS = "so good,pos\nbad,neg\nfine,pos\n"


def read(text: str, delimiter: str = ",", **layout: object) -> Rows:
    return csv_table.read(text, delimiter, "my.csv", Layout(**layout))  # type: ignore[arg-type]


def test_a_first_line_that_is_a_row_is_reported_with_names_for_the_columns() -> None:
    look = read("1," + ROWS.replace("\n", "\n2,")[:-2]).look
    assert (look.is_header, look.certain, look.names) == (False, True, ("column1", "text", "label"))
    assert read(ROWS, header=True).look.is_header
    assert read(ROWS, header=True).names == ("so good", "pos")


@pytest.mark.parametrize(
    ("text", "layout", "rows", "places"),
    [
        pytest.param(ROWS, {}, [["so good", "pos"], ["bad", "neg"], ["fine", "pos"]], [1, 2, 3], id="no-header"),
        pytest.param("text,label\na,b\n", {}, [["a", "b"]], [2], id="its-own-names"),
        pytest.param("body,y\na,b\n", {"header": True}, [["a", "b"]], [2], id="other-names-in-their-place"),
        pytest.param("body,label\na,b\n", {"header": False}, [["body", "label"], ["a", "b"]], [1, 2], id="told"),
        pytest.param("pos,pos\na,b\n", {}, [["pos", "pos"], ["a", "b"]], [1, 2], id="equal-cells"),
    ],
)
def test_columns_name_the_cells_of_every_line(
    text: str, layout: dict[str, bool], rows: list[list[str]], places: list[int]
) -> None:
    found = read(text, columns=("text", "label"), **layout)
    assert (found.names, found.rows, found.places) == (("text", "label"), rows, places)
    assert found.look.is_header


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (ROWS, ("a", "b", "c"), r"my\.csv:1: 2 fields, but data\.columns has 3 names \(name every column"),
        (
            "title,body\nx,y\n",
            ("text", "label"),
            r"my\.csv:1: beside data\.columns, .* header too: title, body \(leave",
        ),
    ],
)
def test_columns_that_do_not_fit_are_a_problem(text: str, columns: tuple[str, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read(text, columns=columns)


@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\n', "SEP=;\n"])
def test_the_line_that_names_the_separator_for_excel_is_followed(first: str) -> None:
    found = read(first + "text;label\na, b;1\n")
    assert (found.names, found.rows, found.places) == (("text", "label"), [["a, b", "1"]], [3])
    with pytest.raises(SpecError, match=r"my\.csv:4: 1 field, but the header has 2"):
        read(first + "text;label\na;1\nb\n")


def test_a_header_that_stands_again_is_left_out() -> None:
    found = read("text,label\na,b\ntext,label\nc,d\ntext,label\n")
    assert (found.rows, found.places) == ([["a", "b"], ["c", "d"]], [2, 4])
    assert found.notes == ("the header is repeated in lines 3, 5; left out",)


def test_fewer_records_than_lines_are_said() -> None:
    found = read('text,label\n"a\nb",1\n\nc,2\n"d\ne\nf",1\n')
    assert found.notes == ("7 lines are 4 records: 2 rows span several lines (lines 2, 6)",)
    assert read('text,label\n"a\nb",1\nc,2\n').notes == (
        "4 lines are 3 records: 1 field in double quotes spans several lines (line 2)",
    )


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param("pos good\nneg bad\npos fine\nneg so\n", id="plain"),
        pytest.param("pos good, it is\nneg bad\npos fine\nneg so\n", id="one-comma"),
    ],
)
def test_lines_of_label_and_text_come_with_the_command_for_them(lines: str) -> None:
    with pytest.raises(SpecError, match=r"my\.csv:1: each line looks like a label, a blank and a text; .*python3 -X"):
        read(lines)


def test_texts_that_begin_alike_in_a_file_without_a_header_are_no_labels() -> None:
    assert read("the box was late,pos\na box came,neg\n" * 3).names == ("the box was late", "pos")
