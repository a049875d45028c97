"""Runs ``sweep submit`` (check, prepare, submit to a cluster) and ``sweep cancel``."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from finesweep.errors import SpecError, SweepError
from finesweep.files import permissions
from finesweep.folder import Run, SweepFolder, sweep_lock
from finesweep.host.signals import Signals
from finesweep.launch import Order, Profile, Submission, Submitter
from finesweep.launch.submitted_runs import submitted_runs
from finesweep.registry import SUBMITTERS
from finesweep.results import leaderboard
from finesweep.results.board import read_board
from finesweep.spec import TrialSettings
from finesweep.sweep import prepare
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
        The submission; or why nothing was left to do.

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
        if why is not None:
            sweep.end_run(why)
            return why
        return hand_over(sweep, submitter, request.profile, dry_run=dry_run)


def hand_over(sweep: OpenSweep, submitter: Submitter, file: Path | None, *, dry_run: bool) -> Submission:
    """Submit a sweep with signals held: no command could end jobs whose ids were not written."""
    order = Order(sweep.sweep_folder, sweep.run, sweep.profile, sweep.spec.name, sweep.single_worker, file)
    try:
        submission = submitter.submit(order, dry_run=dry_run)
    except SweepError as error:
        sweep.end_run(str(error).partition("\n")[0])
        raise
    if submission.jobs:
        sweep.sweep_folder.write_jobs(sweep.run.number, submission.jobs)
    return submission


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
    lines = [line for run, submitter in submitted_runs(folder) for line in _cancelled(folder, run, submitter, given)]
    records = folder.records()
    leaderboard.write(read_board(folder, manifest, records))
    finished = sum(record.state.finished for record in records)
    return [
        *(lines or ["no job of this sweep is known"]),
        f"{finished} trials have finished; the same command continues from here",
    ]


def _cancelled(folder: SweepFolder, run: Run, submitter: Submitter, given: Profile | None) -> Sequence[str]:
    """End a run's jobs; without a watching command, also write that the run has ended."""
    lines = submitter.cancel(folder, run, given)
    if lines and not run.watched:
        folder.write_run(dataclasses.replace(run, ended=time.time(), outcome="cancelled"))
    return lines


def submitter_of(profile: Profile) -> Submitter:
    """Return the submitter of a profile's launcher.

    Raises:
        SpecError: The launcher starts workers and stays with them.
    """
    if profile.launcher not in SUBMITTERS.names:
        takes = ", ".join(SUBMITTERS.names)
        hint = f"sweep run does that; sweep submit takes launcher: {takes}"
        raise SpecError.of("launcher", f"{profile.launcher} starts workers and stays with them", hint)
    submitter: Submitter = SUBMITTERS.load(profile.launcher)()
    return submitter


def refuse_unread(profile: Profile, file: Path | None, allow_setup: bool) -> None:
    """Refuse shell lines of a profile of unknown origin, unless the user allows them.

    Raises:
        SpecError: They are not allowed.
    """
    if not profile.shell_lines or allow_setup or (file and file.resolve().is_relative_to(_own_profiles())):
        return
    shown = "; ".join(f"`{line}`" for line in profile.shell_lines)
    message = f"this code would run on the cluster's machines: {shown}"
    hint = f"read it, then say --allow-setup, or keep the profile in {_own_profiles()}"
    raise SpecError.of(f"{file} setup", message, hint)


def _own_profiles() -> Path:
    """Return the folder of the user's own profiles."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home, "finesweep").resolve()


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
