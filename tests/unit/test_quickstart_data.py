"""The committed data of the examples: what their scripts write, balanced, and without overlap."""

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "search_spaces"
ROWS = {"train": 2_000, "validation": 400}


def rows(split: str, example: str = "quickstart") -> list[dict[str, str]]:
    with (EXAMPLES / example / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("example", ["quickstart", "multilabel"])
def test_the_script_writes_exactly_what_is_committed(tmp_path: Path, example: str) -> None:
    folder = EXAMPLES / example
    subprocess.run([sys.executable, folder / "make.py", tmp_path], check=True)
    for split in ROWS:
        assert (tmp_path / f"{split}.csv").read_bytes() == (folder / f"{split}.csv").read_bytes()


@pytest.mark.parametrize("split", ROWS)
def test_a_split_is_as_large_as_promised_and_balanced(split: str) -> None:
    labels = Counter(row["label"] for row in rows(split))
    assert labels.total() == ROWS[split]
    # Guessing the majority must not look like learning.
    assert max(labels.values()) / labels.total() < 0.55


@pytest.mark.parametrize("example", ["quickstart", "multilabel"])
def test_no_text_stands_in_both_splits(example: str) -> None:
    assert not {row["text"] for row in rows("train", example)} & {row["text"] for row in rows("validation", example)}


def test_rows_of_several_labels_have_none_to_many() -> None:
    cells = [row["topics"] for row in rows("train", "multilabel")]
    counts = Counter(len(list(filter(None, cell.split("|")))) for cell in cells)
    assert counts.keys() >= {0, 1, 2, 3}
    assert len({label for cell in cells for label in cell.split("|")} - {""}) == 5
