"""Watches one trial's process from outside: its time, its progress, its memory."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from finesweep.host.process_memory import resident_gb
from finesweep.launch import Profile
from finesweep.worker.retry_rule import Limit

LOOK_SECONDS = 0.5


class Watchdog:
    """Compares a trial's process with the limits of its launch profile.

    Args:
        profile: Has ``limits.trial_minutes``, ``stall_minutes`` and ``memory_gb``.
        pid: The trial's process.
        progress: The file that the trial rewrites while it makes progress.
        again: Seconds of earlier attempts that are trained again. They count against ``limits.trial_minutes`` once.
    """

    def __init__(self, profile: Profile, pid: int, progress: Path, again: float = 0.0) -> None:
        self._profile, self._pid, self._progress, self._again = profile, pid, progress, again
        self._started = self._moved = self._looked = time.monotonic()
        self._version: tuple[int, int] | None = None

    def look(self) -> Limit | None:
        """Return the limit that the trial exceeds, None if none; checks at most twice a second."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return None
        self._looked = now
        return self._over_time(now) or self._stalled(now) or self._over_memory()

    def _over_time(self, now: float) -> Limit | None:
        minutes = self._profile.limits.trial_minutes
        if minutes is None or now - self._started < minutes * 60 + self._again:
            return None
        return Limit(f"it took longer than `limits.trial_minutes` ({minutes:g})")

    def _stalled(self, now: float) -> Limit | None:
        # Compared, not read as a time: the clock of a file server can differ from this machine's.
        version = self._progress_version()
        if version != self._version:
            self._version, self._moved = version, now
        minutes = self._profile.stall_minutes
        if now - self._moved < minutes * 60:
            return None
        return Limit(f"it made no progress for longer than `stall_minutes` ({minutes:g})", is_fault=True)

    def _progress_version(self) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            status = self._progress.stat()
            return status.st_ino, status.st_mtime_ns
        return None

    def _over_memory(self) -> Limit | None:
        limit = self._profile.memory_gb
        if limit is None or (used := resident_gb(self._pid)) <= limit:
            return None
        return Limit(f"it took {used:.1f} GB of memory, more than the {limit:g} of `memory_gb`")
