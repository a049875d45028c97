"""Declares what a launcher is: the code that starts workers in one kind of place.

A launcher is one file here and one line in ``finesweep.registry.LAUNCHERS``.
"""

from __future__ import annotations

import signal
from typing import Protocol

from finesweep.folder import Run, SweepFolder
from finesweep.launch.profile import SettledProfile

TOLD = frozenset({128 + signal.SIGTERM, 128 + signal.SIGUSR1})
"""Exit codes of a worker that was told to stop; SIGUSR1 is how a cluster says that its time is nearly up."""


class Handle(Protocol):
    """A started worker."""

    @property
    def pid(self) -> int | None:
        """Its process id, None where it has none on this machine."""
        ...

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        ...

    def stop(self) -> None:
        """Ask it to stop at the next step and to leave a readable folder."""
        ...

    def kill(self) -> None:
        """End it and its trial at once, also a trial that has outlived it."""
        ...


class Launcher(Protocol):
    """Where workers run."""

    def start(
        self,
        sweep_folder: SweepFolder,
        run: Run,
        profile: SettledProfile,
        lock: int | None,
        index: int = 0,
        *,
        coordinates: bool = False,
    ) -> Handle:
        """Start ``sweep worker`` for one run of a sweep.

        Args:
            sweep_folder: The sweep's folder.
            run: The run that the worker belongs to.
            profile: The run's launch profile.
            lock: Descriptor of the folder's lock, which local workers inherit; None where the run has
                joined another one, which owns the folder.
            index: Which of the run's workers it is, in ``0 .. workers - 1``; says which GPU it gets.
            coordinates: Whether it shares the GPUs and cores out itself, to trials that it runs in other
                processes; it then has none of its own.

        Raises:
            LaunchError: It could not be started.
        """
        ...
