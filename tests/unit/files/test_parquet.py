"""A small file that unpacks to more than the limit is refused before memory is taken for it."""

import io
import resource
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from finesweep.data import readers
from finesweep.errors import SpecError
from finesweep.files import parquet
from finesweep.files.parquet import TooLarge, read_columns, refuse_large

LIMIT = 20_000_000
"""Bytes; what a test may unpack in a moment."""

LONG = "x" * 200_000


def written(table: pyarrow.Table, **options: object) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream, compression="zstd", store_schema=False, **options)
    return stream.getvalue()


def said(data: bytes) -> int:
    """Return how many bytes the first column of a file takes, as it says itself."""
    metadata = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data)).metadata
    return int(metadata.row_group(0).column(0).total_uncompressed_size)


def understated(data: bytes) -> bytes:
    """Return a file that says of its first column that it takes a byte."""
    number, true = 2 * said(data), b""
    while number > 127:
        number, true = number >> 7, true + bytes([number & 127 | 128])
    true += bytes([number])
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    assert data.count(true, footer) == 1
    return data[:footer] + data[footer:].replace(true, b"\x82" + b"\x80" * (len(true) - 2) + b"\0")


def same_label(rows: int, groups: int) -> bytes:
    stream, table = io.BytesIO(), pyarrow.table({"text": ["a"] * rows, "label": [0] * rows})
    with pyarrow.parquet.ParquetWriter(stream, table.schema) as file:
        for _ in range(groups):
            file.write_table(table)
    return stream.getvalue()


def dictionary(rows: int, value: str = LONG) -> bytes:
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), pyarrow.array([value]))
    return written(pyarrow.table({"text": text, "label": [0] * rows}), dictionary_pagesize_limit=10**8)


def plain(rows: int) -> bytes:
    texts = [f"{row}{LONG}" for row in range(rows)]
    return written(pyarrow.table({"text": texts, "label": [0] * rows}), use_dictionary=False, data_page_size=10**9)


def prefixes(rows: int) -> bytes:
    table = pyarrow.table({"text": [LONG + str(row) for row in range(rows)]})
    return written(table, use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"})


BOMBS: dict[str, Callable[[], bytes]] = {
    "rows": lambda: same_label(10_000, 40),
    "nested": lambda: written(pyarrow.table({"text": pyarrow.array([[0] * 1_000_000])})),
    "plain": lambda: plain(120),
    "plain-that-says-less": lambda: understated(plain(300)),
    "dictionary": lambda: dictionary(1_000),
    "dictionary-a-little-too-large": lambda: dictionary(60_000, LONG[:300]),
    "dictionary-that-says-less": lambda: understated(dictionary(100_000)),
    "prefixes": lambda: prefixes(500),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_file_that_unpacks_to_more_than_the_limit_is_refused(bomb: str, tmp_path: Path) -> None:
    data, before = BOMBS[bomb](), resource.getrlimit(resource.RLIMIT_AS)
    assert len(data) < LIMIT / 50
    with pytest.raises(TooLarge, match="more than the 20,000,000 that are read on this machine"):
        read_columns(pyarrow.BufferReader(data), {"text", "label"}, LIMIT)
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(TooLarge, match="more than the 20,000,000"):
        refuse_large(tmp_path / "a.parquet", LIMIT)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert pyarrow.system_memory_pool().max_memory() < 5 * LIMIT


@pytest.mark.parametrize("bomb", ["rows", "nested", "plain"])
def test_file_that_says_that_it_is_too_large_is_not_read(bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "iter_batches", None)
    with pytest.raises(TooLarge, match=r"it unpacks to [\d,]+ bytes, more than the 20,000,000"):
        read_columns(pyarrow.BufferReader(BOMBS[bomb]()), {"text", "label"}, LIMIT)


def test_data_file_that_unpacks_to_too_much_is_a_problem_of_the_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "most_bytes", lambda: LIMIT)
    with pytest.raises(SpecError, match=r"^a\.parquet: it unpacks to .* \(split it, or take a sample"):
        readers.parse(BOMBS["rows"](), ".parquet", "a.parquet", {"text"})


def test_column_that_is_not_wanted_may_be_of_any_size() -> None:
    table = pyarrow.table({"text": ["a", "b"], "more": pyarrow.array([[0] * 1_000_000, []])})
    names, rows = read_columns(pyarrow.BufferReader(written(table)), {"text"}, LIMIT)
    assert (names, rows.to_pydict()) == (("text", "more"), {"text": ["a", "b"]})
    assert read_columns(pyarrow.BufferReader(written(table)), (), LIMIT)[1].num_rows == 2


def test_columns_keep_types_rows_and_metadata_over_all_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_FEWEST_ROWS", 3)
    monkeypatch.setattr(parquet, "_MOST_ROWS", 3)
    columns = {
        "text": pyarrow.array([f"text {row}" for row in range(20)]).dictionary_encode(),
        "label": pyarrow.array(range(20), pyarrow.int8()),
        "tags": [[str(row)] * (row % 3) for row in range(20)],
    }
    table = pyarrow.table(columns).replace_schema_metadata({"huggingface": "names"})
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream, row_group_size=7)
    names, rows = read_columns(pyarrow.BufferReader(stream.getvalue()), set(columns), LIMIT)
    assert names == ("text", "label", "tags")
    assert rows.to_pydict() == table.to_pydict()
    assert rows.schema.equals(pyarrow.parquet.read_schema(pyarrow.BufferReader(stream.getvalue())))
    assert rows.schema.metadata[b"huggingface"] == b"names"
