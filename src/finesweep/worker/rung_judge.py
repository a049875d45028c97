"""Reads from a sweep's folder how far its trials have come, and judges them at their rungs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finesweep.folder import SweepFolder
from finesweep.pruning import (
    Promotions,
    Rung,
    RungStanding,
    by_chance,
    is_audited,
    promotions,
    rung_examples,
    values_at,
)
from finesweep.pruning.rules import is_below_median, rung_fractions
from finesweep.spec import SweepSpec, TrialLength
from finesweep.text import metric
from finesweep.trial import (
    AttemptOutdated,
    Evaluation,
    Params,
    Progress,
    TrialPruned,
    TrialRecord,
    TrialState,
    TrialWaits,
)

MOST_LISTED = 8
"""Maximum number of trials that a reason names; of more it gives only the number."""


@dataclass(frozen=True)
class RungJudge:
    """Judges a sweep's trials at their rungs, by the other trials there.

    Attributes:
        sweep_folder: The sweep's folder.
        spec: The sweep's spec.
        rows: Training rows.
        wanted: Number of trials in the budget.
    """

    sweep_folder: SweepFolder
    spec: SweepSpec
    rows: int
    wanted: int

    @functools.cached_property
    def count(self) -> int:
        """Number of rungs; 0 if the pruner does not compare at rungs."""
        return len(self._in_epochs)

    @functools.cached_property
    def _in_epochs(self) -> tuple[int, ...]:
        return rung_examples(self.spec, self.rows)

    def rungs(self, params: Params) -> tuple[int, ...]:
        """Return the training examples of each rung of a trial, ascending."""
        if not self.spec.compares_shares:
            return self._in_epochs
        whole = TrialLength.of(self.spec.merged(params), self.rows).total_examples
        return rung_examples(self.spec, self.rows, whole)

    @property
    def halves(self) -> bool:
        """Whether trials wait at rungs."""
        return self.spec.search.pruner == "halving"

    def queue(self) -> Sequence[int]:
        """Return the numbers of the trials that may run now, in order of preference.

        Waiting trials that can no longer be promoted are ended first.

        Raises:
            FolderError: The folder cannot be written.
        """
        if not self.halves:
            if self.count:  # read here, so that the trial's process, a fork of this one, has them already
                self.sweep_folder.records()
            return range(self.wanted)
        standings = self._standings()
        decided = self._promotions(standings)
        for trial, rung in decided.dropped.items():
            self._drop(trial, self._lost(standings[trial], rung))
        waiting = {trial for trial, standing in standings.items() if standing.waits}
        left = (
            trial for trial in range(self.wanted) if trial not in waiting and not self.sweep_folder.is_finished(trial)
        )
        # Promoted trials first: others at the next rung wait for them, and their states take disk.
        return [*decided.promoted, *left]

    def judge(self, trial: int, evaluations: Sequence[Evaluation], params: Params) -> None:
        """Let a trial continue after an evaluation, or stop it.

        The untuned default always continues, because the gain of the search is measured against it.

        Args:
            trial: Its number.
            evaluations: Its evaluations in order.
            params: Its parameters.

        Raises:
            TrialPruned: It is weak.
            TrialWaits: It cannot be judged yet.
        """
        rungs = self.rungs(params)
        values = values_at(evaluations, rungs, self.spec.direction)
        if trial in self._spared or not values or evaluations[-1].examples != rungs[max(values)]:
            return
        # The folder may lack this evaluation. The trial is shown as waiting, because the rule decides about those.
        standings = {**self._standings(), trial: RungStanding(trial, values, waits=True)}
        if not self.halves:
            self._judge_by_median(standings, trial)
            return
        decided = self._promotions(standings)
        if trial in decided.dropped:
            raise TrialPruned(self._lost(standings[trial], decided.dropped[trial]))
        if trial not in decided.promoted:
            raise TrialWaits(f"waits after {self._seen(max(values))} for other trials to get there")

    def by_chance(self, trial: int, evaluations: Sequence[Evaluation], params: Params) -> list[int]:
        """Return the waiting trials, those that are most likely to be promoted first.

        Args:
            trial: A trial that is about to wait; the folder may lack its record.
            evaluations: Its evaluations in order.
            params: Its parameters.
        """
        values = values_at(evaluations, self.rungs(params), self.spec.direction)
        return self._by_chance({**self._standings(), trial: RungStanding(trial, values, waits=True)})

    def waiting_by_chance(self) -> list[int]:
        """Return the trials that the folder has as waiting, those that are most likely to be promoted first."""
        return self._by_chance(self._standings())

    def _by_chance(self, standings: dict[int, RungStanding]) -> list[int]:
        factor = self.spec.factor
        found = by_chance(standings, self.wanted, self.count, self.spec.direction, factor=factor)
        # Last those beyond a budget that was lowered: they have no turn.
        others = (number for number in sorted(standings) if standings[number].waits and number not in found)
        return [*found, *others]

    @property
    def _spared(self) -> range:
        """The untuned default, if the search has one."""
        return range(self.spec.search.baseline and self.spec.search.sampler != "grid")

    def is_audited(self, trial: int) -> bool:
        """Return whether a trial is finished for the audit even if it is weak."""
        return is_audited(self.spec.search.seed, trial, self.spec.pruning.audit)

    def _judge_by_median(self, standings: dict[int, RungStanding], trial: int) -> None:
        values = standings[trial].values
        rung, value = max(values), values[max(values)]
        others = [other.values[rung] for other in standings.values() if other.trial != trial and rung in other.values]
        if is_below_median(value, others, self.spec.direction):
            middle = metric(statistics.median(others))
            raise TrialPruned(
                f"median: {self._at(rung, value)}; the median of {len(others)} other trials was {middle} there"
            )

    def _lost(self, standing: RungStanding, rung: Rung) -> str:
        """Describe with which trials a trial was compared at a rung, and which values are kept."""
        reached = max(standing.values)
        kept = dict.fromkeys((metric(rung.values[0]), metric(rung.values[rung.most_promoted - 1])))
        best = f"kept were the best {rung.most_promoted} of {_listed(rung.best)} ({' to '.join(kept)})"
        return f"halving: {self._at(reached, standing.values[reached])}; {best}"

    def _at(self, rung: int, value: float) -> str:
        return f"{self.spec.objective.metric} {metric(value)} after {self._seen(rung)}"

    def _seen(self, rung: int) -> str:
        if self.spec.compares_shares:
            return f"{100 * float(rung_fractions(self.spec)[rung]):g} % of its examples"
        return f"{self.rungs({})[rung]:,} examples"

    def _promotions(self, standings: dict[int, RungStanding]) -> Promotions:
        factor = self.spec.factor
        return promotions(standings, self.wanted, self.count, self.spec.direction, factor=factor)

    def _standings(self) -> dict[int, RungStanding]:
        """Read how far each trial has come, from its record, or from its progress while it runs."""
        newest = self.sweep_folder.claims.newest()
        found = {record.trial: self._of_record(record, newest) for record in self.sweep_folder.records()}
        # A killed process can leave the progress of an earlier attempt.
        running = (item for item in self.sweep_folder.progress() if newest.get(item.trial) == item.attempt)
        return found | {item.trial: self._of_progress(item) for item in running}

    def _of_record(self, record: TrialRecord, newest: dict[int, int]) -> RungStanding:
        waits = record.state is TrialState.WAITING and newest.get(record.trial) == record.attempt
        values = values_at(record.evaluations, self.rungs(record.params), self.spec.direction)
        is_spared = record.trial in self._spared or record.audit is not None
        return RungStanding(record.trial, values, waits and not is_spared, record.state.finished, is_spared)

    def _of_progress(self, progress: Progress) -> RungStanding:
        values = values_at(progress.evaluations, self.rungs(progress.params), self.spec.direction)
        is_spared = progress.trial in self._spared or progress.audit is not None
        return RungStanding(progress.trial, values, is_spared=is_spared)

    def _drop(self, trial: int, why: str) -> None:
        """End a trial that can no longer be promoted, or queue it to be finished for the audit."""
        record = self.sweep_folder.read_record(trial)
        if record is None or record.state is not TrialState.WAITING:
            return
        changes: dict[str, Any] = (
            {"audit": why} if self.is_audited(trial) else {"state": TrialState.PRUNED, "reason": why}
        )
        # A worker that has claimed the trial meanwhile has newer facts.
        with contextlib.suppress(AttemptOutdated):
            self.sweep_folder.record(dataclasses.replace(record, **changes))


def _listed(trials: Sequence[int]) -> str:
    if len(trials) > MOST_LISTED:
        return f"{len(trials)} trials"
    return f"trials {', '.join(map(str, sorted(trials)))}"
