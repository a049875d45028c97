"""Searches with Optuna: one call of ``hyperparameter_search`` for each trial."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from finesweep.backends.optuna.pruners import PRUNERS, grounds, pruner_of, step_of
from finesweep.backends.optuna.samplers import SAMPLERS, draws_of, import_early, proposing, sampler_of
from finesweep.backends.protocol import Work
from finesweep.errors import TrialFailed
from finesweep.folder import Claim
from finesweep.pruning.rules import others_at
from finesweep.trial import Params, Report, TrialDiverged, TrialPruned, TrialStopped, Value

if TYPE_CHECKING:
    import optuna

    from finesweep.backends.optuna.proposals import RandomDraws
    from finesweep.backends.optuna.study import SweepStudy, TrialStorage


class OptunaBackend:
    """Runs each trial as one call of ``hyperparameter_search``, on a study that is made from the sweep's folder."""

    samplers: ClassVar = tuple(SAMPLERS)
    pruners: ClassVar = tuple(PRUNERS)
    single_worker: ClassVar = False

    def search(self, work: Work) -> None:
        """Claim and run trials, each in its own process, until there are no more claims."""
        study, draws = sweep_study(work), draws_of(work)
        while (claim := work.claim()) is not None:
            # Here and not in the trial's process: each fork would read the same records again.
            study.refresh()
            import_early(work.spec, study)
            work.isolated(claim, _ClaimedTrial(work, claim, study, draws).search)


@dataclass
class _ClaimedTrial:
    """One claimed trial in ``hyperparameter_search``.

    ``work.train`` writes its record, whatever happens here.
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
            # Before the study is made: it must have the parameters that other workers are drawing now.
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
                pruner=pruner_of(spec, self.work.rows),
            )

    def draw(self, trial: optuna.Trial) -> dict[str, Value]:
        """Draw the trial's parameters, and write them into its claim."""
        with self._turn:  # the lock is released here, with the parameters in the claim
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
        """Ignore errors of the search about a trial that has ended: its record counts.

        The stock call raises if no trial of its study has completed.
        """
        try:
            yield
        except (TrialStopped, TrialFailed):
            pass
        except ValueError:
            if not self._ended:
                raise


def sweep_study(work: Work) -> SweepStudy:
    """Return the study of a sweep for samplers and pruners."""
    from finesweep.backends.optuna.study import SweepStudy

    spec = work.spec
    compares, learns = PRUNERS[spec.search.pruner].compares, SAMPLERS[spec.search.sampler] != "RandomSampler"
    pruner = pruner_of(spec, work.rows) if compares else None
    return SweepStudy(
        work.sweep_folder, spec, functools.partial(step_of, spec), pruner=pruner, is_read=compares or learns
    )


def drawn(work: Work, claim: Claim, trial: optuna.Trial) -> dict[str, Value]:
    """Draw a trial's parameters, and write them into its claim, where other processes see them."""
    from finesweep.backends.optuna.drawing import suggest

    params = suggest(trial, work.spec.search_space)
    work.sweep_folder.claims.note(claim, params)
    return params


@dataclass
class _Reporter:
    """Reports a trial's evaluations to the pruner."""

    work: Work
    claim: Claim
    study: SweepStudy
    storage: TrialStorage
    trial: optuna.Trial
    _reported: set[int] = field(default_factory=set, init=False)

    def report(self, report: Report) -> None:
        """Report an evaluation, once for each step; see ``trial.Reporter``."""
        work, claim = self.work, self.claim
        step = step_of(work.spec, report.evaluation)
        if step is None or step in self._reported:
            return
        # An attempt that was taken for dead and lives ends here; otherwise it would train beside its successor.
        work.sweep_folder.claims.refuse_outdated(claim.trial, claim.attempt)
        self._reported.add(step)
        self.trial.report(report.best, step)
        if report.last or self.study.pruner is None:
            return
        # Read again: the other trials have trained on since this study was opened.
        self.storage.others = self.study.others(claim.trial)
        if self.trial.should_prune():
            records = work.sweep_folder.records()
            others = others_at(claim.trial, report.evaluation.examples, records, work.spec.direction)
            raise TrialPruned(f"{grounds(work.spec, report)}; {others}")
