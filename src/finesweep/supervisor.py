"""Owns watching a sweep's workers: their ends, the limits, the user's signals, and the leaderboard meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finesweep import disk, leaderboard
from finesweep.claims import LEASE_SECONDS
from finesweep.display import Display
from finesweep.errors import LaunchError, RunDirError, Stopped, SweepError, signal_name
from finesweep.launchers import Handle
from finesweep.manifest import Manifest, Run
from finesweep.plan import early_stop, same_failure, trials_wanted
from finesweep.profile import Profile
from finesweep.run_dir import RunDir
from finesweep.spec import SweepSpec
from finesweep.trial import TrialRecord

POLL_SECONDS = 0.25
LEADERBOARD_SECONDS = 1.0
INSPECT_SECONDS = 5.0
"""How often the workers' leases and the disk are looked at."""

STOP_SECONDS = 40.0
"""How long workers have to stop; each gives its trial less than that."""

MOST_DEATHS = 5
"""Workers that may die in a row, without a trial finishing in between."""

TOLD = 128 + signal.SIGTERM
"""Exit code of a worker that was told to stop."""


@dataclass(frozen=True)
class OpenSweep:
    """A sweep's folder, with the run that this process has begun there.

    Attributes:
        run_dir: The sweep's folder.
        manifest: What the sweep is.
        spec: The spec with this run's budget.
        profile: Where workers run, settled.
        run: This run.
        began: When it began, on the monotonic clock.
    """

    run_dir: RunDir
    manifest: Manifest
    spec: SweepSpec
    profile: Profile
    run: Run
    began: float = field(default_factory=time.monotonic)

    @property
    def wanted(self) -> int:
        """Trials that the budget asks for."""
        return trials_wanted(self.spec, self.manifest.plan)

    @property
    def workers(self) -> int:
        """How many workers this run starts."""
        count = self.profile.workers
        assert count != "auto", "the profile is settled"
        return count

    def finished(self) -> list[TrialRecord]:
        """Return the trials that count against the budget."""
        return [record for record in self.run_dir.records() if record.state.finished]

    def unfinished(self) -> int:
        """Return how many trials of the budget have no result yet."""
        return self.wanted - sum(record.trial < self.wanted for record in self.finished())

    def has_work(self) -> bool:
        """Say whether there are trials left to run."""
        return self.unfinished() > 0 and not self.ends_early()

    def ends_early(self) -> str | None:
        """Say why the sweep ends before its budget, if it does."""
        finished = self.finished()
        early = early_stop(self.spec.stop, finished, self.spec.direction)
        return early or same_failure(finished, self.run.number)

    def write_leaderboard(self, records: Sequence[TrialRecord]) -> None:
        """Bring the leaderboard up to date."""
        leaderboard.write(self.run_dir, self.manifest, records, self.run_dir.runs())

    def end_run(self, why: str) -> None:
        """Note when and why this run ended."""
        self._write_run(ended=time.time(), outcome=why)

    def note_time(self) -> None:
        """Note how long this run has run, for those who want to know once it was killed."""
        # It can be done without; whoever needs the folder says what is wrong with it.
        with contextlib.suppress(RunDirError):
            self._write_run()

    def _write_run(self, **facts: Any) -> None:
        seconds = round(time.monotonic() - self.began, 3)
        self.run_dir.write_run(dataclasses.replace(self.run, seconds=seconds, **facts))


@dataclass
class Signals:
    """Counts Ctrl-C and signals to stop; whoever supervises decides what follows."""

    received: list[int] = field(default_factory=list)
    _ends_block: bool = field(default=False, init=False)

    @contextlib.contextmanager
    def counted(self) -> Iterator[Signals]:
        """Count signals for as long as the block runs, also where the caller had them ignored.

        A lost terminal does not end a sweep.
        """
        stops = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        before = {number: signal.getsignal(number) for number in (*stops, signal.SIGHUP)}
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in stops:
            signal.signal(number, self._receive)
        try:
            yield self
        finally:
            # Once told to stop, the command is on its way out: one more Ctrl-C must not spoil its exit code.
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if self.received else handler)

    @contextlib.contextmanager
    def ending_the_block(self) -> Iterator[None]:
        """Leave the block at the first signal: nothing runs yet that had to be stopped.

        Raises:
            Stopped: There was one.
        """
        self._ends_block = True
        try:
            yield
        except KeyboardInterrupt:
            raise Stopped(self.received[0] if self.received else signal.SIGINT) from None
        finally:
            self._ends_block = False

    def _receive(self, number: int, _: object) -> None:
        self.received.append(number)
        if self._ends_block:
            raise KeyboardInterrupt  # which libraries let pass, unlike other exceptions


def nothing_left(sweep: OpenSweep) -> str | None:
    """Say why there is nothing to do for a worker, None if there is something."""
    hours = sweep.spec.budget.hours
    if sweep.unfinished() <= 0:
        return f"all {sweep.wanted} trials of the budget have finished"
    if hours is not None and sweep.run_dir.hours_used(besides=sweep.run.number) >= hours:
        return f"the budget of {hours:g} hours is used up"
    return sweep.ends_early()


class Supervisor:
    """Watches workers through the sweep's folder, which it keeps up to date for everybody else.

    Args:
        sweep: The sweep.
        signals: What the user sent.
        display: Shows the sweep.
        start: Starts a worker, given its index from 0.
    """

    def __init__(self, sweep: OpenSweep, signals: Signals, display: Display, start: Callable[[int], Handle]) -> None:
        self.sweep, self.signals, self.display, self.start = sweep, signals, display, start
        self.handles: dict[int, Handle] = {}
        self.hours_before = sweep.run_dir.hours_used(besides=sweep.run.number)
        self.seen: Sequence[TrialRecord] = ()
        self.written = self.inspected = 0.0
        self.deaths = self.finished = 0
        self.stopped_for: str | None = None
        self.failure: SweepError | None = None
        self.kill_at: float | None = None
        self.idle_since: float | None = None
        self.told = 0

    def wait(self) -> str:
        """Start the workers and return why the last of them ended; none outlives this call.

        Raises:
            LaunchError: Workers died of something that is no trial's.
            RunDirError: The folder was removed or cannot be written.
        """
        try:
            for index in range(self.sweep.workers):
                self.handles[index] = self.start(index)
            while self.handles:
                self._look()
                self._enforce()
                self._reap()
                time.sleep(POLL_SECONDS)
        finally:
            for handle in self.handles.values():
                handle.kill()
        self._look()
        return self._why()

    def _look(self) -> None:
        folder = self.sweep.run_dir
        if not folder.spec_file.exists():
            raise RunDirError(f"{folder.path}: the folder was removed or renamed while its sweep ran")
        records = folder.records()
        self.display.update(records, folder.running())
        if records != self.seen and time.monotonic() - self.written >= LEADERBOARD_SECONDS:
            self.sweep.write_leaderboard(records)
            self.seen, self.written = records, time.monotonic()

    def _enforce(self) -> None:
        now = time.monotonic()
        hours = self.hours_before + (now - self.sweep.began) / 3600
        limit = self.sweep.spec.budget.hours
        if limit is not None and hours >= limit and self.stopped_for is None:
            self._stop(f"the budget of {limit:g} hours is used up")
        if now - self.inspected >= INSPECT_SECONDS:
            self.inspected = now
            self._inspect()
        if (count := len(self.signals.received)) > self.told:
            self.told = count
            self._obey(count)
        if self.kill_at is not None and now >= self.kill_at:
            self._kill()

    def _inspect(self) -> None:
        """Look at the disk, and for workers that are frozen: neither they nor their trials would ever end."""
        limit = self.sweep.profile.limits.disk_gb
        if limit is not None and self.stopped_for is None:
            used = disk.used_bytes(self.sweep.run_dir.path) / disk.GB
            if used > limit:
                self._stop(f"the folder takes {used:.2f} GB, more than the {limit:g} of `limits.disk_gb`")
        self._end_frozen()
        self.sweep.note_time()

    def _end_frozen(self) -> None:
        """End workers that do not renew their claims, and those that linger when nothing is left to do."""
        claims = self.sweep.run_dir.claims
        held = {holder.pid: claims.seconds_still(holder) for holder in claims.held_here()}
        now = time.monotonic()
        self.idle_since = None if self.sweep.has_work() else self.idle_since or now
        idle = 0.0 if self.idle_since is None else now - self.idle_since
        for handle in self.handles.values():
            # Whoever holds no claim when nothing is left to do has only to end.
            if held.get(handle.pid or 0, idle) >= LEASE_SECONDS:
                handle.kill()

    def _obey(self, count: int) -> None:
        if count > 1:
            self._kill()
            return
        self.display.note("Stopping after the current step; once more to stop at once.")
        self._stop(f"stopped by {signal_name(self.signals.received[0])}")

    def _stop(self, why: str | None = None) -> None:
        self.stopped_for = self.stopped_for or why
        self.kill_at = time.monotonic() + STOP_SECONDS
        for handle in self.handles.values():
            handle.stop()

    def _kill(self) -> None:
        for handle in self.handles.values():
            handle.kill()

    def _reap(self) -> None:
        for index, handle in list(self.handles.items()):
            if (code := handle.poll()) is not None:
                handle.kill()  # what a killed worker left behind: its trial
                del self.handles[index]
                self._after(index, code)

    def _after(self, index: int, code: int) -> None:
        """Decide what follows a worker's end: nothing, another one in its place, or the end of the run."""
        if self.kill_at is not None or code == TOLD:
            return
        if code > 0:
            self.failure = self._worker_failure(index, code)
            self._stop()
        elif (code < 0 or not self.handles) and self.sweep.has_work():
            self._replace(index, code)

    def _replace(self, index: int, code: int) -> None:
        finished = len(self.sweep.finished())
        self.deaths = self.deaths + 1 if finished == self.finished else 1
        self.finished = finished
        if self.deaths > MOST_DEATHS + self.sweep.workers:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else "it ended with trials left to run"
            self.failure = LaunchError(f"workers keep dying, the last one was {how}\nIts log: {self._log(index)}")
            self._stop()
            return
        if code < 0:
            self.display.note(f"Worker {index + 1} was killed by {signal.Signals(-code).name}; another one is started.")
        self.handles[index] = self.start(index)

    def _why(self) -> str:
        if self.stopped_for is not None:
            return self.stopped_for
        if self.failure is not None:
            raise self.failure
        if early := self.sweep.ends_early():
            return early
        left = self.sweep.unfinished()
        finished = f"{len(self.sweep.finished())} trials have finished"
        return f"{finished}, and the workers were told to stop before the other {left}" if left > 0 else finished

    def _worker_failure(self, index: int, code: int) -> SweepError:
        folder = self.sweep.run_dir.path
        said = self._last_words(index, code)
        if disk.has_no_space(folder):
            return disk.full(folder)
        if code == RunDirError.exit_code:
            return RunDirError(said)
        return LaunchError(f"the worker stopped: {said}\nIts log: {self._log(index)}")

    def _last_words(self, index: int, code: int) -> str:
        log = self._log(index)
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
        return lines[-1].removeprefix("error: ") if lines else f"exit code {code}"

    def _log(self, index: int) -> Path:
        return self.sweep.run_dir.worker_log(self.sweep.run.number, index)
