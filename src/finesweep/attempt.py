"""Owns one attempt at a trial from inside its process: training it, and the record of how it ended.

What goes wrong in a trial becomes its record here. What is wrong with the sweep's folder says nothing of
the trial and is passed on.
"""

from __future__ import annotations

import re
import resource
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from finesweep import contenders, disk
from finesweep.backends import Report
from finesweep.claims import Claim
from finesweep.comparison import Comparison
from finesweep.endings import fault
from finesweep.errors import RunDirError, TrialFailed
from finesweep.manifest import Manifest
from finesweep.profile import Profile
from finesweep.resume import SavedState, StateDamaged, read_state
from finesweep.run_dir import RunDir
from finesweep.scratch import scratch_folder
from finesweep.settings import Settings, can_halve
from finesweep.spec import SweepSpec
from finesweep.training import FineTuning, interrupt_if
from finesweep.trial import (
    AttemptOutdated,
    Evaluation,
    Params,
    Progress,
    TrialDiverged,
    TrialInterrupted,
    TrialPruned,
    TrialRecord,
    TrialState,
    TrialStopped,
    TrialWaits,
)
from finesweep.watching import TrialContext, TrialWatch

PROGRESS_SECONDS = 1.0
STATE_COPIES = 4
"""A state holds the weights, the best weights, and two moments of the usual optimizer."""

# torch does not say of what it died; where it was killed, there is often no more than this.
_LOST_LOADER = re.compile(r"DataLoader worker \(pid\S* [\d, ]+\) (exited unexpectedly|is killed by signal: Killed)")
_IN_LOADER = re.compile(r"Caught \w+ in (DataLoader worker process) \d+\.$")


class Attempt:
    """One attempt at one trial, from its first step to its record.

    Args:
        run_dir: The sweep's folder.
        manifest: What was prepared.
        spec: The sweep's spec.
        profile: Says whose weights are kept, and on how much of the disk.
        claim: The right to this attempt.
        params: The trial's parameters.
        comparison: Says at rungs whether it goes on.
        stopping: Whether to stop at the next step.
    """

    def __init__(
        self,
        run_dir: RunDir,
        manifest: Manifest,
        spec: SweepSpec,
        profile: Profile,
        claim: Claim,
        params: Params,
        comparison: Comparison,
        stopping: Callable[[], bool],
    ) -> None:
        self.run_dir, self.manifest, self.spec, self.profile = run_dir, manifest, spec, profile
        self.claim, self.params, self.comparison, self.stopping = claim, params, comparison, stopping
        self.watch = TrialWatch(spec.direction)
        self.started, self._began = time.time(), time.monotonic()
        self._shown = -PROGRESS_SECONDS
        self._resumed_step = self._resumed_examples = 0
        self._earlier_seconds = 0.0

    def carry_out(self, report: Report) -> float:
        """Train the trial and write its record.

        Returns:
            The objective: the best value of all evaluations.

        Raises:
            TrialStopped: It was pruned, diverged, was interrupted or came too late.
            TrialFailed: It failed; the record says why.
            RunDirError: The sweep's folder cannot be written, so there is no record.
        """
        try:
            with scratch_folder() as scratch:
                self._train(Path(scratch), report)
        except (TrialStopped, RunDirError):
            raise
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory(error) from error
        except Exception as error:
            traceback.print_exc()
            if disk.is_for_lack_of_space(error, self.run_dir.path):
                raise disk.full(self.run_dir.path) from error
            raise self._failed_or_lost(error) from error
        assert self.watch.result is not None
        assert self.watch.result.objective is not None
        return self.watch.result.objective

    def _train(self, scratch: Path, report: Report) -> None:
        scalars = self.run_dir.tensorboard(self.claim.trial)
        context = TrialContext(
            self.run_dir, self.manifest, self.spec, self.params, scalars, scratch, self.claim.batch_divisor
        )
        # The state is not kept in a name: it holds weights, which training replaces.
        tuning = FineTuning(context, self.watch, self._reporting(report), self.on_step, self._saved_state())
        self._resumed_step, self._resumed_examples = self.watch.step, self.watch.examples
        self._go_on_from(self.run_dir.read_record(self.claim.trial))
        try:
            tuning.train()
        except AttemptOutdated:
            raise
        except (TrialWaits, TrialInterrupted) as stop:
            self._save_state(tuning)
            state = TrialState.WAITING if isinstance(stop, TrialWaits) else TrialState.INTERRUPTED
            self.run_dir.record(self._record(state, str(stop)))
            raise
        except TrialDiverged as stop:
            self.run_dir.record(self._record(TrialState.DIVERGED, str(stop), divergence=stop.divergence))
            raise
        except TrialPruned as stop:
            self.run_dir.record(stop.record or self._pruned(str(stop)))
            raise
        self._complete(tuning.trainer)

    def _reporting(self, report: Report) -> Callable[[Evaluation, float, bool], None]:
        """Return what tells the search of an evaluation, and others that compare themselves with this trial."""

        def told(evaluation: Evaluation, best: float, last: bool) -> None:
            report(evaluation, best, last, self._pruned)
            self._show_progress(self.watch)
            if not last and self.watch.audit is None:
                self._compare()

        return told

    def _compare(self) -> None:
        try:
            self.comparison.judge(self.claim.trial, self.watch.evaluations)
        except TrialPruned as weak:
            if not self.comparison.is_audited(self.claim.trial):
                raise
            self.watch.audit = str(weak)

    def _go_on_from(self, before: TrialRecord | None) -> None:
        """Take over what an earlier attempt's record says of the trial."""
        if before is not None:
            self.watch.audit = before.audit
            self._earlier_seconds = before.trained_seconds if self._resumed_step else 0.0

    def _pruned(self, reason: str) -> TrialRecord:
        return self._record(TrialState.PRUNED, reason)

    def on_step(self, watch: TrialWatch) -> None:
        """Stop if asked to; show progress at most once a second."""
        interrupt_if(self.stopping())
        now = time.monotonic()
        if now - self._shown >= PROGRESS_SECONDS or not watch.step:
            self._show_progress(watch)

    def _show_progress(self, watch: TrialWatch) -> None:
        self._shown = time.monotonic()
        best = watch.best.objective if watch.best else None
        self.run_dir.write_progress(
            Progress(
                trial=self.claim.trial,
                attempt=self.claim.attempt,
                params=self.params,
                started=self.started,
                step=watch.step,
                total_steps=watch.total_steps,
                loss=watch.loss,
                best=best,
                evaluations=tuple(watch.evaluations),
                audit=watch.audit,
            )
        )

    def _complete(self, trainer: Any) -> None:
        record = self._record(TrialState.COMPLETE, self.watch.ended_early)
        self.run_dir.record(contenders.keep_if_best(self.run_dir, self.profile, record, self.spec.direction, trainer))
        contenders.remove_beaten(self.run_dir, self.profile.keep_best, self.spec.direction)

    def _failed(self, reason: str) -> TrialFailed:
        self.run_dir.record(self._record(TrialState.FAILED, reason))
        return TrialFailed(self.claim.trial, reason, self._log_name())

    def _failed_or_lost(self, error: BaseException) -> Exception:
        """Record a failure of the trial's own, or the loss of a process that loads its data."""
        if not _LOST_LOADER.match(str(error)):
            return self._failed(_one_line(error))
        lost = "a process that loads the data died without a word (out of memory?)"
        verdict = fault(lost, self.claim.faults, self.profile.retries)
        self.run_dir.record(self._record(verdict.state, verdict.reason, faults=verdict.faults))
        is_over = verdict.state is TrialState.FAILED
        return TrialFailed(self.claim.trial, lost, self._log_name()) if is_over else TrialInterrupted(verdict.reason)

    def _out_of_memory(self, error: BaseException) -> Exception:
        """Put the trial back with half the batch per device, once; the effective batch stays the same."""
        traceback.print_exc()
        batch = self._settings().training_value("per_device_train_batch_size")
        tried = f"out of GPU memory with batches of {batch}"
        if self.claim.batch_divisor > 1 or not can_halve(self._settings()):
            return self._failed(f"{tried} ({_one_line(error)})")
        reason = f"{tried}; to be tried again with half of that and twice the accumulation"
        self.run_dir.record(self._record(TrialState.INTERRUPTED, reason, batch_divisor=2))
        return TrialInterrupted(reason)

    def _saved_state(self) -> SavedState | None:
        folder = self.run_dir.state(self.claim.trial)
        if not folder.is_dir():
            return None
        try:
            return read_state(folder)
        except StateDamaged as damage:
            aside = folder.with_name(f"{folder.name}.corrupt")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            print(f"the saved state is not used: {damage}; set aside as {aside.name}", flush=True)  # noqa: T201
            return None

    def _save_state(self, tuning: FineTuning) -> None:
        """Save what the next attempt goes on from; where there is no room it starts anew instead."""
        if not tuning.can_resume:
            return
        folder = self.run_dir.state(self.claim.trial)
        building = folder.with_name(f".{folder.name}.{self.claim.attempt}.tmp")
        try:
            what = f"saving the state of trial {self.claim.trial}"
            need = STATE_COPIES * contenders.weights_bytes(tuning.trainer)
            disk.refuse_overrun(self.run_dir.path, need, what, self.profile.limits.disk_gb)
            tuning.save_state(building)
            contenders.publish(self.run_dir, self.claim.trial, self.claim.attempt, building, folder)
        except RunDirError as error:
            print(f"the state is not saved: {error}", flush=True)  # noqa: T201
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _settings(self) -> Settings:
        return Settings.of(self.spec, self.params, self.manifest.model["max_tokens"], self.claim.batch_divisor)

    def _record(self, state: TrialState, reason: str | None, **changes: Any) -> TrialRecord:
        watch, best = self.watch, self.watch.result
        seconds = time.monotonic() - self._began
        examples = watch.examples - self._resumed_examples
        return TrialRecord(
            **{
                **_identity(self.claim, self.run_dir),
                "state": state,
                "reason": reason,
                "params": self.params,
                "started": self.started,
                "seconds": round(seconds, 3),
                "objective": best.objective if best else None,
                "best_epoch": best.epoch if best else None,
                "best_step": best.step if best else None,
                "metrics": best.metrics if best else {},
                "evaluations": tuple(watch.evaluations),
                "examples": watch.examples,
                "examples_per_second": round(examples / seconds, 2) if examples else None,
                "peak_memory_mb": _peak_memory_mb(),
                "effective": {**self._settings().named(), **watch.settled},
                "resumed_step": self._resumed_step,
                "earlier_seconds": round(self._earlier_seconds, 3),
                "evaluated_rows": watch.rows,
                "audit": watch.audit,
                **changes,
            }
        )

    def _log_name(self) -> str:
        return str(_identity(self.claim, self.run_dir)["log"])


def bare_record(claim: Claim, run_dir: RunDir, seconds: float) -> TrialRecord:
    """Return the record of an attempt that could not write its own, from what its progress says.

    Args:
        claim: The attempt.
        run_dir: The sweep's folder.
        seconds: How long the attempt ran.
    """
    progress = next((p for p in run_dir.progress() if p.trial == claim.trial), None)
    before = run_dir.read_record(claim.trial)
    params = progress.params if progress else before.params if before else {}
    return TrialRecord(
        **_identity(claim, run_dir),
        state=TrialState.INTERRUPTED,
        params=params,
        started=time.time() - seconds,
        seconds=round(seconds, 3),
        earlier_seconds=before.trained_seconds if before else 0.0,
    )


def _identity(claim: Claim, run_dir: RunDir) -> dict[str, Any]:
    return {
        "trial": claim.trial,
        "attempt": claim.attempt,
        "run": claim.run,
        "faults": claim.faults,
        "batch_divisor": claim.batch_divisor,
        "log": str(run_dir.trial_log(claim.trial).relative_to(run_dir.path)),
        "host": socket.gethostname(),
    }


def _one_line(error: BaseException) -> str:
    """Return an exception as a reason; one of a data loader's process carries its cause as text only."""
    lines = str(error).strip().splitlines()
    if len(lines) > 1 and (place := _IN_LOADER.match(lines[0])):
        return _shortened(f"{_last_exception(lines)} (in a {place[1]})")
    return _shortened(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


def _last_exception(lines: Sequence[str]) -> str:
    """Return what a printed traceback ends with: the exception, which may have several lines."""
    start = max((number for number, line in enumerate(lines) if line.startswith("  ")), default=-1) + 1
    return " ".join(lines[start:] or lines[-1:])


def _shortened(text: str) -> str:
    return text if len(text) <= 300 else text[:297] + "..."


def _peak_memory_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    on_device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return round((resident + on_device) / 1e6, 1)
