from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import COMPLETE, DIVERGED, FAILED, INTERRUPTED, PRUNED, manifest, record, run

from finesweep.results.ranking import rank, reasons, summarize, winner
from finesweep.trial import Direction, Divergence, TrialRecord, TrialState

MINIMIZE, MAXIMIZE = Direction.MINIMIZE, Direction.MAXIMIZE


@st.composite
def sweeps(draw: st.DrawFn) -> list[TrialRecord]:
    # Few distinct values make ties common; NaN and infinity are what a crooked record could hold.
    values = st.sampled_from([0.1, 0.2, -0.2, 0.0, -0.0]) | st.none() | st.floats(allow_nan=True)
    ends = st.sampled_from([COMPLETE, COMPLETE, PRUNED, DIVERGED, FAILED, INTERRUPTED])
    trials = draw(st.lists(st.integers(0, 30), unique=True, max_size=12))
    return [record(trial, draw(values), draw(ends)) for trial in trials]


@given(sweeps(), st.sampled_from(Direction), st.randoms(use_true_random=False))
def test_ranked_rows_are_the_complete_finite_ones_in_order(
    records: list[TrialRecord], direction: Direction, randomness: random.Random
) -> None:
    rows = rank(records, direction)
    best = [row for row in rows if row.rank is not None]

    assert {row.record.trial for row in best} == {
        one.trial
        for one in records
        if one.state is COMPLETE and one.objective is not None and math.isfinite(one.objective)
    }
    assert [row.rank for row in best] == list(range(1, len(best) + 1))
    assert sorted(row.record.trial for row in rows) == sorted(one.trial for one in records)
    assert rows[: len(best)] == best
    for first, second in itertools.pairwise(best):
        assert first.record.objective is not None
        assert second.record.objective is not None
        assert not direction.better(second.record.objective, first.record.objective)
        assert first.record.objective != second.record.objective or first.record.trial < second.record.trial

    shuffled = list(records)
    randomness.shuffle(shuffled)
    assert rank(shuffled, direction) == rows
    top = winner(shuffled, direction)
    assert (top.trial if top else None) == (best[0].record.trial if best else None)


def test_direction_decides_the_winner() -> None:
    records = [record(0, 0.4), record(1, 0.9), record(2, 0.1)]
    assert [row.record.trial for row in rank(records, MINIMIZE)] == [2, 0, 1]
    assert [row.record.trial for row in rank(records, MAXIMIZE)] == [1, 0, 2]


def test_equal_objectives_rank_by_number() -> None:
    assert [row.record.trial for row in rank([record(5, 0.3), record(2, 0.3)], MAXIMIZE)] == [2, 5]


def test_the_rest_stands_below_by_state_then_number() -> None:
    records = [
        record(6, None, FAILED),
        record(1, math.nan, COMPLETE),
        record(5, 0.1, PRUNED),
        record(4, None, DIVERGED),
        record(0, 0.8),
        record(3, 0.01, PRUNED),
    ]
    rows = rank(records, MINIMIZE)
    assert [(row.rank, row.record.trial) for row in rows] == [
        (1, 0),
        (None, 1),
        (None, 3),
        (None, 5),
        (None, 4),
        (None, 6),
    ]


def test_no_records_no_winner() -> None:
    assert rank([], MINIMIZE) == []
    assert winner([record(0, None, FAILED)], MINIMIZE) is None


def test_reasons_are_grouped_most_common_first() -> None:
    records = [
        record(0, 0.5),
        record(1, None, FAILED, reason="IndexError: list index out of range"),
        record(2, None, FAILED, reason="OutOfMemoryError: tried to allocate 20.00 MiB"),
        record(3, None, FAILED, reason="OutOfMemoryError: tried to allocate 1.50 MiB"),
        record(4, None, DIVERGED, divergence=Divergence("training loss is NaN", 10, 1e-3, 0.7)),
        record(5, 0.6, PRUNED),
        record(6, None),
    ]
    assert reasons(records) == [
        ([2, 3], "FAILED: OutOfMemoryError: tried to allocate 20.00 MiB"),
        ([1], "FAILED: IndexError: list index out of range"),
        ([4], "DIVERGED: training loss is NaN"),
        ([5], "PRUNED: no reason recorded"),
        ([6], "COMPLETE: no evaluation gave a finite objective"),
    ]


def test_outcome_counts_and_compares_with_the_untuned_default() -> None:
    records = [record(0, 0.5), record(1, 0.4), record(2, None, FAILED), record(3, None, INTERRUPTED)]
    found = summarize(manifest(), records, [run()])
    assert found.counts == {COMPLETE: 2, FAILED: 1, INTERRUPTED: 1}
    assert (found.finished, found.trials, found.hours_budget, found.hours) == (3, 20, 12.0, 2.0)
    assert found.gain == pytest.approx(0.1)
    assert found.headline() == "eval_loss 0.4000 (trial 1), 0.1000 below the untuned default (trial 0: 0.5000)"


@pytest.mark.parametrize(
    ("records", "search", "headline"),
    [
        ([], {}, "no trial ranks yet"),
        ([record(0, 0.5), record(1, 0.6)], {}, "eval_loss 0.5000 (trial 0); no trial beat the untuned default"),
        ([record(0, 0.5), record(1, 0.4)], {"baseline": False}, "eval_loss 0.4000 (trial 1)"),
        ([record(0, 0.5), record(1, 0.4)], {"sampler": "grid"}, "eval_loss 0.4000 (trial 1)"),
        (
            [record(0, None, DIVERGED), record(1, 0.4)],
            {},
            "eval_loss 0.4000 (trial 1); the untuned default (trial 0) does not rank: DIVERGED",
        ),
    ],
)
def test_headline_claims_no_gain_that_is_not_there(
    records: list[TrialRecord], search: dict[str, object], headline: str
) -> None:
    assert summarize(manifest(**search), records, [run()]).headline() == headline


def test_headline_of_a_maximised_metric() -> None:
    sweep = manifest(spec={"objective": {"metric": "eval_accuracy", "direction": "maximize"}})
    text = summarize(sweep, [record(0, 0.8), record(1, 0.9)], [run()]).headline()
    assert text == "eval_accuracy 0.9000 (trial 1), 0.1000 above the untuned default (trial 0: 0.8000)"


def test_hours_of_a_killed_run_end_with_its_own_last_record() -> None:
    # Run 1 was killed; its only record ended at second 142. Run 2 began a day later and took an hour.
    runs = [run(1, started=0.0, ended=None), run(2, started=86_400.0, ended=90_000.0)]
    records = [record(1, 0.5, run=1), record(2, 0.4, started=86_500.0, run=2)]
    assert summarize(manifest(), records, runs).hours == pytest.approx((142 + 3600) / 3600)


def test_hours_before_the_first_run_are_none() -> None:
    found = summarize(manifest(), [], [])
    assert (found.hours, found.trials, found.hours_budget) == (0.0, None, None)


def test_states_are_counted_in_their_order() -> None:
    found = summarize(manifest(), [record(0, None, FAILED), record(1, 0.5), record(2, 0.5, PRUNED)], [])
    assert list(found.counts) == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED]
