"""What is tried before any sampler speaks."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.spec.planned_trials import configuration, planned_trials, trials_wanted, used_up
from finesweep.spec.search_space import SearchSpace
from finesweep.spec.sections import SweepSpec
from made_specs import made_spec


def make_spec(space, **sections) -> SweepSpec:
    return made_spec(space=space, **sections)


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
