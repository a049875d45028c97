"""Notes what each process of a run does before the first training step and after the last, and how long it takes.

The command names a folder in the environment (``VARIABLE``), and its child processes inherit that. Each process appends
lines of JSON to a file of its own there. Without the variable nothing is noted. Times are those of the monotonic clock,
which all processes of one machine share; so processes on other machines are not in the same timeline.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "FINESWEEP_TIMELINE"
"""Environment variable with the folder of the notes."""

BEGIN_TRAINING = "make optimizer and batches, begin training"
"""A trial's last note before its first step."""

FIRST_STEP = "take the first step"
"""A trial's note of that step."""

TRAIN_ON = "train on"
"""A trial's note of all further steps and evaluations."""

_START_TICKS = 19
"""Position of the start time in ``/proc/self/stat``, behind the name of the command."""


@dataclass(frozen=True)
class Note:
    """Something that a process has done.

    Attributes:
        process: What the process is, as ``worker`` or ``trial 3``.
        pid: Its process id.
        parent: The process id of its parent.
        name: What it has done.
        depth: Number of other phases of the same process in which this one lies.
        began: When it began, in seconds of the monotonic clock.
        seconds: How long it took; 0 for a moment.
        cpu: CPU seconds of the process meanwhile, all its threads together.
    """

    process: str
    pid: int
    parent: int
    name: str
    depth: int
    began: float
    seconds: float
    cpu: float

    @property
    def ended(self) -> float:
        """When it ended, in seconds of the monotonic clock."""
        return self.began + self.seconds


@dataclass
class _Here:
    """This process, as its notes have it."""

    process: str = ""
    depth: int = 0
    last: tuple[float, float] = (0.0, 0.0)  # wall clock and CPU at the end of the last note


_here = _Here()


def enter(process: str, *, forked: bool = False) -> None:
    """Say what this process is; note its start, unless it is a fork that was running already.

    A process that has entered under this name already, since it was started ahead, notes nothing more.

    Args:
        process: What it is.
        forked: Whether it is a fork of a process that has entered under another name.
    """
    if not os.environ.get(VARIABLE) or _here.process == process:
        return
    _here.process, _here.depth = process, 0
    _here.last = _now() if forked else (time.monotonic() - _age(), 0.0)
    if not forked:
        lap("start Python, import the command")


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Note what the block does, however it ends.

    Args:
        name: What it does, in a few words that begin with a verb.
    """
    if not os.environ.get(VARIABLE):
        yield
        return
    began, _here.depth = _now(), _here.depth + 1
    try:
        yield
    finally:
        _here.depth -= 1
        _note(name, began)


def lap(name: str) -> None:
    """Note what this process has done since the end of its last note.

    Args:
        name: What it was.
    """
    if os.environ.get(VARIABLE):
        _note(name, _here.last)


def mark(name: str) -> None:
    """Note a moment.

    Args:
        name: What has just happened.
    """
    if os.environ.get(VARIABLE):
        _note(name, _now())


def read(folder: Path) -> Sequence[Note]:
    """Return the notes of all processes, in the order in which things began; a line that is not whole is left out.

    Args:
        folder: The folder of the notes, which only this user may write.
    """
    found = []
    for file in folder.glob("*.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, TypeError):  # its process was killed while it wrote
                found.append(Note(**json.loads(line)))
    return sorted(found, key=lambda note: (note.began, note.depth))


def _note(name: str, began: tuple[float, float]) -> None:
    _here.last = now = _now()
    seconds, cpu = now[0] - began[0], now[1] - began[1]
    note = Note(_here.process, os.getpid(), os.getppid(), name, _here.depth, began[0], seconds, cpu)
    file = Path(os.environ[VARIABLE]) / f"{os.getpid()}.jsonl"
    with contextlib.suppress(OSError), file.open("a", encoding="utf-8") as stream:  # the folder may be gone
        stream.write(json.dumps(dataclasses.asdict(note)) + "\n")


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def _age() -> float:
    """Return for how many seconds this process has run; where the system does not say, the CPU seconds it has used."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, IndexError, ValueError):
            stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
            ticks = int(stat.rpartition(")")[2].split()[_START_TICKS])
            return max(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), time.process_time())
    return time.process_time()
