"""What is tried before any sampler speaks, and when a sweep ends early."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.results.stop_conditions import early_stop, same_failure
from finesweep.spec.planned_trials import configuration, planned_trials, trials_wanted, used_up
from finesweep.spec.search_space import SearchSpace
from finesweep.spec.sections import StopSpec, SweepSpec
from finesweep.trial import Direction, TrialRecord, TrialState


def make_spec(space, **sections) -> SweepSpec:
    values = {"name": "s", "base": Path(), "model": {"name": "m"}, "data": {"train": "t.csv"}, "space": space}
    return SweepSpec.model_validate({**values, **sections}, strict=False)


def record(trial: int, objective: float | None, state=TrialState.COMPLETE, **fields) -> TrialRecord:
    values = {"started": float(trial), "seconds": 1, "log": "", "host": "h", "objective": objective}
    return TrialRecord(trial, 1, state, {}, **{**values, **fields})


def test_the_baseline_is_the_default_where_it_lies_inside_and_the_middle_elsewhere():
    spec = make_spec(
        {
            "learning_rate": {"low": 1e-5, "high": 5e-5, "log": True},
            "num_train_epochs": {"low": 2, "high": 5},
            "per_device_train_batch_size": {"choices": [16, 32, 64]},
            "weight_decay": {"low": 0.1, "high": 0.3},
            "model.hidden_dropout_prob": {"low": 0.0, "high": 0.5},
            "data.max_length": {"choices": [32, 64, 128]},
        }
    )
    (baseline,) = planned_trials(spec, {"model.hidden_dropout_prob": 0.1}, max_length=128)
    assert baseline == {
        "learning_rate": 5e-5,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 32,
        "weight_decay": pytest.approx(0.2),
        "model.hidden_dropout_prob": 0.1,
        "data.max_length": 128,
    }
    assert type(baseline["num_train_epochs"]) is int


def test_the_middle_of_a_logarithmic_axis_is_its_geometric_mean():
    spec = make_spec({"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}})
    assert planned_trials(spec, {}, 128)[0]["learning_rate"] == pytest.approx(1e-3)


def test_start_follows_the_baseline_which_can_be_left_out():
    space = {"learning_rate": {"low": 1e-5, "high": 1e-4}}
    start = [{"learning_rate": 2e-5}]
    assert [p["learning_rate"] for p in planned_trials(make_spec(space, start=start), {}, 128)] == [5e-5, 2e-5]
    without = make_spec(space, start=start, search={"baseline": False})
    assert planned_trials(without, {}, 128) == start


def test_a_grid_is_planned_whole_without_a_baseline_in_an_order_of_its_seed():
    space = {"num_train_epochs": {"low": 2, "high": 4}, "per_device_train_batch_size": {"choices": [8, 16]}}
    plans = [planned_trials(make_spec(space, search={"sampler": "grid", "seed": seed}), {}, 128) for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]
    assert sorted(map(str, plans[0])) == sorted(map(str, plans[2]))
    assert len({str(point) for point in plans[0]}) == 6
    assert trials_wanted(make_spec(space, search={"sampler": "grid"}, budget={"trials": 100}), plans[0]) == 6
    assert trials_wanted(make_spec(space, search={"sampler": "grid"}, budget={"trials": 4}), plans[0]) == 4


SMALL = {
    "num_train_epochs": {"low": 1, "high": 2},
    "weight_decay": {"low": 0.0, "high": 0.3, "step": 0.1},
    "lr_scheduler_type": {"choices": ["linear", "constant"]},
    "warmup_steps": {"choices": [0.0, 0.1], "when": {"lr_scheduler_type": "linear"}},
}
"""A space of 24 configurations."""


@pytest.mark.parametrize(
    ("space", "trials", "wanted"),
    [
        (SMALL, 10, 10),
        (SMALL, 24, 24),
        (SMALL, 100, 24),
        ({**SMALL, "learning_rate": {"low": 1e-5, "high": 1e-4}}, 100, 100),
        ({**SMALL, "learning_rate": {"low": 1e-5, "high": 1e-5}}, 100, 24),
        ({**SMALL, "warmup_steps": {"low": 0.0, "high": 0.1, "when": {"lr_scheduler_type": "linear"}}}, 100, 100),
        ({"gradient_accumulation_steps": {"low": 1, "high": 10**9}}, 100, 100),
        ({"per_device_train_batch_size": {"choices": [8]}}, 3, 1),
    ],
)
def test_there_are_no_more_trials_than_configurations(space, trials, wanted):
    spec = make_spec(space, budget={"trials": trials})
    plan = planned_trials(spec, {}, 128)
    assert trials_wanted(spec, plan) == wanted
    assert (used_up(spec, plan) is None) == (wanted == trials)


def test_what_is_asked_for_twice_is_tried_twice_and_the_default_that_is_asked_for_once():
    other = {"num_train_epochs": 1, "weight_decay": 0.3, "lr_scheduler_type": "constant"}
    default = {"num_train_epochs": 1, "weight_decay": 0.0, "lr_scheduler_type": "linear", "warmup_steps": 0.0}
    spec = make_spec(SMALL, start=[other, default, other], budget={"trials": 100})
    plan = planned_trials(spec, {}, 128)
    assert [configuration(spec, params) == configuration(spec, default) for params in plan] == [True, False, False]
    assert trials_wanted(spec, plan) == 25


def test_configurations_are_equal_where_they_train_the_same():
    spec = make_spec(SMALL)
    one = {"num_train_epochs": 2, "weight_decay": 0.3, "lr_scheduler_type": "constant"}
    assert configuration(spec, one) == configuration(spec, {**one, "weight_decay": 0.1 + 0.2, "num_train_epochs": 2.0})
    assert configuration(spec, one) != configuration(spec, {**one, "weight_decay": 0.2})
    flags = make_spec({"bf16": {"choices": [True, False]}})
    assert configuration(flags, {"bf16": True}) != configuration(flags, {"bf16": 1})


@given(seed=st.integers(0, 1000))
def test_every_point_of_a_space_comes_once_wherever_one_begins(seed):
    space = SearchSpace(make_spec(SMALL).space)
    points = list(space.points(random.Random(seed)))
    assert sorted(map(str, points)) == sorted(map(str, space.grid()))
    assert all(space.contains(point) for point in points)


def test_a_parameter_that_is_switched_off_is_absent_from_the_plan():
    space = {
        "lr_scheduler_type": {"choices": ["linear", "constant"]},
        "warmup_steps": {"low": 0.0, "high": 0.2, "when": {"lr_scheduler_type": "constant"}},
    }
    assert planned_trials(make_spec(space), {}, 128) == [{"lr_scheduler_type": "linear"}]
    grid = {**space, "warmup_steps": {"choices": [0.0, 0.1], "when": {"lr_scheduler_type": "constant"}}}
    points = planned_trials(make_spec(grid, search={"sampler": "grid"}), {}, 128)
    assert len(points) == 3


def test_the_target_ends_a_sweep_in_the_objectives_direction():
    stop = StopSpec(target=0.5)
    assert early_stop(stop, [record(0, 0.6)], Direction.MINIMIZE) is None
    assert early_stop(stop, [record(0, 0.5)], Direction.MINIMIZE) == "the target 0.5 is reached"
    assert early_stop(stop, [record(0, 0.4)], Direction.MAXIMIZE) is None
    assert early_stop(stop, [record(0, 0.9)], Direction.MAXIMIZE) is not None


def test_trials_without_a_gain_end_a_sweep_and_only_complete_ones_are_a_gain():
    stop = StopSpec(no_gain_trials=2)
    flat = [record(0, 0.5), record(1, 0.6), record(2, 0.1, TrialState.PRUNED)]
    assert early_stop(stop, flat[:2], Direction.MINIMIZE) is None
    assert early_stop(stop, flat, Direction.MINIMIZE) == "2 trials without a new best"
    assert early_stop(stop, [*flat[:2], record(2, 0.4)], Direction.MINIMIZE) is None


def test_an_interrupted_trial_is_no_trial_without_a_gain():
    records = [record(0, 0.5), record(1, 0.6), record(2, None, TrialState.INTERRUPTED)]
    assert early_stop(StopSpec(no_gain_trials=2), records, Direction.MINIMIZE) is None


def failed(trial: int, reason: str, run: int = 1) -> TrialRecord:
    return record(trial, None, TrialState.FAILED, reason=reason, run=run)


def test_three_trials_that_fail_alike_before_any_success_stop_the_run():
    records = [failed(n, f"RuntimeError: 3 labels, row {n}") for n in range(3)]
    assert same_failure(records[:2], run=1) is None
    assert same_failure(records, run=1) == "the first 3 trials failed alike: RuntimeError: 3 labels, row 0"
    assert same_failure([*records, record(3, 0.5, run=1)], run=1), "what ended later changes nothing"


@pytest.mark.parametrize(
    "first",
    [
        record(0, 0.5, run=1),
        record(0, None, TrialState.PRUNED, reason="RuntimeError: x", run=1),
        failed(0, "ValueError: another one"),
    ],
    ids=["success", "pruned", "another failure"],
)
def test_other_beginnings_do_not_stop_a_run(first):
    assert same_failure([first, *(failed(n, "RuntimeError: x") for n in (1, 2, 3))], run=1) is None


def test_the_next_run_tries_again():
    records = [failed(n, "RuntimeError: x", run=1) for n in range(3)]
    assert same_failure(records, run=2) is None
    assert same_failure([*records, *(failed(n, "RuntimeError: x", run=2) for n in (3, 4, 5))], run=2)
