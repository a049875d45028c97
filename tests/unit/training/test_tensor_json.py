"""Nested values with tensors come back exactly as they were, and other JSON is refused."""

from __future__ import annotations

import json
import math
from collections import namedtuple
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.torch

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
KEYS = st.integers() | st.booleans() | st.text(max_size=4) | st.none() | st.tuples(st.integers(), st.text(max_size=2))
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=12,
)


def returned(value: Any) -> Any:
    """Split a value, write its JSON as a state does, and join it again."""
    from finesweep.training import tensor_json

    plain, tensors = tensor_json.split(value)
    return tensor_json.join(json.loads(json.dumps(plain, allow_nan=False)), tensors)


def outline(value: Any) -> Any:
    """Return a value with its types, in which NaN equals NaN and -0.0 differs from 0.0."""
    if isinstance(value, float):
        return "float", str(value)
    if isinstance(value, list | tuple):
        return type(value), [outline(item) for item in value]
    if isinstance(value, dict):
        return "dict", [(outline(key), outline(item)) for key, item in value.items()]
    return type(value), value


@given(VALUES)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_values_come_back_with_their_types_and_order(value: Any) -> None:
    assert outline(returned(value)) == outline(value)


def test_dictionaries_that_look_like_marks_stay_dictionaries() -> None:
    for value in ({"tensor": "0"}, {"float": "nan"}, {"tuple": [1]}, {"dict": []}, {}, {1: {2: ()}}, {"1": 0, 1: 1}):
        assert returned(value) == value


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16", "int64", "uint8", "bool", "int32"])
def test_tensors_keep_type_shape_and_bits(dtype: str) -> None:
    import torch

    made = torch.tensor([[0.0, 1.0, 3.0], [5.0, 7.0, 1.0]]).to(getattr(torch, dtype))
    for value in (made, made.t(), made[:, 1], made[0, 0], made[:0]):
        (found,) = returned([value])
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert torch.equal(found, value)
        assert found.is_contiguous(), "else safetensors does not take it"


def test_tensors_with_gradients_and_odd_numbers_keep_their_bits() -> None:
    import torch

    weight = torch.nn.Parameter(torch.tensor([math.nan, -0.0, math.inf, 1e-45]))
    found = returned({"state": {0: (weight, weight)}})["state"][0]
    assert not found[0].requires_grad
    assert all(torch.equal(one.view(torch.int32), weight.detach().view(torch.int32)) for one in found)


def test_every_tensor_has_a_name_of_its_own() -> None:
    import torch

    from finesweep.training import tensor_json

    values = {str(number): [torch.tensor(number)] for number in range(12)}
    plain, tensors = tensor_json.split(values)
    assert len(tensors) == 12
    assert tensor_json.join(plain, tensors) == values


@pytest.mark.parametrize("made", ["set", "bytes", "numpy", "object", "complex"])
def test_value_of_another_type_is_refused_and_not_changed(made: str) -> None:
    import numpy

    value = {"set": {1}, "bytes": b"1", "numpy": numpy.int64(1), "object": object(), "complex": 1j}[made]
    with pytest.raises(TypeError, match=f"{type(value).__name__} cannot be kept as JSON and tensors"):
        returned({"a": [value]})


def test_tuple_with_names_comes_back_as_a_tuple() -> None:
    point = namedtuple("point", "x y")
    assert returned(point(1, (2,))) == (1, (2,))


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"a": 1},
        {"tuple": [], "dict": []},
        {"tensor": "7"},
        {"tensor": [1]},
        {"tuple": 3},
        {"dict": [1]},
        {"dict": [[1, 2, 3]]},
        {"dict": [[[1], 2]]},
        {"float": "x"},
        {"float": None},
        [{"list": []}],
    ],
    ids=str,
)
def test_json_that_split_does_not_make_is_refused(plain: Any) -> None:
    from finesweep.training import tensor_json

    with pytest.raises(ValueError, match=r"."):
        tensor_json.join(plain, {})
