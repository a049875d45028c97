"""Shows the command's current activity on the terminal, in one line that disappears when the activity ends."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from finesweep.text import clean, without_numbers

if TYPE_CHECKING:
    from rich.progress import Progress

_REDRAWN_PER_SECOND = 4


class ActivityLine:
    """A line on standard error with the current activity and its seconds; silent if that is no terminal.

    A thread draws it, because the work itself occupies the main thread. A forked child has no such thread and shows
    nothing.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._progress: Progress | None = None
        self._text = ""

    def __enter__(self) -> ActivityLine:
        """Return self; nothing is drawn before the first activity."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the line."""
        self.show("")

    def show(self, text: str) -> None:
        """Show an activity instead of the previous one; an empty text removes the line.

        The seconds keep counting if only numbers in the text have changed.
        """
        if os.getpid() != self._process or sys.stderr is None or not sys.stderr.isatty():
            return
        from rich.markup import escape

        text = clean(text)
        is_same = without_numbers(text) == without_numbers(self._text)
        self._text = text
        if self._progress is not None and is_same:
            self._progress.update(self._progress.task_ids[0], description=escape(text))
            return
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if text:
            self._progress = self._drawn(escape(text))

    def _drawn(self, text: str) -> Progress:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        console = Console(stderr=True)
        progress = Progress(
            *columns,
            console=console,
            transient=True,
            refresh_per_second=_REDRAWN_PER_SECOND,
            redirect_stdout=False,  # redirected output must stay as it is
            redirect_stderr=False,
        )
        progress.add_task(text, total=None)
        progress.start()
        return progress
