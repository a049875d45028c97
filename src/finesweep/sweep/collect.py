"""Runs a cluster's last job: collects what the workers have left, submits the confirmation, or exports the winner."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from finesweep.errors import FolderError, LaunchError
from finesweep.folder import SweepFolder, is_as_written, open_run, sweep_lock
from finesweep.host.signals import Signals
from finesweep.launch import RunLimits, Submission
from finesweep.sweep.hand_over import hand_over_confirmation, submitter_of
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.sweep.run import RunResult, collected, damaged


def collect(path: Path, number: int, token: str = "") -> RunResult:
    """End a run whose workers have ended: write the final leaderboard, export and prove the winner.

    If the winner is to be confirmed first, submit that instead. The confirmation's last job then exports the winner.

    Args:
        path: The sweep's folder.
        number: Number of the run.
        token: The run's token; see ``shared_folder.open_run``.

    Raises:
        FolderError, NoFinishedTrial, WinnerMismatch: See ``finesweep.errors``.
    """
    with Signals().counted() as signals:
        sweep_folder, ended = open_run(path, number, token)
        if sweep_folder.manifest().repeats:
            return _collected_confirmation(OpenSweep.of_run(sweep_folder, ended), signals)
        with sweep_lock.held(path):
            sweep = OpenSweep.of_run(sweep_folder, ended, "submit")
            if (found := damaged(sweep)) is not None:
                raise FolderError(f"{path}: {found}; submit the sweep again to train it again")
            limits = RunLimits(sweep_folder, ended, sweep.spec.budget, sweep.profile.asked.limits)
            done = sweep.nothing_left() or limits.exceeded()
            why = done or f"its jobs ended with {sweep.unfinished()} trials left to run"
            submitted = None
            try:
                if done is not None and not signals.received:
                    submitted, said = submitted_confirmation(sweep, token)
                    why += said
                return dataclasses.replace(collected(sweep, why, signals), submitted=submitted)
            finally:
                sweep.end_run(why)


def submitted_confirmation(search: OpenSweep, token: str) -> tuple[Submission | None, str]:
    """Submit the confirmation of a sweep, if it is to have one; return what follows why the search ended."""
    if search.spec.confirm is None:
        return None, ""
    if not is_as_written(search.run, token):
        return None, "; the confirmation was not submitted: the profile in the folder is not what its command wrote"
    profile = search.profile.asked
    try:
        submitted = hand_over_confirmation(search, search.spec.confirm, profile, submitter_of(profile))
    except LaunchError as error:
        reason = str(error).partition("\n")[0]
        return None, f"; the confirmation could not be submitted from this machine: {reason}"
    return submitted, "" if submitted is None else "; its confirmation was submitted"


def _collected_confirmation(again: OpenSweep, signals: Signals) -> RunResult:
    """End a run of a confirmation whose workers have ended: the leaderboard and the winner are those of its search."""
    folder = SweepFolder(again.sweep_folder.path.parent)
    with sweep_lock.held(folder.path):
        last = dataclasses.replace(folder.runs()[-1], trust_remote_code=again.run.trust_remote_code)
        search = dataclasses.replace(OpenSweep.of_run(folder, last, "confirm"), profile=again.profile)
        if (found := damaged(search)) is not None:
            raise FolderError(f"{folder.path}: {found}; call sweep confirm again to train it again")
        why = again.nothing_left() or f"its jobs ended with {again.unfinished()} trials left to run"
        try:
            return collected(search, f"confirmation: {why}", signals)
        finally:
            again.end_run(why)
