"""Keeps the decision that a sweep ends before its budget because little is expected of its other trials.

The worker that finds it writes it into the folder; all other processes obey, so none of them has to compute it again.
It holds for the budget that it was made for: a run that has joined with another budget has a decision of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from finesweep.files import Damaged, as_kind, write_json, writing
from finesweep.files.checked_json import read_values
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.spec import StopSpec
from finesweep.text import metric

GO_ON = "to continue: --set stop.auto=false"

_MOST_PERCENT = 50
"""Percentage of the best objective from which on gain and seeds are told in the objective's own unit."""


@dataclass(frozen=True)
class EarlyEnd:
    """Why a sweep ends before its budget, in the objective's unit, whatever its direction.

    Attributes:
        begun: Trials with an objective.
        left: Trials of the budget that had not begun.
        wanted: Trials of the sweep.
        best: The best objective.
        gain: Expected gain of those that had not begun, at least 0.
        seeds: Estimated standard deviation between seeds.
    """

    begun: Annotated[int, Field(ge=0)]
    left: Annotated[int, Field(ge=0)]
    wanted: Annotated[int, Field(ge=0)]
    best: float
    gain: Annotated[float, Field(ge=0)]
    seeds: Annotated[float, Field(ge=0)]

    @property
    def why(self) -> str:
        """The reason on one line: ``after 13 of 30 trials: the other 17 were expected to gain 0.1 %, ...``."""
        other = f"the other {self.left:,} were" if self.left > 1 else "the other one was"
        return (
            f"after {self.wanted - self.left:,} of {self.wanted:,} trials: {other} expected to gain "
            f"{self._told(self.gain)}, the seed noise is an estimated "
            f"{self._told(self.seeds)}; {GO_ON}"
        )

    def _told(self, value: float) -> str:
        """Tell a difference in percent of the best objective; where that is near 0, in the objective's own unit."""
        if 100 * self.seeds >= _MOST_PERCENT * abs(self.best):
            return metric(value)
        percent = 100 * value / abs(self.best)
        return f"{percent:.2g} %" if percent == 0 or percent >= 0.01 else "less than 0.01 %"


@dataclass(frozen=True)
class _Decisions:
    """The decisions in a folder, one for each number of trials."""

    ends: tuple[EarlyEnd, ...]


def read_early_end(folder: SweepFolder, stop: StopSpec, wanted: int) -> EarlyEnd | None:
    """Return why a sweep ends before its budget, None if it does not; a damaged file counts as none.

    Args:
        folder: The sweep's folder.
        stop: The conditions of the run.
        wanted: Trials of the sweep.
    """
    if stop.auto is not True:
        return None
    return next((one for one in _decisions(folder) if one.wanted == wanted), None)


def write_early_end(folder: SweepFolder, end: EarlyEnd) -> None:
    """Write why a sweep ends before its budget; the first worker with this budget that finds it out decides.

    Raises:
        FolderError: The folder cannot be written.
    """
    with folder.claims.locked():
        known = _decisions(folder)
        if all(one.wanted != end.wanted for one in known):
            write_json(_file(folder), dataclasses.asdict(_Decisions((*known, end))))


def forget_early_end(folder: SweepFolder) -> None:
    """Remove the decisions, since a run goes on without the rule; a later run with it judges anew.

    Raises:
        FolderError: The folder cannot be written.
    """
    with folder.claims.locked(), writing(folder.path):
        _file(folder).unlink(missing_ok=True)


def _decisions(folder: SweepFolder) -> tuple[EarlyEnd, ...]:
    with contextlib.suppress(Damaged, FileNotFoundError):
        values = read_values(_file(folder))
        if isinstance(values, dict) and "ends" in values:
            return as_kind(_Decisions, values).ends
        return (as_kind(EarlyEnd, values),)  # an earlier version kept only one
    return ()


def _file(folder: SweepFolder) -> Path:
    return folder.path / "early_end.json"
