"""Claims the next attempt of a trial, and lists which trials are claimed by which processes."""

from __future__ import annotations

from collections.abc import Iterable

from finesweep.folder.claims import Claim, Holder, Lease
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.trial import TrialState


def claim(folder: SweepFolder, run: int, trials: Iterable[int]) -> Lease | None:
    """Claim the first of some trials that still has to run; each trial is one unit of the budget.

    A number is free if it has no final record and its newest claim is dead. The next attempt inherits all faults.

    Args:
        folder: The sweep's folder.
        run: Number of this run.
        trials: Numbers of trials that may run, in order of preference.

    Returns:
        The held claim; None if all of them are finished or running.

    Raises:
        FolderError: The claims folder is missing or not writable.
    """
    # Locked, so that no record is written between the look at a trial and the claim on it.
    with folder.claims.locked():
        for trial in trials:
            if folder.is_finished(trial):
                continue
            # Only the newest attempt counts: the holders of earlier ones are fenced off, even if they still live.
            attempt = folder.claims.newest_of(trial)
            if attempt and folder.claims.is_alive(trial, attempt):
                continue
            if (lease := folder.claims.take(_next_claim(folder, trial, attempt, run))) is not None:
                return lease
    return None


def _next_claim(folder: SweepFolder, trial: int, attempt: int, run: int) -> Claim:
    if not attempt:
        return Claim(trial, 1, run)
    record, last = folder.read_record(trial), folder.claims.holder(trial, attempt)
    # The record knows more than the claim: a fault of this attempt, and the divisor for the next one.
    if record is not None and record.attempt == attempt:
        return Claim(trial, attempt + 1, run, record.faults, record.batch_divisor)
    # No process was left to write a record. In a live run that is a fault of this attempt. If the
    # whole run ended (a reboot, kill -9 of everything), it says nothing about this trial.
    gone = (f"its worker on {last.host} (pid {last.pid}) died",) if last.claim.run == run else ()
    return Claim(trial, attempt + 1, run, (*last.claim.faults, *gone), last.claim.batch_divisor)


def holders(folder: SweepFolder) -> list[Holder]:
    """Return the holders, alive or dead, of the newest claims on trials without a final record."""
    return [folder.claims.holder(*item) for item in open_claims(folder)]


def open_claims(folder: SweepFolder) -> list[tuple[int, int]]:
    """Return the claimed trials without a final record, by number, each with its newest attempt."""
    return sorted(item for item in folder.claims.newest().items() if not folder.is_finished(item[0]))


def unsettled(folder: SweepFolder, wanted: int) -> list[int]:
    """Return the trials that have begun and are not over, by number, without those that wait at a rung for others.

    A process of any run trains them, they were interrupted, or they are to be finished for the audit.

    Args:
        folder: The sweep's folder.
        wanted: Trials of the sweep; those with higher numbers are left out.
    """
    return [trial for trial, attempt in open_claims(folder) if trial < wanted and not _waits(folder, trial, attempt)]


def _waits(folder: SweepFolder, trial: int, attempt: int) -> bool:
    # Whether the claim is alive does not matter here. A dead one of another machine seems alive at the first look.
    record = folder.read_record(trial)
    if record is None or record.attempt != attempt:
        return False
    return record.state is TrialState.WAITING and record.audit is None


def is_alive(folder: SweepFolder, trial: int) -> bool:
    """Return whether a process runs a trial: its newest claim is alive, and that attempt has no record yet."""
    attempt, record = folder.claims.newest_of(trial), folder.read_record(trial)
    # A claim that another machine or boot made seems alive for a minute, also if its attempt has ended.
    has_ended = record is not None and record.attempt == attempt
    return attempt > 0 and not has_ended and folder.claims.is_alive(trial, attempt)
