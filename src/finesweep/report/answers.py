"""Makes the table of what the winner answered: a confusion matrix, the largest confusions, or each label by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finesweep.registry import TASKS
from finesweep.results.board import Board
from finesweep.text import clean

MOST_LABELS = 12
"""Maximum number of labels of a matrix; of more, the largest confusions are listed."""

MOST_LINES = 20
"""Maximum number of confusions, or of labels that are counted by themselves, in a list."""

_Counts = Counter[tuple[str | None, str | None]]


@dataclass(frozen=True)
class AnswerCell:
    """One cell.

    Attributes:
        text: What is shown.
        share: Share of the line's rows, 0 to 1, as a shade; None for a cell without one.
        is_right: Whether label and answer are the same.
    """

    text: str
    share: float | None = None
    is_right: bool = False


@dataclass(frozen=True)
class AnswerLine:
    """One line: a label, and its cells."""

    label: str
    cells: Sequence[AnswerCell]


@dataclass(frozen=True)
class AnswerTable:
    """What the winner answered to the validation rows.

    Attributes:
        about: What the table holds, in a sentence or two.
        heads: Headings of the cells.
        lines: The lines.
    """

    about: str
    heads: Sequence[str]
    lines: Sequence[AnswerLine]


def answer_table(board: Board) -> AnswerTable | None:
    """Return the answers of a board's winner; None without a proven winner, or if labels are numbers."""
    found = board.evidence.answers.confusions if board.evidence is not None else ()
    if not found:
        return None
    counts: _Counts = Counter()
    for one in found:
        counts[one.label, one.given] += max(one.rows, 0)
    order = list(dict.fromkeys([*(board.manifest.data.labels or ()), *(name for pair in counts for name in pair)]))
    present = {name for pair, rows in counts.items() if rows for name in pair}
    names = [name for name in order if name is not None and name in present]
    if TASKS.load(board.manifest.spec.task).takes_several:
        return _by_label(counts, names)
    return _matrix(counts, names) if len(names) <= MOST_LABELS else _largest(counts)


def _matrix(counts: _Counts, names: Sequence[str]) -> AnswerTable:
    lines = []
    for label in names:
        total = sum(counts[label, given] for given in names)
        cells = [_cell(counts[label, given], total, is_right=label == given) for given in names]
        lines.append(AnswerLine(clean(label, 40), [*cells, AnswerCell(_percent(counts[label, label], total))]))
    about = f"{_mistakes(counts)} Each line has the rows of one label, and each column those with one answer."
    return AnswerTable(about, [*(clean(name, 40) for name in names), "right"], lines)


def _cell(rows: int, total: int, *, is_right: bool) -> AnswerCell:
    return AnswerCell(f"{rows:,}", round(rows / total, 3) if total else 0.0, is_right)


def _largest(counts: _Counts) -> AnswerTable:
    total: Counter[str | None] = Counter()
    for (label, _), rows in counts.items():
        total[label] += rows
    wrong = [(pair, rows) for pair, rows in counts.most_common() if pair[0] != pair[1] and rows]
    lines = []
    for (label, given), rows in wrong[:MOST_LINES]:
        share = AnswerCell(_percent(rows, total[label]))
        cells = [AnswerCell(clean(given or "", 40)), _cell(rows, total[label], is_right=False), share]
        lines.append(AnswerLine(clean(label or "", 40), cells))
    which = f"the {MOST_LINES} largest of {len(wrong):,} confusions" if len(wrong) > MOST_LINES else "all confusions"
    return AnswerTable(f"{_mistakes(counts)} These are {which}.", ["answer", "rows", "of the label"], lines)


def _by_label(counts: _Counts, names: Sequence[str]) -> AnswerTable:
    def mistakes(name: str) -> int:
        return counts[name, None] + counts[None, name]

    worst = sorted(names, key=mistakes, reverse=True)[:MOST_LINES]
    lines = []
    for name in worst:
        right, missed, too_many = counts[name, name], counts[name, None], counts[None, name]
        cells = [AnswerCell(f"{rows:,}") for rows in (right + missed, right, missed, too_many)]
        lines.append(AnswerLine(clean(name, 40), cells))
    which = "" if len(worst) == len(names) else f" These are the {MOST_LINES} with most mistakes, of {len(names):,}."
    about = f"Each label by itself: rows that have it, and what the winner answered to them and to others.{which}"
    return AnswerTable(about, ["rows", "given", "missed", "given to others"], lines)


def _mistakes(counts: _Counts) -> str:
    wrong, total = sum(rows for (label, given), rows in counts.items() if label != given), counts.total()
    return f"The answer is not the label for {wrong:,} of {total:,} validation rows ({_percent(wrong, total)})."


def _percent(part: int, total: int) -> str:
    return f"{100 * part / total:.1f} %" if total else ""
