"""Owns watching a worker: its limits, the user's signals, and the leaderboard while it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from finesweep import leaderboard
from finesweep.display import Display
from finesweep.errors import LaunchError, RunDirError, SweepError
from finesweep.launchers import Handle
from finesweep.manifest import Manifest, Run
from finesweep.plan import early_stop, trials_wanted
from finesweep.profile import Profile
from finesweep.run_dir import RunDir
from finesweep.spec import SweepSpec
from finesweep.trial import TrialRecord

POLL_SECONDS = 0.25
LEADERBOARD_SECONDS = 1.0
NO_SPACE_BYTES = 1_000_000
"""So little free space that whatever went wrong went wrong for lack of it."""


@dataclass(frozen=True)
class OpenSweep:
    """A sweep whose folder this process owns, with the run that it has begun there.

    Attributes:
        run_dir: The sweep's folder.
        manifest: What the sweep is.
        spec: The spec with this run's budget.
        profile: Where workers run.
        run: This run.
    """

    run_dir: RunDir
    manifest: Manifest
    spec: SweepSpec
    profile: Profile
    run: Run

    @property
    def wanted(self) -> int:
        """Trials that the budget asks for."""
        return trials_wanted(self.spec, self.manifest.plan)

    def finished(self) -> list[TrialRecord]:
        """Return the trials that count against the budget."""
        return [record for record in self.run_dir.records() if record.state.finished]

    def write_leaderboard(self, records: Sequence[TrialRecord]) -> None:
        """Bring the leaderboard up to date."""
        leaderboard.write(self.run_dir, self.manifest, records, self.run_dir.runs())

    def end_run(self, why: str) -> None:
        """Note when and why this run ended."""
        self.run_dir.write_run(dataclasses.replace(self.run, ended=time.time(), outcome=why))


@dataclass
class Signals:
    """Counts Ctrl-C and SIGTERM; whoever supervises decides what follows."""

    received: list[int] = field(default_factory=list)

    @contextlib.contextmanager
    def counted(self) -> Iterator[Signals]:
        """Count signals for as long as the block runs, also where the caller had them ignored.

        A lost terminal does not end a sweep.
        """
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda received, _: self.received.append(received))
        try:
            yield self
        finally:
            # Once told to stop, the command is on its way out: one more Ctrl-C must not spoil its exit code.
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if self.received else handler)


def nothing_left(sweep: OpenSweep) -> str | None:
    """Say why there is nothing to do for a worker, None if there is something."""
    finished, hours = sweep.finished(), sweep.spec.budget.hours
    if len([record for record in finished if record.trial < sweep.wanted]) >= sweep.wanted:
        return f"all {sweep.wanted} trials of the budget have finished"
    if hours is not None and sweep.run_dir.hours_used() >= hours:
        return f"the budget of {hours:g} hours is used up"
    return early_stop(sweep.spec.stop, finished, sweep.spec.direction)


class Supervisor:
    """Watches a worker through the sweep's folder, which it keeps up to date for everybody else."""

    def __init__(self, sweep: OpenSweep, signals: Signals, display: Display) -> None:
        self.sweep, self.signals, self.display = sweep, signals, display
        self.hours_before = sweep.run_dir.hours_used()
        self.started = time.monotonic()
        self.written = 0.0
        self.seen: Sequence[TrialRecord] = ()
        self.stopped_for: str | None = None
        self.told = 0

    def wait(self, handle: Handle) -> str:
        """Return why a worker ended, once it has; it never outlives this call.

        Raises:
            LaunchError: It died of something that is no trial's.
            RunDirError: The folder was removed or cannot be written.
        """
        try:
            while (code := handle.poll()) is None:
                self._look()
                self._enforce(handle)
                time.sleep(POLL_SECONDS)
        finally:
            if handle.poll() is None:
                handle.kill()
        self._look()
        return self._why(code)

    def _look(self) -> None:
        folder = self.sweep.run_dir
        if not folder.spec_file.exists():
            raise RunDirError(f"{folder.path}: the folder was removed or renamed while its sweep ran")
        records = folder.records()
        self.display.update(records, folder.progress())
        if records != self.seen and time.monotonic() - self.written >= LEADERBOARD_SECONDS:
            self.sweep.write_leaderboard(records)
            self.seen, self.written = records, time.monotonic()

    def _enforce(self, handle: Handle) -> None:
        hours = self.hours_before + (time.monotonic() - self.started) / 3600
        limit = self.sweep.spec.budget.hours
        if limit is not None and hours >= limit and self.stopped_for is None:
            self.stopped_for = f"the budget of {limit:g} hours is used up"
            handle.stop()
        count = len(self.signals.received)
        if count > self.told:
            self.told = count
            self._obey(count, handle)

    def _obey(self, count: int, handle: Handle) -> None:
        if count > 1:
            handle.kill()
            return
        name = signal.Signals(self.signals.received[0]).name
        self.stopped_for = f"stopped by {'Ctrl-C' if name == 'SIGINT' else name}"
        self.display.note("Stopping after the current step; once more to stop at once.")
        handle.stop()

    def _why(self, code: int) -> str:
        if self.stopped_for is not None:
            return self.stopped_for
        if code != 0:
            raise self._worker_failure(code)
        finished = self.sweep.finished()
        early = early_stop(self.sweep.spec.stop, finished, self.sweep.spec.direction)
        return early or f"{len(finished)} trials have finished"

    def _worker_failure(self, code: int) -> SweepError:
        folder = self.sweep.run_dir.path
        free = shutil.disk_usage(folder).free
        if free < NO_SPACE_BYTES:
            return RunDirError(
                f"{folder}: the disk is full ({free / 1e6:.1f} MB free); make room and run the same command again"
            )
        return LaunchError(self._last_words(code))

    def _last_words(self, code: int) -> str:
        log = self.sweep.run_dir.worker_log
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
        said = lines[-1] if lines else f"exit code {code}"
        return f"the worker stopped: {said.removeprefix('error: ')}\nIts log: {log}"
