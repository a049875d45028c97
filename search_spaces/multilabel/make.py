"""Writes the data of the multi-label example: made-up remarks of hotel guests, with what each is about.

    python search_spaces/multilabel/make.py [FOLDER]

The same files come out every time. A remark is about none to three of five topics. Most words that name a topic
belong to it alone, a few to two, and in 3 % of the cases a topic is missing or wrong.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

SEED = 7
ROWS = {"train": 1_200, "validation": 300}
WRONG = 0.03
HOW_MANY = (0, 1, 1, 1, 2, 2, 2, 3)
"""Topics of a remark, each number as often as it is drawn."""

TOPICS = {
    "breakfast": ["the coffee", "the buffet", "the scrambled eggs", "the bread", "the jam", "the orange juice"],
    "location": ["the walk to the station", "the view", "the street", "the beach nearby", "the tram stop", "the area"],
    "price": ["the bill", "the deposit", "the city tax", "the rate", "the minibar charge", "the parking fee"],
    "room": ["the bed", "the shower", "the carpet", "the heating", "the window", "the wardrobe"],
    "staff": ["the receptionist", "the porter", "the night clerk", "the manager", "the cleaner", "the waiter"],
}
SHARED = {
    ("breakfast", "price"): ["the charge for breakfast", "paying extra for coffee"],
    ("location", "room"): ["the noise from the street in our room", "the view from the bed"],
    ("breakfast", "staff"): ["the waiter at the buffet", "the cook who made the eggs"],
}
JUDGED = ["was fine", "was poor", "surprised us", "could be better", "was a delight", "let us down", "was as promised"]
OPENINGS = ["", "", "", "We stayed two nights: ", "Third visit, ", "On a business trip, ", "With two children, "]
NOTHING = [
    "We will see next year",
    "All in all three stars",
    "Thanks again",
    "Nothing to add",
    "A stay like many others",
]
TIMES = ["in March", "in summer", "last week", "on a Monday", "over Easter", "this time", "as ever", "for once"]


def things(rng: random.Random, topics: list[str]) -> list[str]:
    """Name something of each topic, now and then one thing for two of them."""
    pair = next((pair for pair in SHARED if set(pair) <= set(topics)), None)
    if pair is None or rng.random() < 0.6:
        return [rng.choice(TOPICS[topic]) for topic in topics]
    others = [topic for topic in topics if topic not in pair]
    return [rng.choice(SHARED[pair]), *(rng.choice(TOPICS[topic]) for topic in others)]


def remark(rng: random.Random, topics: list[str]) -> str:
    """Make one remark about some topics."""
    if not topics:
        return f"{rng.choice(NOTHING)}, {rng.choice(TIMES)} and {rng.choice(TIMES)}."
    clauses = [f"{thing} {rng.choice(JUDGED)}" for thing in things(rng, topics)]
    text = f"{rng.choice(OPENINGS)}{' and '.join(clauses)} {rng.choice(TIMES)}"
    return text[0].upper() + text[1:] + rng.choice([".", ".", "!"])


def rows(rng: random.Random, count: int, taken: set[str]) -> list[tuple[str, str]]:
    """Make labelled remarks, each text at most once over all splits."""
    made: list[tuple[str, str]] = []
    while len(made) < count:
        topics = sorted(rng.sample(sorted(TOPICS), rng.choice(HOW_MANY)))
        text = remark(rng, topics)
        if text in taken:
            continue
        taken.add(text)
        wrong = {rng.choice(sorted(TOPICS))} if rng.random() < WRONG else set()
        made.append((text, "|".join(sorted(set(topics) ^ wrong))))
    return made


def main(folder: Path) -> None:
    """Write one CSV for each split."""
    rng, taken = random.Random(SEED), set[str]()
    for split, count in ROWS.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("text", "topics"))
            writer.writerows(rows(rng, count, taken))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
