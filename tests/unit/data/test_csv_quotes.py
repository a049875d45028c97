"""Double quotes in CSV and TSV: those that programs write, and those that people write."""

from __future__ import annotations

import csv
import io
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.data import csv_quotes
from finesweep.data.csv_quotes import CsvRecords, Quoting
from finesweep.errors import SpecError

FEW = [("pos", '"Not worth a cent'), ("neg", "broken"), ("neg", "never again"), ("pos", 'lovely 27"'), ("pos", "ok")]
MANY = [*FEW, *[(("pos", "neg")[n % 2], f"text {n}") for n in range(100)]]


def split(text: str, suffix: str = ".csv", quoting: Quoting | None = None) -> CsvRecords:
    return csv_quotes.split(text, {".csv": ",", ".tsv": "\t"}[suffix], quoting, f"my{suffix}")


def plain(rows: list[tuple[str, ...]], delimiter: str, names: tuple[str, ...] = ("label", "text")) -> str:
    return "".join(delimiter.join(row) + "\n" for row in [names, *rows])


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(FEW, id="few"),
        pytest.param(MANY, id="many"),
        pytest.param([("pos", "fine"), ("neg", 'bad"'), ("pos", '"so so')], id="one-at-the-very-end"),
        pytest.param([("pos", '"quoted" and more'), ("neg", 'in "the" middle')], id="middle"),
        pytest.param([("pos", '"a whole text in quotes"'), ("neg", "none")], id="whole"),
        pytest.param([("pos", '""'), ("neg", '"'), ("neg", '"""')], id="quotes-alone"),
        pytest.param([("pos", r'"say \"hi\""'), ("neg", "x")], id="backslashes"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_tsv_with_stray_quotes_keeps_every_row(rows: list[tuple[str, ...]], end: str) -> None:
    found = split(plain(rows, "\t").replace("\n", end), ".tsv")
    assert [tuple(row) for row in found.rows] == [("label", "text"), *rows]
    assert found.starts == list(range(1, len(rows) + 2))
    assert found.note == "double quotes are read as plain characters (data.quoting)"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(plain([(text, label) for label, text in FEW], ",", ("text", "label")), id="text-first"),
        pytest.param(plain(FEW, ","), id="text-last"),
        pytest.param(
            plain([(str(n), t, x) for n, (x, t) in enumerate(FEW)], ",", ("id", "text", "label")), id="middle"
        ),
        pytest.param('text,label\n"x, y",pos\n"a,pos\nb",neg\nc,neg\n', id="two-lines"),
        pytest.param('text,label\n"We paid,3.5\nb,4.5\nc",1.5\n"d, e",2.5\nf,2.25\n', id="measures"),
        pytest.param('text,label\r\n"Not worth it,pos\r\nbad,neg\r\nnice",pos\r\nok,neg\r\nso,pos\r\n', id="crlf"),
    ],
)
def test_a_csv_whose_quotes_swallow_rows_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(
        SpecError, match=r"my\.csv:\d: a double quote opens a field here that continues to line \d"
    ) as e:
        split(text)
    assert "write `data: {quoting: none}` if double quotes are plain" in e.value.problems[0].hint
    assert split(text, quoting="minimal").long
    if "x, y" not in text and "d, e" not in text:
        assert len(split(text, quoting="none").rows) == len(text.splitlines())


def test_a_quote_that_is_never_closed_names_the_key_where_it_would_help() -> None:
    with pytest.raises(SpecError, match=r'my\.csv:3: .* is never closed .*""; write `data: \{quoting: none\}`'):
        split('text,label\nfine,1\n"torn,1\nc,0\n')
    with pytest.raises(
        SpecError, match=r'my\.csv:3: .* is never closed \(inside quotes, a quote is written twice: ""\)$'
    ):
        split('text,label\n"fine, too",1\n"torn,1\nc,0\n')


LETTERS = [
    ("Dear all,\nthe box came late, and broken", "neg"),
    ("Hello,\n\nfine\n\nBye", "pos"),
    ('She said "no"\nand left', "neg"),
    ("one line", "pos"),
    ("it is, well, fine", "pos"),
    ("First,\nsecond", "neg"),
]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_letters_that_span_lines_come_back_from_pandas(suffix: str, quoting: Any) -> None:
    frame = pd.DataFrame([*LETTERS, *LETTERS], columns=["text", "label"])
    text = frame.to_csv(index=False, sep="\t" if suffix == ".tsv" else ",", quoting=quoting)
    found = split(text, suffix)
    assert [tuple(row) for row in found.rows] == [("text", "label"), *LETTERS, *LETTERS]
    assert len(found.long) == 8
    assert found.note == ""


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param('"a"\t"b"\n"x"\t"1"\n', [["a", "b"], ["x", "1"]], id="throughout"),
        pytest.param('a\tb\n"x ""y"""\t1\nz\t2\n', [["a", "b"], ['x "y"', "1"], ["z", "2"]], id="where-needed"),
        pytest.param('a\tb\n"x, y"\t1\nz\t2\n', [["a", "b"], ["x, y", "1"], ["z", "2"]], id="of-a-spreadsheet"),
        pytest.param('"a"\t"b"\n"x\t"\ty\n', [["a", "b"], ["x\t", "y"]], id="tab-at-the-end"),
        pytest.param('a\tb\n"x\ty"\tz\n', [["a", "b"], ["x\ty", "z"]], id="tab-in-quotes"),
        pytest.param('"a"\t"b"\n"x\t1\ny\t2\n', [["a", "b"], ['"x', "1"], ["y", "2"]], id="quoted-header-alone"),
    ],
)
def test_a_tsv_is_read_with_quoting_where_a_program_wrote_the_quotes(text: str, rows: list[list[str]]) -> None:
    assert split(text, ".tsv").rows == rows


CELL = st.text(st.sampled_from("ab1 ,\t\"\n\r'\\") | st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
TABLE = st.integers(2, 4).flatmap(lambda width: st.lists(st.tuples(*[CELL] * width), min_size=1, max_size=8))
NAMES = ("text", "label", "third", "fourth")


@given(TABLE, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.sampled_from([".csv", ".tsv"]))
def test_what_the_csv_module_writes_comes_back(rows: list[tuple[str, ...]], quoting: Any, suffix: str) -> None:
    """Every table does with `quoting: minimal`; without it a table does, or it is refused, or the note says how."""
    stream = io.StringIO(newline="")
    written = [NAMES[: len(rows[0])], *rows]
    csv.writer(stream, delimiter="\t" if suffix == ".tsv" else ",", quoting=quoting).writerows(written)
    told = split(stream.getvalue(), suffix, "minimal")
    assert [tuple(row) for row in told.rows] == written
    judged = judge(stream.getvalue(), suffix)
    if isinstance(judged, SpecError):
        assert told.long
        assert "quoting: none" in judged.problems[0].hint
    else:
        assert judged.note or judged.rows == told.rows


def judge(text: str, suffix: str) -> CsvRecords | SpecError:
    try:
        return split(text, suffix)
    except SpecError as error:
        return error


WORDS = st.lists(st.sampled_from(["good", "bad,", '"so"', "it's", "\n", "is", '""']), min_size=1, max_size=9).map(
    " ".join
)


@given(st.lists(st.tuples(WORDS, st.sampled_from(["pos", "neg", "so so"])), min_size=1, max_size=20), st.booleans())
def test_texts_of_words_come_back_from_pandas(rows: list[tuple[str, str]], tabs: bool) -> None:
    rows += [(f"text {n}", label) for n in range(3) for label in ("pos", "neg", "so so")]
    frame = pd.DataFrame(rows, columns=["text", "label"])
    found = split(frame.to_csv(index=False, sep="\t" if tabs else ","), ".tsv" if tabs else ".csv")
    assert [tuple(row) for row in found.rows[1:]] == rows


@given(st.lists(st.tuples(WORDS.map(lambda text: text.replace("\n", "")), st.sampled_from("ab")), min_size=1))
def test_a_tsv_that_was_written_without_quoting_loses_no_row(rows: list[tuple[str, str]]) -> None:
    """Cells keep their quotes, but for those that a program could have written: around all of a column, or needed."""
    found = split(plain(rows, "\t", ("text", "label")), ".tsv")
    assert len(found.rows) == len(rows) + 1
    assert not found.long
