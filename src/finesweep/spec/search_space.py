"""Defines the search space: the range of one parameter, the condition for it to exist, and the points of a grid."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from finesweep.spec.training_arguments import describe
from finesweep.trial import Params, Value

MAX_CHOICES = 1_000
MAX_GRID_POINTS = 100_000
ENDLESS = 1_000_000
"""Maximum number of values drawn from a continuous axis; more than any sweep has trials."""

NEAR = 0.05
"""Share of a continuous axis by which a value that was tried already is moved, at most."""

_LARGEST = 1e15
"""Limit of a bound. Below it every integer is exact as a float, as samplers need; a larger one is a typing error."""

Number = int | float


class Parameter(BaseModel):
    """One axis of the search: a range (``low``, ``high``) or a list (``choices``).

    Two integer bounds make an integer parameter. Ranges include both ends.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    low: Number | None = Field(None, description="Smallest value of a range, included.")
    high: Number | None = Field(None, description="Largest value of a range, included.")
    step: Number | None = Field(None, description="Distance between values; none means continuous.")
    log: bool = Field(False, description="Sample on a logarithmic scale, as learning rates want.")
    choices: tuple[Value, ...] | None = Field(None, description="The values to choose from.", strict=False)
    when: dict[str, Any] | None = Field(
        None, description="This parameter exists only if another one has this value (or one of these)."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Parameter:
        if message := self._choices_problem() if self.choices is not None else self._range_problem():
            raise ValueError(message)
        if self.when is not None and len(self.when) == 0:
            raise ValueError("`when` is empty; write when: {other_parameter: value}")
        return self

    def _choices_problem(self) -> str:
        assert self.choices is not None
        if self.low is not None or self.high is not None or self.step is not None or self.log:
            return "`choices` and a range exclude each other; keep one"
        if not self.choices:
            return "`choices` is empty; at least one value is needed"
        if len(self.choices) > MAX_CHOICES:
            return f"{len(self.choices):,} choices; at most {MAX_CHOICES:,} are allowed"
        if any(isinstance(choice, float) and not math.isfinite(choice) for choice in self.choices):
            return "a choice is not a finite number"
        if len({_identity(choice) for choice in self.choices}) < len(self.choices):
            return "a choice stands there twice"
        return ""

    def _range_problem(self) -> str:
        low, high = self.low, self.high
        if low is None or high is None:
            missing = "low" if low is None else "high"
            return f"`{missing}` is missing; a parameter is {{low, high}} or {{choices}}"
        if not (abs(low) < _LARGEST and abs(high) < _LARGEST):
            return f"bounds must lie between -1e15 and 1e15, found {low:g} and {high:g}"
        if low > high:
            return f"low {low:g} is above high {high:g}; swap them"
        if self.log and low <= 0:
            return f"log needs low above 0, found {low:g}"
        return self._step_problem(low, high)

    def _step_problem(self, low: Number, high: Number) -> str:
        step = self.step
        if step is None:
            return ""
        if self.log:
            return "`step` and `log` exclude each other; keep one"
        if not 0 < step < _LARGEST:
            return f"step must be above 0 and finite, found {step:g}"
        if step > high - low:
            return f"step {step:g} is larger than the range {low:g} .. {high:g}"
        if isinstance(low, int) and isinstance(high, int) and not isinstance(step, int):
            return f"an integer range needs an integer step, found {step:g}"
        return ""

    @property
    def is_integer(self) -> bool:
        """Whether this is a range of integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def countable(self) -> bool:
        """Whether the axis has a finite number of values, as a grid needs."""
        return self.choices is not None or self.is_integer or self.step is not None or self.low == self.high

    def ends(self) -> dict[tuple[str | int, ...], Value]:
        """Return the choices, or both ends of the range as they are drawn.

        Returns:
            By place below the parameter in the YAML, as ``("choices", 0)`` or ``("low",)``.
        """
        if self.choices is not None:
            return {("choices", index): choice for index, choice in enumerate(self.choices)}
        assert self.low is not None
        assert self.high is not None
        # A range with one integer bound yields floats.
        kind = int if self.is_integer else float
        return {("low",): kind(self.low), ("high",): kind(self.high)}

    def values(self) -> Iterator[Value]:
        """Yield every value of a countable axis in order.

        Raises:
            ValueError: The axis is continuous.
        """
        if not self.countable:
            raise ValueError("a continuous axis has no list of values")
        if self.choices is not None:
            yield from self.choices
        else:
            yield from map(self._at, range(self.size()))

    def size(self) -> int:
        """Count the values of a countable axis.

        Raises:
            ValueError: The axis is continuous.
        """
        if not self.countable:
            raise ValueError("a continuous axis has no list of values")
        if self.choices is not None:
            return len(self.choices)
        assert self.low is not None
        assert self.high is not None
        # The slack absorbs the rounding of 0.1 + 0.1 + 0.1.
        return math.floor((self.high - self.low) / (self.step or 1) + 1e-9) + 1

    def _at(self, index: int) -> int | float:
        assert self.low is not None
        assert self.high is not None
        value = self.low + index * (self.step or 1)
        return value if self.is_integer else min(float(value), float(self.high))

    def rotated(self, rng: random.Random) -> Iterator[Value]:
        """Yield every value of a countable axis once, from a random start; of a continuous one, random values."""
        if not self.countable:
            yield from (self._drawn(rng) for _ in range(ENDLESS))
        elif self.choices is not None:
            first = rng.randrange(len(self.choices))
            yield from (*self.choices[first:], *self.choices[:first])
        else:
            first, size = rng.randrange(self.size()), self.size()
            yield from map(self._at, itertools.chain(range(first, size), range(first)))

    def _drawn(self, rng: random.Random) -> float:
        assert self.low is not None
        assert self.high is not None
        if self.log:
            return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return rng.uniform(self.low, self.high)

    def draw(self, rng: random.Random) -> Value:
        """Draw a value as a random sampler does."""
        if self.countable and not self.log:
            return next(self.rotated(rng))
        value = self._drawn(rng)
        return round(value) if self.is_integer else value

    def near(self, value: Value, rng: random.Random) -> Value:
        """Return a value at most ``NEAR`` of a continuous range away; on a countable axis the same value."""
        if self.countable or not isinstance(value, int | float):
            return value
        assert self.low is not None
        assert self.high is not None
        scale, back = (math.log, math.exp) if self.log else (float, float)
        low, high = scale(self.low), scale(self.high)
        moved = scale(value) + rng.uniform(-NEAR, NEAR) * (high - low)
        inside = low + abs(moved - low) if moved < low else high - abs(high - moved) if moved > high else moved
        return min(max(back(inside), float(self.low)), float(self.high))

    def contains(self, value: object) -> bool:
        """Return whether a value lies on the axis; a number may miss a step by rounding only."""
        if self.choices is not None:
            return any(same(value, choice) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        assert self.low is not None
        assert self.high is not None
        if not self.low <= value <= self.high or (self.is_integer and value != int(value)):
            return False
        offset = (value - self.low) / self.step if self.step else 0.0
        return abs(offset - round(offset)) < 1e-6 if self.step else True

    def default_or_middle(self, default: Value) -> Value:
        """Return a default if it lies on the axis (in the axis' own type: 3.0 as 3), else the middle."""
        if not self.contains(default):
            return self.middle()
        if self.choices is not None:
            return next(choice for choice in self.choices if same(choice, default))
        return int(default) if self.is_integer and isinstance(default, float) else default

    def nearest(self, wanted: float) -> Value:
        """Return the value of the axis that is nearest to a number above 0, by their ratio where the axis has a list.

        The middle if its list has no number above 0.
        """
        if self.choices is not None:
            numbers = [one for one in self.choices if isinstance(one, int | float) and not isinstance(one, bool)]
            above = [one for one in numbers if one > 0]
            return min(above, key=lambda one: abs(math.log(one / wanted))) if above else self.middle()
        assert self.low is not None
        assert self.high is not None
        within = min(max(wanted, self.low), self.high)
        if self.step is not None:
            return self._at(min(round((within - self.low) / self.step), self.size() - 1))
        return round(within) if self.is_integer else float(within)

    def middle(self) -> Value:
        """Return the middle of the axis: of the list, or of the (logarithmic) range."""
        if self.choices is not None:
            return self.choices[(len(self.choices) - 1) // 2]
        assert self.low is not None
        assert self.high is not None
        if self.countable and not self.log:
            return self._at((self.size() - 1) // 2)
        centre = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        centre = min(max(centre, self.low), self.high)
        return round(centre) if self.is_integer else centre


class SearchSpace:
    """All parameters of a search, ordered so that a parameter follows those its ``when`` names.

    Raises:
        ValueError: Their ``when`` conditions form a circle.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        if circle := _circle(parameters):
            raise ValueError(f"`when` goes in a circle: {', '.join(circle)}")
        self.parameters = {name: parameters[name] for name in _ordered(parameters)}

    def is_active(self, name: str, params: Params) -> bool:
        """Return whether a parameter exists, given the values of the parameters before it."""
        conditions = self.parameters[name].when or {}
        return all(
            other in params and any(same(params[other], value) for value in allowed_values(want))
            for other, want in conditions.items()
        )

    def active_only(self, params: Params) -> dict[str, Value]:
        """Drop the values of parameters that their ``when`` switches off."""
        kept: dict[str, Value] = {}
        for name in self.parameters:
            if name in params and self.is_active(name, kept):
                kept[name] = params[name]
        return kept

    def contains(self, params: Params) -> bool:
        """Return whether these are values for exactly the active parameters, each inside its axis."""
        active = [name for name in self.parameters if self.is_active(name, params)]
        return set(active) == set(params) and all(self.parameters[name].contains(params[name]) for name in active)

    def untuned(self, defaults: Params) -> dict[str, Value]:
        """Return the parameters of a training without a search.

        Returns:
            The default if it lies on the axis, else the middle of the axis.
        """
        values = {name: parameter.default_or_middle(defaults.get(name)) for name, parameter in self.parameters.items()}
        return self.active_only(values)

    @property
    def can_repeat(self) -> bool:
        """Whether two draws can be equal. They cannot if every configuration has a value from a continuous axis."""
        return all(parameter.countable or parameter.when for parameter in self.parameters.values())

    def draw(self, one: Callable[[str, Parameter], Value]) -> dict[str, Value]:
        """Draw every parameter that exists, given those drawn before it."""
        params: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if self.is_active(name, params):
                params[name] = one(name, parameter)
        return params

    def near(self, params: Mapping[str, Value], rng: random.Random) -> dict[str, Value]:
        """Return parameters whose values on continuous axes are a little different."""
        return {name: self.parameters[name].near(value, rng) for name, value in params.items()}

    def points(self, rng: random.Random) -> Iterator[dict[str, Value]]:
        """Yield every combination of active parameters once, lazily, from a random start.

        With a continuous axis the combinations do not end.
        """
        return self._points({}, tuple(self.parameters), rng)

    def _points(self, params: dict[str, Value], names: Sequence[str], rng: random.Random) -> Iterator[dict[str, Value]]:
        if not names:
            yield params
        elif not self.is_active(names[0], params):
            yield from self._points(params, names[1:], rng)
        else:
            for value in self.parameters[names[0]].rotated(rng):
                yield from self._points({**params, names[0]: value}, names[1:], rng)

    def grid_size(self) -> int:
        """Count the combinations before ``when`` removes any; every axis must be countable."""
        return math.prod(parameter.size() for parameter in self.parameters.values())

    def grid(self) -> list[dict[str, Value]]:
        """Return every distinct combination; every axis must be countable."""
        axes = [list(parameter.values()) for parameter in self.parameters.values()]
        points = (
            self.active_only(dict(zip(self.parameters, point, strict=True))) for point in itertools.product(*axes)
        )
        distinct = {tuple((name, _identity(value)) for name, value in point.items()): point for point in points}
        return list(distinct.values())


def same(one: object, other: object) -> bool:
    """Return whether two values are the same setting: 3 and 3.0 are, ``true`` and 1 are not."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _identity(value: Value) -> tuple[bool, Value]:
    return (isinstance(value, bool), value)


def allowed_values(want: Any) -> list[Any]:
    """Return the values that a ``when`` entry accepts: one value, or a list of them."""
    return list(want) if isinstance(want, list | tuple) else [want]


def when_problems(parameters: Mapping[str, Parameter]) -> Iterator[tuple[str, str, str]]:
    """Yield (parameter, message, name to look near) for every ``when`` that cannot be met."""
    for name, parameter in parameters.items():
        for other, want in (parameter.when or {}).items():
            if other not in parameters:
                yield name, f"`when` names {other!r}, which is not in the space", other
                continue
            if not allowed_values(want):
                yield name, f"`when` lists no value of {other}", ""
            for value in allowed_values(want):
                if not parameters[other].contains(value):
                    yield name, f"`when` waits for {other} = {describe(value)}, which it never has", ""
    if circle := _circle(parameters):
        yield circle[0], f"`when` goes in a circle: {', '.join(circle)}", ""


def _circle(parameters: Mapping[str, Parameter]) -> list[str]:
    """Return the parameters of a circle of ``when`` and those that depend on it, in the order of the YAML."""
    ordered = set(_ordered(parameters))
    return [name for name in parameters if name not in ordered]


def _ordered(parameters: Mapping[str, Parameter]) -> list[str]:
    """Return the names so that each follows those its ``when`` names; those in a circle are left out."""
    done: dict[str, None] = {}
    waiting = list(parameters)
    while ready := [n for n in waiting if all(o in done or o not in parameters for o in parameters[n].when or {})]:
        done.update(dict.fromkeys(ready))
        waiting = [name for name in waiting if name not in done]
    return list(done)
