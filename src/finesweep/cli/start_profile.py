"""Prints what `sweep run --profile-start` shows."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import typer

from finesweep.host import timeline
from finesweep.host.temporary_folders import temporary_folder


@contextlib.contextmanager
def profiled(*, wanted: bool) -> Iterator[None]:
    """Have the processes that the block starts note what they do; show it when the block ends.

    Nothing is shown if the block ends with an error.

    Args:
        wanted: Whether to do so; else the block just runs.
    """
    if not wanted:
        yield
        return
    with temporary_folder() as folder:
        os.environ[timeline.VARIABLE] = folder
        timeline.enter("command")
        try:
            yield
        except typer.Exit:  # a signal has ended the run
            _show(Path(folder))
            raise
        finally:
            del os.environ[timeline.VARIABLE]
        _show(Path(folder))


def _show(folder: Path) -> None:
    from finesweep.cli.summary import Screen
    from finesweep.display.start_profile import start_profile

    screen = Screen()
    for part in start_profile(timeline.read(folder), time.monotonic()):
        screen.say("")
        if isinstance(part, str):
            screen.say(part)
        else:
            screen.print(part)
