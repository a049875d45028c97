"""Shows what takes time from the command to the first training step, and from the last step to the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from finesweep.host.timeline import BEGIN_TRAINING, FIRST_STEP, TRAIN_ON, Note
from finesweep.text import shortened
from finesweep.text.table import Cell, FittedColumn, FittedTable

NAME_CELLS = 60
TRIAL = "trial "
"""Beginning of the name of a process that trains."""


def start_profile(notes: Sequence[Note], end: float) -> Iterator[FittedTable | str]:
    """Return the tables, and what else is to be said.

    Args:
        notes: The notes of all processes, in the order in which things began.
        end: When the command ended, in seconds of the monotonic clock.
    """
    trials = [note for note in notes if note.process.startswith(TRIAL)]
    begun = [note for note in trials if note.name == BEGIN_TRAINING]
    trained = [note for note in trials if note.name == TRAIN_ON]
    if not notes or not begun:
        yield "No trial has trained on this machine in this run, so there is no first step to look at."
        return
    began, first = min(note.began for note in notes), min(begun, key=lambda note: note.ended)
    step = [note for note in notes if note.pid == first.pid and note.name == FIRST_STEP]
    before = [note for note in notes if note.began < first.ended and _concerns(note, first)]
    yield _table("From the command to the first training step", before + step, began, began, first.ended)
    if trained:
        last = max(trained, key=lambda note: note.ended)
        after = [note for note in notes if note.began >= last.ended and _concerns(note, last)]
        yield _table("From the last training step to the end", after, began, last.ended, end)


def _concerns(note: Note, trial: Note) -> bool:
    """Return whether a note is of a trial's own process, of its worker, or of no worker and no trial."""
    others = note.process == "worker" or note.process.startswith(TRIAL)
    return not others or note.pid in (trial.pid, trial.parent)


def _table(title: str, notes: Sequence[Note], zero: float, start: float, end: float) -> FittedTable:
    """Return the table of a stretch of time.

    Args:
        title: What the stretch is.
        notes: What was done.
        zero: When the command began.
        start: When the stretch began.
        end: When it ended.
    """
    columns = {
        "process": [note.process for note in notes],
        "phase": [f"{'  ' * note.depth}{shortened(note.name, NAME_CELLS)}" for note in notes],
        "at s": [f"{note.began - zero:.2f}" for note in notes],
        "took s": [f"{note.seconds:.2f}" for note in notes],
        "CPU s": [f"{note.cpu:.2f}" for note in notes],
    }
    rest = _uncovered(notes, start, end)
    return FittedTable(
        f"{title}: {end - start:.1f} s",
        [
            FittedColumn(name, [Cell(text) for text in texts], right=name.endswith(" s"))
            for name, texts in columns.items()
        ],
        note=f"Other workers and trials are left out. In {rest:.1f} s none of these was under way.",
    )


def _uncovered(notes: Sequence[Note], start: float, end: float) -> float:
    """Return the seconds of a stretch in which nothing was noted."""
    found, reached = 0.0, start
    for note in sorted(notes, key=lambda note: note.began):
        found += max(0.0, min(note.began, end) - reached)
        reached = max(reached, note.ended)
    return found + max(0.0, end - reached)
