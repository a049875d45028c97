"""Owns the study that all trials of a sweep share: what Optuna knows, kept in step with the records.

The records are the truth and the study a cache of them: whatever becomes of its file or its database, it is
made again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import optuna
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial
from optuna.trial import TrialState as StudyState

from finesweep.backends.optuna.drawing import suggest
from finesweep.backends.optuna.journal import UNREADABLE, FileSource
from finesweep.backends.optuna.trial_attributes import NUMBER, mark, marks
from finesweep.folder.claims import Claim
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.launch.storage_url import DatabaseAway
from finesweep.spec.search_space import SearchSpace
from finesweep.spec.sections import SweepSpec
from finesweep.trial import Evaluation, Params, TrialRecord, TrialState

if TYPE_CHECKING:
    from finesweep.backends.optuna.database import DatabaseStorage
    from finesweep.backends.optuna.journal import FileStorage

    Storage = FileStorage | DatabaseStorage

# PRUNED keeps a diverged trial's last value in the sampler's memory. FAIL would be ignored, and the sampler
# would walk into the same corner again.
STATES = {
    TrialState.COMPLETE: StudyState.COMPLETE,
    TrialState.PRUNED: StudyState.PRUNED,
    TrialState.DIVERGED: StudyState.PRUNED,
    TrialState.FAILED: StudyState.FAIL,
    TrialState.WAITING: StudyState.WAITING,
}
"""What the study is told of a trial that is finished, or waits at a rung."""

Ends = Mapping[tuple[int, int], TrialRecord]
"""The record of each trial of which the study is told, by number and attempt."""


class Source(Protocol):
    """Where a study is kept.

    Attributes:
        refresh_seconds: How old what a worker knows may be for the trials that are forked from it.
    """

    refresh_seconds: float

    @property
    def name(self) -> str:
        """The study's name there."""
        ...

    @property
    def shown(self) -> str:
        """What messages call it."""
        ...

    def open(self, claim: Claim | None = None, known: Any = None) -> Storage:
        """Open it, for one trial or as a whole, with what an earlier opening has read; closed before a fork."""
        ...

    def set_aside(self) -> str:
        """Give a study that cannot be used another name; return that."""
        ...

    def persist(self, action: Callable[[], None]) -> None:
        """Do something there, again if it fails and may not fail again."""
        ...

    def hastily(self) -> contextlib.AbstractContextManager[None]:
        """Try everything in the block once only, since somebody waits for it."""
        ...


@dataclass
class SharedStudy:
    """The study of one sweep.

    A worker settles it and keeps what it has read, so that its trials' processes, which are forks of it, need
    not read all of it again.

    Args:
        sweep_folder: The sweep's folder.
        spec: The sweep's spec.
        step: Where on the pruner's axis an evaluation lies, None where it is not reported.
        url: The database that holds it, None for a file in the folder.
    """

    sweep_folder: SweepFolder
    spec: SweepSpec
    step: Callable[[Evaluation], int | None]
    url: str | None = None
    _known: Storage | None = field(default=None, init=False, repr=False)
    _refreshed: float = field(default=-math.inf, init=False, repr=False)

    @functools.cached_property
    def source(self) -> Source:
        """Where the study is kept."""
        if self.url is None:
            return FileSource(self.sweep_folder.study_file, self.spec.name)
        from finesweep.backends.optuna.database import DatabaseSource

        return DatabaseSource(self.url, name_among_others(self.sweep_folder))

    @functools.cached_property
    def _space(self) -> SearchSpace:
        return SearchSpace(self.spec.space)

    @property
    def name(self) -> str:
        """The study's name where it is kept."""
        return self.source.name

    def settle(self) -> None:
        """Bring the study in step with the records, making it anew where it is damaged.

        Afterwards it has every finished trial as its record says, and no trial is RUNNING but those that
        somebody alive holds. Any number of workers may do this at any time. The first time here, all that the
        study says of completed trials is compared with the records.

        Raises:
            FolderError: The folder cannot be written.
            DatabaseAway: The database cannot be reached, and the study was never settled here; later it is left
                as it is, since whoever opens it next settles it.
        """
        try:
            self.source.persist(self._settle)
        except DatabaseAway as away:
            if self._known is None:
                raise
            self._note(f"{away}; the study is brought in step with the records when it is used again")

    def _settle(self) -> None:
        with self.sweep_folder.locked():
            # Read before the study: a trial is in the study first, so that none can be added twice.
            ends = {
                (record.trial, record.attempt): record for record in self.sweep_folder.records() if _is_told(record)
            }
            with contextlib.closing(self._sound_storage(ends)) as storage:
                self._close_abandoned(storage, ends)
                self._add_missing(storage, ends)
        self._known, self._refreshed = storage, time.monotonic()

    def refresh(self) -> None:
        """Read what others have told the study since, for the trials' processes that are forked from now on."""
        if time.monotonic() - self._refreshed < self.source.refresh_seconds:
            return
        self._refreshed = time.monotonic()
        # Whoever calls this may hold a claim, and does not renew it meanwhile.
        try:
            with self.source.hastily(), contextlib.closing(self.source.open(known=self._known)) as storage:
                storage.read(self.name)
        except DatabaseAway:  # left to the trial's process, which waits
            return
        except UNREADABLE:
            self._known = None
        else:
            self._known = storage

    def open(self, claim: Claim) -> Storage:
        """Open the study for one claimed trial, made anew if it was lost or damaged since it was settled.

        Raises:
            FolderError: The folder cannot be written.
            DatabaseAway: The database cannot be reached.
        """
        with contextlib.suppress(*UNREADABLE):
            storage = self.source.open(claim, self._known)
            if storage.has_study(self.name):
                return storage
            storage.close()
        self._known = None
        self.settle()
        return self.source.open(claim, self._known)

    def params_to_repeat(self, claim: Claim, storage: Storage) -> Params | None:
        """Return the parameters that an earlier attempt of a trial had, None where there is none.

        What an earlier attempt left RUNNING in the study is closed, since the sampler counts running trials
        and would be repelled by a dead one. A trial that waited at a rung goes on as what it is there.
        """
        trials = self._study(storage).get_trials(deepcopy=False)
        earlier = [trial for trial in trials if trial.user_attrs.get(NUMBER) == claim.trial]
        for trial in earlier:
            if trial.state is not StudyState.WAITING:
                _tell(storage, trial, StudyState.FAIL, None)
        told = [trial.params for trial in reversed(earlier)]
        return next(
            (params for params in (*told, *self._noted_params(claim.trial)) if self._space.contains(params)), None
        )

    def _noted_params(self, trial: int) -> Iterator[Params]:
        record = self.sweep_folder.read_record(trial)
        if record is not None:
            yield record.params
        yield from (progress.params for progress in self.sweep_folder.progress() if progress.trial == trial)

    def _as_told(self, record: TrialRecord) -> FrozenTrial:
        """Return the trial that the study would have if it had been told all that a record says."""
        state, reports = STATES[record.state], self.reports(record)
        last = reports[max(reports)] if reports else None
        value = {StudyState.COMPLETE: record.objective, StudyState.PRUNED: last}.get(state)
        try:
            params, distributions = self._drawn(record.params)
            return optuna.trial.create_trial(
                state=state,
                value=value,
                params=params,
                distributions=distributions,
                user_attrs=marks(record),
                intermediate_values=reports,
            )
        except ValueError:  # Optuna refuses what it says, such as a value that somebody has edited
            return optuna.trial.create_trial(state=StudyState.FAIL, user_attrs=marks(record))

    def _drawn(self, params: Params) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return parameters with their distributions, nothing of what was cut short before it was drawn."""
        if not self._space.contains(params):
            return {}, {}
        fixed = FixedTrial(dict(params))
        suggest(fixed, self._space)
        return fixed.params, fixed.distributions

    def reports(self, record: TrialRecord) -> dict[int, float]:
        """Return what a trial has reported, by its step on the pruner's axis: its best objective so far."""
        reports: dict[int, float] = {}
        best: float | None = None
        for evaluation in record.evaluations:
            if evaluation.objective is None:
                continue
            if self.spec.direction.better(evaluation.objective, best):
                best = evaluation.objective
            step = self.step(evaluation)
            if step is not None and best is not None:
                reports.setdefault(step, best)
        return reports

    def _sound_storage(self, ends: Ends) -> Storage:
        """Open the study, set aside and begun anew if it is damaged."""
        try:
            return self._checked_storage(ends)
        except UNREADABLE as error:
            aside = self.source.set_aside()
            self._known = None
            self._note(
                f"{self.source.shown} cannot be used ({_shortly(error)}); "
                f"set aside as {aside} and made anew from trials/"
            )
        return self._checked_storage(ends)

    def _note(self, text: str) -> None:
        self.sweep_folder.notes.append(text)
        print(text, flush=True)  # noqa: T201  goes into the log of the worker or the trial

    def _checked_storage(self, ends: Ends) -> Storage:
        """Open the study, and compare it with the records, since a flipped bit may well replay.

        Raises:
            Exception: One of ``UNREADABLE``.
        """
        storage = self.source.open(known=self._known)
        try:
            self._check(storage, ends)
        except BaseException:
            storage.close()
            raise
        return storage

    def _check(self, storage: Storage, ends: Ends) -> None:
        direction = StudyDirection[self.spec.direction.name]
        if not storage.has_study(self.name):
            optuna.create_study(study_name=self.name, storage=storage, direction=direction)
        study = self._study(storage)
        if study.direction is not direction:
            raise ValueError(f"it is to {study.direction.name}, the sweep to {direction.name}")
        if self._known is not None:
            return
        for trial in study.get_trials(deepcopy=False, states=(StudyState.COMPLETE,)):
            number, attempt = mark(trial)
            if number < 0:
                raise ValueError(f"its trial {trial.number} is nobody's")
            if (number, attempt) in ends and not self._agrees(trial, ends[number, attempt]):
                raise ValueError(f"it contradicts the record of trial {number}")

    def _agrees(self, trial: FrozenTrial, record: TrialRecord) -> bool:
        """Say whether the study and a record have the same to say of one completed trial."""
        told = self._as_told(record)
        same = (told.params, told.distributions, told.values) == (trial.params, trial.distributions, trial.values)
        return told.state is not trial.state or same

    def _close_abandoned(self, storage: Storage, ends: Ends) -> None:
        """End what has not ended and is held by nobody: as its record says, where the study knows all but the end."""
        states = (StudyState.RUNNING, StudyState.WAITING)
        for trial in self._study(storage).get_trials(deepcopy=False, states=states):
            number, attempt = mark(trial)
            if number >= 0 and self.sweep_folder.alive(number):
                continue
            told = self._as_told(ends[number, attempt]) if (number, attempt) in ends else None
            if told is not None and told.state is trial.state:
                continue
            if told is not None and _is_all_but_told(trial, told):
                _tell(storage, trial, told.state, told.values)
            else:
                _tell(storage, trial, StudyState.FAIL, None)

    def _add_missing(self, storage: Storage, ends: Ends) -> None:
        study = self._study(storage)
        trials = study.get_trials(deepcopy=False)
        known = {(mark(trial), trial.state) for trial in trials}
        # Whoever holds a trial tells its end, or that it waits again.
        held = {mark(trial)[0] for trial in trials if trial.state is StudyState.RUNNING}
        for which, record in sorted(ends.items(), key=lambda item: item[0]):
            if which[0] in held or (which, STATES[record.state]) in known:
                continue
            told = self._as_told(record)
            if (which, told.state) not in known:
                study.add_trial(told)

    def _study(self, storage: Storage) -> optuna.Study:
        return optuna.load_study(study_name=self.name, storage=storage)


def name_among_others(sweep_folder: SweepFolder) -> str:
    """Return a name for a sweep's study that no other sweep has, and that it keeps when its folder is moved.

    Raises:
        FolderError: The folder is no sweep's.
    """
    manifest = sweep_folder.manifest()
    what = json.dumps([manifest.created, manifest.identity()], sort_keys=True, default=str)
    return f"{manifest.name}-{hashlib.sha256(what.encode()).hexdigest()[:16]}"


def _tell(storage: Storage, trial: FrozenTrial, state: StudyState, values: Sequence[float] | None) -> None:
    """End a trial of the study, unless somebody else was faster."""
    if not trial.state.is_finished():
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            storage.set_trial_state_values(trial._trial_id, state, values)  # noqa: SLF001


def put_back(storage: Storage, trial: optuna.Trial) -> None:
    """Let a running trial of the study wait; it is asked for again under its number, with all that it has told."""
    storage.set_trial_state_values(trial._trial_id, StudyState.WAITING)  # noqa: SLF001


def _is_told(record: TrialRecord) -> bool:
    """Say whether the study is told of what a record says; who is tried again anew has nothing to tell yet."""
    return record.state.finished or record.state is TrialState.WAITING


def _is_all_but_told(trial: FrozenTrial, told: FrozenTrial) -> bool:
    return (trial.params, trial.intermediate_values) == (told.params, told.intermediate_values)


def _shortly(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
