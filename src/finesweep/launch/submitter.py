"""Declares the interface of a submitter, which hands a whole sweep to a cluster, after which the command ends.

A submitter is one file here, one line in ``finesweep.registry.SUBMITTERS`` and one in ``PROFILES``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from finesweep.folder import Run, SweepFolder
from finesweep.launch.profile import Profile, SettledProfile

JobState = Literal["queued", "running", "dead", "finished", "unknown"]


@dataclass(frozen=True)
class Order:
    """A sweep to be submitted.

    Attributes:
        sweep_folder: The sweep's folder, prepared.
        run: The run that the jobs belong to.
        profile: Its launch profile.
        name: The sweep's name.
        coordinates: Whether one worker runs all trials; see ``backends.Backend``.
        file: The profile's file, None if it is unknown.
    """

    sweep_folder: SweepFolder
    run: Run
    profile: SettledProfile
    name: str
    coordinates: bool
    file: Path | None = None


@dataclass(frozen=True)
class Submission:
    """Result of an order.

    Attributes:
        jobs: Ids of the jobs by role; empty after a dry run.
        lines: Lines for the user: the jobs, and what to do next.
    """

    jobs: Mapping[str, str]
    lines: Sequence[str]


@dataclass(frozen=True)
class Job:
    """State of one job of a cluster.

    Attributes:
        id: The cluster's id for it.
        role: ``worker 3``, ``collect`` or ``sweep``.
        state: Its state.
        detail: Why or where, in the cluster's words; may be empty.
    """

    id: str
    role: str
    state: JobState
    detail: str = ""


class Submitter(Protocol):
    """Hands whole sweeps to a cluster.

    Attributes:
        watched: Whether a command on the cluster watches the workers; otherwise they enforce the limits themselves.
    """

    watched: ClassVar[bool]

    def check(self, profile: Profile) -> None:
        """Check that the cluster accepts submissions, before anything is prepared.

        Raises:
            LaunchError: It does not; the message names what is missing, and where it was looked for.
            MissingExtra: A package is not installed.
        """
        ...

    def submit(self, order: Order, *, dry_run: bool) -> Submission:
        """Write the cluster's scripts into the folder, and submit them.

        Args:
            order: The submission.
            dry_run: Only write and show them.

        Raises:
            LaunchError: The cluster refused; holds its own words and the command.
        """
        ...

    def jobs(self, sweep_folder: SweepFolder, run: Run, given: Profile | None = None) -> Sequence[Job]:
        """Return the state of a run's jobs in the cluster; empty if it has none.

        Args:
            sweep_folder: The sweep's folder.
            run: The run, as in the folder: nothing is sent to an address that only the folder names.
            given: The profile that the user names in this call.

        Raises:
            LaunchError: The cluster does not answer.
            FolderError: Only the folder names the cluster.
        """
        ...

    def cancel(self, sweep_folder: SweepFolder, run: Run, given: Profile | None = None) -> Sequence[str]:
        """End a run's jobs and return a line on each; their trials save their state; see ``jobs``.

        Raises:
            LaunchError: The cluster refused.
            FolderError: Only the folder names the cluster.
        """
        ...
