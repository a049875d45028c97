"""Enforces hours and disk space in the workers of a run that no command watches."""

from __future__ import annotations

import time

from finesweep.errors import FolderError
from finesweep.folder import Run, SweepFolder, disk
from finesweep.launch.profile import Limits
from finesweep.spec import BudgetSpec

LOOK_SECONDS = 5.0


class RunLimits:
    """Checks whether a run exceeds a limit; if a command watches the run, the command does that."""

    def __init__(self, sweep_folder: SweepFolder, run: Run, budget: BudgetSpec, limits: Limits) -> None:
        self._sweep_folder, self._run, self._budget, self._limits = sweep_folder, run, budget, limits
        self._looked = -LOOK_SECONDS
        self._over: str | None = None

    def exceeded(self) -> str | None:
        """Return the limit that the run exceeds, None if none; the folder is checked at most every few seconds."""
        now = time.monotonic()
        if self._run.watched or now - self._looked < LOOK_SECONDS:
            return self._over
        self._looked = now
        self._over = self._over or self._look()
        return self._over

    def _look(self) -> str | None:
        hours = self._budget.hours
        if hours is not None and self._sweep_folder.hours_used() >= hours:
            return f"the budget of {hours:g} hours is used up"
        try:
            disk.refuse_excess(self._sweep_folder.path, self._limits.disk_gb)
        except FolderError as error:
            return str(error)
        return None
