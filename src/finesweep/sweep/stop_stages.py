"""Decides how a run ends: it runs, then it stops, then live workers are killed; no stage comes back."""

from __future__ import annotations

import enum
import math
import time
from dataclasses import dataclass, field

from finesweep.errors import SweepError, signal_name
from finesweep.host.signals import Signals
from finesweep.launch import deadlines


class Stage(enum.IntEnum):
    """Stage of a run on its way to its end."""

    RUNNING = 0
    STOPPING = 1
    KILLING = 2
    ENDED = 3


@dataclass
class Shutdown:
    """The end of a run: its reason and its stage.

    Workers are started in the stage RUNNING only. A first signal asks workers to stop, a second one kills them. Any
    other reason asks them to stop too. The time that workers have to stop begins with the first reason.

    Attributes:
        signals: The user's signals.
        stage: The stage, which only increases.
        why: The first reason, on one line; None while there is none.
        failure: The first error, None if there is none.
    """

    signals: Signals
    stage: Stage = Stage.RUNNING
    why: str | None = None
    failure: SweepError | None = None
    _deadline: float = field(default=math.inf, init=False)

    @property
    def is_running(self) -> bool:
        """Whether no end was requested yet."""
        return self.stage is Stage.RUNNING

    def stop(self, why: str | None = None, failure: SweepError | None = None) -> None:
        """Request the end of the run."""
        if why is not None or failure is not None:
            self.why = self.why or why
            self.failure = self.failure or failure
        # A second reason does not extend the time that workers have to stop.
        if self.is_running:
            self._enter(Stage.STOPPING, deadlines.COMMAND_SECONDS)

    def advance(self) -> Stage:
        """Check the signals and the clock; return the resulting stage."""
        if self.signals.first is not None:
            self.stop(f"stopped by {signal_name(self.signals.first)}")
        is_late = time.monotonic() >= self._deadline
        if self.stage is Stage.STOPPING and (is_late or self.signals.is_urgent):
            self._enter(Stage.KILLING, deadlines.KILLED_SECONDS)
        elif self.stage is Stage.KILLING and is_late:
            self.stage = Stage.ENDED
        return self.stage

    def _enter(self, stage: Stage, seconds: float) -> None:
        self.stage, self._deadline = stage, time.monotonic() + seconds
