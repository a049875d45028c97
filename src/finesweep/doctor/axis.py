"""Places values on the axes of a search space, and widens axes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from finesweep.doctor.case import rounded
from finesweep.spec import TRAINING_FIELDS, Parameter
from finesweep.trial import Value

NEAR = 0.1
"""Share of a range beside a bound that counts as at the bound."""

FEW_CHOICES = 3
"""Minimum number of numeric choices of which the first and the last are bounds."""


def position(axis: Parameter, value: Value) -> float | None:
    """Return where a value lies on its axis, 0 for the lower end and 1 for the upper; None if it has no order."""
    if not _is_number(value):
        return None
    if axis.choices is not None:
        numbers = _numbers(axis)
        if len(numbers) < max(FEW_CHOICES, len(axis.choices)) or value not in numbers:
            return None
        return numbers.index(value) / (len(numbers) - 1)
    low, high = float(axis.low or 0), float(axis.high or 0)
    if low == high:
        return None
    number = float(value or 0)
    if axis.log:
        return math.log(number / low) / math.log(high / low) if number > 0 else None
    return (number - low) / (high - low)


def written(axis: Parameter) -> dict[str, Any]:
    """Return an axis as it stands in the YAML, without defaults."""
    return axis.model_dump(mode="json", exclude_defaults=True)


def widened(name: str, axis: Parameter, *, up: bool, most_tokens: int) -> dict[str, Any] | None:
    """Return an axis that reaches further on one side, as in the YAML; None if no value beyond the bound is allowed.

    Args:
        name: The parameter.
        axis: Its axis.
        up: Whether it is widened upwards.
        most_tokens: Longest input of the model.
    """
    given = written(axis)
    least, most = _limits(name, most_tokens)
    if axis.choices is not None:
        numbers = _numbers(axis)
        new = _next_choice(numbers[-1], numbers[-2]) if up else _next_choice(numbers[0], numbers[1])
        new = min(max(new, least), most)
        if new in numbers or (isinstance(numbers[0], int) and new < 1 <= numbers[0]):
            return None
        return {**given, "choices": sorted([*numbers, new])}
    key = "high" if up else "low"
    bound = axis.high if up else axis.low
    new = min(max(_beyond(axis, up=up), least), most)
    if new <= _above(name):
        half = float(axis.low or 0) / 2
        new = max(round(half), 1) if axis.is_integer else rounded(half)
    return None if new == bound else {**given, key: new}


def _next_choice(end: float, before: float) -> float:
    """Return one more choice at the same ratio, or at the same distance from a choice of 0."""
    new = end * end / before if end > 0 and before > 0 else end + (end - before)
    return round(new) if isinstance(end, int) else rounded(new)


def _beyond(axis: Parameter, *, up: bool) -> float:
    low, high = float(axis.low or 0), float(axis.high or 0)
    if axis.log:
        factor = min(max(math.sqrt(high / low), 2.0), 5.0)
        new = high * factor if up else low / factor
    else:
        width = (high - low) / 2
        width = max(round(width / axis.step), 1) * float(axis.step) if axis.step else width
        new = high + width if up else low - width
        new = max(new, 0.0) if low >= 0 else new
    if axis.is_integer:
        return math.ceil(new) if up else max(math.floor(new), 1 if axis.log else 0)
    return new if axis.step else rounded(new)


def _limits(name: str, most_tokens: int) -> tuple[float, float]:
    """Return the smallest and the largest allowed value of a setting."""
    if name == "data.max_length":
        return 4, most_tokens
    if name.startswith("model."):
        return 0, 0.9 if "dropout" in name or "prob" in name else 1e15
    field = TRAINING_FIELDS.get(name)
    least = field.low if field is not None and field.low is not None else 0
    most = field.high if field is not None and field.high is not None else 1e15
    return least, most


def _numbers(axis: Parameter) -> list[float]:
    """Return the numeric choices, ascending."""
    return sorted(
        choice for choice in axis.choices or () if isinstance(choice, int | float) and not isinstance(choice, bool)
    )


def _above(name: str) -> float:
    """Return the number above which every value of a setting must lie."""
    field = TRAINING_FIELDS.get(name)
    return field.above if field is not None and field.above is not None else -math.inf


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def epochs_doubled(spec_values: Mapping[str, Value], axis: Parameter | None) -> dict[str, Any]:
    """Return the section of a spec that lets trials train twice as long.

    Args:
        spec_values: The fixed settings.
        axis: The axis of ``num_train_epochs``, None if it is not searched.
    """
    name = "num_train_epochs"
    if axis is not None:
        given = written(axis)
        if axis.choices is not None:
            return {"space": {name: {**given, "choices": [*axis.choices, 2 * _largest(axis.choices)]}}}
        return {"space": {name: {**given, "high": 2 * (axis.high or 1)}}}
    if "max_steps" in spec_values:
        return {"fixed": {"max_steps": 2 * int(spec_values["max_steps"] or 1)}}
    value = spec_values.get(name, TRAINING_FIELDS[name].default)
    return {"fixed": {name: 2 * float(value or 1)}}


def _largest(choices: tuple[Value, ...]) -> float:
    return max(float(choice) for choice in choices if isinstance(choice, int | float))
