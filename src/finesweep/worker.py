"""Owns the worker: one process that prepares, rehearses, and then runs each claimed trial in a fork.

What goes wrong in a trial becomes its record here, and only here.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from tqdm import tqdm

from finesweep.backends import Report
from finesweep.contenders import kept_if_best
from finesweep.errors import TrialFailed
from finesweep.manifest import Manifest, Run
from finesweep.plan import early_stop, trials_wanted
from finesweep.profile import Profile
from finesweep.registry import BACKENDS
from finesweep.rehearsal import rehearse
from finesweep.run_dir import Claim, RunDir
from finesweep.settings import Settings
from finesweep.spec import BudgetSpec, StopSpec, SweepSpec
from finesweep.training import TrialContext, TrialWatch, interrupt_if, train_trial
from finesweep.trial import Params, Progress, TrialDiverged, TrialPruned, TrialRecord, TrialState, TrialStopped

PROGRESS_SECONDS = 1.0


@dataclass
class Worker:
    """Runs trials of one sweep until none is left or it is told to stop.

    Attributes:
        run_dir: The sweep's folder.
        manifest: What was prepared.
        run: The run it belongs to.
        spec: The sweep's spec, with this run's budget.
    """

    run_dir: RunDir
    manifest: Manifest
    run: Run
    spec: SweepSpec
    _told: bool = field(default=False, init=False)
    _parent: int = field(default_factory=os.getppid, init=False)

    @classmethod
    def open(cls, folder: Path, run: int) -> Worker:
        """Open a folder that ``sweep run`` has prepared.

        Raises:
            RunDirError: The folder is no sweep's.
        """
        run_dir = RunDir(folder)
        manifest = run_dir.manifest()
        this_run = next(item for item in run_dir.runs() if item.number == run)
        return cls(run_dir, manifest, this_run, spec_of(manifest, this_run))

    @property
    def plan(self) -> Sequence[Params]:
        """Parameters of the first trials by number."""
        return self.manifest.plan

    @property
    def profile(self) -> Profile:
        """The launch profile of the run."""
        return Profile.model_validate(dict(self.run.profile))

    @property
    def stopping(self) -> bool:
        """Whether to stop: it was told to, or whoever started it is gone."""
        return self._told or os.getppid() != self._parent

    def work(self) -> None:
        """Rehearse, which makes the tokens too, then run trials until none is left."""
        self._listen()
        _stay_single_threaded()
        rehearse(self.run_dir, self.manifest, self.spec)
        gc.collect()
        gc.freeze()
        BACKENDS.load(self.spec.search.backend)().search(self)

    def claim(self) -> Claim | None:
        """Take the next trial, None when the sweep is over or was told to stop."""
        if self.stopping or early_stop(self.spec.stop, self.run_dir.records(), self.spec.direction):
            return None
        return self.run_dir.claim(self.run.number, trials_wanted(self.spec, self.plan))

    def isolated(self, claim: Claim, body: Callable[[], None]) -> None:
        """Run ``body`` in a fork; if it dies without a record, write one that names how."""
        started = time.time()
        process = multiprocessing.get_context("fork").Process(target=self._in_child, args=(claim, body))
        process.start()
        told = False
        while process.is_alive():
            if self.stopping and not told:
                process.terminate()
                told = True
            process.join(timeout=0.1)
        if not self._has_record(claim):
            self.run_dir.record(self._crash_record(claim, started, process.exitcode or 0))

    def train(self, claim: Claim, params: Params, report: Report) -> float:
        """Train one trial and write its record, whatever happens; see ``backends.Work``."""
        attempt = _Attempt(self, claim, params)
        with tempfile.TemporaryDirectory(prefix="finesweep-") as scratch:
            context = TrialContext(
                self.run_dir, self.manifest, self.spec, params, self.run_dir.tensorboard(claim.trial), Path(scratch)
            )
            return attempt.carry_out(context, report)

    def _listen(self) -> None:
        """Turn SIGTERM into a request, also where the caller had it ignored; the parent handles Ctrl-C."""
        signal.signal(signal.SIGTERM, self._request_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _request_stop(self, *_: object) -> None:
        self._told = True

    def _in_child(self, claim: Claim, body: Callable[[], None]) -> None:
        self._parent = os.getppid()
        log = os.open(self.run_dir.trial_log(claim.trial), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(log, stream)
        print(f"--- trial {claim.trial}, attempt {claim.attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)  # noqa: T201
        torch.set_num_threads(self.profile.threads)
        body()

    def _has_record(self, claim: Claim) -> bool:
        return any(record.trial == claim.trial and record.attempt == claim.attempt for record in self.run_dir.records())

    def _crash_record(self, claim: Claim, started: float, code: int) -> TrialRecord:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        progress = next((p for p in self.run_dir.progress() if p.trial == claim.trial), None)
        return TrialRecord(
            trial=claim.trial,
            attempt=claim.attempt,
            state=TrialState.INTERRUPTED if self.stopping else TrialState.FAILED,
            reason=f"the trial's process was {how}" if code < 0 else f"the trial's process {how} without a record",
            params=progress.params if progress else {},
            started=started,
            seconds=time.time() - started,
            log=str(self.run_dir.trial_log(claim.trial).relative_to(self.run_dir.path)),
            host=socket.gethostname(),
        )


class _Attempt:
    """One attempt at one trial, from its first step to its record."""

    def __init__(self, worker: Worker, claim: Claim, params: Params) -> None:
        self.worker, self.claim, self.params = worker, claim, params
        self.watch = TrialWatch(worker.spec.direction)
        self.started = time.time()
        self.last_progress = 0.0

    def carry_out(self, context: TrialContext, report: Report) -> float:
        log = self._log_name()
        try:
            trainer = train_trial(context, self.watch, report, self.on_step)
            self._finish(TrialState.COMPLETE, self.watch.ended_early, trainer)
        except TrialDiverged as stop:
            self._finish(TrialState.DIVERGED, str(stop), divergence=stop.divergence)
            raise
        except TrialStopped as stop:
            state = TrialState.PRUNED if isinstance(stop, TrialPruned) else TrialState.INTERRUPTED
            self._finish(state, str(stop))
            raise
        except Exception as error:
            traceback.print_exc()
            reason = _one_line(error)
            self._finish(TrialState.FAILED, reason)
            raise TrialFailed(self.claim.trial, reason, log) from error
        assert self.watch.best is not None
        assert self.watch.best.objective is not None
        return self.watch.best.objective

    def on_step(self, watch: TrialWatch) -> None:
        """Stop if asked to; show progress at most once a second."""
        interrupt_if(self.worker.stopping)
        now = time.monotonic()
        if now - self.last_progress < PROGRESS_SECONDS and watch.step:
            return
        self.last_progress = now
        best = watch.best.objective if watch.best else None
        self.worker.run_dir.write_progress(
            Progress(
                trial=self.claim.trial,
                attempt=self.claim.attempt,
                params=self.params,
                started=self.started,
                step=watch.step,
                total_steps=watch.total_steps,
                loss=watch.loss,
                best=best,
            )
        )

    def _finish(self, state: TrialState, reason: str | None, trainer: Any = None, divergence: Any = None) -> None:
        worker, record = self.worker, self._record(state, reason, divergence)
        keeping = (
            kept_if_best(worker.run_dir, worker.profile.keep_best, record, worker.spec, trainer)
            if trainer is not None
            else contextlib.nullcontext()
        )
        with keeping:
            worker.run_dir.record(record)

    def _record(self, state: TrialState, reason: str | None, divergence: Any) -> TrialRecord:
        watch, best = self.watch, self.watch.best
        seconds = time.time() - self.started
        settings = Settings.of(self.worker.spec, self.params, self.worker.manifest.model["max_tokens"])
        return TrialRecord(
            trial=self.claim.trial,
            attempt=self.claim.attempt,
            state=state,
            reason=reason,
            params=self.params,
            started=self.started,
            seconds=round(seconds, 3),
            log=self._log_name(),
            host=socket.gethostname(),
            objective=best.objective if best else None,
            best_epoch=best.epoch if best else None,
            best_step=best.step if best else None,
            metrics=best.metrics if best else {},
            evaluations=tuple(watch.evaluations),
            divergence=divergence,
            examples=watch.examples,
            examples_per_second=round(watch.examples / seconds, 2) if watch.examples else None,
            peak_memory_mb=_peak_memory_mb(),
            effective=settings.named(),
        )

    def _log_name(self) -> str:
        return str(self.worker.run_dir.trial_log(self.claim.trial).relative_to(self.worker.run_dir.path))


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


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def _peak_memory_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    on_device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return round((resident + on_device) / 1e6, 1)
