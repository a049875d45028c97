"""Which configurations are tried first where `start` leaves that to finesweep."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.spec import SearchSpace, SweepSpec
from finesweep.spec.planned_trials import planned_trials
from finesweep.trial import Params
from made_specs import made_spec

SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-5, "high": 5e-5, "log": True},
    "num_train_epochs": {"low": 2, "high": 5},
    "per_device_train_batch_size": {"choices": [8, 16, 32]},
}
NAMES = tuple(SPACE)


def spec_of(space: Any = None, **sections: Any) -> SweepSpec:
    return made_spec(**{"space": space or SPACE, "start": "auto", **sections})


def first(spec: SweepSpec, width: int | None = 768) -> list[Params]:
    """Return what is tried after the untuned default."""
    return planned_trials(spec, {}, 128, width=width)[1:]


def values(planned: list[Params]) -> list[tuple[Any, ...]]:
    return [tuple(params.get(name) for name in NAMES) for params in planned]


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_four_known_good_configurations_follow_the_untuned_default(sampler: str) -> None:
    planned = planned_trials(spec_of(search={"sampler": sampler}), {}, 128, width=768)
    assert planned[0] == {"learning_rate": 5e-5, "num_train_epochs": 3, "per_device_train_batch_size": 8}
    assert values(planned[1:]) == [(3e-5, 3, 16), (3e-5, 4, 8), (4.3e-5, 3, 32), (2e-5, 4, 8)]
    assert [type(params["num_train_epochs"]) for params in planned] == [int] * 5


def test_without_the_untuned_default_they_come_first() -> None:
    spec = spec_of(search={"baseline": False})
    assert values(planned_trials(spec, {}, 128, width=768))[0] == (3e-5, 3, 16)


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_a_sampler_that_does_not_learn_begins_without_them(sampler: str) -> None:
    space = {"learning_rate": {"choices": [1e-5, 2e-5]}}
    with_auto, without = (
        planned_trials(spec_of(space, search={"sampler": sampler}, start=start), {}, 128) for start in ("auto", ())
    )
    assert with_auto == without


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"config": "bert"}},
        {"space": {"num_train_epochs": {"low": 2, "high": 5}}},
        {"fixed": {"optim": "sgd"}},
        {"start": ()},
    ],
)
def test_there_are_none(sections: dict[str, Any]) -> None:
    assert first(spec_of(**sections)) == []


@pytest.mark.parametrize(("trials", "count"), [(1, 0), (2, 0), (3, 1), (8, 2), (11, 3), (12, 4), (1_000, 4)])
def test_they_are_at_most_a_third_of_the_budget(trials: int, count: int) -> None:
    assert len(first(spec_of(budget={"trials": trials}))) == count


@pytest.mark.parametrize(
    ("width", "rates"),
    [(768, [3e-5, 3e-5, 4.3e-5, 2e-5]), (None, [3e-5, 3e-5, 4.3e-5, 2e-5]), (384, [6e-5, 6e-5, 8.6e-5, 4e-5])],
)
def test_a_narrower_model_learns_faster(width: int | None, rates: list[float]) -> None:
    space = {**SPACE, "learning_rate": {"low": 1e-6, "high": 1e-3, "log": True}}
    assert [params["learning_rate"] for params in first(spec_of(space), width)] == pytest.approx(rates)


def test_values_outside_are_clipped_and_equal_configurations_dropped() -> None:
    space = {
        "learning_rate": {"low": 1e-4, "high": 1e-3, "log": True},
        "num_train_epochs": {"low": 1, "high": 3},
        "per_device_train_batch_size": {"choices": [16, 48]},
    }
    assert values(first(spec_of(space))) == [(1e-4, 3, 16), (1e-4, 3, 48)]


def test_one_that_equals_the_untuned_default_is_not_tried_twice() -> None:
    space = {"learning_rate": {"choices": [3e-5, 4.3e-5]}}
    spec = spec_of(space)
    assert planned_trials(spec, {}, 128, width=768) == [{"learning_rate": 3e-5}, {"learning_rate": 4.3e-5}]


def test_only_searched_parameters_are_set_and_others_have_their_defaults() -> None:
    space = {
        "learning_rate": SPACE["learning_rate"],
        "weight_decay": {"low": 0.1, "high": 0.3},
        "warmup_steps": {"low": 0.0, "high": 0.2, "when": {"lr_scheduler_type": "linear"}},
        "lr_scheduler_type": {"choices": ["linear", "constant"]},
        "model.hidden_dropout_prob": {"low": 0.0, "high": 0.5},
    }
    planned = planned_trials(spec_of(space), {"model.hidden_dropout_prob": 0.1}, 128, width=768)
    others = [{name: value for name, value in params.items() if name != "learning_rate"} for params in planned]
    assert others == [others[0]] * len(planned)
    assert others[0]["model.hidden_dropout_prob"] == 0.1
    assert [params["learning_rate"] for params in planned[1:]] == [3e-5, 4.3e-5, 2e-5]


def test_the_batch_is_that_of_a_step() -> None:
    space = {name: SPACE[name] for name in ("learning_rate", "per_device_train_batch_size")}
    found = first(spec_of(space, fixed={"gradient_accumulation_steps": 2}))
    assert [params["per_device_train_batch_size"] for params in found] == [8, 16, 8]


def test_they_are_left_out_where_the_space_switches_the_rate_off() -> None:
    space = {
        "learning_rate": {**SPACE["learning_rate"], "when": {"num_train_epochs": 5}},
        "num_train_epochs": {"low": 2, "high": 5},
    }
    assert first(spec_of(space)) == []


AXES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(0, 40)).map(lambda at: {"low": at[0], "high": at[0] + at[1]}),
    st.tuples(st.floats(1e-6, 10), st.floats(1e-6, 10)).map(lambda at: {"low": min(at), "high": max(at), "log": True}),
    st.tuples(st.floats(0, 10), st.integers(1, 9)).map(
        lambda at: {"low": at[0], "high": at[0] + at[1] + 0.5, "step": 0.5}
    ),
    st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True).map(lambda at: {"choices": at}),
    st.just({"choices": [0.0]}),
)


@given(rate=AXES, epochs=AXES, batch=AXES, width=st.sampled_from([None, 1, 64, 1024, 262_144]))
def test_each_lies_in_the_space_once(rate: Any, epochs: Any, batch: Any, width: int | None) -> None:
    spec = spec_of(dict(zip(NAMES, (rate, epochs, batch), strict=True)))
    planned = planned_trials(spec, {}, 128, width=width)
    space = SearchSpace(spec.space)
    assert all(space.contains(params) for params in planned)
    assert len({str(params) for params in planned}) == len(planned)
