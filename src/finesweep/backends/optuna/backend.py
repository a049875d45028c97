"""Searches with Optuna: lists samplers and pruners in two tables and calls ``hyperparameter_search`` for each trial."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from finesweep.backends.protocol import Work
from finesweep.errors import TrialFailed
from finesweep.files import exclusive
from finesweep.folder import Claim
from finesweep.pruning.rules import ASHA_FACTOR, others_at
from finesweep.spec import SweepSpec
from finesweep.text import metric
from finesweep.trial import Evaluation, Params, Report, TrialDiverged, TrialPruned, TrialStopped, Value

if TYPE_CHECKING:
    import optuna

    from finesweep.backends.optuna.proposals import RandomDraws
    from finesweep.backends.optuna.study import SweepStudy, TrialStorage


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

    @property
    def compares(self) -> bool:
        """Whether it compares what trials have reported."""
        return self.kind != "NopPruner"


# A grid is planned point by point (finesweep.spec.planned_trials), so nothing is left for its sampler to propose.
SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "grid": "RandomSampler", "gp": "GPSampler"}
"""Classes in ``optuna.samplers`` by the name that a spec gives them."""

# What is compared at rungs is compared by finesweep.worker.rung_judge, with either backend.
PRUNERS = {
    "none": PrunerEntry("NopPruner"),
    "median": PrunerEntry("NopPruner"),
    "halving": PrunerEntry("NopPruner"),
    "asha": PrunerEntry(
        "SuccessiveHalvingPruner", {"min_resource": 1, "reduction_factor": ASHA_FACTOR}, counts_evaluations=True
    ),
    "hyperband": PrunerEntry("HyperbandPruner", {"min_resource": 1}, counts_evaluations=True, longest="max_resource"),
}
"""Pruners by the name that a spec gives them."""


class OptunaBackend:
    """Runs each trial as one call of ``hyperparameter_search``, on a study that is made of the sweep's folder."""

    samplers: ClassVar = tuple(SAMPLERS)
    pruners: ClassVar = tuple(PRUNERS)
    coordinates: ClassVar = False

    def search(self, work: Work) -> None:
        """Claim and run trials, each in a process of its own, until there are no more claims."""
        study, draws = sweep_study(work), draws_of(work)
        while (claim := work.claim()) is not None:
            study.refresh()
            work.isolated(claim, _ClaimedTrial(work, claim, study, draws).search)


@dataclass
class _ClaimedTrial:
    """One claimed trial on its way through ``hyperparameter_search``.

    Its record is written by ``work.train``, whatever happens here.
    """

    work: Work
    claim: Claim
    study: SweepStudy
    draws: RandomDraws | None
    _ended: bool = field(default=False, init=False)
    _turn: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)

    def search(self) -> None:
        """Call ``hyperparameter_search`` for this one trial."""
        from finesweep.backends.search_driver import SearchDriver

        spec = self.work.spec
        with self._passing_over(), self._turn:
            self._turn.enter_context(proposing(self.work))
            storage = self.study.open(self.claim)
            SearchDriver(functools.partial(self.run, storage)).hyperparameter_search(
                hp_space=self.draw,
                compute_objective=lambda metrics: metrics[spec.objective.metric],
                n_trials=1,
                direction=str(spec.direction),
                backend="optuna",
                study_name=spec.name,
                storage=storage,
                sampler=sampler_of(self.work, self.study, self.claim, self.draws),
                pruner=pruner_of(spec),
            )

    def draw(self, trial: optuna.Trial) -> dict[str, Value]:
        """Draw the trial's parameters, and write them into its claim."""
        with self._turn:  # ends here
            return drawn(self.work, self.claim, trial)

    def run(self, storage: TrialStorage, trial: optuna.Trial, params: Params) -> float:
        """Train the trial; return its objective."""
        import optuna

        report = _Reporter(self.work, self.claim, self.study, storage, trial).report
        try:
            objective = self.work.train(self.claim, params, report)
        except (TrialPruned, TrialDiverged) as end:
            self._ended = True
            raise optuna.TrialPruned(str(end)) from None  # see finesweep.backends.optuna.study.STATES
        except (TrialStopped, TrialFailed):
            self._ended = True
            raise
        self._ended = True
        return objective

    @contextlib.contextmanager
    def _passing_over(self) -> Iterator[None]:
        """Pass over what the search raises about a trial that has ended: it counts as its record says.

        The stock call raises as long as no trial of its study has completed.
        """
        try:
            yield
        except (TrialStopped, TrialFailed):
            pass
        except ValueError:
            if not self._ended:
                raise


def sweep_study(work: Work) -> SweepStudy:
    """Return what samplers and pruners are to know of a sweep's trials."""
    from finesweep.backends.optuna.study import SweepStudy

    spec = work.spec
    compares, learns = PRUNERS[spec.search.pruner].compares, SAMPLERS[spec.search.sampler] != "RandomSampler"
    pruner = pruner_of(spec) if compares else None
    return SweepStudy(
        work.sweep_folder, spec, functools.partial(step_of, spec), pruner=pruner, is_read=compares or learns
    )


def drawn(work: Work, claim: Claim, trial: optuna.Trial) -> dict[str, Value]:
    """Draw a trial's parameters, and write them into its claim, where others see what is being tried."""
    from finesweep.backends.optuna.drawing import suggest

    params = suggest(trial, work.spec.search_space)
    work.sweep_folder.claims.note(claim, params)
    return params


@contextlib.contextmanager
def proposing(work: Work) -> Iterator[None]:
    """Be the only process that asks a sampler, where one proposal depends on those before it.

    It ends when the parameters stand in the claim.
    """
    with exclusive(work.sweep_folder.path / ".proposing.lock") if takes_turns(work.spec) else contextlib.nullcontext():
        yield


def draws_of(work: Work) -> RandomDraws | None:
    """Return the proposals of a sweep's random sampler; None with another one, or where none can repeat."""
    from finesweep.backends.optuna.proposals import RandomDraws

    spec = work.spec
    is_random = SAMPLERS[spec.search.sampler] == "RandomSampler"
    return RandomDraws(spec, work.planned) if is_random and spec.search_space.can_repeat else None


def takes_turns(spec: SweepSpec) -> bool:
    """Say whether one process at a time asks the sampler, so that each sees what the others are about to try.

    The random sampler learns from nothing.
    """
    kind = SAMPLERS[spec.search.sampler]
    return kind == "GPSampler" or (kind != "RandomSampler" and spec.search_space.can_repeat)


def sampler_of(work: Work, study: SweepStudy, claim: Claim, draws: RandomDraws | None) -> optuna.samplers.BaseSampler:
    """Return what proposes one trial's parameters: what it had before, what is planned, the rest by the spec's sampler.

    Its seed follows from the sweep's and the trial's number.
    """
    import optuna

    from finesweep.backends.optuna.proposals import Unrepeated, taken_by_others, trial_seed

    spec, planned = work.spec, work.planned
    make = getattr(optuna.samplers, SAMPLERS[spec.search.sampler])
    seed = trial_seed(spec.search.seed, claim.trial)
    sampler: optuna.samplers.BaseSampler = make(seed=seed)
    fixed = study.params_of(claim.trial) if claim.attempt > 1 else None
    if fixed is None and claim.trial < len(planned):
        fixed = planned[claim.trial]
    if fixed is None and draws is not None:
        fixed = draws.of(claim.trial)
    if fixed is not None:
        return optuna.samplers.PartialFixedSampler(dict(fixed), sampler)
    if not takes_turns(spec) or not spec.search_space.can_repeat:
        return sampler
    return Unrepeated(sampler, spec, lambda: taken_by_others(spec, planned, work.sweep_folder, claim.trial), seed)


def pruner_of(spec: SweepSpec) -> optuna.pruners.BasePruner:
    """Return Optuna's pruner for a spec, which prunes nothing where trials are compared at rungs of our own."""
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


@dataclass
class _Reporter:
    """Tells the pruner of a trial's evaluations."""

    work: Work
    claim: Claim
    study: SweepStudy
    storage: TrialStorage
    trial: optuna.Trial
    _reported: set[int] = field(default_factory=set, init=False)

    def report(self, report: Report) -> None:
        """Tell of an evaluation, once for each step; see ``trial.Reporter``."""
        work, claim = self.work, self.claim
        step = step_of(work.spec, report.evaluation)
        if step is None or step in self._reported:
            return
        work.sweep_folder.claims.refuse_outdated(claim.trial, claim.attempt)
        self._reported.add(step)
        self.trial.report(report.best, step)
        if report.last or self.study.pruner is None:
            return
        self.storage.others = self.study.others(claim.trial)
        if self.trial.should_prune():
            records = work.sweep_folder.records()
            others = others_at(claim.trial, report.evaluation.examples, records, work.spec.direction)
            raise TrialPruned(f"{grounds(work.spec, report)}; {others}")


def grounds(spec: SweepSpec, report: Report) -> str:
    """Say what a trial had reached when it was pruned."""
    reached = f"{spec.objective.metric} {metric(report.best)} after {report.evaluation.examples:,} examples"
    return f"{spec.search.pruner}: {reached}"
