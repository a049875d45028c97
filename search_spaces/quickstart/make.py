"""Writes the quickstart's data: made-up remarks on restaurants, films and gadgets, with labels.

    python search_spaces/quickstart/make.py [FOLDER]

The same files come out every time. Single words do not settle a label: some mean one thing of a
soup and another of a beer, a third of the clauses are negated, of two clauses joined by "but" the
second decides, and 8 % of the labels are wrong, so that nobody reaches 100 % honestly.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

SEED = 20
ROWS = {"train": 2_000, "validation": 400}
WRONG_LABELS = 0.08
NEGATED = 0.33
LABELS = ("negative", "positive")

THINGS = {
    "restaurant": ["soup", "beer", "waiter", "terrace", "bread", "dessert", "menu", "kitchen", "pasta", "coffee"],
    "film": ["plot", "ending", "lead actor", "dialogue", "score", "camera work", "villain", "pacing", "first hour"],
    "gadget": ["battery", "screen", "strap", "charger", "speaker", "app", "case", "keyboard", "manual", "sensor"],
}
GOOD = ["lovely", "excellent", "charming", "superb", "flawless", "delightful", "solid", "clever", "wonderful", "fine"]
BAD = ["awful", "dreadful", "sloppy", "clumsy", "dull", "horrible", "lousy", "careless", "poor", "disappointing"]
DEPENDS = {
    "cold": (["beer", "terrace drink", "lemonade"], ["soup", "coffee", "pasta"]),
    "long": (["battery life", "menu", "warranty"], ["queue", "first hour", "wait"]),
    "loud": (["speaker", "alarm", "laughter"], ["kitchen", "fan", "neighbour table"]),
    "light": (["case", "laptop", "dessert"], ["portion", "script", "wallet afterwards"]),
    "unpredictable": (["plot", "ending", "villain"], ["waiter", "sensor", "connection"]),
    "dark": (["chocolate", "humour", "bread crust"], ["screen", "dining room", "picture"]),
}
INTENSITY = ["", "", "really ", "rather ", "quite ", "truly "]
OPENINGS = [
    "",
    "",
    "",
    "second visit: ",
    "after a week, ",
    "to be honest, ",
    "my brother warned me, yet ",
    "once more: ",
]
VERDICTS = {
    "positive": ["i would go again", "worth every cent", "five stars from me", "i told all my friends", "no regrets"],
    "negative": ["i want my money back", "never again", "one star is too much", "i left early", "what a waste"],
}
NEGATIONS = ["was not {}", "was never {}", "was far from {}", "was anything but {}", "was hardly {}"]


def clause(rng: random.Random, label: str, topic: str) -> str:
    """Say something about one thing that means ``label``."""
    positive = label == "positive"
    if rng.random() < 0.3:
        word, things = rng.choice(sorted(DEPENDS.items()))
        return f"the {rng.choice(things[0 if positive else 1])} was {rng.choice(INTENSITY)}{word}"
    thing = rng.choice(THINGS[topic])
    if rng.random() < NEGATED:
        word = rng.choice(BAD if positive else GOOD)
        return f"the {thing} {rng.choice(NEGATIONS).format(word)}"
    return f"the {thing} was {rng.choice(INTENSITY)}{rng.choice(GOOD if positive else BAD)}"


def remark(rng: random.Random, label: str) -> str:
    """Make one remark that means ``label``."""
    topic = rng.choice(sorted(THINGS))
    other = LABELS[label == LABELS[0]]
    decisive = clause(rng, label, topic)
    kind = rng.random()
    if kind < 0.25:
        text = f"{clause(rng, other, topic)}, but {decisive}"
    elif kind < 0.35:
        text = f"although {clause(rng, other, topic)}, {decisive}"
    elif kind < 0.6:
        text = f"{clause(rng, label, topic)} and {decisive}"
    elif kind < 0.75:
        text = f"{decisive}, {rng.choice(VERDICTS[label])}"
    else:
        text = decisive
    text = rng.choice(OPENINGS) + text
    return text[0].upper() + text[1:] + rng.choice([".", ".", "!"])


def rows(rng: random.Random, count: int, taken: set[str]) -> list[tuple[str, str]]:
    """Make labelled remarks, each text at most once over all splits."""
    made: list[tuple[str, str]] = []
    while len(made) < count:
        label = rng.choice(LABELS)
        text = remark(rng, label)
        if text in taken:
            continue
        taken.add(text)
        shown = LABELS[label == LABELS[0]] if rng.random() < WRONG_LABELS else label
        made.append((text, shown))
    return made


def main(folder: Path) -> None:
    """Write one CSV for each split."""
    rng, taken = random.Random(SEED), set[str]()
    for split, count in ROWS.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("text", "label"))
            writer.writerows(rows(rng, count, taken))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
