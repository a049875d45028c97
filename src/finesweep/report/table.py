"""Makes the table of trials: columns, cells, and everything that an opened row shows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finesweep.confidence import Interval
from finesweep.results.board import Board
from finesweep.results.decision import between
from finesweep.results.leaderboard_columns import BoardColumn, Place, columns
from finesweep.results.ranking import Row
from finesweep.text import clean, duration, metric, setting
from finesweep.text.format import finite
from finesweep.trial import TrialRecord

SHOWN = 11
"""Number of columns that are shown at first; the others can be switched on."""

PRINTED = 8
"""Number of rows on paper."""

EVALUATIONS = 8
"""Maximum number of evaluations in an opened row: the first, the last, and some between."""

_OWN = ("rank", "trial", "objective")


@dataclass(frozen=True)
class TableCell:
    """One cell.

    Attributes:
        text: What is shown.
        value: What is sorted and filtered by; None if that is the text.
    """

    text: str
    value: str | None = None


@dataclass(frozen=True)
class TableColumn:
    """One column.

    Attributes:
        name: Heading.
        right: Whether its cells are aligned to the right, as numbers are.
        shown: Whether it is shown at first.
    """

    name: str
    right: bool
    shown: bool


@dataclass(frozen=True)
class Mark:
    """An objective drawn in its cell, in percent of the cell's width.

    Attributes:
        value: Place of the objective.
        low: Place of its interval's lower end; None without an interval.
        high: Place of its upper end.
        text: The interval as text.
    """

    value: float
    low: float | None = None
    high: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Details:
    """Everything about a trial, for its opened row.

    Attributes:
        groups: Names and texts by heading.
        evaluations: Examples, epoch and objective of its evaluations.
        left_out: Number of evaluations that are not in them.
    """

    groups: Mapping[str, Sequence[tuple[str, str]]]
    evaluations: Sequence[tuple[str, str, str]]
    left_out: int = 0


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    Attributes:
        trial: Its number.
        rank: From 1; None if it does not rank.
        state: Its state.
        cells: Its cells, one for each column.
        details: What it shows when it is opened.
        mark: Its objective as a drawing, None if it does not rank.
        notes: Words beside its rank.
        printed: Whether it is on paper.
    """

    trial: int
    rank: int | None
    state: str
    cells: Sequence[TableCell]
    details: Details
    mark: Mark | None = None
    notes: Sequence[str] = ()
    printed: bool = True


@dataclass(frozen=True)
class TrialTable:
    """The trials.

    Attributes:
        columns: The columns; the first four are rank, trial, objective and state.
        rows: The ranked rows, best first, then the others.
        states: Number of rows by state.
    """

    columns: Sequence[TableColumn]
    rows: Sequence[TrialRow]
    states: Mapping[str, int] = field(default_factory=dict)


def table(board: Board) -> TrialTable:
    """Return the table of all trials of a board."""
    known = columns(Place.RANKED, board.rows, board.manifest, confirmation=board.confirmation)
    rest = [one for one in known if one.name not in _OWN]
    heads = [TableColumn(name, True, True) for name in ("rank", "trial", clean(board.summary.metric))]
    heads.append(TableColumn("state", False, True))
    names = [clean(one.short or one.title or one.name) for one in rest]
    # A narrow terminal leaves out the same columns first.
    shown = sorted(rest, key=lambda one: one.drop)[: SHOWN - len(heads)]
    heads += [TableColumn(name, one.right, one in shown) for name, one in zip(names, rest, strict=True)]
    scale = Scale.of(board)
    rows = [_row(board, row, rest, scale, place < PRINTED) for place, row in enumerate(board.rows)]
    return TrialTable(heads, rows, {str(state): count for state, count in board.summary.counts.items()})


def _row(board: Board, row: Row, rest: Sequence[BoardColumn], scale: Scale | None, printed: bool) -> TrialRow:
    record = row.record
    cells = [
        TableCell("" if row.rank is None else str(row.rank)),
        TableCell(str(record.trial)),
        TableCell(metric(record.objective), _plain(record.objective)),
        TableCell(str(record.state)),
        *(_cell(column, row) for column in rest),
    ]
    found = intervals(board, record)
    mark = scale.mark(record, found.get(board.summary.metric)) if scale is not None and row.rank is not None else None
    return TrialRow(
        trial=record.trial,
        rank=row.rank,
        state=str(record.state),
        cells=cells,
        details=details(record, found),
        mark=mark,
        notes=list(_notes(board, row)),
        printed=printed,
    )


def _cell(column: BoardColumn, row: Row) -> TableCell:
    value, text = column.value(row), column.text(row)
    return TableCell(text, None if text == str(value) else _plain(value))


def _plain(value: Any) -> str | None:
    """Return a number as JavaScript reads it; None for what is sorted by its text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if not is_number or finite(value) is None else f"{value:.9g}"


def _notes(board: Board, row: Row) -> Iterator[str]:
    baseline = board.summary.baseline
    if baseline is not None and baseline.trial == row.record.trial:
        yield "default"
    standing, trial = board.standing, row.record.trial
    if standing is not None and len(standing.tied) > 1 and trial in standing.tied:
        yield "tied"
        if trial == standing.cheapest:
            yield "cheapest"


@dataclass(frozen=True)
class Scale:
    """The axis on which objectives are drawn in cells, the same in all rows.

    Attributes:
        low: Objective at its left end.
        high: Objective at its right end; weaker trials lie there too.
    """

    low: float
    high: float

    @classmethod
    def of(cls, board: Board) -> Scale | None:
        """Return the axis that holds the better three quarters of the ranked trials, None if nothing ranks."""
        values = [row.record.objective for row in board.ranked if row.record.objective is not None]
        if not values:
            return None
        standing = board.standing
        bounds = standing.intervals.get(board.ranked[0].record.trial) if standing else None
        best, weak = values[0], values[min(len(values) - 1, (3 * len(values)) // 4)]
        ends = [best, weak, *((bounds.low, bounds.high) if bounds else ())]
        low, high = min(ends), max(ends)
        pad = 0.1 * (high - low) or 0.1 * abs(low) or 1.0
        return cls(low - pad, high + pad)

    def mark(self, record: TrialRecord, interval: Interval | None) -> Mark:
        """Return the drawing of a ranked trial."""
        assert record.objective is not None
        if interval is None:
            return Mark(self.place(record.objective))
        bounds = self.place(interval.low), self.place(interval.high)
        return Mark(self.place(record.objective), *bounds, text=f"95 % over rows: {between(interval)}")

    def place(self, value: float) -> float:
        """Return the place of a value in percent; values beyond the ends lie at the ends."""
        return round(min(max((value - self.low) / (self.high - self.low), 0.0), 1.0) * 100, 1)


def intervals(board: Board, record: TrialRecord) -> Mapping[str, Interval]:
    """Return the intervals of a trial's metrics over the validation rows, by full name."""
    return board.standing.scores.get(record.trial, {}) if board.standing else {}


def details(record: TrialRecord, found: Mapping[str, Interval]) -> Details:
    """Return everything that a record says, in groups; what it does not say is left out."""
    groups = {
        "Parameters": [(clean(name), setting(value, 200)) for name, value in record.params.items()],
        "Metrics": [(clean(name), _with_interval(value, found.get(name))) for name, value in record.metrics.items()],
        "Training": list(_training(record)),
        "What happened": list(_events(record)),
        "Where": list(_where(record)),
    }
    shown, left_out = _some(record)
    return Details({name: pairs for name, pairs in groups.items() if pairs}, shown, left_out)


def _with_interval(value: float | None, interval: Interval | None) -> str:
    text = metric(value) or "not finite"
    return f"{text} ({between(interval)})" if interval is not None else text


def _training(record: TrialRecord) -> Iterator[tuple[str, str]]:
    if finite(record.best_epoch) is not None:
        step = "" if record.best_step is None else f", step {record.best_step:,}"
        yield "best at", f"epoch {record.best_epoch:.4g}{step}"
    again = f", and {record.repeated_examples:,} that were trained again" if record.repeated_examples else ""
    yield "examples", f"{record.examples:,}{again}"
    if record.evaluated_rows is not None:
        yield "ranked on", f"{record.evaluated_rows:,} validation rows"
    yield "time", duration(record.trained_seconds)
    if finite(record.examples_per_second) is not None:
        yield "speed", f"{record.examples_per_second:,.0f} examples/s"
    if finite(record.peak_memory_mb) is not None:
        yield "peak memory", f"{record.peak_memory_mb:,.0f} MB"
    length = record.effective.get("data.max_length")
    if isinstance(length, int):
        yield "longest text", f"{length:,} tokens"


def _events(record: TrialRecord) -> Iterator[tuple[str, str]]:
    if record.reason:
        yield "why it ended", clean(record.reason, 600)
    if (found := record.divergence) is not None:
        yield "diverged", f"{clean(found.reason)} at step {found.step:,}"
        if finite(found.learning_rate) is not None:
            yield "learning rate there", setting(found.learning_rate)
        yield "last finite loss", metric(found.last_finite_loss) or "none"
    if record.audit is not None:
        yield "audited: would have been pruned", clean(record.audit)
    for fault in record.faults[:5]:
        yield "earlier attempt ended by", clean(fault)
    if record.batch_divisor > 1:
        yield "batch per device", f"divided by {record.batch_divisor}, with as many more accumulation steps"
    if record.resumed_step:
        yield "continued from", f"step {record.resumed_step:,}"


def _where(record: TrialRecord) -> Iterator[tuple[str, str]]:
    yield "run and attempt", f"{record.run}, {record.attempt}"
    if 0 < record.started < 1e11:
        yield "began", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record.started))
    yield "machine", clean(record.host)
    yield "log", clean(record.log)
    if record.weights_sha256:
        yield "weights, SHA-256", clean(record.weights_sha256)[:16]


def _some(record: TrialRecord) -> tuple[list[tuple[str, str, str]], int]:
    """Return some evaluations, and how many are left out; the best one is among them."""
    found = record.evaluations
    every = max(1, -(-(len(found) - 1) // (EVALUATIONS - 1)))
    places = [place for place in range(len(found)) if place % every == 0 or place == len(found) - 1]
    places += [place for place, one in enumerate(found) if one.step == record.best_step and place not in places]
    shown = [found[place] for place in sorted(places)]
    rows = [(f"{one.examples:,}", f"{one.epoch:.3g}", metric(one.objective) or "not finite") for one in shown]
    return rows, len(found) - len(rows)
