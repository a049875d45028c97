"""One axis of the search, when it exists, and the points of a grid (rows P18 to P30 of the faults)."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from finesweep.spec.search_space import MAX_CHOICES, NEAR, Parameter, SearchSpace, same, when_problems
from finesweep.spec.sections import DataSpec, ModelSpec, SweepSpec


def axis(**values: Any) -> Parameter:
    return Parameter.model_validate(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"low": 1e-4, "high": 2e-5}, r"low 0.0001 is above high 2e-05; swap them", id="P18-reversed"),
        pytest.param({"low": 0, "high": 1, "log": True}, "log needs low above 0, found 0", id="P18-log-zero"),
        pytest.param({"low": -1.0, "high": 1, "log": True}, "log needs low above 0, found -1", id="P18-log-negative"),
        pytest.param({"low": 0, "high": 1, "step": 0}, "step must be above 0", id="P18-step-zero"),
        pytest.param({"low": 0, "high": 1, "step": -1}, "step must be above 0", id="P18-step-negative"),
        pytest.param({"low": 1, "high": 9, "step": 1, "log": True}, "`step` and `log` exclude", id="P18-step-and-log"),
        pytest.param({"low": 0, "high": 1, "step": 2}, "step 2 is larger than the range 0 .. 1", id="P20"),
        pytest.param({"low": 1, "high": 3, "step": 0.5}, "an integer range needs an integer step", id="P21-step"),
        pytest.param({"low": math.nan, "high": 1}, "bounds must lie between", id="P23-nan"),
        pytest.param({"low": 0, "high": math.inf}, "bounds must lie between", id="P23-inf"),
        pytest.param({"low": -1.7e308, "high": 1.7e308}, "bounds must lie between", id="P23-largest"),
        pytest.param({"low": 0, "high": 10**299}, "bounds must lie between", id="P23-integer"),
        pytest.param({"low": 0.0, "high": 1, "step": math.nan}, "step must be above 0 and finite", id="P23-step"),
        pytest.param({"choices": []}, "`choices` is empty", id="P24"),
        pytest.param({"choices": [[1]]}, "valid", id="P26-list"),
        pytest.param({"choices": [{"a": 1}]}, "valid", id="P26-mapping"),
        pytest.param({"choices": [1.0, math.nan]}, "a choice is not a finite number", id="P27-nan"),
        pytest.param({"choices": [1, math.inf]}, "a choice is not a finite number", id="P27-inf"),
        pytest.param({"choices": list(range(MAX_CHOICES + 1))}, "1,001 choices; at most 1,000", id="Y23"),
        pytest.param({"choices": [8, 16, 8]}, "a choice stands there twice", id="twice"),
        pytest.param({"choices": [8, 8.0]}, "a choice stands there twice", id="twice-as-float"),
        pytest.param({"choices": [8], "low": 1}, "`choices` and a range exclude each other", id="choices-and-low"),
        pytest.param({"choices": [8], "log": True}, "`choices` and a range exclude each other", id="choices-and-log"),
        pytest.param({"low": 1}, "`high` is missing", id="no-high"),
        pytest.param({"high": 1}, "`low` is missing", id="no-low"),
        pytest.param({}, "`low` is missing", id="nothing"),
        pytest.param({"low": "8", "high": 64}, "valid", id="Y4-text"),
        pytest.param({"low": True, "high": 64}, "valid", id="boolean-bound"),
        pytest.param({"low": 0, "high": 1, "when": {}}, "`when` is empty", id="empty-when"),
        pytest.param({"low": 0, "hihg": 1}, "Extra inputs", id="unknown-key"),
    ],
)
def test_an_axis_that_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        axis(**values)


def test_true_and_one_are_two_choices() -> None:
    assert axis(choices=[True, 1, None, "1"]).choices == (True, 1, None, "1")


def test_two_integer_bounds_make_an_integer_axis() -> None:
    assert axis(low=2, high=5).is_integer
    assert not axis(low=2, high=5.0).is_integer
    assert list(axis(low=2, high=5).values()) == [2, 3, 4, 5]
    assert list(axis(low=8, high=30, step=8).values()) == [8, 16, 24]


def test_a_stepped_range_includes_its_end_in_spite_of_rounding() -> None:
    assert list(axis(low=0.0, high=0.3, step=0.1).values()) == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_continuous_axis_cannot_be_listed() -> None:
    with pytest.raises(ValueError, match="a continuous axis has no list of values"):
        list(axis(low=0.0, high=1.0).values())


@pytest.mark.parametrize(
    ("parameter", "value", "inside"),
    [
        (axis(low=0.0, high=1.0), 1, True),
        (axis(low=0.0, high=1.0), True, False),
        (axis(low=0.0, high=1.0), "0.5", False),
        (axis(low=0.0, high=1.0), math.nan, False),
        (axis(low=0.0, high=1.0), math.inf, False),
        (axis(low=0.0, high=1.0, step=0.25), 0.5, True),
        (axis(low=0.0, high=1.0, step=0.25), 0.3, False),
        (axis(low=1, high=4), 3.0, True),
        (axis(low=1, high=4), 2.5, False),
        (axis(choices=[8, 16]), 16.0, True),
        (axis(choices=[8, 16]), 12, False),
        (axis(choices=[1]), True, False),
        (axis(choices=[None]), None, True),
    ],
)
def test_what_lies_on_an_axis(parameter: Parameter, value: object, inside: bool) -> None:
    assert parameter.contains(value) is inside


@pytest.mark.parametrize(
    ("parameter", "default", "used"),
    [
        (axis(low=1e-5, high=1e-3, log=True), 5e-5, 5e-5),
        (axis(low=1e-4, high=1e-2, log=True), 5e-5, 1e-3),
        (axis(low=2, high=5), 3.0, 3),
        (axis(low=4, high=6), 3.0, 5),
        (axis(choices=[16, 32, 64]), 8, 32),
        (axis(choices=[2, 3, 8]), 3.0, 3),
        (axis(choices=["linear", "cosine"]), "linear", "linear"),
        (axis(low=0.0, high=1.0), None, 0.5),
        (axis(low=1, high=10**12), 0, 5 * 10**11),
        (axis(low=1e-300, high=1e-300, log=True), None, 1e-300),
    ],
)
def test_the_untuned_value_is_the_default_where_it_fits_else_the_middle(
    parameter: Parameter, default: Any, used: Any
) -> None:
    value = parameter.default_or_middle(default)
    assert value == pytest.approx(used)
    assert type(value) is type(used)


NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 6))
)


@st.composite
def axes(draw: st.DrawFn) -> Parameter:
    if draw(st.booleans()):
        values = st.one_of(st.booleans(), st.integers(), st.text(max_size=5), st.none())
        return axis(
            choices=draw(st.lists(values, min_size=1, max_size=6, unique_by=lambda v: (isinstance(v, bool), v)))
        )
    low, high = sorted([draw(NUMBERS), draw(NUMBERS)])
    log = draw(st.booleans()) and low > 0
    step = None
    if not log and high > low and draw(st.booleans()):
        width = high - low
        step = draw(st.integers(1, width)) if isinstance(width, int) else width / draw(st.integers(1, 50))
    return axis(low=low, high=high, log=log, step=step)


@given(axes())
def test_the_middle_lies_on_the_axis(parameter: Parameter) -> None:
    assert parameter.contains(parameter.middle())


@given(axes())
def test_every_value_of_a_countable_axis_lies_on_it_and_is_counted(parameter: Parameter) -> None:
    assume(parameter.countable and parameter.size() <= 2_000)
    values = list(parameter.values())
    assert len(values) == parameter.size()
    assert all(parameter.contains(value) for value in values)


@given(axes(), st.one_of(NUMBERS, st.none(), st.text(max_size=3), st.booleans()))
def test_the_untuned_value_lies_on_the_axis(parameter: Parameter, default: Any) -> None:
    assert parameter.contains(parameter.default_or_middle(default))


SWITCHED = {
    "momentum": axis(low=0.0, high=1.0, step=0.5, when={"optim": "sgd"}),
    "optim": axis(choices=["sgd", "adamw", "adafactor"]),
    "beta": axis(choices=[1, 2], when={"optim": ["adamw", "adafactor"], "size": 8}),
    "size": axis(choices=[8, 16]),
}


def test_a_parameter_follows_those_that_its_when_names() -> None:
    assert list(SearchSpace(SWITCHED).parameters) == ["optim", "size", "momentum", "beta"]


def test_when_decides_which_parameters_exist() -> None:
    space = SearchSpace(SWITCHED)
    assert space.contains({"optim": "sgd", "size": 8, "momentum": 0.5})
    assert space.contains({"optim": "adamw", "size": 8, "beta": 1})
    assert not space.contains({"optim": "adamw", "size": 16, "beta": 1})
    assert not space.contains({"optim": "sgd", "size": 8})
    assert space.active_only({"optim": "sgd", "size": 8, "momentum": 0.5, "beta": 1}) == {
        "optim": "sgd",
        "size": 8,
        "momentum": 0.5,
    }


def test_true_does_not_meet_a_when_of_one() -> None:
    space = SearchSpace({"flag": axis(choices=[True, 1]), "rate": axis(low=0.0, high=1.0, when={"flag": 1})})
    assert space.is_active("rate", {"flag": 1})
    assert not space.is_active("rate", {"flag": True})


def test_the_untuned_configuration_has_no_switched_off_parameter() -> None:
    untuned = SearchSpace(SWITCHED).untuned({"optim": "adamw", "size": 16, "momentum": 0.5})
    assert untuned == {"optim": "adamw", "size": 16}


def test_a_grid_has_every_distinct_point_once() -> None:
    space = SearchSpace(SWITCHED)
    points = space.grid()
    # sgd: 2 sizes x 3 momenta; adamw and adafactor: size 8 with 2 betas, size 16 without.
    assert len(points) == 6 + 2 * 3
    assert len(points) == len({tuple(sorted(point.items())) for point in points})
    assert all(space.contains(point) for point in points)
    assert space.grid_size() == 3 * 2 * 3 * 2


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        pytest.param({"a": axis(choices=[1], when={"b": 1})}, ("a", "which is not in the space", "b"), id="unknown"),
        pytest.param(
            {"a": axis(choices=[1]), "b": axis(choices=[1], when={"a": 2})},
            ("b", "`when` waits for a = integer 2, which it never has", ""),
            id="never",
        ),
        pytest.param(
            {"a": axis(choices=[1]), "b": axis(choices=[1], when={"a": []})},
            ("b", "lists no value of a", ""),
            id="none",
        ),
        pytest.param(
            {"c": axis(choices=[1]), "a": axis(choices=[1], when={"b": 1}), "b": axis(choices=[1], when={"a": 1})},
            ("a", "`when` goes in a circle: a, b", ""),
            id="circle",
        ),
        pytest.param({"a": axis(choices=[1], when={"a": 1})}, ("a", "goes in a circle: a", ""), id="itself"),
    ],
)
def test_a_when_that_cannot_be_met_is_named(parameters: dict[str, Parameter], problem: tuple[str, str, str]) -> None:
    [(name, message, near)] = when_problems(parameters)
    assert (name, near) == (problem[0], problem[2])
    assert problem[1] in message


def test_a_circle_makes_no_space() -> None:
    with pytest.raises(ValueError, match="`when` goes in a circle: a"):
        SearchSpace({"a": axis(choices=[1], when={"a": 1})})


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [(3, 3.0, True), (True, 1, False), (False, 0, False), ("3", 3, False), (None, None, True)],
)
def test_when_two_values_are_the_same_setting(one: object, other: object, equal: bool) -> None:
    assert same(one, other) is equal


def test_a_copy_of_a_spec_has_a_search_space_of_its_own() -> None:
    space = {"learning_rate": Parameter(low=1e-5, high=1e-4)}
    made = {"name": "s", "base": Path(), "model": ModelSpec(name="m"), "data": DataSpec(), "fixed": {"max_steps": 3}}
    spec = SweepSpec(**made, space=space)
    assert list(spec.search_space.parameters) == ["learning_rate"]
    assert spec.search_space is spec.search_space
    other = spec.model_copy(update={"space": {"weight_decay": Parameter(low=0.0, high=0.1)}})
    assert list(other.search_space.parameters) == ["weight_decay"]
    assert spec.model_copy() == spec
    assert spec.merged({"weight_decay": 0.2}) == {"max_steps": 3, "weight_decay": 0.2}


@given(st.floats(1e-7, 1e3), st.floats(1.001, 1e6), st.floats(0, 1), st.booleans(), st.integers(0, 99))
def test_a_value_is_moved_a_little_within_its_axis(low: float, times: float, at: float, log: bool, seed: int) -> None:
    axis = Parameter(low=low, high=low * times, log=log)
    scale = math.log if log else float
    width = scale(low * times) - scale(low)
    value = min(max(math.exp(scale(low) + at * width) if log else low + at * width, low), low * times)
    moved = axis.near(value, random.Random(seed))
    assert axis.contains(moved)
    assert isinstance(moved, float)
    assert abs(scale(moved) - scale(value)) <= (NEAR + 1e-6) * width + 1e-9


@pytest.mark.parametrize(
    "axis", [{"low": 2, "high": 5}, {"choices": [8, None, "a"]}, {"low": 0.0, "high": 1.0, "step": 0.5}]
)
def test_a_value_of_a_countable_axis_stays(axis: dict[str, Any]) -> None:
    parameter = Parameter(**axis)
    assert [parameter.near(value, random.Random(0)) for value in parameter.values()] == list(parameter.values())
