"""Forks a trial's process from a warm worker, watches it, and ends it."""

from __future__ import annotations

import errno
import faulthandler
import gc
import multiprocessing
import multiprocessing.connection
import os
import sys
import time
from collections.abc import Callable

import torch

from finesweep.errors import FolderError
from finesweep.files import open_log
from finesweep.folder import BorrowedLease, Lease, SweepFolder, disk, waiting_states
from finesweep.host import timeline
from finesweep.host.process_memory import oom_kills
from finesweep.launch import SettledProfile, deadlines
from finesweep.trial import AttemptOutdated
from finesweep.worker.retry_rule import Ending, Limit
from finesweep.worker.watchdog import Watchdog

POLL_SECONDS = 0.1

LOOK_SECONDS = 5.0
"""Seconds between two checks whether another worker has taken over the trial."""

KILL_SECONDS = 5.0
"""Seconds in which a trial above a limit must end before it is killed; it may hang."""


class TrialProcess:
    """One trial in a fork of this process.

    The fork inherits the claim's lock. So the trial counts as alive while either process is.
    """

    def __init__(
        self, sweep_folder: SweepFolder, profile: SettledProfile, lease: Lease | BorrowedLease, body: Callable[[], None]
    ) -> None:
        self._sweep_folder, self._profile, self._lease, self._body = sweep_folder, profile, lease, body
        self._receiver, self._sender = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.get_context("fork").Process(target=self._in_child)
        self._looked = time.monotonic()
        self._kill_at: float | None = None

    def carry_out(self, stopping: Callable[[], bool], attend: Callable[[], None] | None = None) -> Ending:
        """Run the process to its end, and return how it ended.

        Args:
            stopping: Returns whether to ask it to stop.
            attend: Called at every look at the process.
        """
        # A SIGKILL does not say who sent it; a higher count of the kernel tells that memory ran out.
        kills, began = oom_kills(), time.monotonic()
        # A garbage collection in the child would write on every page that holds an object, and so copy it. With the
        # records of ten thousand trials that takes a third of a second.
        gc.freeze()
        self._process.start()
        # This copy must be closed, or reading would not end when the child dies.
        self._sender.close()
        asked, limit = self._watch(stopping, attend or _nothing)
        complaint = self._complaint()
        code = self._process.exitcode or 0
        self._process.close()
        return Ending(code, time.monotonic() - began, asked, limit, complaint, oom_kills() > kills)

    def _watch(self, stopping: Callable[[], bool], attend: Callable[[], None]) -> tuple[bool, Limit | None]:
        claim = self._lease.claim
        progress = self._sweep_folder.progress_file(claim.trial)
        again = waiting_states.seconds_again(self._sweep_folder, claim.trial)
        watchdog = Watchdog(self._profile.asked, self._process.pid or 0, progress, again)
        asked, limit = False, None
        while self._process.is_alive():
            if not asked and stopping():
                asked = True
                self._end_within(deadlines.TRIAL_SECONDS)
            if limit is None and (limit := watchdog.look()) is not None:
                self._end_within(KILL_SECONDS)
            attend()
            self._keep_lease()
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._process.kill()
            self._process.join(timeout=POLL_SECONDS)
        return asked, limit

    def _end_within(self, seconds: float) -> None:
        self._process.terminate()
        # The earlier of two limits: a request to stop must not give a stuck trial more time.
        deadline = time.monotonic() + seconds
        self._kill_at = deadline if self._kill_at is None else min(self._kill_at, deadline)

    def _keep_lease(self) -> None:
        """Renew the claim; kill the trial here if another worker has taken it over."""
        self._lease.renew()
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        claim = self._lease.claim
        try:
            self._sweep_folder.claims.refuse_outdated(claim.trial, claim.attempt)
        except AttemptOutdated:
            self._process.kill()

    def _complaint(self) -> str | None:
        try:
            return self._receiver.recv_bytes().decode() if self._receiver.poll() else None
        except (EOFError, OSError):
            return None
        finally:
            self._receiver.close()

    def _in_child(self) -> None:
        claim = self._lease.claim
        timeline.enter(f"trial {claim.trial}", forked=True)
        try:
            self._redirect()
            print(  # noqa: T201
                f"--- trial {claim.trial}, attempt {claim.attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True
            )
            # Set only here: the worker must stay single-threaded, to be forked again.
            torch.set_num_threads(self._profile.threads_per_worker)
            self._body()
        except FolderError as error:
            self._complain(error)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._complain(disk.full(self._sweep_folder.path))

    def _redirect(self) -> None:
        log = open_log(self._sweep_folder.trial_log(self._lease.claim.trial))
        # By descriptor, since libraries in C print there too.
        for stream in (1, 2):
            os.dup2(log, stream)
        faulthandler.enable()  # a crash in a library leaves its traceback in the log

    def _complain(self, error: FolderError) -> None:
        """Send the folder's error to the worker, since no record can be written."""
        self._sender.send_bytes(str(error).encode()[:4000])
        sys.exit(error.exit_code)


def _nothing() -> None:
    """Do nothing at a look at the process."""
