"""Declares the interface of a launcher, which starts workers in one kind of place.

A launcher is one file here and one line in ``finesweep.registry.LAUNCHERS``.
"""

from __future__ import annotations

import signal
from typing import Protocol

from finesweep.folder import Run, SweepFolder
from finesweep.launch.profile import SettledProfile

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
        coordinates: bool = False,
    ) -> Handle:
        """Start ``sweep worker`` for one run of a sweep.

        Args:
            sweep_folder: The sweep's folder.
            run: The run that the worker belongs to.
            profile: The run's launch profile.
            lock: Descriptor of the folder's lock, which local workers inherit; None if the run has joined another one,
                which owns the folder.
            index: Number of the worker in the run, in ``0 .. workers - 1``; decides its GPU.
            coordinates: Whether it distributes the GPUs and cores to trials in other processes; it then uses none
                itself.

        Raises:
            LaunchError: It could not be started.
        """
        ...
