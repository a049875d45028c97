"""Holds a sweep that this process runs: its folder, its run, and what is left to do."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from finesweep import report
from finesweep.calibration import calibration_file
from finesweep.errors import FolderError
from finesweep.folder import Manifest, Run, SweepFolder, next_attempt
from finesweep.folder.early_end import EarlyEnd, read_early_end
from finesweep.host.process_ahead import ProcessAhead
from finesweep.launch import SettledProfile
from finesweep.launch import of_run as profile_of
from finesweep.registry import BACKENDS
from finesweep.results import early_stop, leaderboard, same_failure
from finesweep.results.board import chosen, read_board
from finesweep.results.choice import Choice
from finesweep.results.confirmation import Confirmation, read_confirmation
from finesweep.spec import SweepSpec, trials_wanted, used_up
from finesweep.trial import TrialRecord


@dataclass
class OpenSweep:
    """A sweep's folder, with the run that this process has begun there.

    Attributes:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest.
        spec: The spec with this run's budget.
        profile: Where workers run.
        run: This run.
        command: Name of the user's command that this process carries out, as the openings of the test rows show it.
        began: Time of its beginning, on the monotonic clock.
        workers_ahead: Processes that were started ahead, to become the first workers.
        proof_ahead: The same, to prove the winner; None if there is none.
    """

    sweep_folder: SweepFolder
    manifest: Manifest
    spec: SweepSpec
    profile: SettledProfile
    run: Run
    command: str = "run"
    began: float = field(default_factory=time.monotonic)
    workers_ahead: Sequence[ProcessAhead] = ()
    proof_ahead: ProcessAhead | None = None

    @classmethod
    def of_run(cls, sweep_folder: SweepFolder, run: Run, command: str = "run") -> OpenSweep:
        """Open a sweep that another command has prepared, for the run that it has begun.

        Raises:
            FolderError: The folder is no sweep's, or is damaged.
        """
        manifest = sweep_folder.manifest()
        spec = manifest.spec_for(run)
        return cls(sweep_folder, manifest.of_run(run), spec, profile_of(run.profile), run, command)

    @functools.cached_property
    def wanted(self) -> int:
        """Number of trials of the sweep."""
        return trials_wanted(self.spec, self.manifest.planned)

    @property
    def single_worker(self) -> bool:
        """Whether one worker starts all trials, as many at a time as there would be workers."""
        return bool(BACKENDS.load(self.spec.search.backend).single_worker)

    @property
    def workers(self) -> int:
        """Number of workers that this run starts."""
        return 1 if self.single_worker else self.profile.workers

    def outcome(self) -> calibration_file.ChosenProfile | None:
        """Return the choice that follows from the workers' measurement, None until they have one."""
        return calibration_file.chosen_profile(self.sweep_folder, self.run.number, self.profile)

    def given_up(self, why: str) -> calibration_file.ChosenProfile:
        """Return the choice if the workers cannot measure."""
        return calibration_file.by_rule(self.profile, why)

    def settle(self, profile: SettledProfile) -> None:
        """Write the number of workers into the run's file; the workers that wait for it then begin."""
        # `measures=False` is the sign for the waiting workers, so it is written together with the numbers.
        self.profile = profile
        self.run = dataclasses.replace(self.run, profile=profile.record(), measures=False)
        self.sweep_folder.write_run(self.run)

    def finished(self) -> list[TrialRecord]:
        """Return the trials that count against the budget."""
        return [record for record in self.sweep_folder.records() if record.state.finished]

    def unfinished(self) -> int:
        """Return the number of trials of the budget without a final record."""
        return self.wanted - sum(record.trial < self.wanted for record in self.finished())

    def has_work(self) -> bool:
        """Return whether there are trials left to run."""
        return self.unfinished() > 0 and not self.ends_early()

    def nothing_left(self) -> str | None:
        """Return why there is no work for a worker, None if there is some."""
        hours = self.spec.budget.hours
        if self.unfinished() <= 0:
            return self.all_tried() or f"all {self.wanted} trials of the budget have finished"
        if hours is not None and self.sweep_folder.hours_used(besides=self.run.number) >= hours:
            return f"the budget of {hours:g} hours is used up"
        return self.ends_early()

    def all_tried(self) -> str | None:
        """Return a message if every configuration was tried before the budget was used up, else None."""
        why = used_up(self.spec, self.manifest.planned) if self.unfinished() <= 0 else None
        return why and f"every configuration was tried: {why}"

    def ends_early(self) -> str | None:
        """Return why the sweep ends before its budget, None if it does not."""
        finished = self.finished()
        early = early_stop(self.spec.stop, finished, self.spec.direction)
        return early or self._poor_prospects() or same_failure(finished, self.run.number)

    def begins_no_more(self) -> bool:
        """Return whether ``stop`` lets no further trial begin; those that run may still do so."""
        reached = early_stop(self.spec.stop, self.finished(), self.spec.direction)
        return reached is not None or self._early_end() is not None

    def _early_end(self) -> EarlyEnd | None:
        return None if self.manifest.repeats else read_early_end(self.sweep_folder, self.spec.stop, self.wanted)

    def _poor_prospects(self) -> str | None:
        """Return why ``stop.auto`` ends the sweep, None if it does not, or while trials that it finishes are left."""
        if self.unfinished() <= 0:  # a worker may have begun the last one during the decision
            return None
        poor = self._early_end()
        return None if poor is None or next_attempt.unsettled(self.sweep_folder, self.wanted) else poor.why

    def confirmation(self, records: Sequence[TrialRecord]) -> Confirmation | None:
        """Return the sweep's confirmation without chances and intervals, None if it has none."""
        return read_confirmation(self.sweep_folder, records, compare=False)

    def is_unconfirmed(self, records: Sequence[TrialRecord]) -> bool:
        """Return whether the winner is to be confirmed before it is exported."""
        again = self.confirmation(records)
        return self.spec.confirm is not None if again is None else not again.is_complete

    def choice(self, records: Sequence[TrialRecord]) -> Choice | None:
        """Return the model that becomes the winner, None if no trial ranks."""
        again = self.confirmation(records)
        return chosen(self.sweep_folder, self.manifest, records, self.spec.prefer, again)

    def write_leaderboard(self, records: Sequence[TrialRecord], *, compare: bool = True) -> None:
        """Update the leaderboard.

        Args:
            records: The records of all ended trials.
            compare: Whether to say how sure the ranks are; see ``read_board``.
        """
        leaderboard.write(read_board(self.sweep_folder, self.manifest, records, compare=compare))

    def write_report(self, records: Sequence[TrialRecord]) -> None:
        """Write the page for browsers."""
        report.write_report(read_board(self.sweep_folder, self.manifest, records))

    def end_run(self, why: str) -> None:
        """Write when and why this run ended."""
        self._write_run(ended=time.time(), outcome=why)

    def note_time(self) -> None:
        """Write how long this run has run; that is all that is known if it is killed."""
        # This write is optional; the next important one reports a problem of the folder.
        with contextlib.suppress(FolderError):
            self._write_run()

    def _write_run(self, **facts: Any) -> None:
        # A submitted run began before this command, which only collects. Its hours follow from its trials instead
        # (`manifest.hours_ran`).
        seconds = round(time.monotonic() - self.began, 3) if self.run.watched else None
        self.sweep_folder.write_run(dataclasses.replace(self.run, seconds=seconds, **facts))
