"""Draws where the trials of a simulated sweep end, from the trials that have ended."""

from __future__ import annotations

import bisect
import operator
import random
from collections.abc import Callable, Sequence

from finesweep.forecast.course import Course, stop
from finesweep.forecast.simulation import SimulatedTrial
from finesweep.pruning.rules import FEWEST
from finesweep.spec import Workload
from finesweep.trial import TrialRecord, TrialState

_TRUST = 4
"""Weight of the priors on the pruner and on early stopping, in ended trials."""

_MOST_EARLY = 0.75
"""Largest share of the trials that early stopping ends, of those that are long enough; 0 to 0.73 on recorded curves of
4 and 5 epochs."""

_WHOLE = 0.98
"""Minimum trained share of its workload with which a trial counts as trained to its end."""

Ended = tuple[TrialRecord, Workload]
"""An ended trial with its workload."""


def trial_ends(
    course: Course, known: Sequence[Ended], running: int, source: random.Random
) -> Callable[[int, SimulatedTrial], int]:
    """Draw the examples at which each trial of one simulation ends: like one of the ended trials, or by the priors.

    Of a trial that halving has ended it is known only that it had not ended by itself until then. One of those that
    ended by themselves later stands for it.

    Args:
        course: How far trials go.
        known: The trials that ended last.
        running: Number of running trials. They are evidence too: they have not ended early so far.
        source: Random generator.

    Returns:
        A function of a trial's number and its state in the simulation.
    """
    free = FEWEST if course.spec.search.pruner == "median" else 0
    ended = [one for one in known if one[0].trial >= free]
    drawn = source.choices(ended, k=len(ended)) if ended else []
    alone = sorted(
        ((_share(one), one) for one in drawn if one[0].state is not TrialState.PRUNED), key=operator.itemgetter(0)
    )
    shares = [course.share(source)] * len(course.rungs)
    early = source.uniform(0.0, _MOST_EARLY) if course.stops_early else 0.0
    trust = _TRUST + running

    def like(*, is_free: bool) -> Ended | None:
        """Draw an ended trial, None for one of which no end is known."""
        one = source.choice(drawn)
        if not is_free or one[0].state is not TrialState.PRUNED:
            return one
        later = bisect.bisect_right(alone, _share(one), key=operator.itemgetter(0))
        return alone[source.randrange(later, len(alone))][1] if later < len(alone) else None

    def end(number: int, trial: SimulatedTrial) -> int:
        is_free = course.halves or trial.is_spared or number < free or course.is_spared(number)
        beyond, whole = trial.seen, trial.plan.examples
        is_known = source.random() * (trust + len(drawn)) >= trust
        if is_known and (found := like(is_free=is_free)) is not None:
            beyond, examples = max(beyond, found[0].examples), _end_like(trial.plan, *found, is_free=is_free)
            if examples is not None and examples > trial.seen:
                return examples
        elif course.stops_early and source.random() < early:
            whole = course.early_end(trial.plan, trial.seen, source)
        return whole if is_free else min(whole, stop(trial.plan, beyond, course.rungs_of(trial.plan), shares, source))

    return end


def reached(record: TrialRecord) -> int:
    """Return the examples that a trial has reached; at a rung, exactly the rung, though its last batch exceeds it."""
    at_rung = record.state in (TrialState.PRUNED, TrialState.WAITING) and record.evaluations
    return record.evaluations[-1].examples if at_rung else record.examples


def _end_like(plan: Workload, record: TrialRecord, other: Workload, *, is_free: bool) -> int | None:
    """Return the examples at which a trial ends if it ends like another one; None if that one trained to its end."""
    if record.state is TrialState.PRUNED:
        return None if is_free or reached(record) >= plan.examples else reached(record)
    share = record.examples / other.examples
    return None if share >= _WHOLE else int(share * plan.examples)


def _share(ended: Ended) -> float:
    """Return the share of its workload that an ended trial has trained."""
    return ended[0].examples / max(ended[1].examples, 1)
