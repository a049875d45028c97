"""Every kind of file, and every way in which one can be broken, down to the line."""

from __future__ import annotations

import csv
import io
import json

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.data import readers
from finesweep.data.csv_table import Layout
from finesweep.data.readers import Table
from finesweep.errors import SpecError

WANTED = {"text", "label"}


def parse(data: bytes | str, suffix: str = ".csv") -> Table:
    return readers.parse(data.encode() if isinstance(data, str) else data, suffix, f"my{suffix}", WANTED)


def parquet(frame: pd.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.to_parquet(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "suffix", "message"),
    [
        pytest.param("text,label\na,1,2\n", ".csv", r"my\.csv:2: 3 fields, but the header has 2 \(put texts", id="D1"),
        pytest.param(
            "text,label\na,1\n\nb\nc\nd,0\n",
            ".csv",
            r"my\.csv:4: 1 field, but the header has 2; 1 more rows differ too \(the row is cut off",
            id="D2",
        ),
        pytest.param("text,label\n", ".csv", r"^my\.csv: no rows in the file$", id="D6-header-only"),
        pytest.param("", ".csv", r"^my\.csv: no rows in the file$", id="D6-empty"),
        pytest.param("\n  \n\n", ".csv", r"^my\.csv: no rows in the file$", id="D6-blank"),
        pytest.param("", ".jsonl", r"^my\.jsonl: no rows in the file$", id="D6-empty-jsonl"),
        pytest.param("\n\n", ".jsonl", r"^my\.jsonl: no rows in the file$", id="D6-blank-jsonl"),
        pytest.param("[]", ".json", r"^my\.json: no rows in the file$", id="D6-empty-array"),
        pytest.param("", ".parquet", r"^my\.parquet: no rows in the file$", id="D6-empty-parquet"),
        pytest.param(
            "text;label\na, b;1\n", ".csv", r"my\.csv:1: the columns look as if separated by ';'", id="D8-semicolon"
        ),
        pytest.param("text\tlabel\na\t1\n", ".csv", r"separated by tabs.*\(name the file \.tsv\)", id="D8-tab"),
        pytest.param("text,label\na,1\n", ".tsv", r"my\.tsv:1: .* separated by ','", id="D8-comma-in-tsv"),
        pytest.param("text,label,text\na,1,b\n", ".csv", r"my\.csv:1: the column 'text' .* twice", id="D9"),
        pytest.param(
            "text,label\nok,1\ncaf\xe9,0\n".encode("latin-1"),
            ".csv",
            r"my\.csv:3: not UTF-8: the byte 0xe9 at position 19 of the file \(save the file as UTF-8",
            id="D12-latin-1",
        ),
        pytest.param("text,label\na,1\n".encode("utf-16"), ".csv", r"^my\.csv: this is UTF-16", id="D12-utf-16"),
        pytest.param("text,label\na,1\n".encode("utf-16-le"), ".csv", r"my\.csv:1: a zero byte", id="D12-no-mark"),
        pytest.param(b"text,label\n\xed\xa0\x80,1\n", ".csv", r"my\.csv:2: not UTF-8: the byte 0xed", id="D12-half"),
        pytest.param(
            '{"text": "fine \\ud83d\\ude00", "label": 1}\n{"text": "\\ud83d", "label": 1}',
            ".jsonl",
            r"my\.jsonl:2: half a surrogate pair",
            id="D12-half-jsonl",
        ),
        pytest.param(
            'text,label\nfine,1\n"torn,1\nc,0\n', ".csv", r"my\.csv:3: a double quote .* is never closed", id="D14"
        ),
        pytest.param(
            'text,label\n"torn,1\n"whole",0\n',
            ".csv",
            r"my\.csv:2: .* does not end where the field ends",
            id="D14-later",
        ),
        pytest.param('{"text": "a", "label": 1}\n{"text": "b"', ".jsonl", r"my\.jsonl:2: not JSON", id="D24-truncated"),
        pytest.param(
            '{"text": "a"}\n\nb\n{"text": "c"}', ".jsonl", r"my\.jsonl:3: not JSON: Expecting value", id="D24-middle"
        ),
        pytest.param(
            '{"text": "a"}\n{"text": "a", "text": "b"}',
            ".jsonl",
            r"my\.jsonl:2: .*the key 'text' stands in one object twice",
            id="D24-duplicate",
        ),
        pytest.param('[{"text": "a"},\n{"text":\n}]', ".json", r"my\.json:3: not JSON", id="D24-array-inside"),
        pytest.param('[{"text": "a"},\n{"text": }]', ".json", r"my\.json:2: not JSON", id="D24-array"),
        pytest.param('[{"text": "a"},\n{"text": "b"}', ".json", r"my\.json:2: not JSON: expected ','", id="D24-open"),
        pytest.param('[{"text": "a"}]\n{}', ".json", r"my\.json:1: not JSON: there is more after", id="D24-more"),
        pytest.param("3\n", ".jsonl", r"my\.jsonl:1: found a number where an object is needed", id="D26-scalar"),
        pytest.param("[[1]]", ".json", r"my\.json:1: found a list where an object is needed", id="D26-list"),
        pytest.param(
            '{"data": [{"text": "a", "label": 1}]}', ".json", r"my\.json: .* a list under 'data', not rows", id="D26"
        ),
        pytest.param(
            '{\n "text": {"0": "a"},\n "label": {"0": 1}\n}',
            ".json",
            r"a mapping under 'text'.*orient='records'",
            id="D26-columns",
        ),
        pytest.param('{"text": "a"}\n' + "[" * 200_000, ".jsonl", r"my\.jsonl:2: nested too deeply", id="D26-depth"),
        pytest.param("[" + "[" * 200_000, ".json", r"my\.json:1: nested too deeply", id="D26-depth-array"),
        pytest.param(
            '{"text": "a", "label": 1}\n{"text": "a", "label": ' + "9" * 5_000 + "}",
            ".jsonl",
            r"my\.jsonl:2: not usable",
            id="long-number",
        ),
        pytest.param(b"PK\x03\x04....", ".csv", r"^my\.csv: this is a zip archive or an Excel workbook", id="D29"),
        pytest.param(b"\xd0\xcf\x11\xe0....", ".csv", r"this is an old Excel workbook", id="D29-xls"),
        pytest.param(b"\x1f\x8b....", ".jsonl", r"packed with gzip \(unpack it first\)", id="D29-gzip"),
        pytest.param(b"PAR1....", ".csv", r"this is a Parquet file", id="D29-parquet"),
        pytest.param(b"text,label\n", ".parquet", r"^my\.parquet: cannot be read as Parquet", id="no-parquet"),
        pytest.param(parquet(pd.DataFrame({"text": [], "label": []})), ".parquet", r"no rows", id="D6-parquet"),
    ],
)
def test_a_broken_file_is_one_message_with_its_line(data: bytes | str, suffix: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(data, suffix)


@pytest.mark.parametrize("word", ["NA", "None", "null", "nan", "n/a", "=1+1", "007", "1e5", "True", "  padded "])
def test_a_word_in_a_csv_stays_text(word: str) -> None:
    assert parse(f"text,label\n{word},x\n").columns["text"] == [word]


@pytest.mark.parametrize(
    ("data", "rows", "places"),
    [
        pytest.param("text,label\na,1\nb,2\n", [("a", "1"), ("b", "2")], [2, 3], id="plain"),
        pytest.param("\ufefftext,label\na,1\n", [("a", "1")], [2], id="byte-order-mark"),
        pytest.param("text,label\r\na,1\r\n\r\nb,2\r\n", [("a", "1"), ("b", "2")], [2, 4], id="crlf-and-blank"),
        pytest.param('text,label\n"a\nb, c",1\nd,2\n', [("a\nb, c", "1"), ("d", "2")], [2, 4], id="newline"),
        pytest.param('text,label\n"say ""a""",1\nsay "b",2', [('say "a"', "1"), ('say "b"', "2")], [2, 3], id="quotes"),
        pytest.param(" text , label\na,1\n", [("a", "1")], [2], id="spaces-in-header"),
        pytest.param("text,label\na\u2028b\x0c,1\n", [("a\u2028b\x0c", "1")], [2], id="separators-that-end-no-line"),
        pytest.param("text,,label\na,,1\n", [("a", "1")], [2], id="column-without-name"),
    ],
)
def test_a_csv_gives_its_cells_and_the_line_of_each_row(
    data: str, rows: list[tuple[str, str]], places: list[int]
) -> None:
    table = parse(data)
    assert list(zip(table.columns["text"], table.columns["label"], strict=True)) == rows
    assert table.places == places
    assert table.unit == "line"


def test_a_very_long_text_is_read_and_the_limit_of_csv_is_put_back() -> None:
    before = csv.field_size_limit(1_000)
    try:
        text = "x" * 1_000_000
        assert parse(f"text,label\n{text},1\n").columns["text"] == [text]
        assert csv.field_size_limit() == 1_000
    finally:
        csv.field_size_limit(before)


def test_a_tsv_is_separated_by_tabs() -> None:
    assert parse("text\tlabel\na, b\t1\n", ".tsv").columns == {"text": ["a, b"], "label": ["1"]}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param('{"text": "a", "label": 1}\n{"label": true, "text": "b", "more": [1]}\n', id="lines"),
        pytest.param('[\n{"text": "a", "label": 1},\n{"label": true, "text": "b", "more": [1]}\n]\n', id="array"),
    ],
)
def test_json_lines_and_an_array_are_the_same(data: str) -> None:
    for suffix in (".json", ".jsonl", ".ndjson"):
        table = parse(data, suffix)
        assert table.columns == {"text": ["a", "b"], "label": [1, True]}
        assert table.names == ("text", "label", "more")


def test_json_rows_know_their_lines() -> None:
    assert parse('\n{"text": "a"}\n\n{"text": "b"}', ".jsonl").places == [2, 4]
    assert parse('[{"text": "a"},\n\n{"text": "b"},{"text": "c"}]', ".json").places == [1, 3, 3]


def test_a_key_that_an_object_lacks_is_a_missing_value() -> None:
    assert parse('{"text": "a"}\n{"text": "b", "label": 0}', ".jsonl").columns["label"] == [None, 0]


def test_one_object_over_several_lines_is_one_row() -> None:
    assert parse('{\n"text": "a",\n"label": 0\n}', ".json").columns == {"text": ["a"], "label": [0]}


def test_parquet_keeps_types_and_counts_rows() -> None:
    frame = pd.DataFrame({"text": ["NA", None], "label": [True, False], "other": [b"\x00", b"\xff"]})
    table = parse(parquet(frame), ".parquet")
    assert table.columns == {"text": ["NA", None], "label": [True, False]}
    assert (table.names, list(table.places), table.unit) == (("text", "label", "other"), [1, 2], "row")


def test_bytes_of_a_parquet_are_text_where_they_are_utf_8() -> None:
    frame = pd.DataFrame({"text": ["h\u00e9".encode(), b"\xff", b"ok\0\0"], "label": [b"a", b"b", b"a"]})
    table = parse(parquet(frame), ".parquet")
    assert table.columns == {"text": ["h\u00e9", b"\xff", "ok"], "label": ["a", "b", "a"]}
    assert table.notes == ("'text' holds bytes, read as UTF-8", "'label' holds bytes, read as UTF-8")


def test_a_parquet_of_datasets_gives_its_classes_their_names() -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    stream = io.BytesIO()
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features).to_parquet(stream)
    table = parse(stream.getvalue(), ".parquet")
    assert table.class_names == {"label": ("no", "yes")}
    assert table.columns["label"] == [1, 0]


@pytest.mark.parametrize(
    "metadata",
    [
        b"no json",
        b"[]",
        b'{"info": null}',
        b'{"info": {"features": {"label": {"names": "ab", "_type": "ClassLabel"}}}}',
        b'{"info": {"features": {"label": {"names": ["a", "a"], "_type": "ClassLabel"}}}}',
        b'{"info": {"features": {"label": {"names": [1], "_type": "ClassLabel"}}}}',
        b'{"info": {"features": {"label": {"names": ["a"], "_type": "Value"}}}}',
        b"[" * 100_000,
    ],
)
def test_names_that_are_none_are_passed_over(metadata: bytes) -> None:
    table = pyarrow.table({"text": ["a"], "label": [0]}).replace_schema_metadata({b"huggingface": metadata})
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream)
    assert parse(stream.getvalue(), ".parquet").class_names == {}


CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=20), st.sampled_from([",", "\t"]))
def test_what_the_csv_module_writes_is_read_back(rows: list[tuple[str, str]], delimiter: str) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    suffix = ".csv" if delimiter == "," else ".tsv"
    layout = Layout(quoting="minimal")  # by their look, few rows of odd quotes can be read in two ways
    table = readers.parse(stream.getvalue().encode(), suffix, f"my{suffix}", WANTED, layout)
    assert list(zip(table.columns["text"], table.columns["label"], strict=True)) == rows


@given(st.lists(st.fixed_dictionaries({"text": CELL, "label": st.none() | st.integers()}), min_size=1, max_size=20))
def test_what_the_json_module_writes_is_read_back(rows: list[dict[str, object]]) -> None:
    lines, array = "\n".join(json.dumps(row) for row in rows), json.dumps(rows, indent=1)
    for data in (lines, array):
        table = parse(data, ".json")
        assert [dict(zip(table.columns, row, strict=True)) for row in zip(*table.columns.values(), strict=True)] == rows


@given(st.binary(max_size=200), st.sampled_from(sorted(readers.SUFFIXES)))
def test_any_bytes_are_rows_or_a_spec_error(data: bytes, suffix: str) -> None:
    try:
        table = parse(data, suffix)
    except SpecError:
        return
    assert all(len(values) == len(table.places) for values in table.columns.values())
