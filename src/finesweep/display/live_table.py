"""Lays out the live table of a running sweep: selects its trials and columns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions
from rich.text import Text

from finesweep.display.progress_lines import Subject
from finesweep.forecast.time_left import span
from finesweep.results.ranking import ranked, unranked, without_running
from finesweep.text import headings, metric, setting
from finesweep.text.format import clock
from finesweep.text.table import GAP, Cell, FittedColumn, cut_to_width, fit, lines, wrapped_name
from finesweep.trial import Params, Progress, TrialRecord, TrialState

_BAR = 8
_BEST_SHOWN = 5
_STYLES = {
    TrialState.RUNNING: "cyan",
    TrialState.WAITING: "blue",
    TrialState.COMPLETE: "green",
    TrialState.PRUNED: "yellow",
    TrialState.DIVERGED: "magenta",
    TrialState.FAILED: "red",
    TrialState.INTERRUPTED: "dim",
}


@dataclass(frozen=True)
class _Entry:
    """One line of the table."""

    rank: int | None
    trial: int
    state: TrialState
    objective: float | None
    params: Params
    seconds: float
    loss: float | None = None
    step: int = 0
    total_steps: int = 0


@dataclass
class LiveTable:
    """The live table; its layout follows the terminal's size at each drawing.

    Attributes:
        subject: The sweep to show.
        started: Unix time at which the display began.
        records: The records of all ended trials.
        progress: The running trials.
        starting: The workers' activity while no trial runs; empty for none.
        now: The clock.
    """

    subject: Subject
    started: float
    records: Sequence[TrialRecord] = ()
    progress: Sequence[Progress] = ()
    starting: str = ""
    now: Callable[[], float] = field(default=time.time, repr=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines; one fewer than the terminal has, because the cursor needs one."""
        height = max(console.size.height - 1, 1)
        yield from self.lines(options.max_width, height, ascii_only=options.ascii_only)

    def lines(self, width: int, height: int, *, ascii_only: bool = False) -> list[Text]:
        """Lay out the heading and as many rows as fit.

        Args:
            width: Width in cells.
            height: Height in lines.
            ascii_only: Whether the bars must not use block characters.
        """
        best_first = ranked(self.records, self.subject.direction)
        result = list(self._heading(width, best_first))
        if self.starting:
            result.append(Text(cut_to_width(f"starting: {self.starting}", width), style="dim", no_wrap=True))
        names = [self.subject.metric, *headings(self.subject.parameters)]
        depth = max(len(wrapped_name(name)) for name in names)
        entries, more = self._entries(best_first, height - len(result) - depth)
        if entries:
            columns = self._columns(entries, "#." if ascii_only else "█░")
            result += lines(fit(columns, width), width)
        if more:
            result.append(Text(cut_to_width(f"and {more:,} more", width), style="dim"))
        return result[:height]

    def _heading(self, width: int, best_first: Sequence[TrialRecord]) -> Iterator[Text]:
        done = sum(record.state.finished for record in self.records)
        parts = [self.subject.title, f"{done:,}/{self.subject.trials:,} trials", *self._waiting()]
        for best in best_first[:1]:
            parts.append(f"best {self.subject.metric} {metric(best.objective)} (trial {best.trial})")
        parts += [f"{clock(self.now() - self.started)} elapsed", *self._time_left()]
        line = ""
        for part in parts:
            if line and len(line) + GAP + len(part) > width:
                yield Text(cut_to_width(line, width), style="bold", no_wrap=True)
                line = ""
            line += (" " * GAP if line else "") + part
        yield Text(cut_to_width(line, width), style="bold", no_wrap=True)

    def _waiting(self) -> Iterator[str]:
        running = {one.trial for one in self.progress}
        waiting = sum(record.state is TrialState.WAITING and record.trial not in running for record in self.records)
        if waiting:
            yield f"{waiting:,} waiting"

    def _time_left(self) -> Iterator[str]:
        now = self.now()
        left = self.subject.left
        if left is None:
            return
        hours = math.inf if self.subject.hours is None else self.subject.hours
        allowed = max(hours * 3600 - (now - self.started), 0.0)
        if (estimate := left.estimate(self.records, self.progress, now, allowed)) is not None:
            yield f"{span(*estimate)} left" + (" with the confirmation" if left.confirms else "")

    def _entries(self, best_first: Sequence[TrialRecord], room: int) -> tuple[list[_Entry], int]:
        """Choose the trials to show: all, or those that run, the best, and those that ended last.

        Returns:
            The entries, and the number of trials that are not shown.
        """
        now = self.now()
        rest = unranked(without_running(self.records, {one.trial for one in self.progress}))
        count = len(self.progress) + len(best_first) + len(rest)
        places: list[tuple[int | None, TrialRecord]] = [*enumerate(best_first, start=1), *((None, r) for r in rest)]
        running = [_running(one, now) for one in self.progress]
        if count > room:
            room = max(room - 1, 0)
            running = running[: max(room - _BEST_SHOWN, room // 2)]
        room -= len(running)
        if len(places) > room:
            top, others = places[: min(_BEST_SHOWN, room)], places[min(_BEST_SHOWN, room) :]
            latest = sorted(others, key=lambda item: item[1].ended, reverse=True)
            places = top + latest[: room - len(top)]
        shown = running + [_ended(record, place) for place, record in places]
        return shown, count - len(shown)

    def _columns(self, entries: Sequence[_Entry], bar: str) -> list[FittedColumn]:
        columns = [
            FittedColumn(
                "rank", [Cell("" if one.rank is None else str(one.rank), _style(one)) for one in entries], 50, True
            ),
            FittedColumn("trial", [Cell(str(one.trial), _style(one)) for one in entries], right=True),
            FittedColumn("state", [Cell(_state(one, bar), _STYLES.get(one.state, "")) for one in entries]),
            FittedColumn("loss", [Cell(metric(one.loss)) for one in entries], 20, True),
            FittedColumn(
                self.subject.metric, [Cell(metric(one.objective), _style(one)) for one in entries], right=True
            ),
        ]
        names = self.subject.parameters
        for index, (name, heading) in enumerate(zip(names, headings(names), strict=True)):
            cells = [Cell(setting(one.params[name], 16) if name in one.params else "") for one in entries]
            columns.append(FittedColumn(heading, cells, drop=min(39 + index, 49) if index else 10, right=True))
        columns.append(FittedColumn("time", [Cell(clock(one.seconds)) for one in entries], 30, True))
        return columns


def _running(progress: Progress, now: float) -> _Entry:
    return _Entry(
        rank=None,
        trial=progress.trial,
        state=TrialState.RUNNING,
        objective=progress.best,
        params=progress.params,
        seconds=now - progress.started,
        loss=progress.loss,
        step=progress.step,
        total_steps=progress.total_steps,
    )


def _ended(record: TrialRecord, place: int | None) -> _Entry:
    return _Entry(place, record.trial, record.state, record.objective, record.params, record.trained_seconds)


def _state(entry: _Entry, bar: str) -> str:
    if entry.state is not TrialState.RUNNING:
        return str(entry.state)
    if entry.total_steps <= 0:
        return "starting"
    filled = min(max(entry.step * _BAR // entry.total_steps, 0), _BAR)
    return (
        f"{bar[0] * filled}{bar[1] * (_BAR - filled)} {entry.step:>{len(str(entry.total_steps))}}/{entry.total_steps}"
    )


def _style(entry: _Entry) -> str:
    return "bold" if entry.rank == 1 else ""
