"""Trains one attempt at a trial in its process, and writes its record.

A failure of the trial becomes its record. A failure of the sweep's folder says nothing about the trial and is raised.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from finesweep.errors import FolderError, TrialFailed
from finesweep.folder import Claim, RowScores, disk
from finesweep.host.temporary_folders import temporary_folder
from finesweep.host.timeline import lap, phase
from finesweep.launch import Profile
from finesweep.results import kept_weights
from finesweep.spec.trial_settings import can_halve
from finesweep.text import shortened
from finesweep.training.callback import TrialContext, TrialWatch
from finesweep.training.fine_tuning import FineTuning, interrupt_if
from finesweep.training.saved_state import SavedState, StateDamaged, read_state
from finesweep.trial import (
    AttemptOutdated,
    Evaluation,
    Progress,
    Report,
    Reporter,
    TrialDiverged,
    TrialInterrupted,
    TrialPruned,
    TrialRecord,
    TrialState,
    TrialStopped,
    TrialWaits,
)
from finesweep.worker import lost_loader
from finesweep.worker.bare_record import identity
from finesweep.worker.retry_rule import after_fault
from finesweep.worker.rung_judge import RungJudge
from finesweep.worker.state_cache import StateCache

PROGRESS_SECONDS = 1.0
_IN_LOADER = re.compile(r"Caught \w+ in (DataLoader worker process) \d+\.$")


class Attempt:
    """One attempt at one trial, from its first step to its record.

    Args:
        context: The facts of the trial.
        claim: The right to this attempt.
        profile: Has the number of trials that keep their weights, and the disk limit.
        rung_judge: Decides at rungs whether the trial is promoted.
        stopping: Returns whether to stop at the next step.
    """

    def __init__(
        self,
        context: TrialContext,
        claim: Claim,
        profile: Profile,
        rung_judge: RungJudge,
        stopping: Callable[[], bool],
    ) -> None:
        self.context, self.sweep_folder, self.claim = context, context.sweep_folder, claim
        self.profile, self.rung_judge, self.stopping = profile, rung_judge, stopping
        self.watch = TrialWatch(context.spec.direction)
        self.started, self._began = time.time(), time.monotonic()
        self._shown = -PROGRESS_SECONDS
        self._states = StateCache(self.sweep_folder, rung_judge, profile.limits, claim.run)
        self._resumed_step = self._resumed_examples = self._repeated_examples = 0
        self._earlier_seconds = 0.0
        self._known: tuple[Evaluation, ...] = ()

    def carry_out(self, report: Reporter) -> float:
        """Train the trial and write its record.

        Returns:
            The objective: the best value of all evaluations.

        Raises:
            TrialStopped: It was pruned, diverged, interrupted, or taken over by another worker.
            TrialFailed: It failed; the record says why.
            FolderError: The sweep's folder cannot be written, so there is no record.
        """
        try:
            with temporary_folder() as scratch:
                self._train(Path(scratch), report)
        except (TrialStopped, FolderError):
            raise
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory(error) from error
        except Exception as error:
            lost_loader.ignore_further_losses()
            traceback.print_exc()
            if disk.is_for_lack_of_space(error, self.sweep_folder.path):
                raise disk.full(self.sweep_folder.path) from error
            raise self._failed_or_lost(error) from error
        assert self.watch.result is not None
        assert self.watch.result.objective is not None
        return self.watch.result.objective

    def _train(self, scratch: Path, report: Reporter) -> None:
        report_first = functools.partial(self._reported, report)
        # The state is not bound to a name: it holds weights, which would stay in memory while training replaces them.
        tuning = FineTuning(self.context, scratch, self.watch, report_first, self.on_step, self._saved_state())
        self._resumed_step, self._resumed_examples = self.watch.step, self.watch.examples
        self._go_on_from(self.sweep_folder.read_record(self.claim.trial))
        lap("make model and Trainer")
        try:
            tuning.train()
        except AttemptOutdated:
            raise
        except (TrialWaits, TrialInterrupted) as stop:
            waits = isinstance(stop, TrialWaits)
            self._save_state(tuning, waits=waits)
            self.sweep_folder.record(self._record(TrialState.WAITING if waits else TrialState.INTERRUPTED, str(stop)))
            if waits:
                self._trim_states()
            raise
        except TrialDiverged as stop:
            self.sweep_folder.record(self._record(TrialState.DIVERGED, str(stop), divergence=stop.divergence))
            raise
        except TrialPruned as stop:
            self.sweep_folder.record(stop.record or self._pruned(str(stop)))
            raise
        self._complete(tuning.trainer)

    def _reported(self, search: Reporter, report: Report) -> None:
        """Report an evaluation to the search, then show it to other trials, then compare this trial with them."""
        search(dataclasses.replace(report, record=lambda: self._pruned("")))
        self._show_progress(self.watch)
        if not report.last and self.watch.audit is None and not self._was_judged(report.evaluation):
            self._compare()

    def _was_judged(self, evaluation: Evaluation) -> bool:
        """Return whether an earlier attempt went on from here.

        A trial whose state was not kept comes here again, and must not be judged by trials that came later.
        """
        return bool(self._known) and evaluation.examples <= self._known[-1].examples

    def _compare(self) -> None:
        try:
            self.rung_judge.judge(self.claim.trial, self.watch.evaluations, self.context.params)
        except TrialPruned as weak:
            if not self.rung_judge.is_audited(self.claim.trial):
                raise
            # Finished in spite of it: its end shows what pruning it would have lost.
            self.watch.audit = str(weak)

    def _go_on_from(self, before: TrialRecord | None) -> None:
        """Take over the audit reason, the evaluations and the costs of an earlier attempt's record."""
        if before is None:
            return
        self.watch.audit, self._known = before.audit, before.evaluations
        if before.has_waited:
            self._repeated_examples = max(before.trained_examples - self._resumed_examples, 0)
        if self._resumed_step or before.has_waited:
            self._earlier_seconds = before.trained_seconds

    @property
    def _evaluations(self) -> tuple[Evaluation, ...]:
        """All evaluations that are known: while the trial is trained again, those of the earlier attempt."""
        own = tuple(self.watch.evaluations)
        return self._known if len(self._known) > len(own) else own

    def _pruned(self, reason: str) -> TrialRecord:
        return self._record(TrialState.PRUNED, reason)

    def on_step(self, watch: TrialWatch) -> None:
        """Stop if asked to; write progress at most once a second."""
        interrupt_if(self.stopping())
        now = time.monotonic()
        if now - self._shown >= PROGRESS_SECONDS or not watch.step:
            self._show_progress(watch)

    def _show_progress(self, watch: TrialWatch) -> None:
        self._shown = time.monotonic()
        best = watch.best.objective if watch.best else None
        self.sweep_folder.write_progress(
            Progress(
                trial=self.claim.trial,
                attempt=self.claim.attempt,
                params=self.context.params,
                started=self.started,
                step=watch.step,
                total_steps=watch.total_steps,
                loss=watch.loss,
                best=best,
                evaluations=self._evaluations,
                audit=watch.audit,
            )
        )

    @phase("write weights and record")
    def _complete(self, trainer: Any) -> None:
        record = self._record(TrialState.COMPLETE, self.watch.ended_early)
        spec, repeats = self.context.spec, self.context.manifest.repeats
        contest: dict[str, Any] = {"cheap": spec.prefer == "cheapest-tied", "repeats": repeats}
        keep = functools.partial(
            kept_weights.keep_if_best, self.sweep_folder, self.profile, record, spec.direction, trainer, **contest
        )
        try:
            kept = keep()
        except FolderError:
            if not self._states.drop_all():
                raise
            kept = keep()  # saved states make way for results
        rows = self.watch.by_row
        scores = RowScores.of(record.trial, record.attempt, rows.values, rows.labels) if rows else None
        self.sweep_folder.record(kept, scores)
        kept_weights.remove_beaten(self.sweep_folder, self.profile.keep_best, spec.direction, **contest)

    def _failed(self, reason: str) -> TrialFailed:
        self.sweep_folder.record(self._record(TrialState.FAILED, reason))
        return TrialFailed(self.claim.trial, reason, self._log_name())

    def _failed_or_lost(self, error: BaseException) -> Exception:
        """Record a failure of the trial itself, or the loss of a process that loads its data."""
        if not lost_loader.is_loss_of_loader(error):
            return self._failed(_one_line(error))
        decision = after_fault(lost_loader.REASON, self.claim.faults, self.profile.retries)
        self.sweep_folder.record(self._record(decision.state, decision.reason, faults=decision.faults))
        is_over = decision.state is TrialState.FAILED
        if is_over:
            return TrialFailed(self.claim.trial, lost_loader.REASON, self._log_name())
        return TrialInterrupted(decision.reason)

    def _out_of_memory(self, error: BaseException) -> Exception:
        """Queue the trial again with half the batch per device, once; the effective batch stays the same."""
        traceback.print_exc()
        batch = self.context.settings.training_value("per_device_train_batch_size")
        tried = f"out of GPU memory with batches of {batch}"
        if self.claim.batch_divisor > 1 or not can_halve(self.context.settings):
            return self._failed(f"{tried} ({_one_line(error)})")
        reason = f"{tried}; to be retried with half of that and twice the accumulation"
        self.sweep_folder.record(self._record(TrialState.INTERRUPTED, reason, batch_divisor=2))
        return TrialInterrupted(reason)

    def _saved_state(self) -> SavedState | None:
        found = map(self._read_state, self.sweep_folder.states_of(self.claim.trial))
        return next((state for state in found if state is not None), None)

    def _read_state(self, folder: Path) -> SavedState | None:
        try:
            return read_state(folder)
        except StateDamaged as damage:
            aside = folder.with_name(f"{folder.name}.corrupt")
            shutil.rmtree(aside, ignore_errors=True)
            try:
                folder.rename(aside)
            except FileNotFoundError:  # dropped meanwhile, from a machine with which this one shares no locks
                return None
            print(f"the saved state is not used: {damage}; set aside as {aside.name}", flush=True)  # noqa: T201
            return None

    def _save_state(self, tuning: FineTuning, *, waits: bool) -> None:
        """Save the state for the next attempt; if there is no room, that attempt starts at the first step.

        Args:
            tuning: The training.
            waits: Whether the trial waits at a rung: its state then needs a place among those of other such trials, and
                may lie in memory.
        """
        if not tuning.can_resume:
            return
        on_disk = self.sweep_folder.state(self.claim.trial).parent
        try:
            place = self._place(tuning) if waits else on_disk
            if place is not None and place != on_disk and not self._is_saved(tuning, place):
                place = self._place(tuning, in_memory=False)  # memory is full after all
            if place == on_disk:
                what = f"saving the state of trial {self.claim.trial}"
                need = disk.STATE_COPIES * kept_weights.weights_bytes(tuning.trainer)
                disk.refuse_overrun(self.sweep_folder.path, need, what, self.profile.limits.disk_gb)
                self._save_in(tuning, place)
        except FolderError as error:
            print(f"the state is not saved: {error}", flush=True)  # noqa: T201

    def _place(self, tuning: FineTuning, *, in_memory: bool = True) -> Path | None:
        trial = self.claim.trial, self.watch.evaluations, self.context.params
        place = self._states.make_room(*trial, tuning.state_bytes, in_memory=in_memory)
        if place is None:
            print("the state is not saved: no room (limits.states_gb, or a tenth of the free disk)", flush=True)  # noqa: T201
        return place

    def _is_saved(self, tuning: FineTuning, memory: Path) -> bool:
        """Save the state in memory; return whether there was room."""
        try:
            self._save_in(tuning, memory)
        except FolderError as error:
            print(f"the state is not saved in memory: {error}", flush=True)  # noqa: T201
            return False
        return True

    def _save_in(self, tuning: FineTuning, place: Path) -> None:
        folder = place / self.sweep_folder.state(self.claim.trial).name
        building = place / f".{folder.name}.{self.claim.attempt}.tmp"
        try:
            tuning.save_state(building)
            kept_weights.publish(self.sweep_folder, self.claim.trial, self.claim.attempt, building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        for older in self.sweep_folder.states_of(self.claim.trial):
            if older != folder:
                shutil.rmtree(older, ignore_errors=True)

    def _trim_states(self) -> None:
        try:
            self._states.trim(self.claim.trial, self.watch.evaluations, self.context.params)
        except FolderError as error:  # no reason to end the sweep: another trial that waits tries again
            print(f"no state is dropped: {error}", flush=True)  # noqa: T201

    def _record(self, state: TrialState, reason: str | None, **changes: Any) -> TrialRecord:
        watch, best = self.watch, self.watch.result
        seconds = time.monotonic() - self._began
        evaluations = self._evaluations if state is TrialState.INTERRUPTED else tuple(watch.evaluations)
        examples = watch.examples - self._resumed_examples
        return TrialRecord(
            **{
                **identity(self.claim, self.sweep_folder),
                "state": state,
                "reason": reason,
                "params": self.context.params,
                "started": self.started,
                "seconds": round(seconds, 3),
                "objective": best.objective if best else None,
                "best_epoch": best.epoch if best else None,
                "best_step": best.step if best else None,
                "metrics": best.metrics if best else {},
                "evaluations": evaluations,
                "examples": watch.examples,
                "examples_per_second": round(examples / seconds, 2) if examples else None,
                "peak_memory_mb": _peak_memory_mb(),
                "effective": {**self.context.settings.named(), "seed": self.context.seed, **watch.settled},
                "resumed_step": self._resumed_step,
                "earlier_seconds": round(self._earlier_seconds, 3),
                "evaluated_rows": watch.rows,
                "audit": watch.audit,
                "model_size": watch.model_size,
                "repeated_examples": self._repeated_examples,
                **changes,
            }
        )

    def _log_name(self) -> str:
        return str(identity(self.claim, self.sweep_folder)["log"])


def _one_line(error: BaseException) -> str:
    """Return an exception as one line; that of a data loader's process has its cause only as text."""
    lines = str(error).strip().splitlines()
    if len(lines) > 1 and (place := _IN_LOADER.match(lines[0])):
        return shortened(f"{_last_exception(lines)} (in a {place[1]})", 300)
    return shortened(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__, 300)


def _last_exception(lines: Sequence[str]) -> str:
    """Return the end of a printed traceback: the exception, which may have several lines."""
    start = max((number for number, line in enumerate(lines) if line.startswith("  ")), default=-1) + 1
    return " ".join(lines[start:] or lines[-1:])


def _peak_memory_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    on_device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return round((resident + on_device) / 1e6, 1)
