"""Shows a running sweep: as a live table on a terminal, as plain lines elsewhere.

The supervisor calls ``update`` about twice a second; there are no threads. A terminal or a pipe that goes away never
ends the sweep: the display becomes silent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from finesweep.display.live_table import LiveTable
from finesweep.display.progress_lines import Announcer, Subject
from finesweep.text import clean, without_numbers
from finesweep.trial import Progress, TrialRecord, TrialState

_LONGEST_NOTE = 2_000


class _Terminal(Console):
    """A rich console that raises on a broken pipe, instead of ending the program."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled."""
        raise


def _standard_output() -> Console:
    if sys.stdout is None:  # started with `>&-`
        return Console(file=io.StringIO())
    if hasattr(sys.stdout, "reconfigure"):
        # A label that the locale's encoding lacks must not end the sweep.
        sys.stdout.reconfigure(errors="replace")
    # FORCE_COLOR would make rich take a log file for a terminal and fill it with cursor movements.
    return _Terminal(force_terminal=sys.stdout.isatty())


class _Outlet:
    """Runs writing actions; after the first failure it ignores all others."""

    def __init__(self) -> None:
        self.broken = False

    def write(self, action: Callable[[], object], stream: IO[str]) -> None:
        if self.broken:
            return
        try:
            action()
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and not stream.closed:
                raise
            self.broken = True
            _detach(stream)


def _detach(stream: IO[str]) -> None:
    """Redirect a broken stream to nothing; otherwise the interpreter complains about it when it exits."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


class PlainDisplay:
    """One line for each change of state, without escape codes. Records of the first ``update`` are not announced.

    Args:
        subject: The sweep to show.
        stream: Output; flushed after each line.
    """

    def __init__(self, subject: Subject, stream: IO[str]) -> None:
        self._subject = subject
        self._stream = stream
        self._outlet = _Outlet()
        self._announcer: Announcer | None = None
        self._starting = ""

    def __enter__(self) -> PlainDisplay:
        """Write the first line."""
        self._line(
            f"{self._subject.title}: {self._subject.trials:,} trials, {self._subject.direction} {self._subject.metric}"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: every line is out already."""

    def update(self, records: Sequence[TrialRecord], progress: Sequence[Progress]) -> None:
        """Write a line for each trial whose state changed."""
        if self._announcer is None:
            self._announcer = Announcer(self._subject, records)
            if records:
                self._line(f"{self._announcer.tally} by earlier runs  {self._announcer.best}".rstrip())
        for line in self._announcer.changes(records, progress):
            self._line(line)

    def starting(self, activity: str) -> None:
        """Write a line for each new activity; one that differs only in its numbers is not new."""
        if activity and without_numbers(activity) != without_numbers(self._starting):
            self._line(f"starting: {clean(activity)}")
        self._starting = activity or self._starting

    def note(self, text: str) -> None:
        """Write a remark."""
        for line in text.splitlines():
            self._line(clean(line, _LONGEST_NOTE))

    def _line(self, text: str) -> None:
        self._outlet.write(lambda: (self._stream.write(f"{text}\n"), self._stream.flush()), self._stream)


class LiveDisplay:
    """A table that is redrawn in place; failures are printed above it, so that they stay readable."""

    def __init__(self, subject: Subject, console: Console) -> None:
        self._subject = subject
        self._console = console
        self._outlet = _Outlet()
        self._announcer: Announcer | None = None
        self._screen = LiveTable(subject, started=time.time())
        self._live = Live(self._screen, console=console, auto_refresh=False, transient=True, vertical_overflow="crop")

    def __enter__(self) -> LiveDisplay:
        """Draw the table for the first time."""
        self._write(lambda: self._live.start(refresh=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the table; the caller prints what should stay."""
        # Tried even on a broken terminal, because it restores the standard streams.
        with contextlib.suppress(OSError, ValueError):
            self._live.stop()

    def update(self, records: Sequence[TrialRecord], progress: Sequence[Progress]) -> None:
        """Draw the current state."""
        if self._announcer is None:
            self._announcer = Announcer(self._subject, records)
        lines_above = list(self._announcer.changes(records, progress, only=(TrialState.FAILED,)))
        for line in lines_above:
            self._print(line)
        self._screen.records, self._screen.progress, self._screen.starting = records, progress, ""
        self._write(self._live.refresh)

    def starting(self, activity: str) -> None:
        """Draw an activity below the heading."""
        self._screen.starting = clean(activity)
        self._write(self._live.refresh)

    def note(self, text: str) -> None:
        """Show a remark above the table."""
        for line in text.splitlines():
            self._print(clean(line, _LONGEST_NOTE))

    def _print(self, line: str) -> None:
        self._write(lambda: self._console.print(Text(line), soft_wrap=True))

    def _write(self, action: Callable[[], object]) -> None:
        self._outlet.write(action, self._console.file)


Display = LiveDisplay | PlainDisplay


def open_display(subject: Subject, console: Console | None = None) -> Display:
    """Choose the display for the output: live for a terminal, plain otherwise.

    Args:
        subject: The sweep to show.
        console: Console to draw on; default: standard output, live only if that is a terminal.
    """
    subject = dataclasses.replace(
        subject,
        title=clean(subject.title),
        metric=clean(subject.metric),
        parameters=tuple(map(clean, subject.parameters)),
    )
    console = console or _standard_output()
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveDisplay(subject, console)
    return PlainDisplay(subject, console.file)
