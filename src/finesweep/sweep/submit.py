"""Runs ``sweep submit`` (check, prepare, submit to a cluster) and ``sweep cancel``."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from finesweep.files import permissions
from finesweep.folder import Run, SweepFolder, sweep_lock
from finesweep.host.signals import Signals
from finesweep.launch import Profile, Submission, Submitter
from finesweep.launch.submitted_runs import submitted_runs
from finesweep.results import leaderboard
from finesweep.results.board import read_board
from finesweep.spec import TrialSettings
from finesweep.sweep import prepare
from finesweep.sweep.hand_over import hand_over, hand_over_confirmation, refuse_unread, submitter_of
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.sweep.preflight import Checked
from finesweep.sweep.request import Request


def submit(
    request: Request,
    *,
    dry_run: bool = False,
    allow_setup: bool = False,
    announce: Callable[[Checked], None] = lambda _: None,
) -> Submission | str:
    """Prepare a sweep on this machine and submit it to a cluster.

    Args:
        request: The user's request.
        dry_run: Only write and show the jobs.
        allow_setup: Whether the profile's shell lines may run, wherever the profile comes from.
        announce: Called with the ``Checked`` spec before anything is prepared.

    Returns:
        The submission, of the sweep or of what is left of its confirmation; or why nothing was left to do.

    Raises:
        SpecError, FolderError, LaunchError, Stopped: See ``finesweep.errors``.
    """
    profile = prepare.profile_of(request)
    submitter = submitter_of(profile)
    refuse_unread(profile, request.profile, allow_setup)
    with Signals().counted() as signals, contextlib.ExitStack() as owned:
        with signals.ending_the_block():
            if not dry_run:
                submitter.check(profile)
            checked = prepare.check_to_begin(request, profile)
            path = prepare.path_of(checked.loaded, request)
            announce(checked)
            permissions.prepare(path, profile.shared)
            owned.enter_context(sweep_lock.held(path))
            sweep = prepare.open_folder(path, checked, request, profile, watched=submitter.watched)
            if (why := sweep.nothing_left()) is None:
                _tokenize(sweep)
        # A command that watches on the cluster goes on with the confirmation itself.
        if why is None or (submitter.watched and sweep.is_unconfirmed(sweep.sweep_folder.records())):
            return hand_over(sweep, submitter, request.profile, dry_run=dry_run)
        asked, submitted = sweep.spec.confirm, None
        if asked is not None and not dry_run:
            submitted = hand_over_confirmation(sweep, asked, profile, submitter, request.profile, request.workers)
        sweep.end_run(why if submitted is None else f"{why}; its confirmation was submitted")
        return why if submitted is None else submitted


def cancel(path: Path, given: Profile | None = None) -> Sequence[str]:
    """End all jobs of a sweep, and write its leaderboard.

    Args:
        path: The sweep's folder.
        given: The profile that names the cluster; None if the environment does.

    Returns:
        A line on each job, and on what is left.

    Raises:
        FolderError: The folder is no sweep's, or only the folder names the cluster.
        LaunchError: The cluster refused.
    """
    folder = SweepFolder(path)
    manifest = folder.manifest()
    permissions.follow(path)
    open_runs = list(submitted_runs(folder))
    lines = [line for part, run, submitter in open_runs for line in _cancelled(part, run, submitter, given)]
    board = read_board(folder, manifest)
    leaderboard.write(board)
    finished = sum(record.state.finished for record in board.records)
    lines = lines or ["no job of this sweep is known"]
    if (again := board.confirmation) is not None and not again.is_complete:
        said = f"{again.ended} of at most {again.planned} trainings of the confirmation have ended"
        return [*lines, f"{said}; the same command or sweep confirm continues from here"]
    return [*lines, f"{finished} trials have finished; the same command continues from here"]


def _cancelled(folder: SweepFolder, run: Run, submitter: Submitter, given: Profile | None) -> Sequence[str]:
    """End a run's jobs; without a watching command, also write that the run has ended."""
    lines = submitter.cancel(folder, run, given)
    if lines and not run.watched:
        folder.write_run(dataclasses.replace(run, ended=time.time(), outcome="cancelled"))
    return lines


def _tokenize(sweep: OpenSweep) -> None:
    """Make the tokens of every length that is known in advance; workers make others on first use."""
    import datasets

    from finesweep.training.tokens import tokenized

    datasets.disable_progress_bars()
    for length in sorted(_lengths(sweep)):
        tokenized(sweep.sweep_folder, sweep.manifest, length)


def _lengths(sweep: OpenSweep) -> set[int]:
    limit: int = sweep.manifest.model.max_tokens
    parameter: Any = sweep.spec.space.get("data.max_length")
    planned = [dict(params) for params in sweep.manifest.planned]
    if parameter is None:
        planned.append({})
    elif parameter.choices is not None:
        planned += [{"data.max_length": choice} for choice in parameter.choices]
    return {TrialSettings.of(sweep.spec, params, limit).max_length for params in planned}
