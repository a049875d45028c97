"""The quickstart's committed data: what its script writes, balanced, and without overlap."""

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "search_spaces" / "quickstart"
ROWS = {"train": 2_000, "validation": 400}


def rows(split: str) -> list[dict[str, str]]:
    with (FOLDER / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_script_writes_exactly_what_is_committed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, FOLDER / "make.py", tmp_path], check=True)
    for split in ROWS:
        assert (tmp_path / f"{split}.csv").read_bytes() == (FOLDER / f"{split}.csv").read_bytes()


@pytest.mark.parametrize("split", ROWS)
def test_a_split_is_as_large_as_promised_and_balanced(split: str) -> None:
    labels = Counter(row["label"] for row in rows(split))
    assert labels.total() == ROWS[split]
    # Guessing the majority must not look like learning.
    assert max(labels.values()) / labels.total() < 0.55


def test_no_text_stands_in_both_splits() -> None:
    assert not {row["text"] for row in rows("train")} & {row["text"] for row in rows("validation")}
