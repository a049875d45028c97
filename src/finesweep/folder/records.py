"""Reads the records of a sweep's trials, and each file only once until it is replaced."""

from __future__ import annotations

import bisect
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path

from finesweep.files import Damaged, read_as
from finesweep.trial import AttemptOutdated, TrialRecord, TrialState

THOROUGH_SECONDS = 5.0
"""Maximum time in seconds until a changed or damaged record of a finished trial is noticed."""

THOROUGH_SHARE = 20
"""Minimum time between two full rescans, as a multiple of how long the last one took."""

_NUMBER = attrgetter("trial")

Version = tuple[int, int, int]
"""Inode, time of the last change and size of a file."""


class Records:
    """The records of all ended trials in one folder.

    No live worker replaces the record of a finished trial, so its file is checked only every few seconds; other files
    are checked each time. New names are found by listing the folder.

    A worker reads the records before each trial, and the trial's process, a fork, reads them once more. A fork copies
    each page of memory that it writes on, even to count a reference. So known records are not touched if nothing has
    changed.

    Args:
        folder: ``results/<name>/trials``.
        note: Takes a message for each file that could not be read and was set aside.
    """

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        self._folder, self._note = folder, note
        self._known: dict[str, tuple[Version, TrialRecord]] = {}
        self._settled: set[str] = set()
        self._sorted: list[TrialRecord] = []
        self._changes: list[tuple[int, TrialRecord | None]] = []
        self._next_thorough = 0.0

    def all(self, *, checked: bool = False) -> list[TrialRecord]:
        """Return every record, by trial number; an unreadable file is set aside.

        Args:
            checked: Whether to look at all files, because what is decided now must rest on what the folder holds.
        """
        if checked:
            self._next_thorough = 0.0
        return list(self.each())

    def each(self) -> Iterator[TrialRecord]:
        """Read all new files at once, and yield the records by number; the caller may stop early."""
        began = time.monotonic()
        is_thorough = began >= self._next_thorough
        names = self._names()
        open_names = names if is_thorough else names - self._settled
        if len(names) - len(open_names) < len(self._settled) or len(self._settled) < len(self._known):
            for name in self._known.keys() - names:
                self._forget(name)
        for name in sorted(open_names):
            if name.endswith(".json"):
                self.read(name)
        # A multiple of the last duration, so that rescans take a small share of the time on a slow file system too.
        if is_thorough:
            now = time.monotonic()
            self._next_thorough = now + max(THOROUGH_SECONDS, THOROUGH_SHARE * (now - began))
        return iter(self._sorted)

    def read(self, name: str) -> TrialRecord | None:
        """Return the record in one file, read again if it was replaced; None if it is missing or unreadable."""
        known = self._known.get(name)
        try:
            status = os.stat(f"{self._folder}/{name}")  # noqa: PTH116 - a Path for each of thousands takes its time
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if known is None or known[0] != version:
                known = version, _record(self._folder / name)
                self._keep(name, known)
        except FileNotFoundError:  # set aside by another process since the folder was listed
            self._forget(name)
            return None
        except (Damaged, OSError) as error:
            self._forget(name)
            self._set_aside(self._folder / name, str(error))
            return None
        return known[1]

    def changed(self, since: int) -> list[tuple[int, TrialRecord | None]]:
        """Return the trials whose records have changed since, in order, each with its record.

        The record is None if its file was removed.

        Args:
            since: Number of changes that the caller has seen.
        """
        self.each()
        return self._changes[since:]

    def has_finished(self, name: str) -> bool:
        """Return whether a file holds the record of a finished trial; once it did, the file is not checked again."""
        if name not in self._settled:
            self.read(name)
        return name in self._settled

    def look_again(self, name: str) -> None:
        """Check a file again at the next look, because this process has replaced it."""
        self._settled.discard(name)

    def _names(self) -> set[str]:
        try:
            return set(os.listdir(self._folder))  # noqa: PTH208 - as above
        except FileNotFoundError:  # the next write there reports it
            return set()

    def _keep(self, name: str, known: tuple[Version, TrialRecord]) -> None:
        self._forget(name)
        self._known[name] = known
        self._changes.append((known[1].trial, known[1]))
        # Files are read by number, so nearly every new record belongs at the end.
        if self._sorted and self._sorted[-1].trial > known[1].trial:
            bisect.insort(self._sorted, known[1], key=_NUMBER)
        else:
            self._sorted.append(known[1])
        if known[1].state.finished:
            self._settled.add(name)

    def _forget(self, name: str) -> None:
        if (known := self._known.pop(name, None)) is not None:
            del self._sorted[bisect.bisect_left(self._sorted, known[1].trial, key=_NUMBER)]
            self._changes.append((known[1].trial, None))
        self._settled.discard(name)

    def _set_aside(self, file: Path, why: str) -> None:
        aside = file.with_name(file.name + ".corrupt")
        with contextlib.suppress(OSError):
            file.replace(aside)
        self._note(f"{file.name} could not be read ({why}); set aside as {aside.name}")


def _record(file: Path) -> TrialRecord:
    record = read_as(TrialRecord, file)
    if file.name != f"{record.trial:04d}.json":
        raise Damaged(f"it is the record of trial {record.trial}")
    return record


def refuse_lost(before: TrialRecord | None, record: TrialRecord) -> None:
    """Refuse a record of a process that was taken for dead, so that the recorded fault stays.

    Args:
        before: The record of the same attempt, None if there is none.
        record: The new one.

    Raises:
        AttemptOutdated: The attempt has ended with a fault.
    """
    if before is not None and len(before.faults) > len(record.faults):
        raise AttemptOutdated(f"trial {record.trial}: attempt {record.attempt} has ended: {before.faults[-1]}")


def is_pruned_already(before: TrialRecord | None, record: TrialRecord) -> bool:
    """Return whether this attempt is on record as pruned.

    With Ray, the trial and the search both write the record of a trial that was stopped. The first one stays, so that a
    leaderboard that was written from it stays true.
    """
    return before is not None and before.state is record.state is TrialState.PRUNED
