"""Hands a prepared sweep, or its confirmation, over to a cluster."""

from __future__ import annotations

import os
from pathlib import Path

from finesweep.errors import SpecError, SweepError
from finesweep.launch import Order, Profile, Submission, Submitter
from finesweep.registry import SUBMITTERS
from finesweep.spec import ConfirmSpec
from finesweep.sweep.confirmation import begin_confirmation
from finesweep.sweep.open_sweep import OpenSweep


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


def hand_over_confirmation(
    search: OpenSweep,
    asked: ConfirmSpec,
    profile: Profile,
    submitter: Submitter,
    file: Path | None = None,
    workers: int | None = None,
) -> Submission | None:
    """Plan a sweep's confirmation and submit it; None if nothing is left to train.

    Args:
        search: The sweep.
        asked: How many trials, and how many seeds.
        profile: Where they run.
        submitter: The submitter of its launcher.
        file: The profile's file, None if it is unknown.
        workers: Replaces the profile's own number.

    Raises:
        FolderError, LaunchError: See ``finesweep.errors``.
    """
    again = begin_confirmation(search, asked, profile, workers, watched=submitter.watched)
    if again is None:
        return None
    if (why := again.nothing_left()) is not None:
        again.end_run(why)
        return None
    return hand_over(again, submitter, file, dry_run=False)


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
