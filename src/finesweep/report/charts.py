"""Makes the page's charts as Plotly figures: learning curves, parallel coordinates, the best value so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from finesweep.report.curves import FIRST, Curve, SearchState, ends
from finesweep.report.literal import literal, rounded
from finesweep.report.outlook import Outlook
from finesweep.results.board import Board
from finesweep.text import headings, setting
from finesweep.trial import TrialRecord, TrialState, Value

GREY, RED, ORANGE = "rgba(128,128,128,.45)", "#d9480f", "#b58900"
PALETTE = ("#1f78b4", "#d95f02", "#1b9e77", "#b34aa5", "#a6761d")
"""Colours of the first trials: apart from each other for colour-blind readers, and legible on white and on black."""

MOST_TICKS = 6
"""Maximum number of different values of which each has a label on its axis."""

TAIL = 0.1
"""Share of the weakest final values that may lie outside a chart, so that the others can be told apart."""


@dataclass(frozen=True)
class Chart:
    """One interactive chart.

    Attributes:
        name: Id of its place in the page.
        text: Description of what is shown, for those who do not see it.
        height: Height in pixels.
        figure: ``data`` and ``layout`` for Plotly, as plain values.
        width: Minimum width in pixels; a narrower screen scrolls the chart.
    """

    name: str
    text: str
    height: int
    figure: dict[str, Any]
    width: int = 0


def learning_curves(board: Board, found: Sequence[Curve]) -> Chart | None:
    """Return the curves by examples: the first trials in colour, others grey, others' ends marked by their state."""
    if not found:
        return None
    best = [curve for curve in found if curve.rank is not None and curve.rank <= FIRST]
    rest = [curve for curve in found if curve not in best]
    data = [_merged("other trials", [curve for curve in rest if curve.state is not TrialState.DIVERGED], GREY)]
    data += [_merged("diverged", [curve for curve in rest if curve.state is TrialState.DIVERGED], RED, dash="dot")]
    data += [_marks("pruned here", list(ends(rest, TrialState.PRUNED)), ORANGE, "x-thin")]
    data += [_coloured(curve, colour) for curve, colour in zip(best, PALETTE, strict=False)]
    layout = {
        "xaxis": {"title": {"text": "training examples"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": literal(board.summary.metric)}, "range": _range(board, found)},
        "hovermode": "closest",
    }
    text = f"Learning curves of {len(found)} trials; the best {len(best)} in colour"
    return Chart("curves", text, 420, {"data": [one for one in data if one["x"]], "layout": layout})


def _merged(name: str, found: Sequence[Curve], colour: str, dash: str = "solid") -> dict[str, Any]:
    """Return many curves as one trace, with gaps between them: a trace each would take seconds at 1,000 trials."""
    x: list[Any] = []
    y: list[Any] = []
    trials: list[Any] = []
    for curve in found:
        x += [*(examples for examples, _ in curve.points), None]
        y += [*(rounded(value) for _, value in curve.points), None]
        trials += [curve.trial] * (len(curve.points) + 1)
    line = {"color": colour, "width": 1, "dash": dash}
    return {**_trace(name, x, y, trials), "mode": "lines", "line": line}


def _coloured(curve: Curve, colour: str) -> dict[str, Any]:
    x, y = [examples for examples, _ in curve.points], [rounded(value) for _, value in curve.points]
    name = f"trial {curve.trial} (rank {curve.rank})"
    line, marker = {"color": colour, "width": 2}, {"size": 5}
    return {**_trace(name, x, y, [curve.trial] * len(x)), "mode": "lines+markers", "line": line, "marker": marker}


def _marks(name: str, found: Sequence[tuple[int, int, float]], colour: str, symbol: str) -> dict[str, Any]:
    x, y = [examples for _, examples, _ in found], [rounded(value) for _, _, value in found]
    marker = {"symbol": symbol, "size": 7, "color": colour, "line": {"color": colour, "width": 1.5}}
    return {**_trace(name, x, y, [trial for trial, _, _ in found]), "mode": "markers", "marker": marker}


def _trace(name: str, x: Sequence[Any], y: Sequence[Any], trials: Sequence[int]) -> dict[str, Any]:
    hover = "trial %{customdata}<br>%{x:,} examples: %{y:.4f}<extra></extra>"
    return {"type": "scatter", "name": name, "x": x, "y": y, "customdata": trials, "hovertemplate": hover}


def _range(board: Board, found: Sequence[Curve]) -> list[float]:
    """Return the part of the axis that holds all curves but the tails of the weakest."""
    sign = 1 if board.summary.direction.value == "minimize" else -1
    values = sorted(sign * value for curve in found for _, value in curve.points)
    low, high = values[0], values[min(len(values) - 1, math.ceil((1 - TAIL) * len(values)) - 1)]
    pad = 0.06 * (high - low) or 0.06 * abs(low) or 1.0
    return sorted((rounded(sign * (low - pad)), rounded(sign * (high + pad))))


_AXES: tuple[tuple[str, str, Callable[[SearchState], float]], ...] = (
    ("examples", "training examples of all trials", lambda one: one.examples),
    ("hours", "hours of all trials, added up", lambda one: rounded(one.hours)),
    ("trials", "trials that have ended", lambda one: one.ended),
)
"""Axes of the best value so far: a button's name, a title, and the place of a state."""

_LINES = 3
"""Traces of each axis: each trial, the best so far, what is expected."""


def best_so_far(board: Board, found: Sequence[SearchState], ahead: Outlook | None) -> Chart | None:
    """Return the best value after each trial and the expected one, of whose axes one is shown at a time."""
    if not any(one.value is not None for one in found):
        return None
    own = [one for one in found if one.value is not None]
    data = [
        {**line, "visible": index == 0} for index, axis in enumerate(_AXES) for line in _progress(axis[2], found, ahead)
    ]
    buttons = [_button(index, len(_AXES), name, title) for index, (name, title, _) in enumerate(_AXES)]
    menu = {"type": "buttons", "direction": "right", "x": 1, "xanchor": "right", "y": 1.18, "buttons": buttons}
    menu |= {"font": {"color": "#222222"}, "bgcolor": "#dfe3e8"}  # Plotly's own colour of the active one is light
    values = [Curve(one.trial, None, TrialState.COMPLETE, [(0, one.value)]) for one in own if one.value is not None]
    values += [Curve(0, None, TrialState.COMPLETE, [(0, value)]) for _, value in (ahead.course if ahead else ())]
    layout = {
        "xaxis": {"title": {"text": _AXES[0][1]}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": literal(board.summary.metric)}, "range": _range(board, values)},
        "updatemenus": [menu],
    }
    return Chart("progress", "Best objective after each trial", 360, {"data": data, "layout": layout})


def _progress(
    place: Callable[[SearchState], float], found: Sequence[SearchState], ahead: Outlook | None
) -> list[dict[str, Any]]:
    own, lead = [one for one in found if one.value is not None], [one for one in found if one.best is not None]
    last, course = found[-1], ahead.course if ahead else ()
    to_come = [place(last) + place(last) * count / last.ended for count, _ in course]
    dots = _trace(
        "each trial", [place(one) for one in own], _values(one.value for one in own), [one.trial for one in own]
    )
    best = _trace(
        "best so far", [place(one) for one in lead], _values(one.best for one in lead), [one.trial for one in lead]
    )
    rest = _trace("expected", [place(last), *map(rounded, to_come)], [last.best, *(rounded(y) for _, y in course)], [])
    hover = {"hovertemplate": "trial %{customdata}: %{y:.4f}<extra></extra>"}
    line = {"width": 2, "color": PALETTE[0]}
    return [
        {**dots, **hover, "mode": "markers", "marker": {"color": GREY, "size": 5}},
        {**best, **hover, "mode": "lines", "line": {"shape": "hv", **line}},
        {**rest, "mode": "lines", "line": {"dash": "dot", **line}, "hovertemplate": "expected: %{y:.4f}<extra></extra>"}
        | {"showlegend": bool(course)},
    ]


def _values(found: Iterable[float | None]) -> list[float | None]:
    return [None if one is None else rounded(one) for one in found]


def _button(index: int, count: int, name: str, title: str) -> dict[str, Any]:
    visible = [place // _LINES == index for place in range(_LINES * count)]
    change = {"xaxis.title.text": title, "xaxis.autorange": True}
    return {"label": f"by {name}", "method": "update", "args": [{"visible": visible}, change]}


def parallel_coordinates(board: Board) -> Chart | None:
    """Return the ranked trials' parameters and objective on parallel axes; the page lets its reader mark stretches.

    Optuna's own plot has an element for each trial, and nothing in it can be marked.
    """
    records = [row.record for row in board.ranked]
    space = board.manifest.spec.space
    names = [name for name in space if len({_key(record, name) for record in records}) > 1]
    if len(records) < 2 or not names:
        return None
    short = dict(zip(space, headings(list(space)), strict=True))
    axes = [_axis(literal(short[name]), space[name].log, name, records) for name in names]
    axes.append(_of_numbers(literal(board.summary.metric), [record.objective or 0.0 for record in records], False))
    places = [[axis.places[index] for axis in axes] for index in range(len(records))]
    # Grey lines first, so that those in colour lie on them.
    groups = [("other trials", range(FIRST, len(records)), GREY)]
    groups += [
        (f"trial {records[index].trial} (rank {index + 1})", range(index, index + 1), colour)
        for index, colour in enumerate(PALETTE[: len(records)])
    ]
    data = [_lines(name, list(indexes), colour, places, records) for name, indexes, colour in groups if len(indexes)]
    layout = {
        "xaxis": {
            "tickvals": list(range(len(axes))),
            "ticktext": [axis.label for axis in axes],
            "range": [-0.1, len(axes) - 0.6],
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
        "yaxis": {"range": [-0.06, 1.06], "visible": False, "fixedrange": True},
        "annotations": [_label(place, *tick) for place, axis in enumerate(axes) for tick in axis.ticks],
        "shapes": [_rule(place) for place in range(len(axes))],
        "dragmode": "select",
        "hovermode": "closest",
        "meta": {"trials": [record.trial for record in records], "places": places},
    }
    text = f"Parameters and objective of the {len(records)} ranked trials on parallel axes"
    return Chart("parallel", text, 400, {"data": data, "layout": layout}, width=110 * len(axes))


@dataclass(frozen=True)
class _Axis:
    """One of the parallel axes.

    Attributes:
        label: Its name, escaped.
        places: For each trial its place, 0 at the bottom to 1 at the top.
        ticks: Places and escaped texts.
    """

    label: str
    places: Sequence[float]
    ticks: Sequence[tuple[float, str]]


def _lines(
    name: str, indexes: Sequence[int], colour: str, places: Sequence[Sequence[float]], records: Sequence[TrialRecord]
) -> dict[str, Any]:
    x: list[Any] = []
    y: list[Any] = []
    trials: list[int] = []
    for index in indexes:
        x += [*range(len(places[index])), None]
        y += [*places[index], None]
        trials += [records[index].trial] * (len(places[index]) + 1)
    hover, line = "trial %{customdata}<extra></extra>", {"color": colour, "width": 1 if colour == GREY else 2.5}
    trace = {**_trace(name, x, y, trials), "hovertemplate": hover, "mode": "lines+markers", "line": line}
    return {**trace, "marker": {"size": 1, "color": colour}, "meta": list(indexes)}


def _label(place: int, height: float, text: str) -> dict[str, Any]:
    where = {"x": place, "y": height, "xanchor": "left", "xshift": 3, "showarrow": False}
    return {**where, "text": text, "font": {"size": 11}}


def _rule(place: int) -> dict[str, Any]:
    line = {"color": "#888", "width": 1}
    return {"type": "line", "x0": place, "x1": place, "y0": 0, "y1": 1, "line": line, "layer": "below"}


def _key(record: TrialRecord, name: str) -> tuple[str, Value]:
    value = record.params.get(name)
    return (type(value).__name__ if name in record.params else "absent", value)


def _axis(label: str, log: bool, name: str, records: Sequence[TrialRecord]) -> _Axis:
    """Return one axis; if not every trial has a number, each value has a place of its own."""
    numbers = [_number(record.params.get(name)) for record in records]
    found = [value for value in numbers if value is not None]
    if len(found) == len(records):
        return _of_numbers(label, found, log)
    texts = [setting(record.params[name]) if name in record.params else "(not used)" for record in records]
    order = sorted(set(texts))
    at = {text: place / max(len(order) - 1, 1) for place, text in enumerate(order)}
    return _Axis(label, [rounded(at[text]) for text in texts], [(at[text], literal(text, 24)) for text in order])


def _of_numbers(label: str, values: Sequence[float], log: bool) -> _Axis:
    is_log = log and min(values) > 0
    scaled = [math.log10(value) if is_log else value for value in values]
    low, high = min(scaled), max(scaled)
    span = high - low or 1.0
    distinct = sorted(set(scaled))
    marks = distinct if len(distinct) <= MOST_TICKS else [low + span * step / 4 for step in range(5)]
    ticks = [(rounded((mark - low) / span), setting(10**mark if is_log else _whole(mark))) for mark in marks]
    return _Axis(label, [rounded((value - low) / span) for value in scaled], ticks)


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def _number(value: Value) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number and value is not None else None
