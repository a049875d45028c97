"""Decides what ``auto`` means in a spec: by which sampler it searches, and whether it may end before its budget."""

from __future__ import annotations

from finesweep.registry import BACKENDS
from finesweep.spec.sections import ScratchModelSpec, SweepSpec

MOST_PARAMETERS = 10
"""Largest number of parameters that ``auto`` leaves to the Gaussian process."""

MOST_TRIALS = 100
"""Largest ``budget.trials`` that ``auto`` leaves to the Gaussian process. A proposal takes longer with each trial."""


def automatic_sampler(spec: SweepSpec) -> tuple[str, str]:
    """Return the sampler that ``search.sampler: auto`` stands for, and why.

    A Gaussian process learns most from few trials. It draws parameters that not every trial has at random, so with a
    ``when`` TPE learns more.
    """
    count, trials = len(spec.space), spec.budget.trials
    if "gp" not in BACKENDS.load(spec.search.backend).samplers:
        return "tpe", f"the backend is {spec.search.backend}"
    if count > MOST_PARAMETERS:
        return "tpe", f"more than {MOST_PARAMETERS} parameters"
    if trials > MOST_TRIALS:
        return "tpe", f"more than {MOST_TRIALS} trials"
    if any(parameter.when for parameter in spec.space.values()):
        return "tpe", "a parameter has a `when`"
    return "gp", "few parameters and trials"


def automatic_stop(spec: SweepSpec) -> tuple[bool, str]:
    """Return what ``stop.auto: auto`` stands for, and why; ``search.sampler`` must be settled.

    It is true only for sweeps like those in which the rule lost nothing (``docs/search.md``). From scratch it did lose:
    early values say little there about the end.
    """
    if spec.search.sampler != "gp":
        return False, f"the sampler is {spec.search.sampler}"
    if isinstance(spec.model, ScratchModelSpec):
        return False, "from scratch"
    if spec.search.pruner != "halving":
        return False, f"the pruner is {spec.search.pruner}"
    if spec.objective.metric != "eval_loss":
        return False, f"the objective is {spec.objective.metric}"
    return True, "pretrained, sampler gp, pruner halving, eval_loss"
