"""How many trials have finished since the last new best."""

from __future__ import annotations

from made_records import COMPLETE, FAILED, PRUNED, WAITING, record

from finesweep.pruning.gains import Gains
from finesweep.trial import Direction


def test_nothing_is_gained_before_a_trial_is_complete() -> None:
    assert Gains.of([], Direction.MINIMIZE) == Gains()
    assert Gains.of([record(0, None, FAILED), record(1, 0.1, PRUNED)], Direction.MINIMIZE) == Gains(None, None, 2, 0)


def test_trials_count_in_the_order_of_their_ends() -> None:
    records = [record(2, 0.5), record(0, 0.4), record(1, 0.6), record(3, 0.1, WAITING)]
    assert Gains.of(records, Direction.MINIMIZE) == Gains(0.4, 42.0, 2, 3)
    assert Gains.of(records, Direction.MAXIMIZE) == Gains(0.6, 142.0, 1, 3)


def test_an_equal_objective_is_no_gain() -> None:
    assert Gains.of([record(0, 0.4), record(1, 0.4)], Direction.MINIMIZE).since == 1


def test_trial_that_lost_its_place_counts_from_the_time_at_which_it_began_to_wait() -> None:
    waited = record(9, 0.7, PRUNED, started=0.0, seconds=10.0)
    assert Gains.of([record(0, 0.4, COMPLETE), waited], Direction.MINIMIZE).since == 0
