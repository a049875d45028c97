"""Makes the charts that ``optuna.visualization`` has: importances, slices and the timeline."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.visualization import plot_param_importances, plot_slice, plot_timeline

from finesweep.report.charts import GREY, ORANGE, PALETTE, RED, Chart
from finesweep.report.literal import literal, rounded
from finesweep.report.study import study_of
from finesweep.results.board import Board

ENOUGH = 10
"""Minimum number of ranked trials from which importances are computed; of fewer they are mostly chance."""

_COLOURS = {"COMPLETE": PALETTE[0], "PRUNED": ORANGE, "DIVERGED": RED, "FAILED": PALETTE[3]}

MOST_SLICES = 8
"""Maximum number of parameters with a slice, the most important ones."""


def optuna_charts(board: Board) -> Iterator[Chart]:
    """Yield importances, slices and the timeline, as far as the trials suffice."""
    study = study_of(board)
    complete = [trial for trial in study.trials if trial.state is optuna.trial.TrialState.COMPLETE]
    if len(complete) >= ENOUGH and len({trial.value for trial in complete}) > 1:
        yield from _by_parameter(board, study, complete)
    if study.trials:
        yield Chart("timeline", "When each trial ran, and its state", 320, _timeline(study))


def _timeline(study: optuna.Study) -> dict[str, Any]:
    """Return Optuna's timeline with the sweep's own numbers and states, of which Optuna has fewer."""
    figure, known = _plain(plot_timeline(study)), [trial.user_attrs for trial in study.trials]
    bars = [bar for trace in figure["data"] for bar in zip(trace["y"], trace["base"], trace["x"], strict=True)]
    figure["data"] = []
    for state in dict.fromkeys(one["state"] for one in known):
        own = [(known[number]["trial"], base, x) for number, base, x in bars if known[number]["state"] == state]
        trials, bases, lengths = (list(column) for column in zip(*own, strict=True))
        bar = {"type": "bar", "orientation": "h", "name": state, "y": trials, "base": bases, "x": lengths}
        bar |= {"customdata": trials, "hovertemplate": f"trial %{{y}}<extra>{state}</extra>"}
        figure["data"].append({**bar, "marker": {"color": _COLOURS.get(state, GREY)}})
    figure["layout"].update(showlegend=True)
    figure["layout"]["yaxis"]["title"] = {"text": "trial"}
    figure["layout"]["xaxis"]["title"] = {"text": "time"}
    return figure


def _by_parameter(board: Board, study: optuna.Study, complete: Sequence[optuna.trial.FrozenTrial]) -> Iterator[Chart]:
    # Imported only where it is asked: it brings scikit-learn's forests, which take a second to import.
    from optuna.importance import get_param_importances

    importances = get_param_importances(study)
    shown = [name for name, share in importances.items() if share > 0][:MOST_SLICES] or list(importances)[:MOST_SLICES]
    if not shown:
        return
    metric = literal(board.summary.metric)
    figure = _plain(plot_param_importances(study, params=shown, target_name=metric))
    figure["layout"].update(showlegend=False, yaxis={}, xaxis={"title": {"text": f"importance for {metric}"}})
    height = 120 + 30 * len(shown)
    yield Chart("importances", f"Importance of each parameter, of {len(complete)} ranked trials", height, figure)
    figure = _plain(plot_slice(study, params=shown, target_name=metric))
    for trace in figure["data"]:
        trace["marker"] = {"color": PALETTE[0], "size": 6, "opacity": 0.7}
        for axis in "xy":
            trace[axis] = [rounded(one) if isinstance(one, float) else one for one in trace[axis]]
    for name, axis in figure["layout"].items():
        if name.startswith("xaxis") and axis.get("type") == "log":
            axis.update(dtick=1, exponentformat="power")
    text = "Objective against each parameter"
    yield Chart("slices", text, 320, figure, width=220 * len(shown))


def _plain(figure: Any) -> dict[str, Any]:
    """Return a figure as plain values, without the title, theme and sizes that the page sets itself."""
    plain: dict[str, Any] = json.loads(figure.to_json())
    for name in ("title", "template", "width", "height"):
        plain["layout"].pop(name, None)
    return plain
