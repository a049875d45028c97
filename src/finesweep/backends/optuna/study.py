"""Builds an Optuna study in memory from a sweep's records, claims and progress, for one trial at a time.

The folder is the source of truth: the trials of a study are read from it, under their own numbers. Equal folders give
equal studies, and there is no second store that could contradict the records. Only the trial for which a study is
opened changes in it, and the study ends with its process.
"""

from __future__ import annotations

import bisect
import contextlib
import copy
import functools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as StudyState

from finesweep.backends.optuna.drawing import distribution_of
from finesweep.folder import Claim, SweepFolder, next_attempt
from finesweep.folder.foreign import read_foreign
from finesweep.pruning.rules import best_so_far
from finesweep.spec import SweepSpec
from finesweep.trial import Evaluation, Params, TrialRecord, TrialState, Value

STATES = {
    TrialState.COMPLETE: StudyState.COMPLETE,
    TrialState.PRUNED: StudyState.PRUNED,
    # Samplers ignore FAIL, and would propose the same region again.
    TrialState.DIVERGED: StudyState.PRUNED,
    # A waiting trial does not run, so it must not repel proposals like a RUNNING one. Its reports so far count.
    TrialState.WAITING: StudyState.PRUNED,
    TrialState.FAILED: StudyState.FAIL,
    TrialState.INTERRUPTED: StudyState.FAIL,
}
"""State of a recorded trial in the study of another trial."""

ATTEMPT = "attempt"
"""Attribute of a study's trial with the number of its attempt."""

FOREIGN = "foreign"
"""Attribute of a trial of another sweep, with its number there."""

DIVERGED = "diverged"
"""Attribute of a study's trial that has diverged, which is PRUNED there."""

_NUMBER = attrgetter("number")


class TrialStorage(InMemoryStorage):
    """Holds one trial that can change, and the other trials of its sweep as they were when the study was opened.

    Args:
        number: The number of the trial in its sweep.
        others: The other trials, by number.
    """

    def __init__(self, number: int, others: Sequence[FrozenTrial] = ()) -> None:
        super().__init__()
        self._number = number
        self.others = others

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make the trial, under its number in the sweep; see Optuna."""
        # Optuna numbers the trials of a study from 0, and this study holds only one of its own.
        trial_id: int = super().create_new_trial(study_id, template_trial)
        self.get_trial(trial_id).number = self._number
        return trial_id

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[StudyState] | None = None
    ) -> list[FrozenTrial]:
        """Return all trials by number; see Optuna. A WAITING one would be run here, and none of the others is."""
        own: list[FrozenTrial] = super().get_all_trials(study_id, deepcopy, states)
        if states is not None and StudyState.WAITING in states:
            return own
        found = [trial for trial in self.others if states is None or trial.state in states]
        for trial in own:
            bisect.insort(found, trial, key=_NUMBER)
        return copy.deepcopy(found) if deepcopy else found

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """Raise, as for a study without completed trials: the other trials need not be known here."""
        raise ValueError("No trials are completed yet.")


class _NotesStorage(InMemoryStorage):
    """Holds no trial, and keeps what a pruner notes on one that it judges."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: dict[str, Any] = {}

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep a note; see Optuna."""
        self.notes[key] = value


@dataclass
class SweepStudy:
    """The trials of a sweep, for Optuna.

    A worker refreshes it before each trial, so that the trial's process, a fork, has little left to read.

    Args:
        sweep_folder: The sweep's folder.
        spec: The sweep's spec.
        step: Returns the step of an evaluation on the pruner's axis, None if it is not reported.
        pruner: Optuna's pruner, None if it compares no trials.
        is_read: Whether the sampler or the pruner uses other trials at all.
    """

    sweep_folder: SweepFolder
    spec: SweepSpec
    step: Callable[[Evaluation], int | None]
    pruner: BasePruner | None = None
    is_read: bool = True
    _recorded: dict[int, FrozenTrial] = field(default_factory=dict, init=False, repr=False)
    _seen: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self._space = self.spec.search_space
        self._distributions = {name: distribution_of(one) for name, one in self._space.parameters.items()}

    @property
    def count(self) -> int:
        """Number of trials that are known from records, those of an earlier sweep included."""
        return len(self._recorded) + len(self._foreign)

    def refresh(self) -> None:
        """Read the new records."""
        if not self.is_read:
            return
        changed = self.sweep_folder.changed_records(self._seen)
        self._seen += len(changed)
        for trial, record in changed:
            self._recorded.pop(trial, None)
            if record is not None:
                self._recorded[trial] = self.of_record(record, STATES[record.state])

    def open(self, claim: Claim) -> TrialStorage:
        """Return a study's storage for one claimed trial, as the folder is now."""
        return TrialStorage(claim.trial, self.others(claim.trial))

    def made(self, storage: InMemoryStorage, **parts: Any) -> optuna.Study:
        """Return a study with a storage.

        Args:
            storage: A new storage.
            parts: Its sampler, its pruner.
        """
        direction = StudyDirection[self.spec.direction.name]
        with quietly():
            return optuna.create_study(storage=storage, study_name=self.spec.name, direction=direction, **parts)

    def others(self, trial: int) -> list[FrozenTrial]:
        """Return the trials of the sweep except one, by number: recorded, or running now."""
        if not self.is_read:
            return []
        running = list(self.running())
        self.refresh()  # after the claims, so that no trial that ends meanwhile is missed
        found = dict(self._recorded)
        for other in running:
            recorded = found.get(other.number)
            # A retry replaces the record of the attempt before it; a record of this attempt is newer than its claim.
            if recorded is None or recorded.user_attrs[ATTEMPT] < other.user_attrs[ATTEMPT]:
                found[other.number] = other
        found.pop(trial, None)
        return [*self._foreign, *(found[number] for number in sorted(found))]

    @functools.cached_property
    def _foreign(self) -> list[FrozenTrial]:
        """The trials of the sweep that this one started from, under numbers below 0.

        They have no reports: a pruner compares the trials of this sweep alone.
        """
        foreign = read_foreign(self.sweep_folder)
        trials = foreign.trials if foreign is not None else ()
        made = []
        for place, one in enumerate(trials):
            value = one.objective if STATES[one.state] is not StudyState.FAIL else None
            trial = self._made(place - len(trials), 0, STATES[one.state], one.params, {}, (), value)
            trial.user_attrs |= {FOREIGN: one.trial, **_diverged(one.state)}
            made.append(trial)
        return made

    def running(self) -> Iterator[FrozenTrial]:
        """Yield the trials that run now, each with its parameters once it has them."""
        for trial, attempt in next_attempt.open_claims(self.sweep_folder):
            record = self.sweep_folder.read_record(trial)
            if record is not None and record.attempt == attempt:
                continue  # the attempt has ended, and its worker has not released the claim yet
            if self.sweep_folder.claims.is_alive(trial, attempt):
                yield self._of_running(trial, attempt, record)

    def of_record(self, record: TrialRecord, state: StudyState) -> FrozenTrial:
        """Return a trial from its record; a record that Optuna refuses gives a failed trial."""
        # No pruner judges the evaluation that ends the training.
        judged = record.evaluations[:-1] if record.state is TrialState.COMPLETE else record.evaluations
        reports = self.reports(record.evaluations)
        # Optuna gives a pruned trial the value of its last report.
        last = reports[max(reports)] if reports else None
        value = {StudyState.COMPLETE: record.objective, StudyState.PRUNED: last}.get(state)
        trial = self._made(record.trial, record.attempt, state, record.params, reports, judged, value)
        trial.user_attrs |= _diverged(record.state)
        return trial

    def _of_running(self, trial: int, attempt: int, before: TrialRecord | None) -> FrozenTrial:
        progress = self.sweep_folder.read_progress(trial)
        if progress is None or progress.attempt != attempt:  # it has just begun, or has not resumed yet
            judged = evaluations = before.evaluations if before is not None else ()
        else:
            judged = evaluations = progress.evaluations
            if evaluations and evaluations[-1].step >= progress.total_steps:
                judged = evaluations[:-1]
        params, reports = self.params_of(trial) or {}, self.reports(evaluations)
        return self._made(trial, attempt, StudyState.RUNNING, params, reports, judged)

    def _made(
        self,
        trial: int,
        attempt: int,
        state: StudyState,
        params: Params,
        reports: dict[int, float],
        judged: Sequence[Evaluation],
        value: float | None = None,
    ) -> FrozenTrial:
        notes = self._notes(trial, self.reports(judged))
        try:
            made = create_trial(
                state=state,
                value=value,
                params={name: self._as_drawn(name, value) for name, value in params.items()},
                distributions={name: self._distributions[name] for name in params},
                intermediate_values=reports,
                system_attrs=notes,
            )
        except (KeyError, TypeError, ValueError):  # the record was edited
            made = create_trial(state=StudyState.FAIL, intermediate_values=reports, system_attrs=notes)
        made.number, made.user_attrs = trial, {ATTEMPT: attempt}
        return made

    def _as_drawn(self, name: str, value: Value) -> Any:
        distribution = self._distributions[name]
        return distribution.to_external_repr(distribution.to_internal_repr(value))

    def _notes(self, trial: int, reports: Mapping[int, float]) -> dict[str, Any]:
        """Return the notes of Optuna's pruner on a trial's reports, with which it compares later trials.

        The pruner is shown the trial report by report. This needs no other trials: alone in a study a trial is never
        weak.
        """
        if self.pruner is None or not reports:
            return {}
        storage, study = self._alone
        storage.notes = {}
        shown = create_trial(state=StudyState.RUNNING)
        shown.number = trial
        for step, value in sorted(reports.items()):
            shown.intermediate_values[step] = value
            shown.system_attrs = storage.notes
            self.pruner.prune(study, shown)
        return storage.notes

    @functools.cached_property
    def _alone(self) -> tuple[_NotesStorage, optuna.Study]:
        storage = _NotesStorage()
        return storage, self.made(storage)

    def params_of(self, trial: int) -> Params | None:
        """Return a trial's parameters, which are the same in all its attempts; None if none were drawn yet."""
        return next(filter(self._space.contains, self.sweep_folder.params_of(trial)), None)

    def reports(self, evaluations: Sequence[Evaluation]) -> dict[int, float]:
        """Return a trial's reports by step on the pruner's axis: its best objective so far."""
        reports: dict[int, float] = {}
        for evaluation, best in best_so_far(evaluations, self.spec.direction):
            if (step := self.step(evaluation)) is not None:
                reports.setdefault(step, best)
        return reports


def _diverged(state: TrialState) -> dict[str, bool]:
    return {DIVERGED: True} if state is TrialState.DIVERGED else {}


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence Optuna's message that a study was made."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
