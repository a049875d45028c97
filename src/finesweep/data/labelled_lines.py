"""Recognises lines of a label, a blank and a text, and gives the command that turns them into a CSV."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import PurePath

FOUND = "each line looks like a label, a blank and a text; finesweep reads columns with a header"
_MARK = "__label__"
_SEPARATORS = (";", "\t", "|")
_LEAST_LINES = 4
_MOST_LABELS = 50
_MOST_LONE = 0.05
"""Maximum share of lines whose label occurs only once."""

_SCRIPT = (
    "import csv, sys; csv.writer(sys.stdout).writerows([['label', 'text'], "
    "*(line.removeprefix('__label__').strip().split(maxsplit=1) for line in sys.stdin if line.strip())])"
)


def command(text: str, name: str) -> str | None:
    """Return the shell command that makes a CSV of such lines; None for any other text."""
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    if (
        len(lines) < _LEAST_LINES
        or any(len(line) < 2 for line in lines)
        or not _are_labels([line[0] for line in lines])
    ):
        return None
    if any(rest.startswith(_MARK) for _, rest in lines) or _has_columns(text):
        return None  # several labels a line, or a table with another separator
    target = PurePath(name).with_suffix("").name + "_columns.csv"
    return f'python3 -X utf8 -c "{_SCRIPT}" < {shlex.quote(name)} > {shlex.quote(target)}'


def _has_columns(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    return any(mark in lines[0] and len({line.count(mark) for line in lines}) == 1 for mark in _SEPARATORS)


def _are_labels(words: list[str]) -> bool:
    counts = Counter(words)
    if len(counts) < 2:
        return False
    if all(word.startswith(_MARK) for word in counts):
        return True
    lone = sum(1 for count in counts.values() if count == 1)
    return len(counts) <= min(_MOST_LABELS, len(words) / 2) and lone <= _MOST_LONE * len(words)
