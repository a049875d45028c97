"""Runs a worker: one process that rehearses, and then runs each claimed trial in a fork.

This module records how a trial was ended from outside; ``attempt`` records what the trial itself did.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import torch
import transformers
from tqdm import tqdm

from finesweep.calibration import Calibration
from finesweep.calibration.bench import Bench, calibrate
from finesweep.calibration.calibration_file import awaited
from finesweep.errors import FolderError
from finesweep.files import owned_folder
from finesweep.folder import (
    BorrowedLease,
    Claim,
    Lease,
    Manifest,
    Run,
    SweepFolder,
    next_attempt,
    open_run,
    state_memory,
)
from finesweep.folder.leftovers import remove_leftovers
from finesweep.host import timeline
from finesweep.host.timeline import phase
from finesweep.launch import RunLimits, SettledProfile, deadlines
from finesweep.launch import of_run as profile_of
from finesweep.registry import BACKENDS
from finesweep.results import early_stop, same_failure
from finesweep.results.stop_conditions import SAME_FAILURES
from finesweep.spec import SweepSpec, trials_wanted
from finesweep.training.callback import TrialContext
from finesweep.training.rehearsal import rehearse
from finesweep.trial import AttemptOutdated, Params, Reporter, TrialRecord, TrialState
from finesweep.worker.attempt import Attempt
from finesweep.worker.bare_record import bare_record
from finesweep.worker.poor_prospects import PoorProspects
from finesweep.worker.retry_rule import Ending, RetryDecision, after_fault, decide_retry, given_up
from finesweep.worker.rung_judge import RungJudge
from finesweep.worker.seed_queue import SeedQueue
from finesweep.worker.state_cache import StateCache
from finesweep.worker.trial_process import TrialProcess

LINGER_SECONDS = 0.5


@dataclass
class Worker:
    """Runs trials of one sweep until none is left or it is asked to stop.

    Attributes:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest.
        run: The run it belongs to.
        spec: The sweep's spec, with this run's budget.
        profile: The run's launch profile.
        parent: Process id of the process that started it; the worker stops when that process has ended.
        borrows_claims: Whether another worker claims the trials that run here.
    """

    sweep_folder: SweepFolder
    manifest: Manifest
    run: Run
    spec: SweepSpec
    profile: SettledProfile
    parent: int = field(default_factory=os.getppid)
    borrows_claims: bool = False
    _told: int | None = field(default=None, init=False)
    _stops_since: float | None = field(default=None, init=False)
    _leases: dict[Claim, Lease] = field(default_factory=dict, init=False)
    _limits: RunLimits = field(init=False)
    _look_at: float = field(default=0.0, init=False)
    _is_underway: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._limits = RunLimits(self.sweep_folder, self.run, self.spec.budget, self.profile.asked.limits)

    @classmethod
    def open(cls, folder: Path, run: int, parent: int | None = None, token: str = "") -> Worker:
        """Open a folder that ``sweep run`` or ``sweep submit`` has prepared.

        Args:
            folder: The folder.
            run: Number of the run.
            parent: Process id of the process that started this one, which may have ended already; None to ask the
                system.
            token: The run's own token; empty to skip the check.

        Raises:
            FolderError: The folder is no sweep's, or not the one that was prepared.
        """
        sweep_folder, this_run = open_run(folder, run, token)
        manifest = sweep_folder.manifest()
        profile, spec = profile_of(this_run.profile), manifest.spec_for(this_run)
        return cls(sweep_folder, manifest.of_run(this_run), this_run, spec, profile, parent or os.getppid())

    @classmethod
    def open_borrower(cls, folder: Path, run: int, token: str) -> Worker:
        """Open a folder and warm up, to run trials here that another worker claims."""
        worker = cls.open(folder, run, token=token)
        worker.borrows_claims = True
        worker.warm_up()
        return worker

    @property
    def planned(self) -> Sequence[Params]:
        """Parameters of the first trials by number."""
        return self.manifest.planned

    @property
    def rows(self) -> int:
        """Training rows."""
        return self.manifest.data.rows["train"]

    @functools.cached_property
    def wanted(self) -> int:
        """Number of trials of the sweep."""
        return trials_wanted(self.spec, self.planned)

    @functools.cached_property
    def rung_judge(self) -> RungJudge:
        """Judges the trials at rungs."""
        return RungJudge(self.sweep_folder, self.spec, self.rows, self.wanted)

    @functools.cached_property
    def _poor_prospects(self) -> PoorProspects:
        return PoorProspects(self.sweep_folder, self.manifest, self.spec, self.wanted)

    @functools.cached_property
    def _queue(self) -> Callable[[], Sequence[int]]:
        """Returns the numbers of the trials that may run now, in order of preference."""
        if self.manifest.repeats:
            return SeedQueue(self.sweep_folder, self.manifest, self.run.number).queue
        return self._search_queue

    def _search_queue(self) -> Sequence[int]:
        only = self._poor_prospects.only()
        return self.rung_judge.queue() if only is None else only

    @property
    def stopping(self) -> bool:
        """Whether to stop: a signal asked for it, the parent has ended, or the run exceeds a limit."""
        stops = bool(self._told) or os.getppid() != self.parent or self._limits.exceeded() is not None
        if stops and self._stops_since is None:
            self._stops_since = time.monotonic()
        return stops

    @property
    def over(self) -> bool:
        """Whether there will be no more claims."""
        return self.stopping or self._ends_early() or all(map(self.sweep_folder.is_finished, range(self.wanted)))

    def work(self) -> None:
        """Rehearse, which also makes the tokens, then run trials until none is left."""
        self._listen()
        timeline.lap("open the folder")
        with phase("rehearse"):
            self.warm_up()
        with phase("calibrate, or wait for it"):
            self.run = awaited(self.sweep_folder, self.run, self._find_out, lambda: self.stopping)
        self.profile = profile_of(self.run.profile)
        self.sweep_folder.withdraw_stop(self.run.number)
        with state_memory.shared(self.run.token):
            try:
                BACKENDS.load(self.spec.search.backend)().search(self)
            except BaseException:
                # If no other worker is left, the command removes the folder in memory. What fails here must not hide
                # what has ended the search.
                with contextlib.suppress(Exception):
                    self._save_from_memory(failed=True)
                raise
            timeline.mark("find no trial left")
            self._save_from_memory()
        if os.getppid() != self.parent:
            owned_folder.remove_abandoned()  # the last worker of a killed command
        self.sweep_folder.withdraw_stop(self.run.number)  # all trials with a request to stop have ended
        if self._told:
            sys.exit(128 + self._told)

    def _save_from_memory(self, *, failed: bool = False) -> None:
        """Move the states of waiting trials to disk if the run stops or this worker has failed; it may be continued."""
        if not (failed or self.stopping) or not self.rung_judge.halves:
            return
        since = time.monotonic() if self._stops_since is None else self._stops_since
        try:
            self._states.save_from_memory(since + deadlines.MOVE_SECONDS)
        except FolderError as error:  # the trials are trained again
            print(f"states stay in memory: {error}", flush=True)  # noqa: T201

    def _give_up_memory(self) -> None:
        """Let states in memory make way: the next attempt, or another trial, would be killed for lack of memory too."""
        if self.rung_judge.halves:
            try:
                self._states.give_up_memory()
            except FolderError as error:
                print(f"states stay in memory: {error}", flush=True)  # noqa: T201

    @property
    def _states(self) -> StateCache:
        return StateCache(self.sweep_folder, self.rung_judge, self.profile.asked.limits, self.run.number)

    @phase("claim a trial, or wait for one")
    def claim(self, wait: bool = True) -> Claim | None:
        """Claim the next trial; see ``backends.Work``."""
        while not self.stopping and not self._ends_early():
            lease = next_attempt.claim(self.sweep_folder, self.run.number, self._queue())
            if lease is None:
                if not wait or all(map(self.sweep_folder.is_finished, range(self.wanted))):
                    return None
                time.sleep(LINGER_SECONDS)
            elif len(lease.claim.faults) > self.profile.asked.retries:
                self._give_up(lease)
            else:
                self._leases[lease.claim] = lease
                return lease.claim
        return None

    def isolated(self, claim: Claim, body: Callable[[], None], attend: Callable[[], None] | None = None) -> None:
        """Run ``body`` in a fork; if it ends without its own record, write one.

        Raises:
            FolderError: The sweep's folder cannot be written.
        """
        lease = BorrowedLease(claim) if self.borrows_claims else self._leases.pop(claim)
        worker = os.getpid()

        def forked() -> None:
            self.parent = worker
            self._listen()
            body()

        def stopping() -> bool:
            return self.stopping or self._must_stop(claim)

        try:
            ending = TrialProcess(self.sweep_folder, self.profile, lease, forked).carry_out(stopping, attend)
            # If there is a newer attempt, its record must stay.
            with contextlib.suppress(AttemptOutdated):
                self._conclude(claim, ending)
        finally:
            lease.release()

    def train(self, claim: Claim, params: Params, report: Reporter) -> float:
        """Train one trial and write its record in any case; see ``backends.Work``."""
        timeline.lap("propose the parameters")
        folder = self.sweep_folder
        scalars = folder.tensorboard(claim.trial)
        context = TrialContext(
            folder, self.manifest, self.spec, params, claim.batch_divisor, scalars, self.manifest.seed_of(claim.trial)
        )
        attempt = Attempt(context, claim, self.profile.asked, self.rung_judge, lambda: self.stopping)
        return attempt.carry_out(report)

    def borrower(self) -> Callable[[], Worker]:
        """Return a function that opens this work in another process; see ``backends.Work``."""
        return functools.partial(Worker.open_borrower, self.sweep_folder.path, self.run.number, self.run.token)

    def renew(self) -> None:
        """Renew the claims that are held here; if this process is to stop, also ask their trials to stop."""
        for lease in self._leases.values():
            lease.renew()
        if self._leases and self.stopping:
            self.sweep_folder.request_stop(self.run.number)

    def release(self, claim: Claim) -> None:
        """Release a claim whose trial has run in another process."""
        if (lease := self._leases.pop(claim, None)) is not None:
            lease.release()

    def lost(self, claim: Claim, how: str, seconds: float) -> None:
        """Record that the other process that ran a trial has died; see ``backends.Work``.

        The trial's own process may have outlived it, and then stops with its state saved. That record is kept, as one
        of an attempt that a fault has ended.
        """
        record = self.sweep_folder.read_record(claim.trial)
        own = record if record is not None and record.attempt == claim.attempt else None
        if own is None or (own.state is TrialState.INTERRUPTED and own.faults == claim.faults):
            decision = after_fault(how, claim.faults, self.profile.asked.retries)
            with contextlib.suppress(AttemptOutdated):
                self.sweep_folder.record(_decided(own or bare_record(claim, self.sweep_folder, seconds), decision))
        self.release(claim)

    def _must_stop(self, claim: Claim) -> bool:
        """Return whether a trial that another worker has claimed must stop: it was asked to, or its claim is dead."""
        if not self.borrows_claims or time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LINGER_SECONDS
        alive = self.sweep_folder.claims.is_alive(claim.trial, claim.attempt)
        return not alive or self.sweep_folder.is_stop_requested(self.run.number)

    def warm_up(self) -> None:
        """Rehearse, which also makes the tokens, and prepare this process to be forked."""
        _stay_single_threaded()
        rehearse(self.sweep_folder, self.manifest, self.spec)
        # Frozen objects are not scanned in the forks, where a scan would copy their pages.
        gc.collect()
        gc.freeze()

    def _find_out(self, asked: Calibration) -> Calibration:
        most_gb = asked.machine.memory_gb
        return calibrate(Bench(self.sweep_folder, self.manifest, self.spec, most_gb, lambda: self.stopping), asked)

    def _conclude(self, claim: Claim, ending: Ending) -> None:
        record = self.sweep_folder.read_record(claim.trial)
        own = record if record is not None and record.attempt == claim.attempt else None
        decision = decide_retry(ending, own.state if own else None, claim.faults, self.profile.asked.retries)
        if decision is not None:
            self.sweep_folder.record(_decided(own or bare_record(claim, self.sweep_folder, ending.seconds), decision))
            remove_leftovers(self.sweep_folder, claim.trial)
            if ending.out_of_memory and ending.exit_code == -signal.SIGKILL:
                self._give_up_memory()
        if ending.complaint is not None:
            raise FolderError(ending.complaint)

    def _give_up(self, lease: Lease) -> None:
        decision = RetryDecision(TrialState.FAILED, given_up(lease.claim.faults), lease.claim.faults)
        self.sweep_folder.record(_decided(bare_record(lease.claim, self.sweep_folder, 0.0), decision))
        lease.release()

    def _ends_early(self) -> bool:
        if self._is_underway and not self._may_end_early:
            return False
        records = self.sweep_folder.records()
        fails = same_failure(records, self.run.number) is not None
        ended = sum(record.run == self.run.number and record.state.finished for record in records)
        self._is_underway = self._is_underway or (not fails and ended >= SAME_FAILURES)
        ends = fails or early_stop(self.spec.stop, records, self.spec.direction) is not None
        return ends or self._poor_prospects.end(records)

    @property
    def _may_end_early(self) -> bool:
        stop = self.spec.stop
        return stop.target is not None or stop.no_gain_trials is not None or self._poor_prospects.is_on

    def _listen(self) -> None:
        """Turn signals into requests to stop, even if the parent had them ignored; the parent handles Ctrl-C."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._request_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _request_stop(self, number: int, _: object) -> None:
        self._told = number
        if self._stops_since is None:  # `stopping` may be asked seconds later
            self._stops_since = time.monotonic()


def _decided(record: TrialRecord, decision: RetryDecision) -> TrialRecord:
    return dataclasses.replace(record, state=decision.state, reason=decision.reason, faults=decision.faults)


def _stay_single_threaded() -> None:
    """Keep this process single-threaded: a lock that another thread holds at a fork is never released in the child.

    Each trial sets its own number of threads. Progress bars are off because the first one starts a thread that watches
    them all.
    """
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
