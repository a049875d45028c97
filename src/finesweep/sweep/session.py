"""Holds a sweep that this process carries out: its folder, its run, and what is left to do there."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from finesweep.calibration import calibration_file
from finesweep.errors import FolderError
from finesweep.folder import Manifest, Run, SweepFolder
from finesweep.launch import SettledProfile
from finesweep.launch import of_run as profile_of
from finesweep.registry import BACKENDS
from finesweep.results import early_stop, leaderboard, same_failure
from finesweep.spec import SweepSpec, trials_wanted, used_up
from finesweep.trial import TrialRecord


@dataclass
class OpenSweep:
    """A sweep's folder, with the run that this process has begun there.

    Attributes:
        sweep_folder: The sweep's folder.
        manifest: What the sweep is.
        spec: The spec with this run's budget.
        profile: Where workers run.
        run: This run.
        began: When it began, on the monotonic clock.
    """

    sweep_folder: SweepFolder
    manifest: Manifest
    spec: SweepSpec
    profile: SettledProfile
    run: Run
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of_run(cls, sweep_folder: SweepFolder, run: Run) -> OpenSweep:
        """Open a sweep that another command has prepared, for a run that it has begun.

        Raises:
            FolderError: The folder is no sweep's, or is damaged.
        """
        manifest = sweep_folder.manifest()
        return cls(sweep_folder, manifest.of_run(run), manifest.spec_for(run), profile_of(run.profile), run)

    @functools.cached_property
    def wanted(self) -> int:
        """How many trials there will be."""
        return trials_wanted(self.spec, self.manifest.planned)

    @property
    def coordinates(self) -> bool:
        """Whether one worker runs all trials, as many at a time as there would be workers."""
        return bool(BACKENDS.load(self.spec.search.backend).coordinates)

    @property
    def workers(self) -> int:
        """How many workers this run starts."""
        return 1 if self.coordinates else self.profile.workers

    def outcome(self) -> calibration_file.ChosenProfile | None:
        """Return what the workers have found out, None as long as they have not."""
        return calibration_file.chosen_profile(self.sweep_folder, self.run.number, self.profile)

    def given_up(self, why: str) -> calibration_file.ChosenProfile:
        """Return how many workers there are if they cannot find it out."""
        return calibration_file.by_rule(self.profile, why)

    def settle(self, profile: SettledProfile) -> None:
        """Let workers begin that wait for their number to be known; it stands in the run's file from now on."""
        self.profile = profile
        self.run = dataclasses.replace(self.run, profile=profile.record(), measures=False)
        self.sweep_folder.write_run(self.run)

    def finished(self) -> list[TrialRecord]:
        """Return the trials that count against the budget."""
        return [record for record in self.sweep_folder.records() if record.state.finished]

    def unfinished(self) -> int:
        """Return how many trials of the budget have no result yet."""
        return self.wanted - sum(record.trial < self.wanted for record in self.finished())

    def has_work(self) -> bool:
        """Say whether there are trials left to run."""
        return self.unfinished() > 0 and not self.ends_early()

    def nothing_left(self) -> str | None:
        """Say why there is nothing to do for a worker, None if there is something."""
        hours = self.spec.budget.hours
        if self.unfinished() <= 0:
            return self.all_tried() or f"all {self.wanted} trials of the budget have finished"
        if hours is not None and self.sweep_folder.hours_used(besides=self.run.number) >= hours:
            return f"the budget of {hours:g} hours is used up"
        return self.ends_early()

    def all_tried(self) -> str | None:
        """Say that nothing is left to propose, though the budget has more trials; None if that is not so."""
        why = used_up(self.spec, self.manifest.planned) if self.unfinished() <= 0 else None
        return why and f"every configuration was tried: {why}"

    def ends_early(self) -> str | None:
        """Say why the sweep ends before its budget, if it does."""
        finished = self.finished()
        early = early_stop(self.spec.stop, finished, self.spec.direction)
        return early or same_failure(finished, self.run.number)

    def write_leaderboard(self, records: Sequence[TrialRecord]) -> None:
        """Bring the leaderboard up to date."""
        leaderboard.write(self.sweep_folder, self.manifest, records, self.sweep_folder.runs())

    def end_run(self, why: str) -> None:
        """Note when and why this run ended."""
        self._write_run(ended=time.time(), outcome=why)

    def note_time(self) -> None:
        """Note how long this run has run, for those who want to know once it was killed."""
        # The note can be done without; the next write that matters says what is wrong with the folder.
        with contextlib.suppress(FolderError):
            self._write_run()

    def _write_run(self, **facts: Any) -> None:
        # A run that no command watched ran elsewhere, and longer than the command that ends it.
        seconds = round(time.monotonic() - self.began, 3) if self.run.watched else None
        self.sweep_folder.write_run(dataclasses.replace(self.run, seconds=seconds, **facts))
