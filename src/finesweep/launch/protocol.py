"""Declares two interfaces: a launcher starts workers in one kind of place, a submitter hands whole sweeps to a cluster.

The command stays with a launcher's workers; it ends once a submitter has its jobs. Each is a module or a package here,
with a line in ``LAUNCHERS`` or ``SUBMITTERS`` of ``finesweep.registry``, and a line in ``PROFILES``: a profile with any
other name is refused. ``docs/extending.md`` has the whole list.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from finesweep.folder import Run, SweepFolder
from finesweep.host.process_ahead import ProcessAhead
from finesweep.launch.profile import Profile, SettledProfile

JobState = Literal["queued", "running", "dead", "finished", "unknown"]
TOLD = frozenset({128 + signal.SIGTERM, 128 + signal.SIGUSR1})
"""Exit codes of a worker that was asked to stop. A cluster sends SIGUSR1 when its time limit is near."""


class Handle(Protocol):
    """A started worker."""

    @property
    def pid(self) -> int | None:
        """Its process id, None if it has none on this machine."""
        ...

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        ...

    def stop(self) -> None:
        """Ask it to stop at the next step and to leave a readable folder."""
        ...

    def kill(self) -> None:
        """Kill it and its trial at once, also a trial that has outlived it."""
        ...


class Launcher(Protocol):
    """Starts workers in one kind of place."""

    def start(
        self,
        sweep_folder: SweepFolder,
        run: Run,
        profile: SettledProfile,
        lock: int | None,
        index: int = 0,
        *,
        single_worker: bool = False,
        ahead: ProcessAhead | None = None,
    ) -> Handle:
        """Start ``sweep worker`` for one run of a sweep.

        Args:
            sweep_folder: The sweep's folder.
            run: The run that the worker belongs to.
            profile: The run's launch profile.
            lock: Descriptor of the folder's lock, which local workers inherit; None if the run has joined another one,
                which owns the folder.
            index: Number of the worker in the run, in ``0 .. workers - 1``; decides its GPU.
            single_worker: Whether it is the run's only worker. It then starts all trials in other processes, which
                get the GPUs and cores; it uses none itself.
            ahead: A process that was started ahead on this machine, to become the worker; the launcher may leave it to
                the caller.

        Raises:
            LaunchError: It could not be started.
        """
        ...


@dataclass(frozen=True)
class Order:
    """A sweep to be submitted.

    Attributes:
        sweep_folder: The sweep's folder, prepared.
        run: The run that the jobs belong to.
        profile: Its launch profile.
        name: The sweep's name.
        single_worker: Whether one worker starts all trials; see ``backends.Backend``.
        file: The profile's file, None if it is unknown.
    """

    sweep_folder: SweepFolder
    run: Run
    profile: SettledProfile
    name: str
    single_worker: bool
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
