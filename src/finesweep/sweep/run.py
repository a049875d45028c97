"""Runs ``sweep run`` from end to end: check, prepare, launch, wait, collect."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finesweep import activity
from finesweep.display.display import open_display
from finesweep.display.progress_lines import Subject
from finesweep.errors import FolderError, NoFinishedTrial, SweepError
from finesweep.folder import SweepFolder, leftovers, open_run, sweep_lock
from finesweep.forecast import Course, TimeLeft
from finesweep.host.signals import Signals
from finesweep.launch import Handle, RunLimits
from finesweep.registry import LAUNCHERS
from finesweep.results import Evidence, kept_weights, ranking, winner
from finesweep.results.board import chosen
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.sweep.prepare_process import Preparation
from finesweep.sweep.supervisor import Supervisor
from finesweep.trial import TrialRecord

MOST_REPAIRS = 3
"""Number of times that damaged weights are trained again before the disk is blamed."""


@dataclass(frozen=True)
class RunResult:
    """Result of one ``sweep run``.

    Attributes:
        sweep: The sweep.
        records: All trials so far.
        why: Why the run ended, on one line.
        signal: The signal that ended it, None if none did.
        evidence: Evidence of the winner; None after a signal, when no winner is exported.
        owner: Owner of the sweep that this run has joined; it will export the winner.
    """

    sweep: OpenSweep
    records: Sequence[TrialRecord]
    why: str
    signal: int | None = None
    evidence: Evidence | None = None
    owner: str | None = None


def run(preparation: Preparation) -> RunResult:
    """Run a spec: search, rank, export and prove the winner.

    Raises:
        FolderError, LaunchError, NoFinishedTrial, WinnerMismatch, Stopped: See ``finesweep.errors``.
        SystemExit: The process that checks and prepares has failed, and has printed why.
    """
    signals = preparation.signals
    with contextlib.ExitStack() as owned:
        sweep, lock = preparation.opened()
        if lock is None:
            return _joined(sweep, signals)
        owned.callback(os.close, lock)
        return _carried_out(sweep, lock, signals)


def supervise(path: Path, number: int, token: str = "") -> RunResult:
    """Run a run that ``sweep submit`` has prepared, as ``sweep run`` does after its own preparations.

    Args:
        path: The sweep's folder.
        number: Number of the run.
        token: The run's token; see ``shared_folder.open_run``.

    Raises:
        FolderError, LaunchError, NoFinishedTrial, WinnerMismatch: See ``finesweep.errors``.
    """
    with Signals().counted() as signals:
        sweep_folder, begun = open_run(path, number, token)
        with sweep_lock.held(path) as lock:
            begun = dataclasses.replace(begun, host=socket.gethostname(), pid=os.getpid(), started=time.time())
            sweep_folder.write_run(begun)
            return _carried_out(OpenSweep.of_run(sweep_folder, begun, "submit"), lock, signals)


def collect(path: Path, number: int, token: str = "") -> RunResult:
    """End a run whose workers have ended: write the final leaderboard, export and prove the winner.

    Args:
        path: The sweep's folder.
        number: Number of the run.
        token: The run's token; see ``shared_folder.open_run``.

    Raises:
        FolderError, NoFinishedTrial, WinnerMismatch: See ``finesweep.errors``.
    """
    with Signals().counted() as signals:
        sweep_folder, ended = open_run(path, number, token)
        with sweep_lock.held(path):
            sweep = OpenSweep.of_run(sweep_folder, ended, "submit")
            if (found := _damaged(sweep)) is not None:
                raise FolderError(f"{path}: {found}; submit the sweep again to train it again")
            limits = RunLimits(sweep_folder, ended, sweep.spec.budget, sweep.profile.asked.limits)
            left = f"its jobs ended with {sweep.unfinished()} trials left to run"
            why = sweep.nothing_left() or limits.exceeded() or left
            try:
                return _collected(sweep, why, signals)
            finally:
                sweep.end_run(why)


def _joined(sweep: OpenSweep, signals: Signals) -> RunResult:
    """Run trials of a sweep that another command owns, until none is left; collect if that command has ended."""
    folder = sweep.sweep_folder
    why = _search(sweep, None, signals)
    try:
        with sweep_lock.held(folder.path) as lock:
            # Its owner has ended, so this process has to do the owner's remaining work.
            return _collected(sweep, why, signals) if signals.received else _carried_out(sweep, lock, signals)
    except sweep_lock.InUse as error:
        return RunResult(sweep, folder.records(), why, signals.first, owner=error.owner)


def _carried_out(sweep: OpenSweep, lock: int, signals: Signals) -> RunResult:
    """Search, and search again if the best trial's weights turn out to be damaged."""
    for _ in range(MOST_REPAIRS):
        why = _search(sweep, lock, signals)
        if signals.received or (found := _damaged(sweep)) is None:
            return _collected(sweep, why, signals)
        sweep.sweep_folder.notes.append(found)
    raise FolderError(f"{sweep.sweep_folder.path}: {found}, for the {MOST_REPAIRS}th time; is the disk sound?")


def _damaged(sweep: OpenSweep) -> str | None:
    taken = chosen(sweep.sweep_folder, sweep.manifest, sweep.sweep_folder.records(), sweep.spec.prefer)
    return None if taken is None else kept_weights.set_aside_if_damaged(sweep.sweep_folder, taken)


def _search(sweep: OpenSweep, lock: int | None, signals: Signals) -> str:
    """Run workers until the sweep is over; return the reason, which is also written to the run's file."""
    try:
        why = sweep.nothing_left() or _supervised(sweep, lock, signals)
    except SweepError as error:
        # If the folder itself is gone, the error that says so must not be replaced by this one.
        with contextlib.suppress(FolderError):
            sweep.end_run(str(error).partition("\n")[0])
        raise
    sweep.end_run(why)
    return why


def _supervised(sweep: OpenSweep, lock: int | None, signals: Signals) -> str:
    spec, folder = sweep.spec, sweep.sweep_folder
    activity.tell("")
    subject = Subject(
        title=spec.name,
        direction=spec.direction,
        metric=spec.objective.metric,
        trials=sweep.wanted,
        parameters=list(spec.space),
        hours=None if spec.budget.hours is None else spec.budget.hours - folder.hours_used(besides=sweep.run.number),
        left=TimeLeft(Course(spec, sweep.manifest.data.rows["train"]), sweep.wanted, sweep.workers),
    )
    with open_display(subject) as display:
        display.update(folder.records(), [])  # results of earlier runs are not announced
        launcher = LAUNCHERS.load(sweep.profile.asked.launcher)()

        def start(index: int) -> Handle:
            handle: Handle = launcher.start(
                folder, sweep.run, sweep.profile, lock, index, single_worker=sweep.single_worker
            )
            return handle

        return Supervisor(sweep, signals, display, start).wait()


def _collected(sweep: OpenSweep, why: str, signals: Signals) -> RunResult:
    """Write the final leaderboard; export and prove the winner unless the user has asked to stop."""
    leftovers.tidy(sweep.sweep_folder)
    records = sweep.sweep_folder.records()
    sweep.write_leaderboard(records)
    received = signals.first
    taken = chosen(sweep.sweep_folder, sweep.manifest, records, sweep.spec.prefer)
    evidence = None
    if taken is not None and received is None:
        evidence = winner.export(
            sweep.sweep_folder,
            sweep.manifest,
            taken,
            sweep.profile,
            lambda: bool(signals.received),
            sweep.command,
        )
        received = signals.first
        sweep.write_leaderboard(records)  # again, with the place of the winner
    if taken is None and received is None:
        raise NoFinishedTrial(_no_winner(sweep.sweep_folder, records, why))
    return RunResult(sweep, records, why, received, evidence)


def _no_winner(folder: SweepFolder, records: Sequence[TrialRecord], why: str) -> str:
    counted = "\n".join(f"  {count} x {reason}" for count, reason in ranking.reasons(records))
    first = next((record for record in records if record.state.finished), None)
    log = f"\nThe first one's log: {folder.path / first.log}" if first else ""
    ended = f"no trial finished, so there is no winner; {len(records)} ended otherwise:\n{counted}{log}"
    return f"{ended}\nEnded: {why}."
