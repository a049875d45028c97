"""Makes up the texts that the benchmarks train on, in four kinds, or reads them from a CSV.

The kinds have the lengths of usual data sets: short questions, single sentences as in SST-2, reviews longer
than ``max_length``, and requests in 77 classes. Words hint at a label and do not settle it: a fifth of the hints point
elsewhere, some are negated, and some labels are wrong, so that no model reaches a loss of zero honestly.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Row = tuple[str, int]
Label = TypeVar("Label", int, str)
"""A label as it is read or made, before it is numbered."""

WRONG_LABELS = 0.05
STRAY_HINTS = 0.2
NEGATED = 0.2

FILLER = str.split("""
the a an of and to in that it with as for on at from by this one all some out up there then when after before over
about again still just also even only more most such very quite rather so too here now while during around through
room street morning evening people man woman child friend family house city river door window table book paper music
story film actor scene light colour sound voice word line page part side end middle hour day week year time night road
car train ticket office desk phone screen number letter price order box bag shop market field garden tree water wind
winter summer walk run stay leave bring carry hold open close turn look watch hear tell ask answer write read think
know seem feel begin finish keep make take give find lose move wait sit stand
""")

GOOD = str.split("""
lovely moving witty charming brilliant tender funny gripping warm clever delightful superb honest fresh graceful bold
thoughtful vivid sharp rewarding
""")
BAD = str.split("""
dull clumsy tedious stale lifeless awkward shallow noisy bland predictable sloppy hollow tired muddled forced dreary
cheap flat annoying careless
""")

QUESTIONS = [
    words.split()
    for words in (
        "who whose person author king president inventor singer name wife",
        "where place country city mountain river island capital located map",
        "many much count percent distance population cost temperature size weight",
        "what animal plant colour food instrument product sport disease language",
        "when year date century born age month founded began war",
        "why how reason cause meaning define explain difference purpose origin",
    )
]

ACTIONS = [
    words.split()
    for words in (
        "cancel stop end undo withdraw",
        "change update edit replace correct",
        "lost missing stolen vanished gone",
        "late pending waiting delayed slow",
        "fee charge cost price extra",
        "activate start enable begin unlock",
        "declined failed refused rejected broken",
    )
]
TOPICS = [
    words.split()
    for words in (
        "card plastic chip",
        "transfer payment recipient",
        "account profile login",
        "cash withdrawal machine",
        "refund return merchant",
        "currency exchange euro",
        "pin code password",
        "address postcode home",
        "salary deposit employer",
        "statement history receipt",
        "phone device app",
    )
]


@dataclass(frozen=True)
class Kind:
    """A kind of texts.

    Attributes:
        hints: What may hint at each class: a list of word lists, one word of each to a hint.
        words: Median length in words.
        spread: Sigma of the logarithm of the length.
        shortest: Words at least.
        longest: Words at most.
        words_per_hint: A hint for this many words, and two at least.
    """

    hints: Sequence[Sequence[Sequence[str]]]
    words: float
    spread: float
    shortest: int
    longest: int
    words_per_hint: int


KINDS = {
    "questions": Kind([[words] for words in QUESTIONS], 9, 0.3, 4, 20, 5),
    "sentences": Kind([[BAD], [GOOD]], 17, 0.5, 4, 50, 6),
    "reviews": Kind([[BAD], [GOOD]], 230, 0.3, 150, 500, 15),
    "intents": Kind([[action, topic] for topic in TOPICS for action in ACTIONS], 11, 0.4, 5, 40, 6),
}
"""Kinds of made-up texts by name."""


def made_up(kind: str, rows: int, seed: int) -> list[Row]:
    """Return rows of text and label; the same arguments give the same rows.

    Args:
        kind: One of ``KINDS``.
        rows: How many.
        seed: Another one gives other rows of the same kind.
    """
    rng = random.Random(f"{kind} {seed}")
    return [_row(rng, KINDS[kind]) for _ in range(rows)]


def _row(rng: random.Random, kind: Kind) -> Row:
    label = rng.randrange(len(kind.hints))
    length = round(kind.words * rng.lognormvariate(0, kind.spread))
    length = min(max(length, kind.shortest), kind.longest)
    words = rng.choices(FILLER, k=length)
    for _ in range(max(2, length // kind.words_per_hint)):
        place = rng.randrange(len(words))
        words[place : place + 1] = _hint(rng, kind, label)
    if rng.random() < WRONG_LABELS:
        label = rng.randrange(len(kind.hints))
    return " ".join(words[: kind.longest]), label


def _hint(rng: random.Random, kind: Kind, label: int) -> list[str]:
    if rng.random() < STRAY_HINTS:
        return [rng.choice(part) for part in rng.choice(kind.hints)]
    if len(kind.hints) == 2 and rng.random() < NEGATED:
        return ["not", *(rng.choice(part) for part in kind.hints[1 - label])]
    return [rng.choice(part) for part in kind.hints[label]]


def read(file: Path, text: str, label: str) -> list[tuple[str, str]]:
    """Read texts and labels from a CSV, or from a TSV by its suffix; rows without one of them are left out.

    Raises:
        ValueError: A column is missing, or nothing is left; names the file and its columns.
    """
    csv.field_size_limit(sys.maxsize)
    with file.open(newline="", encoding="utf-8-sig") as stream:
        table = csv.DictReader(stream, delimiter="\t" if file.suffix == ".tsv" else ",")
        if missing := {text, label} - set(table.fieldnames or ()):
            raise ValueError(f"{file}: no column {', '.join(sorted(missing))}; it has {table.fieldnames}")
        rows = [((row[text] or "").strip(), (row[label] or "").strip()) for row in table]
    kept = [row for row in rows if all(row)]
    if not kept:
        raise ValueError(f"{file}: no row has both {text} and {label}")
    return kept


def split(rows: Sequence[tuple[str, str]], share: float, seed: int) -> tuple[list[tuple[str, str]], ...]:
    """Split rows into training and validation rows, label by label; of a label with one row it is for training."""
    by_label: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        by_label.setdefault(row[1], []).append(row)
    rng = random.Random(seed)
    training, validation = [], []
    for _, found in sorted(by_label.items()):
        rng.shuffle(found)
        held_out = min(len(found) - 1, max(1, round(share * len(found))))
        validation += found[:held_out]
        training += found[held_out:]
    return sampled(training, len(training), seed), sampled(validation, len(validation), seed)


def sampled(rows: Sequence[tuple[str, str]], most: int, seed: int) -> list[tuple[str, str]]:
    """Return at most so many rows, seeded and shuffled."""
    return random.Random(seed).sample(list(rows), min(most, len(rows)))


def numbered(
    training: Sequence[tuple[str, Label]], validation: Sequence[tuple[str, Label]]
) -> tuple[list[Row], list[Row]]:
    """Number the labels in their sorted order; validation rows whose label was never trained on are left out.

    Raises:
        ValueError: There is only one label, or no validation row is left.
    """
    numbers = {label: number for number, label in enumerate(sorted({label for _, label in training}))}
    known = [(text, numbers[label]) for text, label in validation if label in numbers]
    if len(numbers) < 2 or not known:
        raise ValueError(f"{len(numbers)} labels and {len(known)} validation rows: nothing to learn")
    return [(text, numbers[label]) for text, label in training], known


def write(rows: Sequence[Row], file: Path) -> None:
    """Write rows as a CSV with the columns text and label."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(("text", "label"))
        table.writerows(rows)
