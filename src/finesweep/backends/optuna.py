"""Owns the Optuna backend: samplers and pruners by table, one study in a journal file."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from finesweep.backends import Work
from finesweep.errors import TrialFailed
from finesweep.run_dir import Claim
from finesweep.search_space import Parameter, SearchSpace
from finesweep.spec import SweepSpec
from finesweep.trial import Evaluation, Params, TrialDiverged, TrialPruned, TrialStopped, Value

if TYPE_CHECKING:
    import optuna

NUMBER = "number"
"""Attribute of an Optuna trial that holds the sweep's own number for it."""


@dataclass(frozen=True)
class PrunerEntry:
    """One line of the pruner table.

    Attributes:
        kind: Name of the class in ``optuna.pruners``.
        settings: Its arguments.
        counts_evaluations: Whether its steps must be evenly spaced: it is then told the number of the
            evaluation instead of the examples seen.
        longest: Name of the argument that takes the number of evaluations in the longest trial.
    """

    kind: str
    settings: Mapping[str, int] = field(default_factory=dict)
    counts_evaluations: bool = False
    longest: str | None = None


# A grid is planned point by point (finesweep.plan), so nothing is left for its sampler to propose.
SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "grid": "RandomSampler", "gp": "GPSampler"}
"""Classes in ``optuna.samplers`` by the name that a spec gives them."""

PRUNERS = {
    "none": PrunerEntry("NopPruner"),
    "median": PrunerEntry("MedianPruner"),
    "asha": PrunerEntry("SuccessiveHalvingPruner", {"min_resource": 1, "reduction_factor": 2}, counts_evaluations=True),
    "hyperband": PrunerEntry("HyperbandPruner", {"min_resource": 1}, counts_evaluations=True, longest="max_resource"),
}
"""Pruners by the name that a spec gives them."""


class OptunaBackend:
    """Runs each trial as one call of ``hyperparameter_search`` on a study that all trials share."""

    samplers: ClassVar = tuple(SAMPLERS)
    pruners: ClassVar = tuple(PRUNERS)

    def search(self, work: Work) -> None:
        """Claim and run trials, each in a process of its own, until there are no more claims."""
        while (claim := work.claim()) is not None:
            work.isolated(claim, _ClaimedTrial(work, claim).search)


@dataclass(frozen=True)
class _ClaimedTrial:
    """One claimed trial on its way through ``hyperparameter_search``.

    Its record is written by ``work.train``, whatever happens here.
    """

    work: Work
    claim: Claim

    def search(self) -> None:
        """Call ``hyperparameter_search`` for this one trial of the shared study."""
        from finesweep.backends.driver import SearchDriver

        spec = self.work.spec
        storage = open_storage(self.work.run_dir.study_file)
        planned = _fixed_params(self.work, self.claim, storage)
        with contextlib.suppress(TrialStopped, TrialFailed), _without_best_trial():
            SearchDriver(self.run).hyperparameter_search(
                hp_space=self.draw,
                compute_objective=lambda metrics: metrics[spec.objective.metric],
                n_trials=1,
                direction=str(spec.direction),
                backend="optuna",
                study_name=spec.name,
                storage=storage,
                load_if_exists=True,
                sampler=_sampler(spec, self.claim.trial, planned),
                pruner=_pruner(spec),
            )

    def draw(self, trial: optuna.Trial) -> dict[str, Value]:
        """Mark an Optuna trial with the sweep's number for it, and draw its parameters."""
        trial.set_user_attr(NUMBER, self.claim.trial)
        return suggest(trial, SearchSpace(self.work.spec.space))

    def run(self, trial: optuna.Trial, params: Params) -> float:
        """Train the trial; return its objective."""
        import optuna

        try:
            return self.work.train(self.claim, params, _reporter(self.work, trial))
        except (TrialPruned, TrialDiverged) as stop:
            # PRUNED keeps a diverged trial's last value in the sampler's memory. FAIL would be ignored,
            # and the sampler would walk into the same corner again.
            raise optuna.TrialPruned(str(stop)) from None


@contextlib.contextmanager
def _without_best_trial() -> Iterator[None]:
    """Pass over what the stock call raises at its end as long as no trial of the study has completed."""
    try:
        yield
    except ValueError as error:
        if "No trials are completed yet" not in str(error):
            raise


def open_storage(file: Path) -> optuna.storages.JournalStorage:
    """Open a sweep's study; to be called in the process that uses it, never before a fork.

    Children that share an open journal share its worker id and take each other's trials.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(file), lock_obj=_flock(file)))


def _flock(file: Path) -> Any:
    """Return a journal lock that dies with its owner; Optuna's own costs 30 s after a crash."""
    from optuna.storages.journal._file import BaseJournalFileLock  # the public package exports its subclasses only

    class Flock(BaseJournalFileLock):
        def acquire(self) -> bool:
            self.descriptor = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            return True

        def release(self) -> None:
            os.close(self.descriptor)

    return Flock()


def _fixed_params(work: Work, claim: Claim, storage: optuna.storages.JournalStorage) -> Params | None:
    """Return the parameters that a claim must run with, None where the sampler proposes them.

    A trial that was cut short keeps its parameters. What it left RUNNING in the study is closed, since
    the sampler counts running trials and would be repelled by a dead one.
    """
    import optuna

    earlier = _earlier_attempts(work, claim, storage) if claim.attempt > 1 else []
    for frozen in earlier:
        if not frozen.state.is_finished():
            storage.set_trial_state_values(frozen._trial_id, optuna.trial.TrialState.FAIL)  # noqa: SLF001
    if earlier and earlier[-1].params:
        return dict(earlier[-1].params)
    return work.plan[claim.trial] if claim.trial < len(work.plan) else None


def _earlier_attempts(
    work: Work, claim: Claim, storage: optuna.storages.JournalStorage
) -> list[optuna.trial.FrozenTrial]:
    import optuna

    if work.spec.name not in optuna.get_all_study_names(storage):
        return []
    study = optuna.load_study(study_name=work.spec.name, storage=storage)
    return [trial for trial in study.get_trials(deepcopy=False) if trial.user_attrs.get(NUMBER) == claim.trial]


def _sampler(spec: SweepSpec, trial: int, planned: Params | None) -> optuna.samplers.BaseSampler:
    import optuna

    make = getattr(optuna.samplers, SAMPLERS[spec.search.sampler])
    sampler: optuna.samplers.BaseSampler = make(seed=_trial_seed(spec.search.seed, trial))
    return sampler if planned is None else optuna.samplers.PartialFixedSampler(dict(planned), sampler)


def _pruner(spec: SweepSpec) -> optuna.pruners.BasePruner:
    import optuna

    entry = PRUNERS[spec.search.pruner]
    longest = {entry.longest: max(_most_evaluations(spec), 2)} if entry.longest else {}
    pruner: optuna.pruners.BasePruner = getattr(optuna.pruners, entry.kind)(**entry.settings, **longest)
    return pruner


def _trial_seed(seed: int, trial: int) -> int:
    """Derive a sampler's seed: one for all trials would make each process draw the same parameters."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{trial}".encode()).digest()[:4], "big")


def suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Value]:
    """Draw every parameter that exists, given those drawn before it."""
    params: dict[str, Value] = {}
    for name, parameter in space.parameters.items():
        if space.is_active(name, params):
            params[name] = _suggest_one(trial, name, parameter)
    return params


def _suggest_one(trial: optuna.Trial, name: str, parameter: Parameter) -> Value:
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


def _most_evaluations(spec: SweepSpec) -> int:
    """Return how many evaluations the longest trial of a space has."""
    epochs = spec.space.get("num_train_epochs")
    if epochs is None:
        longest = float(spec.fixed.get("num_train_epochs") or 3)
    else:
        longest = float(epochs.high if epochs.choices is None else max(map(_as_number, epochs.choices)))  # type: ignore[arg-type]
    return max(1, round(longest * spec.evaluation.per_epoch))


def _as_number(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _reporter(work: Work, trial: optuna.Trial) -> Callable[[Evaluation, float, bool], None]:
    entry = PRUNERS[work.spec.search.pruner]
    metric = work.spec.objective.metric

    def report(evaluation: Evaluation, best: float, last: bool) -> None:
        count = evaluation.epoch * work.spec.evaluation.per_epoch
        if entry.counts_evaluations and abs(count - round(count)) > 0.01:
            return  # the end of a broken epoch lies between two rungs
        trial.report(best, round(count) if entry.counts_evaluations else evaluation.examples)
        if not last and trial.should_prune():
            grounds = f"{metric} {best:.4g} after {evaluation.examples:,} examples"
            raise TrialPruned(f"{work.spec.search.pruner} pruner: {grounds}")

    return report
