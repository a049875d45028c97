from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_replays import Replay, World, spec_with

from finesweep.forecast.course import Course, Span
from finesweep.forecast.work import evaluated_rows, expected_examples, in_full
from finesweep.pruning.rules import FEWEST, cohorts, is_audited
from finesweep.spec.trial_length import Workload

ROWS = 4_000
SAME = {"num_train_epochs": {"choices": [4]}}
HALVING = {"search": {"pruner": "halving", "baseline": False, "sampler": "random"}}


def test_a_span_leaves_the_same_share_out_at_each_end() -> None:
    assert Span.of(range(101)) == Span(10, 50, 90)
    assert Span.of([7.0]) == Span(7, 7, 7)


@pytest.mark.parametrize(
    ("settings", "examples"),
    [
        ({}, 12_000),
        ({"num_train_epochs": 2.5}, 10_000),
        ({"max_steps": 100, "num_train_epochs": 9}, 800),
        ({"max_steps": 100, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 2}, 3_200),
        ({"max_steps": -1, "num_train_epochs": 1}, 4_000),
    ],
)
def test_a_plan_is_read_from_the_settings(settings: dict[str, float], examples: int) -> None:
    assert Workload.of(settings, ROWS).examples == examples


def test_without_a_pruner_all_trials_train_to_their_end() -> None:
    spec = spec_with("none", space=SAME)
    assert expected_examples(spec, ROWS, 10, True) == Span(160_000, 160_000, 160_000)
    assert expected_examples(spec_with("halving", space=SAME), ROWS, 10, False) == Span(160_000, 160_000, 160_000)


def test_epochs_are_those_of_the_space_on_average() -> None:
    found = expected_examples(spec_with("none"), ROWS, 200, False)
    assert found.low < 200 * 3.5 * ROWS < found.high
    assert found.high < 1.1 * found.low


def test_a_sampler_that_learns_may_come_to_like_the_longest_trials() -> None:
    random_one, learning = (expected_examples(spec_with("none", name), ROWS, 200, False) for name in ("random", "tpe"))
    assert learning.high - learning.low > 2 * (random_one.high - random_one.low)


def test_what_is_planned_is_no_guess() -> None:
    start = ({"learning_rate": 2e-5, "num_train_epochs": 5, "per_device_train_batch_size": 8},) * 3
    spec = spec_with("none", start=start, search={"baseline": False, "pruner": "none"})
    assert expected_examples(spec, ROWS, 3, False) == Span(60_000, 60_000, 60_000)


def test_planned_trials_of_a_manifest_stand_before_those_of_the_spec() -> None:
    first = ({"learning_rate": 2e-5, "num_train_epochs": 2, "per_device_train_batch_size": 8},) * 3
    spec = spec_with("none", start={"from": "results/old", "top": 3}, search={"baseline": False, "pruner": "none"})
    assert expected_examples(spec, ROWS, 3, False, first) == Span(24_000, 24_000, 24_000)


def test_early_stopping_may_save_some_examples() -> None:
    none, auto = (spec_with("none", space=SAME, patience=patience) for patience in ("none", "auto"))
    whole, found = (expected_examples(spec, ROWS, 20, False) for spec in (none, auto))
    assert whole == Span(320_000, 320_000, 320_000)
    assert 0.6 * 320_000 < found.low < found.middle < found.high <= 320_000
    assert expected_examples(in_full(auto), ROWS, 20, True) == whole


def test_a_sweep_that_ends_without_gains_takes_less() -> None:
    spec = spec_with("none", space=SAME, stop={"no_gain_trials": 5})
    found = expected_examples(spec, ROWS, 400, False)
    assert 6 * 16_000 <= found.low < found.middle < 100 * 16_000
    assert expected_examples(in_full(spec), ROWS, 400, True).low == 400 * 16_000


def test_a_sweep_that_may_end_by_its_prospects_takes_from_ten_trials_to_all() -> None:
    on, off = (spec_with("none", "gp", space=SAME, stop={"auto": auto}) for auto in (True, False))
    found, whole = (expected_examples(spec, ROWS, 20, False) for spec in (on, off))
    assert whole == Span(320_000, 320_000, 320_000)
    assert 10 * 16_000 <= found.low < found.middle <= found.high == 320_000
    more = expected_examples(on, ROWS, 60, False)
    assert 10 * 16_000 <= more.low < more.middle < more.high < 40 * 16_000
    assert expected_examples(on, ROWS, 9, False) == Span(144_000, 144_000, 144_000)
    assert expected_examples(in_full(on), ROWS, 20, True) == whole


def test_with_halving_waiting_trials_count_too() -> None:
    on, off = (spec_with("halving", "gp", space=SAME, stop={"auto": auto}, **HALVING) for auto in (True, False))
    found, whole = (expected_examples(spec, ROWS, 40, True) for spec in (on, off))
    assert 0.2 * whole.middle < found.middle < 0.7 * whole.middle


def test_halving_is_known_from_its_rungs() -> None:
    spec = spec_with("halving", space=SAME, **HALVING)
    there, seen, least = 27, 0, 0
    for rung in (*Course(spec, ROWS).rungs, 16_000):
        least += there * (rung - seen)
        there, seen = max(1, there // spec.factor), rung
    assert len(cohorts(27)) == 1
    found = expected_examples(spec, ROWS, 27, True)
    # Some go on besides: who are among the best when they come, and who are as good as these.
    assert least < found.low < found.middle < found.high < 1.65 * least


def test_the_median_needs_some_trials_before_it_ends_any() -> None:
    search = {"pruner": "median", "baseline": False, "sampler": "random"}
    spec = spec_with("median", space=SAME, search=search)
    assert expected_examples(spec, ROWS, FEWEST, True).low == FEWEST * 16_000
    assert expected_examples(spec, ROWS, 4 * FEWEST, True).high < 4 * FEWEST * 16_000


def test_audited_trials_are_added() -> None:
    spec = spec_with("halving", space=SAME, pruning={"audit": 0.3}, **HALVING)
    without = expected_examples(spec_with("halving", space=SAME, **HALVING), ROWS, 27, True).middle
    audited = sum(is_audited(0, trial, 0.3) for trial in range(27))
    longest = audited * (16_000 - Course(spec, ROWS).rungs[0])
    found = expected_examples(spec, ROWS, 27, True)
    # They are counted at the later rungs too, where more go on therefore.
    assert without + 0.4 * longest < found.middle < without + 1.4 * longest


@pytest.mark.parametrize("pruner", ["median", "asha", "hyperband", "halving"])
def test_pruning_costs_less_than_none_and_more_than_nothing(pruner: str) -> None:
    spec = spec_with(pruner)
    whole, pruned = (expected_examples(spec, ROWS, 30, which) for which in (False, True))
    assert 30 * Course(spec, ROWS).rungs[0] < pruned.low <= pruned.middle <= pruned.high < whole.high


@pytest.mark.parametrize("pruner", ["median", "asha", "halving"])
def test_sweeps_that_are_replayed_cost_about_what_was_foreseen(pruner: str) -> None:
    held = 0
    for seed in range(12):
        world = World(spec_with(pruner), 30, (1, 4)[seed % 2], seed, divergent=0.0)
        last = list(Replay(world).moments())[-1]
        found = expected_examples(world.spec, ROWS, 30, True)
        slack = 0.12 * found.middle  # what rounding to batches and one trial more or less at the end may make
        held += found.low - slack <= sum(one.examples for one in last.records) <= found.high + slack
    assert held >= 9


def test_evaluations_while_training_are_on_some_rows_and_the_last_on_all() -> None:
    spec = spec_with("none", space=SAME, evaluation={"rows": 500, "per_epoch": 2})
    assert evaluated_rows(spec, ROWS, 300, 10, False).middle == 10 * 8 * 300
    assert evaluated_rows(spec, ROWS, 2_000, 10, False).middle == 10 * (8 * 500 + 2_000)


def test_rungs_between_evaluations_are_evaluated_too() -> None:
    spec = spec_with("median", space=SAME, pruning={"rungs": [0.5, 1]}, search={"pruner": "median", "baseline": False})
    assert evaluated_rows(spec, ROWS, 100, 10, False).middle == 10 * 5 * 100


def test_a_pruned_trial_is_evaluated_less() -> None:
    spec = spec_with("halving", space=SAME, **HALVING)
    assert evaluated_rows(spec, ROWS, 100, 27, True).high < 0.6 * evaluated_rows(spec, ROWS, 100, 27, False).low


def test_a_huge_sweep_is_forecast_from_a_part_of_it() -> None:
    whole, part = (expected_examples(spec_with("median"), ROWS, trials, True).middle for trials in (400_000, 400))
    # Each is the middle of 60 draws, which chance moves by 3 % (one standard deviation).
    assert whole == pytest.approx(1_000 * part, rel=0.1)


def test_conditions_of_the_space_are_kept() -> None:
    space = {
        "optim": {"choices": ["adafactor", "sgd"]},
        "num_train_epochs": {"choices": [9], "when": {"optim": "sgd"}},
    }
    plans = Course(spec_with("none", space=space), ROWS).pool
    assert {plan.examples for plan in plans} == {3 * ROWS, 9 * ROWS}


@given(
    st.integers(1, 60),
    st.integers(1, 5_000),
    st.sampled_from(["none", "median", "asha", "hyperband", "halving"]),
    st.sampled_from(["random", "tpe"]),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_a_forecast_is_a_range_of_something(trials: int, rows: int, pruner: str, sampler: str, pruned: bool) -> None:
    found = expected_examples(spec_with(pruner, sampler), rows, trials, pruned)
    assert 0 < found.low <= found.middle <= found.high <= 5 * rows * trials + trials
