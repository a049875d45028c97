"""Owns the Optuna backend: samplers and pruners by table, and one call of the search for each trial."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from finesweep.backends.protocol import Report, Work
from finesweep.errors import TrialFailed
from finesweep.files.atomic import exclusive
from finesweep.folder.claims import Claim
from finesweep.launch.storage_url import DatabaseAway
from finesweep.pruning.rules import others_at
from finesweep.spec.search_space import SearchSpace
from finesweep.spec.sections import SweepSpec
from finesweep.text.format import metric
from finesweep.trial import (
    AttemptOutdated,
    Evaluation,
    Params,
    TrialDiverged,
    TrialPruned,
    TrialStopped,
    TrialWaits,
    Value,
)

if TYPE_CHECKING:
    import optuna

    from finesweep.backends.optuna.proposals import RandomDraws
    from finesweep.backends.optuna.study import SharedStudy, Storage


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


# A grid is planned point by point (finesweep.spec.planned_trials), so nothing is left for its sampler to propose.
SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "grid": "RandomSampler", "gp": "GPSampler"}
"""Classes in ``optuna.samplers`` by the name that a spec gives them."""

# What is compared at rungs is compared by finesweep.worker.rung_judge, with either backend.
PRUNERS = {
    "none": PrunerEntry("NopPruner"),
    "median": PrunerEntry("NopPruner"),
    "halving": PrunerEntry("NopPruner"),
    "asha": PrunerEntry("SuccessiveHalvingPruner", {"min_resource": 1, "reduction_factor": 2}, counts_evaluations=True),
    "hyperband": PrunerEntry("HyperbandPruner", {"min_resource": 1}, counts_evaluations=True, longest="max_resource"),
}
"""Pruners by the name that a spec gives them."""


class OptunaBackend:
    """Runs each trial as one call of ``hyperparameter_search`` on a study that all trials share."""

    samplers: ClassVar = tuple(SAMPLERS)
    pruners: ClassVar = tuple(PRUNERS)
    coordinates: ClassVar = False

    def search(self, work: Work) -> None:
        """Claim and run trials, each in a process of its own, until there are no more claims.

        The study is settled before the first trial, for what died earlier, and after the last one, for what
        died meanwhile.
        """
        study = shared_study(work)
        study.settle()
        draws = draws_of(work)
        while (claim := work.claim()) is not None:
            study.refresh()
            work.isolated(claim, _ClaimedTrial(work, claim, study, draws).search)
        study.settle()


@dataclass
class _ClaimedTrial:
    """One claimed trial on its way through ``hyperparameter_search``.

    Its record is written by ``work.train``, whatever happens here.
    """

    work: Work
    claim: Claim
    study: SharedStudy
    draws: RandomDraws | None
    _ended: bool = field(default=False, init=False)
    _turn: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)

    def search(self) -> None:
        """Call ``hyperparameter_search`` for this one trial of the shared study."""
        from finesweep.backends.search_driver import SearchDriver

        spec = self.work.spec
        with contextlib.closing(self.study.open(self.claim)) as storage, self._passing_over(storage), self._turn:
            if takes_turns(spec):
                self._turn.enter_context(exclusive(self.work.sweep_folder.path / ".proposing.lock"))
            SearchDriver(functools.partial(self.run, storage)).hyperparameter_search(
                hp_space=self.draw,
                compute_objective=lambda metrics: metrics[spec.objective.metric],
                n_trials=1,
                direction=str(spec.direction),
                backend="optuna",
                study_name=self.study.name,
                storage=storage,
                load_if_exists=True,
                sampler=sampler_of(self.work, self.study, self.claim, storage, self.draws),
                pruner=_pruner(spec),
            )

    def draw(self, trial: optuna.Trial) -> dict[str, Value]:
        """Draw the trial's parameters."""
        from finesweep.backends.optuna.drawing import suggest

        with self._turn:  # ends here
            return suggest(trial, SearchSpace(self.work.spec.space))

    def run(self, storage: Storage, trial: optuna.Trial, params: Params) -> float:
        """Train the trial; return its objective."""
        import optuna

        from finesweep.backends.optuna.study import put_back
        from finesweep.backends.optuna.trial_attributes import ATTEMPT

        # The one thing that no record says of a trial that dies with the whole machine.
        storage.keep()
        try:
            trial.set_user_attr(ATTEMPT, self.claim.attempt)
            objective = self.work.train(self.claim, params, _reporter(self.work, self.claim, trial))
        except (TrialStopped, TrialFailed) as end:
            self._ended = True
            if isinstance(end, TrialPruned | TrialDiverged):
                raise optuna.TrialPruned(str(end)) from None  # see finesweep.backends.optuna.study.STATES
            if isinstance(end, TrialWaits):
                put_back(storage, trial)
            raise
        self._ended = True
        return objective

    @contextlib.contextmanager
    def _passing_over(self, storage: Storage) -> Iterator[None]:
        """Pass over what the search raises about a trial that has ended: it counts as its record says.

        The stock call raises as long as no trial of a study has completed. Optuna cannot tell the end of a
        trial that somebody else, who took it for dead, has told already; nor any end on a full disk, where it
        raises an ``AssertionError`` instead of the reason; nor one while the database is away.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        with contextlib.suppress(TrialStopped, TrialFailed):
            try:
                yield
            except (DatabaseAway, UnboundLocalError) as error:
                # Where Optuna can neither tell a trial's end nor read the trial, it stumbles over a variable.
                away = error if isinstance(error, DatabaseAway) else error.__context__
                if not self._ended:
                    raise away or error from None
                _say(f"{away}; the study learns of this trial's end from its record")
            except (AssertionError, ValueError, UpdateFinishedTrialError):
                if storage.failure is not None:
                    raise storage.failure from None
                if not self._ended:
                    self.work.sweep_folder.claims.refuse_outdated(self.claim.trial, self.claim.attempt)
                    raise


def shared_study(work: Work) -> SharedStudy:
    """Return the study that all trials of a sweep share."""
    from finesweep.backends.optuna.study import SharedStudy

    return SharedStudy(
        work.sweep_folder, work.spec, lambda evaluation: step_of(work.spec, evaluation), work.profile.asked.storage
    )


def draws_of(work: Work) -> RandomDraws | None:
    """Return the proposals of a sweep's random sampler; None with another one, or where none can repeat."""
    from finesweep.backends.optuna.proposals import RandomDraws

    spec = work.spec
    is_random = SAMPLERS[spec.search.sampler] == "RandomSampler"
    return RandomDraws(spec, work.plan) if is_random and SearchSpace(spec.space).can_repeat else None


def takes_turns(spec: SweepSpec) -> bool:
    """Say whether one process at a time asks the sampler, so that each sees what the others are about to try.

    The random sampler learns from nothing.
    """
    kind = SAMPLERS[spec.search.sampler]
    return kind == "GPSampler" or (kind != "RandomSampler" and SearchSpace(spec.space).can_repeat)


def sampler_of(
    work: Work, study: SharedStudy, claim: Claim, storage: Storage, draws: RandomDraws | None
) -> optuna.samplers.BaseSampler:
    """Return what proposes one trial's parameters: what it had before, what is planned, the rest by the spec's sampler.

    Its seed follows from the sweep's and the trial's number.
    """
    import optuna

    from finesweep.backends.optuna.proposals import Unrepeated, taken_by_others, trial_seed

    spec, plan = work.spec, work.plan
    make = getattr(optuna.samplers, SAMPLERS[spec.search.sampler])
    seed = trial_seed(spec.search.seed, claim.trial)
    sampler: optuna.samplers.BaseSampler = make(seed=seed)
    fixed = study.params_to_repeat(claim, storage) if claim.attempt > 1 else None
    if fixed is None and claim.trial < len(plan):
        fixed = plan[claim.trial]
    if fixed is None and draws is not None:
        fixed = draws.of(claim.trial)
    if fixed is not None:
        return optuna.samplers.PartialFixedSampler(dict(fixed), sampler)
    if not takes_turns(spec) or not SearchSpace(spec.space).can_repeat:
        return sampler
    stored = optuna.load_study(study_name=study.name, storage=storage)
    return Unrepeated(sampler, spec, lambda: taken_by_others(spec, plan, work.sweep_folder, stored, claim), seed)


def _pruner(spec: SweepSpec) -> optuna.pruners.BasePruner:
    import optuna

    entry = PRUNERS[spec.search.pruner]
    longest = {entry.longest: max(_most_evaluations(spec), 2)} if entry.longest else {}
    pruner: optuna.pruners.BasePruner = getattr(optuna.pruners, entry.kind)(**entry.settings, **longest)
    return pruner


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


def step_of(spec: SweepSpec, evaluation: Evaluation) -> int | None:
    """Return where on the pruner's axis an evaluation lies, None where it lies between two rungs."""
    if not PRUNERS[spec.search.pruner].counts_evaluations:
        return evaluation.examples
    count = evaluation.epoch * spec.evaluation.per_epoch
    # The end of a broken epoch is no rung.
    return round(count) if abs(count - round(count)) <= 0.01 else None


def _reporter(work: Work, claim: Claim, trial: optuna.Trial) -> Report:
    from optuna.exceptions import UpdateFinishedTrialError

    spec = work.spec
    reported = set(trial.storage.get_trial(trial._trial_id).intermediate_values)  # noqa: SLF001

    def report(evaluation: Evaluation, best: float, last: bool, _: object) -> None:
        step = step_of(spec, evaluation)
        if step is None or step in reported:
            return
        reported.add(step)
        try:
            trial.report(best, step)
            weak = not last and trial.should_prune()
        except UpdateFinishedTrialError:
            raise AttemptOutdated(f"trial {claim.trial}: attempt {claim.attempt} was given up") from None
        except DatabaseAway as away:
            _say(f"{away}; the evaluation after {evaluation.examples:,} examples stops no trial")
            return
        if weak:
            others = others_at(claim.trial, evaluation.examples, work.sweep_folder.records(), spec.direction)
            raise TrialPruned(f"{grounds(spec, evaluation, best)}; {others}")

    return report


def grounds(spec: SweepSpec, evaluation: Evaluation, best: float) -> str:
    """Say what a trial had reached when it was pruned."""
    return f"{spec.search.pruner}: {spec.objective.metric} {metric(best)} after {evaluation.examples:,} examples"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  goes into the trial's log
