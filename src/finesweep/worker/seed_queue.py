"""Tells a worker which trials of a confirmation may run, and ends those that need not."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from finesweep.folder import Manifest, SweepFolder, next_attempt
from finesweep.pruning.seed_race import seed_race
from finesweep.results.confirmation import seed_runs
from finesweep.trial import AttemptOutdated, TrialState
from finesweep.worker.bare_record import bare_record


@dataclass(frozen=True)
class SeedQueue:
    """The trials of a confirmation in the order of its race.

    Attributes:
        sweep_folder: The confirmation's folder.
        manifest: Its manifest.
        run: Number of the run.
    """

    sweep_folder: SweepFolder
    manifest: Manifest
    run: int

    def queue(self) -> Sequence[int]:
        """Return the numbers of the trials that may run now; those that need not run are ended first.

        Raises:
            FolderError: The folder cannot be written.
        """
        race = seed_race(seed_runs(self.manifest, self.sweep_folder.records()), self.manifest.spec.direction)
        for trial, reason in race.dropped.items():
            self._drop(trial, reason)
        return race.may_run

    def _drop(self, trial: int, reason: str) -> None:
        lease = next_attempt.claim(self.sweep_folder, self.run, [trial])
        if lease is None:  # another worker ends it
            return
        record = dataclasses.replace(
            bare_record(lease.claim, self.sweep_folder, 0.0),
            state=TrialState.PRUNED,
            params=self.manifest.planned[trial],
            reason=reason,
        )
        with contextlib.suppress(AttemptOutdated):
            self.sweep_folder.record(record)
        lease.release()
