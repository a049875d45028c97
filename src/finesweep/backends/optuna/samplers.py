"""Lists the samplers by the name that a spec gives them, and makes the one that proposes a trial's parameters."""

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


# A grid is planned point by point (finesweep.spec.planned_trials), so nothing is left for its sampler to propose.
SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "grid": "RandomSampler", "gp": "GPSampler"}
"""Classes in ``optuna.samplers`` by the name that a spec gives them."""


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


@contextlib.contextmanager
def proposing(work: Work) -> Iterator[None]:
    """Be the only process that asks a sampler, where one proposal depends on those before it.

    It ends when the parameters stand in the claim.
    """
    with exclusive(work.sweep_folder.path / ".proposing.lock") if takes_turns(work.spec) else contextlib.nullcontext():
        yield
