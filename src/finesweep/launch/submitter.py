"""Declares what a submitter is: the code that gives a whole sweep to a cluster, after which the command ends.

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
    """What is to be submitted.

    Attributes:
        sweep_folder: The sweep's folder, prepared.
        run: The run that the jobs belong to.
        profile: Its launch profile.
        name: The sweep's name.
        coordinates: Whether one worker runs all trials; see ``backends.Backend``.
        file: The profile's file, None where it is not known.
    """

    sweep_folder: SweepFolder
    run: Run
    profile: SettledProfile
    name: str
    coordinates: bool
    file: Path | None = None


@dataclass(frozen=True)
class Submission:
    """What became of an order.

    Attributes:
        jobs: Ids of the jobs by what they do; empty after a dry run.
        lines: What to tell the user: the jobs, and what to do next.
    """

    jobs: Mapping[str, str]
    lines: Sequence[str]


@dataclass(frozen=True)
class Job:
    """One job of a cluster, as it stands.

    Attributes:
        id: The cluster's name for it.
        role: What it does: ``worker 3``, ``collect``, ``sweep``.
        state: What it is up to.
        detail: Why or where, in the cluster's words; may be empty.
    """

    id: str
    role: str
    state: JobState
    detail: str = ""


class Submitter(Protocol):
    """Who takes a whole sweep as a batch.

    Attributes:
        watched: Whether a command on the cluster watches the workers; without, they keep the limits themselves.
    """

    watched: ClassVar[bool]

    def check(self, profile: Profile) -> None:
        """Make sure that the cluster takes submissions, before anything is prepared.

        Raises:
            LaunchError: There is not; the message says what is missing, and where it was looked for.
            MissingExtra: A package is not installed.
        """
        ...

    def submit(self, order: Order, *, dry_run: bool) -> Submission:
        """Write what the cluster is given into the folder, and give it.

        Args:
            order: What to submit.
            dry_run: Write and show it without giving it.

        Raises:
            LaunchError: The cluster refused; holds its own words and the command.
        """
        ...

    def jobs(self, sweep_folder: SweepFolder, run: Run, given: Profile | None = None) -> Sequence[Job]:
        """Return what the cluster says of a run's jobs; empty where it has none.

        Args:
            sweep_folder: The sweep's folder.
            run: The run, as the folder has it: nothing is sent to an address that only it names.
            given: The profile that the user names in this call.

        Raises:
            LaunchError: It says nothing.
            FolderError: Only the folder says where the cluster is.
        """
        ...

    def cancel(self, sweep_folder: SweepFolder, run: Run, given: Profile | None = None) -> Sequence[str]:
        """End a run's jobs and return a line on each; trials in them save their state; see ``jobs``.

        Raises:
            LaunchError: The cluster refused.
            FolderError: Only the folder says where the cluster is.
        """
        ...
