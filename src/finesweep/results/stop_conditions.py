"""Decides whether a sweep ends before its budget: target reached, no gain, or the same failure in each trial."""

from __future__ import annotations

from collections.abc import Sequence

from finesweep.pruning.gains import Gains
from finesweep.spec import StopSpec
from finesweep.text import without_numbers
from finesweep.trial import Direction, TrialRecord, TrialState

SAME_FAILURES = 3


def early_stop(stop: StopSpec, records: Sequence[TrialRecord], direction: Direction) -> str | None:
    """Return the reason for ending the sweep before its budget, None to continue.

    Args:
        stop: The conditions.
        records: All finished trials so far.
        direction: The objective's direction.
    """
    if stop.target is None and stop.no_gain_trials is None:
        return None
    found = Gains.of(records, direction)
    if found.best is None:
        return None
    if stop.target is not None and not direction.better(stop.target, found.best):
        return f"the target {stop.target:g} is reached"
    if stop.no_gain_trials is not None and found.since >= stop.no_gain_trials:
        return f"{stop.no_gain_trials} trials without a new best"
    return None


def same_failure(records: Sequence[TrialRecord], run: int) -> str | None:
    """Return the failure that all trials of a run have in common, None if there is none.

    Three equal failures before any success mean a faulty set-up, which would use up the whole budget. The next run
    tries again.
    """
    ended = sorted((r for r in records if r.run == run and r.state.finished), key=lambda r: r.ended)
    first = ended[:SAME_FAILURES]
    if len(first) < SAME_FAILURES or any(record.state is not TrialState.FAILED for record in first):
        return None
    if len({without_numbers(record.reason or "") for record in first}) > 1:
        return None
    return f"the first {SAME_FAILURES} trials failed alike: {first[0].reason}"
