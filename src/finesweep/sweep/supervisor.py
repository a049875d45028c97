"""Watches a sweep's workers, the limits and the user's signals, and keeps the leaderboard up to date."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from finesweep import activity
from finesweep.calibration import ChosenProfile
from finesweep.display.display import Display
from finesweep.errors import FolderError, LaunchError, SweepError
from finesweep.files import last_words
from finesweep.folder import disk, next_attempt
from finesweep.folder.claims import LEASE_SECONDS
from finesweep.host.signals import Signals
from finesweep.host.timeline import phase
from finesweep.launch import Handle
from finesweep.launch.protocol import TOLD
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.sweep.stop_stages import Shutdown, Stage
from finesweep.trial import TrialRecord

POLL_SECONDS = 0.25
LEADERBOARD_SECONDS = 1.0
LEADERBOARD_SHARE = 20
"""Minimum time between two writes of the leaderboard, as a multiple of the last write's duration."""

INSPECT_SECONDS = 5.0
"""Seconds between two checks of the workers' leases and the disk."""

MOST_DEATHS = 5
"""Number of workers that may die in a row without a finished trial in between, besides one for each worker."""


class Supervisor:
    """Watches workers through the sweep's folder, and keeps the leaderboard there up to date.

    Args:
        sweep: The sweep.
        signals: The user's signals.
        display: Shows the sweep.
        start: Starts a worker, given its index from 0.
        use_place: Called when a worker's cores and memory are free, since no trial is left for it; maybe several times.
    """

    def __init__(
        self,
        sweep: OpenSweep,
        signals: Signals,
        display: Display,
        start: Callable[[int], Handle],
        use_place: Callable[[], None] = lambda: None,
    ) -> None:
        self.sweep, self.display, self.start, self.use_place = sweep, display, start, use_place
        self.shutdown = Shutdown(signals)
        self.handles: dict[int, Handle] = {}
        self.hours_before = sweep.sweep_folder.hours_used(besides=sweep.run.number)
        self.seen: Sequence[TrialRecord] = ()
        self.write_at = self.inspected = 0.0
        self.deaths = self.finished = 0
        self.idle_since: float | None = None
        self.told = Stage.RUNNING
        self.known = len(sweep.sweep_folder.records())

    def wait(self) -> str:
        """Start the workers and return why the run ended; no worker outlives this call.

        Raises:
            LaunchError: Workers died, but not of a trial.
            FolderError: The folder was removed or cannot be written.
        """
        try:
            self._start_missing()
            while self.handles and self.shutdown.stage is not Stage.ENDED:
                self._settle(self.sweep.outcome() if self.sweep.run.measures else None)
                self._look()
                self._enforce()
                self._reap()
                if self.handles:
                    time.sleep(POLL_SECONDS)
        finally:
            self._kill()  # also after an error, since workers are in sessions of their own and would train on
        self.write_at = -math.inf  # the last leaderboard is not delayed
        with phase("read the last records"):
            self._look()
        return self._why()

    def _start_missing(self) -> None:
        for index in range(self.sweep.workers):
            if self.shutdown.advance() is Stage.RUNNING and index not in self.handles:
                self.handles[index] = self.start(index)

    def _settle(self, outcome: ChosenProfile | None) -> None:
        """Start the missing workers once their number is known; those that run wait until then."""
        if outcome is None or not self.shutdown.is_running:
            return
        self.sweep.settle(outcome.profile)
        self.display.note(outcome.note)
        self._start_missing()

    def _look(self) -> None:
        folder = self.sweep.sweep_folder
        if not folder.spec_file.exists():
            raise FolderError(f"{folder.path}: the folder was removed or renamed while its sweep ran")
        records = folder.records()
        running = folder.running()
        if self.shutdown.is_running and self._has_place(len(records), len(running)):
            self.use_place()
        self.display.update(records, running)
        if not running and len(records) == self.known:
            self.display.starting(self._activity())
        if records != self.seen and time.monotonic() >= self.write_at:
            began = time.monotonic()
            # Without intervals: this process stays as long as the sweep, and numpy and scipy would stay with it.
            self.sweep.write_leaderboard(records, compare=False)
            took = time.monotonic() - began
            self.seen, self.write_at = records, began + max(LEADERBOARD_SECONDS, LEADERBOARD_SHARE * took)

    def _has_place(self, recorded: int, running: int) -> bool:
        """Return whether a worker has no trial left; the first comparisons spare reading all records until then."""
        if recorded >= self.sweep.wanted and self.sweep.unfinished() <= 0:
            return True
        if self.sweep.spec.stop.auto is not True or running >= len(self.handles) or not self.sweep.begins_no_more():
            return False
        # After an early end an idle worker lingers while others train.
        return len(next_attempt.unsettled(self.sweep.sweep_folder, self.sweep.wanted)) < len(self.handles)

    def _enforce(self) -> None:
        now = time.monotonic()
        hours = self.hours_before + (now - self.sweep.began) / 3600
        limit = self.sweep.spec.budget.hours
        if limit is not None and hours >= limit and self.shutdown.is_running:
            self.shutdown.stop(f"the budget of {limit:g} hours is used up")
        if now - self.inspected >= INSPECT_SECONDS:
            self.inspected = now
            self._inspect()
        self._shut_down()

    def _shut_down(self) -> None:
        """Ask the workers to stop, or kill them, when the run enters that stage."""
        # Once for each stage is enough, because no worker is started after the first.
        before, self.told = self.told, self.shutdown.advance()
        if before is self.told:
            return
        if self.told is Stage.STOPPING:
            if self.shutdown.signals.received:
                self.display.note("Stopping after the current step; once more to stop at once.")
            for handle in self.handles.values():
                handle.stop()
        else:
            self._kill()

    def _kill(self) -> None:
        for handle in self.handles.values():
            handle.kill()

    def _inspect(self) -> None:
        """Check the disk, and end frozen workers, since neither they nor their trials would ever end."""
        if self.shutdown.is_running:
            try:
                disk.refuse_excess(self.sweep.sweep_folder.path, self.sweep.profile.asked.limits.disk_gb)
            except FolderError as error:
                self.shutdown.stop(failure=error)
        self._end_frozen()
        self.sweep.note_time()

    def _end_frozen(self) -> None:
        """Kill workers that do not renew their claims, and those that stay when no trials are left."""
        claims = self.sweep.sweep_folder.claims
        held = {holder.pid: claims.seconds_still(holder) for holder in claims.held_here()}
        now = time.monotonic()
        self.idle_since = None if self.sweep.has_work() or self._trains() else self.idle_since or now
        idle = 0.0 if self.idle_since is None else now - self.idle_since
        for handle in self.handles.values():
            # A worker without a claim, when no trials are left, should be exiting; treat idling as a hang.
            if held.get(handle.pid or 0, idle) >= LEASE_SECONDS:
                handle.kill()

    def _trains(self) -> bool:
        """Return whether a trial runs: its claim is held, and was renewed within ``LEASE_SECONDS``.

        A worker on another machine has no process id by which its claim could be found. When the sweep ends before its
        budget, such a worker may still train.
        """
        folder = self.sweep.sweep_folder
        return any(
            next_attempt.is_alive(folder, holder.claim.trial) and folder.claims.seconds_still(holder) < LEASE_SECONDS
            for holder in next_attempt.holders(folder)
        )

    def _reap(self) -> None:
        for index, handle in list(self.handles.items()):
            if (code := handle.poll()) is not None:
                with phase("clear up after a worker"):
                    handle.kill()  # a killed worker can leave its trial behind
                del self.handles[index]
                self._after(index, code)

    def _after(self, index: int, code: int) -> None:
        """Decide what follows a worker's end: nothing, a new worker in its place, or the end of the run."""
        if not self.shutdown.is_running:
            return
        # A positive code is the worker's own error, which the next worker would meet too. A signal came from outside.
        if code > 0 and code not in TOLD:
            self.shutdown.stop(failure=self._worker_failure(index, code))
        # A worker that ended well found nothing to claim while others trained. If it was the last one, there may be
        # work again: a trial of a worker that has died.
        elif (code != 0 or not self.handles) and self.sweep.has_work():
            self._replace(index, code)
        else:
            self.use_place()

    def _replace(self, index: int, code: int) -> None:
        # Counted in a row: while trials finish, workers may die now and then, as on a machine that is short of memory.
        finished = len(self.sweep.finished())
        self.deaths = self.deaths + 1 if finished == self.finished else 1
        self.finished = finished
        how = _how(code)
        if self.deaths > MOST_DEATHS + self.sweep.workers:
            failure = LaunchError(f"workers keep dying, the last one {how}\nIts log: {self._log(index)}")
            self.shutdown.stop(failure=failure)
            return
        if code != 0:
            self.display.note(f"Worker {index + 1} {how}; another one is started.")
        self.handles[index] = self.start(index)
        # Two deaths before the number of workers is known: measuring itself may kill them, so it is skipped.
        if self.sweep.run.measures and self.deaths > 1:
            self._settle(self.sweep.given_up(f"workers died of it: the last {how}"))

    def _why(self) -> str:
        if self.shutdown.why is not None:
            return self.shutdown.why
        if self.shutdown.failure is not None:
            raise self.shutdown.failure
        if early := self.sweep.ends_early() or self.sweep.all_tried():
            return early
        return f"{len(self.sweep.finished())} trials have finished"

    def _worker_failure(self, index: int, code: int) -> SweepError:
        folder = self.sweep.sweep_folder.path
        said = last_words(self._log(index), code)
        if disk.has_no_space(folder):
            return disk.full(folder)
        if code == FolderError.exit_code:
            return FolderError(said)
        return LaunchError(f"the worker stopped: {said}\nIts log: {self._log(index)}")

    def _activity(self) -> str:
        """Return the workers' activity before the first of them begins a trial."""
        doing = map(activity.last_logged, map(self._log, sorted(self.handles)))
        return next(filter(None, doing), "")

    def _log(self, index: int) -> Path:
        return self.sweep.sweep_folder.worker_log(self.sweep.run.number, index)


def _how(code: int) -> str:
    if code in TOLD:
        return "got a signal from elsewhere"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else "ended with trials left to run"
