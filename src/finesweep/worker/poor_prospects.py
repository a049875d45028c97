"""Ends a sweep before its budget when its other trials are expected to gain little beside seeds: ``stop.auto``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from finesweep.folder import Manifest, SweepFolder, next_attempt
from finesweep.folder.early_end import EarlyEnd, read_early_end, write_early_end
from finesweep.pruning.prospects import are_too_many, prospects
from finesweep.pruning.row_noise import row_noise
from finesweep.spec import SweepSpec
from finesweep.trial import Direction, TrialRecord, TrialState

_BEST = 20
"""Number of best trials whose validation rows are read."""


@dataclass
class PoorProspects:
    """The rule in one worker.

    Attributes:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest.
        spec: The spec with this run's conditions.
        wanted: Trials of the sweep.
    """

    sweep_folder: SweepFolder
    manifest: Manifest
    spec: SweepSpec
    wanted: int
    _looked: Sequence[tuple[int, int, str]] | None = field(default=None, init=False)

    @property
    def is_on(self) -> bool:
        """Whether the rule may end the sweep; a confirmation trains what is planned."""
        return self.spec.stop.auto is True and not self.manifest.repeats

    def end(self, records: Sequence[TrialRecord]) -> bool:
        """Return whether no trial may run any more; if the end is found out here, it is written into the folder.

        Trials that had begun are finished first: those that run, here or elsewhere, and those that a fault or the end
        of a run has interrupted.

        Args:
            records: Records of all trials that have ended or wait.

        Raises:
            FolderError: The folder cannot be written.
        """
        if not self.is_on:
            return False
        if (only := self.only()) is not None:
            return not only
        known = sorted((one.trial, one.attempt, one.state) for one in records)
        if known == self._looked:
            return False  # nothing new since the last look, which takes some tenths of a second
        self._looked = known
        if are_too_many(records, self.spec.search_space):
            return False  # before validation rows are read
        search = self.spec.search
        claimed = (trial for trial, _ in next_attempt.open_claims(self.sweep_folder))
        # Trials with higher numbers belong to a run that has joined with a larger budget.
        begun = {trial for trial in (*(one.trial for one in records), *claimed) if trial < self.wanted}
        if not begun.issuperset(range(self._asked_for)):
            return False
        left = self.wanted - len(begun)
        found = prospects(
            records, self.spec.search_space, self.spec.direction, left, search.seed, self._row_noise(records)
        )
        if found is None or not found.are_poor:
            return False
        end = EarlyEnd(found.begun, found.left, self.wanted, found.best, found.gain, found.seeds)
        write_early_end(self.sweep_folder, end)
        return not self.only()

    def only(self) -> Sequence[int] | None:
        """Return the only trials that may still run once the sweep has ended, None as long as it has not.

        Some of them run. Others are claimed anew when their processes are known to be dead.
        """
        if not self.is_on or read_early_end(self.sweep_folder, self.spec.stop, self.wanted) is None:
            return None
        return next_attempt.unsettled(self.sweep_folder, self.wanted)

    @property
    def _asked_for(self) -> int:
        """Number of the trials that the user has asked for one by one; a grid is a space to search."""
        return 0 if self.spec.search.sampler == "grid" else min(len(self.manifest.planned), self.wanted)

    def _row_noise(self, records: Sequence[TrialRecord]) -> float:
        """Return the seed noise as the validation rows of the best trials tell it, 0 if they keep no rows."""
        metric, sign = self.spec.objective.metric, -1.0 if self.spec.direction is Direction.MAXIMIZE else 1.0
        ranked = sorted(
            (sign * one.objective, one.trial, one)
            for one in records
            if one.state is TrialState.COMPLETE and one.objective is not None and math.isfinite(one.objective)
        )
        kept = [self.sweep_folder.read_row_scores(one) for *_, one in ranked[:_BEST]]
        if not kept or kept[0] is None:
            return 0.0
        same = [one.arrays() for one in kept if one is not None and one.labels == kept[0].labels]
        best, *others = (one.get(metric) for one in same)
        return 0.0 if best is None else row_noise(best, [one for one in others if one is not None])
