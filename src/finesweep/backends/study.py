"""Owns the study that all trials of a sweep share: what Optuna knows, kept in step with the records.

The records are the truth and the study a cache of them: whatever becomes of the journal, it is made again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial
from optuna.trial import TrialState as StudyState

from finesweep.backends.journal import UNREADABLE, Journal, set_aside
from finesweep.claims import Claim
from finesweep.run_dir import RunDir
from finesweep.search_space import Parameter, SearchSpace
from finesweep.spec import SweepSpec
from finesweep.trial import Evaluation, Params, TrialRecord, TrialState, Value

NUMBER, ATTEMPT = "number", "attempt"
"""Attributes of an Optuna trial that hold the sweep's own number for it, and which try it is."""

# PRUNED keeps a diverged trial's last value in the sampler's memory. FAIL would be ignored, and the sampler
# would walk into the same corner again.
STATES = {
    TrialState.COMPLETE: StudyState.COMPLETE,
    TrialState.PRUNED: StudyState.PRUNED,
    TrialState.DIVERGED: StudyState.PRUNED,
    TrialState.FAILED: StudyState.FAIL,
}
"""What the study is told of a finished trial."""

Ends = Mapping[tuple[int, int], FrozenTrial]
"""What the study should say of each finished trial, by number and attempt."""


class Storage(JournalStorage):
    """Optuna's store of a study, to be opened in the process that uses it and closed before a fork.

    Children that share an open one share its worker id and take each other's trials. A trial that is made
    here is marked from its first moment, so that whenever its process dies, it is known whose it was.

    Args:
        file: The journal.
        claim: Whose trial is made here, if any.

    Raises:
        RunDirError: The file cannot be written.
        Exception: One of ``UNREADABLE``: the journal is damaged.
    """

    def __init__(self, file: Path, claim: Claim | None = None) -> None:
        self.journal = Journal(file)
        self._claim = claim
        try:
            super().__init__(self.journal)
        except BaseException:
            self.close()
            raise
        self.journal.lenient = True

    def close(self) -> None:
        """Let the journal go."""
        self.journal.close()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make a trial; see Optuna."""
        if template_trial is None and self._claim is not None:
            marks = _marks(self._claim)
            template_trial = optuna.trial.create_trial(state=StudyState.RUNNING, user_attrs=marks)
        return super().create_new_trial(study_id, template_trial)


@dataclass(frozen=True)
class SharedStudy:
    """The study of one sweep.

    Args:
        run_dir: The sweep's folder.
        spec: The sweep's spec.
        step: Where on the pruner's axis an evaluation lies, None where it is not reported.
    """

    run_dir: RunDir
    spec: SweepSpec
    step: Callable[[Evaluation], int | None]

    def settle(self) -> None:
        """Bring the study in step with the records, making it anew where its journal is damaged.

        Afterwards it has every finished trial as its record says, and no trial is RUNNING but those that
        somebody alive holds. Any number of workers may do this at any time.

        Raises:
            RunDirError: The folder cannot be written.
        """
        with self.run_dir.locked():
            # Read before the study: a trial is in the study first, so that none can be added twice.
            ends = self._ends()
            with contextlib.closing(self._sound_storage(ends)) as storage:
                self._close_abandoned(storage, ends)
                self._add_missing(storage, ends)

    def open(self, claim: Claim) -> Storage:
        """Open the study for one claimed trial, made anew if it was lost or damaged since it was settled.

        Raises:
            RunDirError: The folder cannot be written.
        """
        with contextlib.suppress(*UNREADABLE):
            storage = Storage(self.run_dir.study_file, claim)
            if self._is_in(storage):
                return storage
            storage.close()
        self.settle()
        return Storage(self.run_dir.study_file, claim)

    def params_to_repeat(self, claim: Claim, storage: Storage) -> Params | None:
        """Return the parameters that an earlier attempt of a trial had, None where there is none.

        What an earlier attempt left RUNNING in the study is closed, since the sampler counts running trials
        and would be repelled by a dead one.
        """
        trials = self._study(storage).get_trials(deepcopy=False)
        earlier = [trial for trial in trials if trial.user_attrs.get(NUMBER) == claim.trial]
        for trial in earlier:
            _tell(storage, trial, StudyState.FAIL, None)
        space = SearchSpace(self.spec.space)
        told = [trial.params for trial in reversed(earlier)]
        return next((params for params in (*told, *self._noted_params(claim.trial)) if space.contains(params)), None)

    def _noted_params(self, trial: int) -> Iterator[Params]:
        record = self.run_dir.read_record(trial)
        if record is not None:
            yield record.params
        yield from (progress.params for progress in self.run_dir.progress() if progress.trial == trial)

    def _ends(self) -> Ends:
        finished = (record for record in self.run_dir.records() if record.state.finished)
        return {(record.trial, record.attempt): self._as_told(record) for record in finished}

    def _as_told(self, record: TrialRecord) -> FrozenTrial:
        """Return the trial that the study would have if it had been told all that a record says."""
        state, reports = STATES[record.state], self._reports(record)
        last = reports[max(reports)] if reports else None
        value = {StudyState.COMPLETE: record.objective, StudyState.PRUNED: last}.get(state)
        try:
            params, distributions = self._drawn(record.params)
            return optuna.trial.create_trial(
                state=state,
                value=value,
                params=params,
                distributions=distributions,
                user_attrs=_marks(record),
                intermediate_values=reports,
            )
        except ValueError:  # Optuna refuses what it says, such as a value that somebody has edited
            return optuna.trial.create_trial(state=StudyState.FAIL, user_attrs=_marks(record))

    def _drawn(self, params: Params) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return parameters with their distributions, nothing of what was cut short before it was drawn."""
        if not SearchSpace(self.spec.space).contains(params):
            return {}, {}
        fixed = FixedTrial(dict(params))
        suggest(fixed, SearchSpace(self.spec.space))
        return fixed.params, fixed.distributions

    def _reports(self, record: TrialRecord) -> dict[int, float]:
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
        file = self.run_dir.study_file
        try:
            return self._checked_storage(ends)
        except UNREADABLE as error:
            aside = set_aside(file)
            note = (
                f"{file.name} cannot be used ({_shortly(error)}); set aside as {aside.name} and made anew from trials/"
            )
            self.run_dir.notes.append(note)
            print(note, flush=True)  # noqa: T201  goes into the log of the worker or the trial
        return self._checked_storage(ends)

    def _checked_storage(self, ends: Ends) -> Storage:
        """Open the study, and compare it with the records, since a flipped bit may well replay.

        Raises:
            Exception: One of ``UNREADABLE``.
        """
        storage = Storage(self.run_dir.study_file)
        try:
            self._check(storage, ends)
        except BaseException:
            storage.close()
            raise
        return storage

    def _check(self, storage: Storage, ends: Ends) -> None:
        direction = StudyDirection[self.spec.direction.name]
        if not self._is_in(storage):
            optuna.create_study(study_name=self.spec.name, storage=storage, direction=direction)
        study = self._study(storage)
        if study.direction is not direction:
            raise ValueError(f"it is to {study.direction.name}, the sweep to {direction.name}")
        for trial in study.get_trials(deepcopy=False, states=(StudyState.COMPLETE,)):
            mark = _mark(trial)
            told = ends.get(mark)
            if mark[0] < 0:
                raise ValueError(f"its trial {trial.number} is nobody's")
            if told is not None and told.state is trial.state and not _agree(told, trial):
                raise ValueError(f"it contradicts the record of trial {mark[0]}")

    def _close_abandoned(self, storage: Storage, ends: Ends) -> None:
        """End what is RUNNING and held by nobody: as its record says, where the study knows all but the end."""
        for trial in self._study(storage).get_trials(deepcopy=False):
            mark = _mark(trial)
            if trial.state is not StudyState.RUNNING or (mark[0] >= 0 and self.run_dir.alive(mark[0])):
                continue
            told = ends.get(mark)
            if told is not None and _is_all_but_told(trial, told):
                _tell(storage, trial, told.state, told.values)
            else:
                _tell(storage, trial, StudyState.FAIL, None)

    def _add_missing(self, storage: Storage, ends: Ends) -> None:
        study = self._study(storage)
        trials = study.get_trials(deepcopy=False)
        known = {(_mark(trial), trial.state) for trial in trials}
        # Whoever holds a trial tells its end.
        held = {_mark(trial) for trial in trials if trial.state is StudyState.RUNNING}
        for mark, told in sorted(ends.items(), key=lambda item: item[0]):
            if (mark, told.state) not in known and mark not in held:
                study.add_trial(told)

    def _is_in(self, storage: Storage) -> bool:
        return self.spec.name in optuna.get_all_study_names(storage)

    def _study(self, storage: Storage) -> optuna.Study:
        return optuna.load_study(study_name=self.spec.name, storage=storage)


def _tell(storage: Storage, trial: FrozenTrial, state: StudyState, values: Sequence[float] | None) -> None:
    """End a trial of the study, unless somebody else was faster."""
    if not trial.state.is_finished():
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            storage.set_trial_state_values(trial._trial_id, state, values)  # noqa: SLF001


def _marks(of: Claim | TrialRecord) -> dict[str, int]:
    return {NUMBER: of.trial, ATTEMPT: of.attempt}


def _mark(trial: FrozenTrial) -> tuple[int, int]:
    """Return a study trial's number and attempt in the sweep, -1 each where it has none."""
    number, attempt = (trial.user_attrs.get(name) for name in (NUMBER, ATTEMPT))
    return (number, attempt) if isinstance(number, int) and isinstance(attempt, int) else (-1, -1)


def _is_all_but_told(trial: FrozenTrial, told: FrozenTrial) -> bool:
    return (trial.params, trial.intermediate_values) == (told.params, told.intermediate_values)


def _agree(one: FrozenTrial, other: FrozenTrial) -> bool:
    return (one.params, one.distributions, one.values) == (other.params, other.distributions, other.values)


def _shortly(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__


def suggest(trial: optuna.Trial | FixedTrial, space: SearchSpace) -> dict[str, Value]:
    """Draw every parameter that exists, given those drawn before it."""
    params: dict[str, Value] = {}
    for name, parameter in space.parameters.items():
        if space.is_active(name, params):
            params[name] = _suggest_one(trial, name, parameter)
    return params


def _suggest_one(trial: optuna.Trial | FixedTrial, name: str, parameter: Parameter) -> Value:
    if parameter.choices is not None:
        value: Value = trial.suggest_categorical(name, parameter.choices)
        return value
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.is_integer:
        return trial.suggest_int(
            name, int(parameter.low), int(parameter.high), step=int(parameter.step or 1), log=parameter.log
        )
    return trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
