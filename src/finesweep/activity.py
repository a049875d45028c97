"""Tells what this process is doing now: reading a file, tokenising, loading a model.

The code that does the work calls ``tell``. What becomes of it depends on the process: the command shows it on the
terminal, a child process sends it to the command, a worker writes it to its log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from finesweep.files import last_lines

MARK = "... "
"""What a worker's log has before an activity."""

_listeners: list[Callable[[str], None]] = []


def tell(text: str) -> None:
    """Say what begins now, in a few words: ``reading train.csv``.

    Args:
        text: The activity; empty where it has ended and what follows speaks for itself.
    """
    if _listeners:
        _listeners[-1](text)


@contextlib.contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """Hand every activity to ``listener`` while the block runs, in place of the one before."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def log(text: str) -> None:
    """Write an activity to standard output, which is a worker's log; see ``last_logged``."""
    if text:
        print(f"{MARK}{text}", flush=True)  # noqa: T201


def last_logged(file: Path) -> str:
    """Return the activity that a log ends with, empty if it ends with something else or is not there."""
    lines = last_lines(file)
    last = lines[-1] if lines else ""
    return last.removeprefix(MARK) if last.startswith(MARK) else ""
