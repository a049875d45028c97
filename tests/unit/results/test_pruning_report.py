from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import COMPLETE, DIVERGED, FAILED, PRUNED, WAITING, manifest, record

from finesweep.results.pruning_report import Trained, audit, trained
from finesweep.trial import Direction, TrialState

ROWS = 1_000
SPEC = manifest().spec


def test_without_an_audited_trial_there_is_no_audit() -> None:
    assert audit([record(0, 0.4), record(1, 0.6, PRUNED)], Direction.MINIMIZE) is None
    assert audit([record(0, 0.4), record(1, 0.6, WAITING, audit="weak")], Direction.MINIMIZE) is None


def test_audited_trials_are_held_against_those_that_were_not_found_weak() -> None:
    records = [record(0, 0.4), record(1, 0.41), *(record(n, 0.6, PRUNED) for n in range(2, 7))]
    records += [record(7, 0.39, audit="weak"), record(8, 0.405, audit="weak"), record(9, 0.38, audit="weak")]
    found = audit(records, Direction.MINIMIZE)
    assert found is not None
    assert (found.weak, found.finished, found.won, found.best, found.against) == (8, 3, 2, 0.38, 0.4)
    assert found.text() == (
        "3 of 8 pruned trials were finished all the same; 2 would have won (best of them 0.3800 against 0.4000)"
    )


def test_the_larger_objective_wins_where_it_is_maximised() -> None:
    found = audit([record(0, 0.8), record(1, 0.7, audit="weak")], Direction.MAXIMIZE)
    assert found is not None
    assert (found.won, found.best) == (0, 0.7)


@pytest.mark.parametrize("state", [DIVERGED, FAILED])
def test_an_audited_trial_that_did_not_complete_would_not_have_won(state: TrialState) -> None:
    found = audit([record(0, 0.4), record(1, 0.1, state, audit="weak")], Direction.MINIMIZE)
    assert found is not None
    assert found.text() == "1 of 1 pruned trials was finished all the same; none of them completed"


def test_an_audit_without_anything_to_compare_with() -> None:
    found = audit([record(0, 0.4, audit="weak"), record(1, math.nan)], Direction.MINIMIZE)
    assert found is not None
    assert found.text().endswith("1 would have won (best of them 0.4000)")


def test_pruned_and_waiting_trials_count_with_what_they_would_have_trained() -> None:
    records = [
        record(0, 0.4, COMPLETE, examples=3_000),
        record(1, 0.6, PRUNED, examples=504),
        record(2, 0.5, WAITING, examples=1_008, params={"num_train_epochs": 5}),
        record(3, None, DIVERGED, examples=200),
        record(4, 0.5, COMPLETE, examples=1_000),
    ]
    found = trained(records, ROWS, SPEC)
    assert found == Trained(3_000 + 504 + 1_008 + 200 + 1_000, 3_000 + 3_000 + 5_000 + 200 + 1_000)
    assert found.text() == "5,712 examples, 47 % of the 12,200 that these trials are in full"


def test_a_trial_that_completed_for_want_of_a_gain_counts_in_full() -> None:
    early = record(0, 0.4, COMPLETE, examples=2_000, reason="eval_loss rises", params={"num_train_epochs": 4})
    found = trained([early, record(1, 0.5, COMPLETE, examples=3_000)], ROWS, SPEC)
    assert found == Trained(5_000, 7_000, early=1)
    assert found.text().endswith("71 % of the 7,000 that these trials are in full; 1 completed early, without a gain")


def test_fixed_settings_and_steps_tell_how_long_a_trial_would_have_been() -> None:
    one = record(0, 0.6, PRUNED, examples=500, params={})
    assert trained([one], ROWS, manifest(spec={"fixed": {"num_train_epochs": 7}}).spec).full == 7_000
    assert trained([one], ROWS, SPEC).full == 3_000
    steps = {"max_steps": 100, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 2}
    # 32 steps an epoch, the last of 8 rows: 3 epochs and 4 steps.
    assert trained([one], ROWS, manifest(spec={"fixed": steps}).spec).full == 3_128


@given(st.lists(st.tuples(st.sampled_from(list(TrialState)), st.integers(0, 10_000)), max_size=12))
def test_nothing_is_saved_by_training_more(trials: list[tuple[TrialState, int]]) -> None:
    found = trained([record(n, 0.5, state, examples=seen) for n, (state, seen) in enumerate(trials)], ROWS, SPEC)
    assert 0 <= found.examples <= found.full
