"""Reports what this process is doing now: reading a file, tokenising, loading a model.

The code that does the work calls ``tell``. The listener depends on the process: the command shows the text on the
terminal, a child process sends it to the command, a worker writes it to its log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from finesweep.files import last_lines

MARK = "... "
"""Prefix of an activity in a worker's log."""

_listeners: list[Callable[[str], None]] = []


def tell(text: str) -> None:
    """Report what begins now, in a few words: ``reading train.csv``.

    Args:
        text: The activity; empty if it has ended.
    """
    if _listeners:
        _listeners[-1](text)


@contextlib.contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """Send every activity to ``listener`` while the block runs, instead of to the previous listener."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def log(text: str) -> None:
    """Write an activity to standard output, which is the log in a worker; ``last_logged`` reads it."""
    if text:
        print(f"{MARK}{text}", flush=True)  # noqa: T201


def last_logged(file: Path) -> str:
    """Return the activity on the last line of a log; empty if that line is something else or the log is missing."""
    lines = last_lines(file)
    last = lines[-1] if lines else ""
    return last.removeprefix(MARK) if last.startswith(MARK) else ""
