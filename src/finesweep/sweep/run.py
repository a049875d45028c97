"""Runs ``sweep run`` from end to end: check, prepare, launch, wait, collect."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from finesweep import activity
from finesweep.display.display import open_display
from finesweep.display.progress_lines import Subject
from finesweep.errors import FolderError, NoFinishedTrial, SweepError
from finesweep.folder import SweepFolder, leftovers, open_run, state_memory, sweep_lock
from finesweep.forecast import Course, TimeLeft
from finesweep.host.signals import Signals
from finesweep.host.timeline import phase
from finesweep.launch import Handle, Submission
from finesweep.registry import LAUNCHERS
from finesweep.results import Evidence, kept_weights, ranking, winner
from finesweep.spec import ConfirmSpec
from finesweep.sweep.confirmation import begin_confirmation
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.sweep.prepare_process import Preparation
from finesweep.sweep.states_in_memory import holds_states_in_memory
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
        unconfirmed: Whether there is no winner yet because the confirmation is not complete.
        submitted: The confirmation, if it was submitted to a cluster; its last job exports the winner.
    """

    sweep: OpenSweep
    records: Sequence[TrialRecord]
    why: str
    signal: int | None = None
    evidence: Evidence | None = None
    owner: str | None = None
    unconfirmed: bool = False
    submitted: Submission | None = None


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


def _joined(sweep: OpenSweep, signals: Signals) -> RunResult:
    """Run trials of a sweep that another command owns, until none is left; collect if that command has ended."""
    folder = sweep.sweep_folder
    why = _search(sweep, None, signals)
    try:
        with sweep_lock.held(folder.path) as lock:
            # Its owner has ended, so this process has to do the owner's remaining work.
            return collected(sweep, why, signals) if signals.received else _carried_out(sweep, lock, signals)
    except sweep_lock.InUse as error:
        return RunResult(sweep, folder.records(), why, signals.first, owner=error.owner)


def _carried_out(sweep: OpenSweep, lock: int, signals: Signals) -> RunResult:
    """Search, confirm if the spec says so, and export the winner."""

    def train() -> str:
        why = _search(sweep, lock, signals)
        if sweep.spec.confirm is None or signals.received:
            return why
        return _confirmed(sweep, sweep.spec.confirm, lock, signals)

    try:
        return _repaired(sweep, train, signals)
    finally:
        if sweep.proof_ahead is not None:
            sweep.proof_ahead.end()


def confirm(
    search: OpenSweep, asked: ConfirmSpec, lock: int, signals: Signals, workers: int | None = None
) -> RunResult:
    """Confirm a sweep, and export the winner.

    Args:
        search: The sweep; its profile says where the trials run.
        asked: How many trials, and how many seeds.
        lock: Descriptor of the lock on the sweep's folder.
        signals: The user's signals.
        workers: Replaces the profile's own number.

    Raises:
        FolderError, LaunchError, NoFinishedTrial, WinnerMismatch: See ``finesweep.errors``.
    """
    return _repaired(search, lambda: _confirmed(search, asked, lock, signals, workers), signals)


def _repaired(sweep: OpenSweep, train: Callable[[], str], signals: Signals) -> RunResult:
    """Train, which returns why that ended, and again if the best model's weights turn out to be damaged."""
    for _ in range(MOST_REPAIRS):
        why = train()
        if signals.received or (found := damaged(sweep)) is None:
            return collected(sweep, why, signals)
        sweep.sweep_folder.notes.append(found)
    raise FolderError(f"{sweep.sweep_folder.path}: {found}, for the {MOST_REPAIRS}th time; is the disk sound?")


def _confirmed(
    search: OpenSweep, asked: ConfirmSpec, lock: int | None, signals: Signals, workers: int | None = None
) -> str:
    """Train the best trials again, and return why that ended."""
    again = begin_confirmation(search, asked, search.profile.asked, workers)
    return "no trial ranks" if again is None else f"confirmation: {_search(again, lock, signals)}"


@phase("check the best trial's weights")
def damaged(sweep: OpenSweep) -> str | None:
    """Set the weights of the model that becomes the winner aside if they are damaged; return what was found."""
    choice = sweep.choice(sweep.sweep_folder.records(checked=True))
    return None if choice is None else kept_weights.set_aside_if_damaged(choice.folder, choice.record)


def _search(sweep: OpenSweep, lock: int | None, signals: Signals) -> str:
    """Run workers until the sweep is over; return the reason, which is also written to the run's file."""
    # The model may allow fewer workers than were foreseen. The others would take its memory until the search ends.
    for surplus in sweep.workers_ahead[sweep.workers :]:
        surplus.end()
    try:
        why = sweep.nothing_left() or _supervised(sweep, lock, signals)
    except SweepError as error:
        # If the folder itself is gone, the error that says so must not be replaced by this one.
        with contextlib.suppress(FolderError):
            sweep.end_run(str(error).partition("\n")[0])
        raise
    finally:
        for ahead in sweep.workers_ahead:
            ahead.end()
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
        left=TimeLeft(_course(sweep), sweep.wanted, sweep.workers, sweep.begins_no_more),
    )
    with _states_in_memory(sweep), open_display(subject) as display:
        display.update(folder.records(), [])  # results of earlier runs are not announced
        launcher = LAUNCHERS.load(sweep.profile.asked.launcher)()

        def start(index: int) -> Handle:
            with phase("start a worker"):
                handle: Handle = launcher.start(
                    folder,
                    sweep.run,
                    sweep.profile,
                    lock,
                    index,
                    single_worker=sweep.single_worker,
                    ahead=sweep.workers_ahead[index] if index < len(sweep.workers_ahead) else None,
                )
            return handle

        use_place = functools.partial(_start_proof_ahead, sweep, lock)
        return Supervisor(sweep, signals, display, start, use_place).wait()


def _start_proof_ahead(sweep: OpenSweep, lock: int | None) -> None:
    """Start the process that proves the winner, if this run will prove one and it was not started yet."""
    # A run that has joined proves nothing; with `confirm:` there is nothing to prove before the confirmation's end.
    is_last = lock is not None and sweep.spec.confirm is None and not sweep.manifest.repeats
    if is_last and sweep.proof_ahead is None:
        with phase("start the proof ahead"):
            sweep.proof_ahead = winner.proof_ahead(sweep.profile)


@contextlib.contextmanager
def _states_in_memory(sweep: OpenSweep) -> Iterator[None]:
    """Keep states of waiting trials in this machine's memory while the block runs, if the profile says so."""
    if not holds_states_in_memory(sweep.profile.asked, sweep.spec):
        yield
        return
    with state_memory.made(sweep.run.token):
        yield


def _course(sweep: OpenSweep) -> Course:
    manifest = sweep.manifest
    repeated = [repeat.trial for repeat in manifest.repeats]
    return Course(sweep.spec, manifest.data.rows["train"], manifest.planned, repeated)


def collected(sweep: OpenSweep, why: str, signals: Signals) -> RunResult:
    """Write the final leaderboard and the report; export and prove the winner unless the user has asked to stop.

    Raises:
        FolderError, NoFinishedTrial, WinnerMismatch: See ``finesweep.errors``.
    """
    leftovers.tidy(sweep.sweep_folder)
    records = sweep.sweep_folder.records(checked=True)
    received = signals.first
    choice, evidence = sweep.choice(records), None
    write_board = functools.cache(lambda: _write_board(sweep, records))
    # A winner that may not stay must not open the test rows.
    unconfirmed = sweep.is_unconfirmed(records)
    if choice is not None and received is None and not unconfirmed:
        try:
            with phase("prove the winner"):
                evidence = winner.export(
                    sweep.sweep_folder,
                    sweep.manifest,
                    choice,
                    sweep.profile,
                    lambda: bool(signals.received),
                    sweep.command,
                    meanwhile=write_board,
                    ahead=sweep.proof_ahead,
                )
        finally:
            write_board()  # once in any case, also if the export has failed
        received = signals.first
        with phase("write the leaderboard again"):  # with the place of the winner
            sweep.write_leaderboard(records)
    else:
        write_board()
    with phase("write the page"):
        sweep.write_report(records)
    if choice is None and received is None:
        raise NoFinishedTrial(_no_winner(sweep.sweep_folder, records, why))
    return RunResult(sweep, records, why, received, evidence, unconfirmed=unconfirmed)


@phase("write the leaderboard")
def _write_board(sweep: OpenSweep, records: Sequence[TrialRecord]) -> None:
    sweep.write_leaderboard(records)


def _no_winner(folder: SweepFolder, records: Sequence[TrialRecord], why: str) -> str:
    counted = "\n".join(f"  {len(trials)} x {reason}" for trials, reason in ranking.reasons(records))
    first = next((record for record in records if record.state.finished), None)
    log = f"\nThe first one's log: {folder.path / first.log}" if first else ""
    ended = f"no trial finished, so there is no winner; {len(records)} ended otherwise:\n{counted}{log}"
    return f"{ended}\nEnded: {why}."
