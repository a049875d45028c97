"""Lists the samplers by their names in a spec, and makes the one that proposes a trial's parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from finesweep.backends.protocol import Work
from finesweep.files import exclusive
from finesweep.folder import Claim
from finesweep.spec import SweepSpec

if TYPE_CHECKING:
    import optuna

    from finesweep.backends.optuna.proposals import RandomDraws
    from finesweep.backends.optuna.study import SweepStudy


# A grid is planned point by point (spec.planned_trials), so its sampler has nothing to propose.
#
# A sampler must learn from the trials' parameters and values alone. CMA-ES and NSGA-II keep their state in the
# `system_attrs` of earlier trials. A study is made anew from the records for each trial, and the records have no
# samplers' attributes: `SweepStudy._made` sets only the pruner's. Such a sampler would propose its first generation for
# ever, without an error. tests/conformance/test_backends.py refuses it.
SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "grid": "RandomSampler", "gp": "GPSampler"}
"""Classes in ``optuna.samplers`` by their names in a spec."""


def draws_of(work: Work) -> RandomDraws | None:
    """Return the proposals of a sweep's random sampler; None for another sampler, or if no proposal can repeat."""
    from finesweep.backends.optuna.proposals import RandomDraws

    spec = work.spec
    is_random = SAMPLERS[spec.search.sampler] == "RandomSampler"
    return RandomDraws(spec, work.planned) if is_random and spec.search_space.can_repeat else None


def takes_turns(spec: SweepSpec) -> bool:
    """Return whether only one process at a time may ask the sampler, so that each sees the parameters of the others.

    The random sampler learns nothing, so it needs no turns.
    """
    kind = SAMPLERS[spec.search.sampler]
    return kind == "GPSampler" or (kind != "RandomSampler" and spec.search_space.can_repeat)


def sampler_of(work: Work, study: SweepStudy, claim: Claim, draws: RandomDraws | None) -> optuna.samplers.BaseSampler:
    """Return the sampler for one trial: its earlier or planned parameters, else proposals of the spec's sampler.

    Its seed follows from the sweep's seed and the trial's number.
    """
    import optuna

    from finesweep.backends.optuna.proposals import Unrepeated, taken_by_others, trial_seed

    spec, planned = work.spec, work.planned
    seed = trial_seed(spec.search.seed, claim.trial)
    sampler = made(spec.search.sampler, seed)
    # A retry continues the training of its trial, so it needs the same parameters, whatever is known by now.
    fixed = study.params_of(claim.trial) if claim.attempt > 1 else None
    if fixed is None and claim.trial < len(planned):
        fixed = planned[claim.trial]
    if fixed is None and draws is not None:
        fixed = draws.of(claim.trial)
    if fixed is not None:
        # Given to Optuna as a sampler, so that the search takes the same way whether parameters are drawn or not.
        return optuna.samplers.PartialFixedSampler(dict(fixed), sampler)
    if not takes_turns(spec):
        return sampler
    return Unrepeated(sampler, spec, lambda: taken_by_others(spec, planned, work.sweep_folder, claim.trial), seed)


def made(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Return a new sampler.

    Args:
        name: Its name in a spec.
        seed: Seed of its draws.
    """
    import optuna

    if SAMPLERS[name] == "GPSampler":
        from finesweep.backends.optuna.gaussian import GaussianProcess

        return GaussianProcess(seed)
    sampler: optuna.samplers.BaseSampler = getattr(optuna.samplers, SAMPLERS[name])(seed=seed)
    return sampler


def import_early(spec: SweepSpec, study: SweepStudy) -> None:
    """Import in the worker what a sampler imports when it begins to learn, so that its forks need not.

    That takes 0.6 s, and a Gaussian process without it a tenth.
    """
    if SAMPLERS[spec.search.sampler] == "GPSampler":
        from finesweep.backends.optuna.gaussian import STARTUP

        # Not before the first trials, which would have to wait for it.
        if study.count >= STARTUP:
            import scipy.optimize
            import scipy.stats  # noqa: F401


@contextlib.contextmanager
def proposing(work: Work) -> Iterator[None]:
    """Keep other processes from asking a sampler, if a proposal depends on those before it.

    The block must end when the parameters are in the claim.
    """
    with exclusive(work.sweep_folder.path / ".proposing.lock") if takes_turns(work.spec) else contextlib.nullcontext():
        yield
