"""Owns the worker: one process that rehearses, and then runs each claimed trial in a fork.

What ends a trial from outside becomes its record here; what it does to itself, in ``attempt``.
"""

from __future__ import annotations

import contextlib
import dataclasses
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

from finesweep.attempt import Attempt, bare_record
from finesweep.backends import Report
from finesweep.claims import Claim, Lease
from finesweep.endings import Ending, Verdict, given_up, judge
from finesweep.errors import RunDirError
from finesweep.folders import remove_leftovers
from finesweep.launchers import TOLD
from finesweep.manifest import Manifest, Run
from finesweep.plan import early_stop, same_failure, trials_wanted
from finesweep.profile import Profile
from finesweep.registry import BACKENDS
from finesweep.rehearsal import rehearse
from finesweep.run_dir import RunDir
from finesweep.spec import BudgetSpec, StopSpec, SweepSpec
from finesweep.trial import AttemptOutdated, Params, TrialRecord, TrialState
from finesweep.trial_process import TrialProcess

LINGER_SECONDS = 0.5


@dataclass
class Worker:
    """Runs trials of one sweep until none is left or it is told to stop.

    Attributes:
        run_dir: The sweep's folder.
        manifest: What was prepared.
        run: The run it belongs to.
        spec: The sweep's spec, with this run's budget.
        profile: The run's launch profile, settled.
        parent: Process id of whoever started it, and without whom it stops.
    """

    run_dir: RunDir
    manifest: Manifest
    run: Run
    spec: SweepSpec
    profile: Profile
    parent: int = field(default_factory=os.getppid)
    _told: bool = field(default=False, init=False)
    _leases: dict[Claim, Lease] = field(default_factory=dict, init=False)

    @classmethod
    def open(cls, folder: Path, run: int, parent: int | None = None) -> Worker:
        """Open a folder that ``sweep run`` has prepared.

        Args:
            folder: The folder.
            run: Number of the run.
            parent: Process id of whoever started this process, who may be gone by now; None to ask the system.

        Raises:
            RunDirError: The folder is no sweep's.
        """
        run_dir = RunDir(folder)
        manifest = run_dir.manifest()
        this_run = next(item for item in run_dir.runs() if item.number == run)
        profile = Profile.model_validate(dict(this_run.profile))
        spec = spec_of(manifest, this_run)
        return cls(run_dir, manifest.of_run(this_run), this_run, spec, profile, parent or os.getppid())

    @property
    def plan(self) -> Sequence[Params]:
        """Parameters of the first trials by number."""
        return self.manifest.plan

    @property
    def wanted(self) -> int:
        """Trials that the budget asks for."""
        return trials_wanted(self.spec, self.plan)

    @property
    def stopping(self) -> bool:
        """Whether to stop: it was told to, or whoever started it is gone."""
        return self._told or os.getppid() != self.parent

    def work(self) -> None:
        """Rehearse, which makes the tokens too, then run trials until none is left."""
        self._listen()
        _stay_single_threaded()
        rehearse(self.run_dir, self.manifest, self.spec)
        gc.collect()
        gc.freeze()
        BACKENDS.load(self.spec.search.backend)().search(self)
        if self._told:
            sys.exit(TOLD)

    def claim(self) -> Claim | None:
        """Take the next trial; None when the sweep is over or this worker was told to stop.

        While others run the last trials it waits: one of them may die and leave its trial behind.
        """
        while not self.stopping and not self._ends_early():
            lease = self.run_dir.claim(self.run.number, self.wanted)
            if lease is None:
                if all(map(self.run_dir.is_finished, range(self.wanted))):
                    return None
                time.sleep(LINGER_SECONDS)
            elif len(lease.claim.faults) > self.profile.retries:
                self._give_up(lease)
            else:
                self._leases[lease.claim] = lease
                return lease.claim
        return None

    def isolated(self, claim: Claim, body: Callable[[], None]) -> None:
        """Run ``body`` in a fork; if it ends without a record of its own, write one that says how.

        Raises:
            RunDirError: The sweep's folder cannot be written.
        """
        lease, worker = self._leases.pop(claim), os.getpid()

        def forked() -> None:
            self.parent = worker
            body()

        try:
            ending = TrialProcess(self.run_dir, self.profile, lease, forked).carry_out(lambda: self.stopping)
            # A newer attempt's record is no business of this one.
            with contextlib.suppress(AttemptOutdated):
                self._conclude(claim, ending)
        finally:
            lease.release()

    def train(self, claim: Claim, params: Params, report: Report) -> float:
        """Train one trial and write its record, whatever happens; see ``backends.Work``."""
        attempt = Attempt(
            self.run_dir, self.manifest, self.spec, self.profile, claim, params, stopping=lambda: self.stopping
        )
        return attempt.carry_out(report)

    def _conclude(self, claim: Claim, ending: Ending) -> None:
        record = self.run_dir.read_record(claim.trial)
        own = record if record is not None and record.attempt == claim.attempt else None
        verdict = judge(ending, own.state if own else None, claim.faults, self.profile.retries)
        if verdict is not None:
            self.run_dir.record(_judged(own or bare_record(claim, self.run_dir, ending.seconds), verdict))
            remove_leftovers(self.run_dir, claim.trial)
        if ending.complaint is not None:
            raise RunDirError(ending.complaint)

    def _give_up(self, lease: Lease) -> None:
        verdict = Verdict(TrialState.FAILED, given_up(lease.claim.faults), lease.claim.faults)
        self.run_dir.record(_judged(bare_record(lease.claim, self.run_dir, 0.0), verdict))
        lease.release()

    def _ends_early(self) -> bool:
        records = self.run_dir.records()
        return bool(early_stop(self.spec.stop, records, self.spec.direction) or same_failure(records, self.run.number))

    def _listen(self) -> None:
        """Turn signals into a request, also where the caller had them ignored; the parent handles Ctrl-C."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._request_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _request_stop(self, *_: object) -> None:
        self._told = True


def _judged(record: TrialRecord, verdict: Verdict) -> TrialRecord:
    return dataclasses.replace(record, state=verdict.state, reason=verdict.reason, faults=verdict.faults)


def _stay_single_threaded() -> None:
    """Keep this process fit to be forked: a lock that a thread holds at a fork is never released.

    Each trial sets its own number of threads. Progress bars go because the first one starts a thread
    that watches them all; in a log they are of no use anyway.
    """
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def spec_of(manifest: Manifest, run: Run | None = None) -> SweepSpec:
    """Rebuild the checked spec from a folder, with the budget of one of its runs."""
    budget = BudgetSpec.model_validate(dict(run.budget)) if run else BudgetSpec()
    stop = StopSpec.model_validate(dict(run.stop)) if run else StopSpec()
    values = {**manifest.spec, "name": manifest.name, "base": Path(), "budget": budget, "stop": stop}
    return SweepSpec.model_validate(values, strict=False)
