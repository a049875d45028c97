"""Carries out ``sweep confirm``: trains the best trials of a sweep again, here or on a cluster."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from finesweep.errors import FolderError
from finesweep.files import permissions
from finesweep.folder import SweepFolder, sweep_lock
from finesweep.host.signals import Signals
from finesweep.launch import Profile, Submission
from finesweep.launch import profile as profile_module
from finesweep.registry import LAUNCHERS
from finesweep.spec import ConfirmSpec
from finesweep.sweep import worker_count
from finesweep.sweep.hand_over import hand_over_confirmation, refuse_unread, submitter_of
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.sweep.run import RunResult
from finesweep.sweep.run import confirm as run_confirmation


@dataclass(frozen=True)
class ConfirmRequest:
    """A user's request.

    Attributes:
        folder: The sweep's folder.
        top: Most trials besides the untuned default; None for the number of the sweep's last run, else the default.
        seeds: Most seeds of each; None likewise.
        profile: The launch profile YAML; None for this machine with the defaults.
        workers: Replaces the profile's own number of workers.
        trust_remote_code: Allow code that comes with the model; needed anew for each run.
        allow_setup: Whether the profile's shell lines may run, wherever the profile comes from.
    """

    folder: Path
    top: int | None = None
    seeds: int | None = None
    profile: Path | None = None
    workers: int | None = None
    trust_remote_code: bool = False
    allow_setup: bool = False


def confirm(request: ConfirmRequest) -> RunResult | Submission:
    """Confirm a sweep, and export the winner; on a cluster that takes batches, its last job does that.

    Raises:
        FolderError: The folder is no sweep's, has no run yet, or is in use.
        SpecError, LaunchError, NoFinishedTrial, WinnerMismatch: See ``finesweep.errors``.
    """
    profile = profile_module.load(request.profile)
    with Signals().counted() as signals:
        search, asked = _opened(request, profile)
        with sweep_lock.held(search.sweep_folder.path) as lock:
            if profile.launcher not in LAUNCHERS.names:
                submitted = _submitted(search, asked, profile, request)
                if submitted is not None:
                    return submitted
            return run_confirmation(search, asked, lock, signals, request.workers)


def _opened(request: ConfirmRequest, profile: Profile) -> tuple[OpenSweep, ConfirmSpec]:
    folder = SweepFolder(request.folder)
    manifest, runs = folder.search_manifest(), folder.runs()
    if not runs:
        raise FolderError(f"{folder.path}: the sweep has no run yet, so there is nothing to confirm")
    permissions.follow(folder.path)
    last = runs[-1].confirm or ConfirmSpec()
    asked = ConfirmSpec(top=request.top or last.top, seeds=request.seeds or last.seeds)
    run = dataclasses.replace(runs[-1], trust_remote_code=request.trust_remote_code, confirm=asked)
    settled = profile.settled(worker_count.machine_for(manifest.spec), 1, request.workers)
    return dataclasses.replace(OpenSweep.of_run(folder, run, "confirm"), profile=settled), asked


def _submitted(search: OpenSweep, asked: ConfirmSpec, profile: Profile, request: ConfirmRequest) -> Submission | None:
    """Submit the confirmation to a cluster; None if nothing is left to train."""
    submitter = submitter_of(profile)
    refuse_unread(profile, request.profile, request.allow_setup)
    submitter.check(profile)
    return hand_over_confirmation(search, asked, profile, submitter, request.profile, request.workers)
