"""Makes the rows of ``amazon.csv`` and ``tweets.csv`` from the texts that people rated for VADER.

    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    tar xzf vaderSentiment-3.3.2.tar.gz
    tar xzf vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz
    python -m benchmarks.studies.rated_texts --texts hutto_ICWSM_2014 --out rows

Each text has the mean of 20 ratings from -4 to 4. Reviews become two classes by its sign, and tweets three: negative
below -1, positive above 1, neutral between. Texts are ordered by their SHA-256; the first 400 are for validation. It
prints what the README of the tables names, so that equal rows can be told.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

VALIDATION = 400
"""Rows for validation."""

NEUTRAL = {"amazon": 0.0, "tweets": 1.0}
"""Largest rating, either way, that is neither negative nor positive; at 0 there is no third class."""

FILES = {"amazon": "amazonReviewSnippets_GroundTruth.txt", "tweets": "tweets_GroundTruth.txt"}
"""The files of the texts: an id, the mean rating and the text, with tabs between."""

Row = tuple[str, str]
"""A text and its label."""


def read_ratings(file: Path) -> dict[str, float]:
    """Return the mean rating of each text; of equal texts, that of the first."""
    found: dict[str, float] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
        if line.strip():
            _, rating, text = line.rstrip("\r").split("\t")
            found.setdefault(text.strip(), float(rating))
    return found


def label_of(rating: float, neutral: float) -> str | None:
    """Return the class of a rating, or nothing if it belongs to none.

    Args:
        rating: The mean rating, -4 to 4.
        neutral: Largest rating, either way, of a neutral text; 0 if there is no such class.
    """
    if abs(rating) <= neutral:
        return "neutral" if neutral else None
    return "positive" if rating > 0 else "negative"


def rows_of(ratings: dict[str, float], neutral: float) -> list[Row]:
    """Return the texts with their labels, ordered by the SHA-256 of the text."""
    labelled = ((text, label_of(rating, neutral)) for text, rating in ratings.items())
    rows = [(text, label) for text, label in labelled if label is not None]
    return sorted(rows, key=lambda row: hashlib.sha256(row[0].encode()).hexdigest())


def write_rows(rows: Sequence[Row], file: Path) -> str:
    """Write rows as CSV; return the SHA-256 of the file."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows(rows)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--texts", type=Path, required=True, help="folder with the rated texts")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, file in FILES.items():
        rows = rows_of(read_ratings(asked.texts / file), NEUTRAL[name])
        for part, chosen in (("dev", rows[:VALIDATION]), ("train", rows[VALIDATION:])):
            digest = write_rows(chosen, asked.out / f"{name}_{part}.csv")
            print(f"{name}_{part}.csv: {len(chosen)} rows, SHA-256 {digest}")  # noqa: T201


if __name__ == "__main__":
    main()
