"""Computes the static drawings, which need no JavaScript and are printed: curves of the best, and the cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finesweep.report.curves import FIRST, Cost, Curve

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 120, 12, 40
"""Margins of the drawing of curves."""


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in the drawing's units."""

    place: float
    text: str


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        points: For an SVG polyline.
        label: Its name.
        x: Place of the label.
        y: Place of the label, apart from those of the other curves.
    """

    points: str
    label: str
    x: float
    y: float


@dataclass(frozen=True)
class Drawing:
    """The curves of the best trials.

    Attributes:
        lines: The curves, best first.
        x_ticks: Labelled places below.
        y_ticks: Labelled places at the left.
    """

    lines: Sequence[Line]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]


@dataclass(frozen=True)
class Bar:
    """The cost of the trials of one state.

    Attributes:
        cost: The cost.
        share: Its share of all hours, 0 to 1.
    """

    cost: Cost
    share: float


def best_curves(found: Sequence[Curve]) -> Drawing | None:
    """Return the drawing of the best trials' curves, None if none has one."""
    best = [curve for curve in found if curve.rank is not None and curve.rank <= FIRST]
    if not best:
        return None
    points = [point for curve in best for point in curve.points]
    x_ticks = ticks(0, max(x for x, _ in points))
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))
    right, low, high = x_ticks[-1], y_ticks[0], y_ticks[-1]

    def x_of(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * value / right, 1)

    def y_of(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    ends = _apart([y_of(curve.points[-1][1]) for curve in best])
    lines = [
        Line(
            points=" ".join(f"{x_of(x)},{y_of(y)}" for x, y in curve.points),
            label=f"{curve.rank}. trial {curve.trial}",
            x=WIDTH - RIGHT + 8,
            y=end,
        )
        for curve, end in zip(best, ends, strict=True)
    ]
    x_marks = [Tick(x_of(value), f"{value:,.0f}") for value in x_ticks]
    return Drawing(lines, x_marks, [Tick(y_of(value), f"{value:.4g}") for value in y_ticks])


def bars(found: Sequence[Cost]) -> list[Bar]:
    """Return a bar for each state; without any hours all have length 0."""
    total = sum(cost.hours for cost in found)
    return [Bar(cost, cost.hours / total if total > 0 else 0.0) for cost in found]


def ticks(low: float, high: float) -> list[float]:
    """Return 3 to 7 round numbers at equal distances, of which the first and the last enclose both ends."""
    span = high - low or abs(high) * 0.1 or 1.0
    power = 10 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [float(f"{place * step:.12g}") for place in range(first, max(last, first + 1) + 1)]


def _apart(places: Sequence[float], least: float = 15.0) -> list[float]:
    """Return places in the same order from top to bottom, at least so far from each other."""
    moved = [0.0] * len(places)
    before = -math.inf
    for index in sorted(range(len(places)), key=lambda index: places[index]):
        before = max(places[index], before + least)
        moved[index] = before
    over = max(0.0, before - (HEIGHT - BOTTOM))
    return [round(place - over, 1) for place in moved]
