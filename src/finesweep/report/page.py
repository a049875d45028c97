"""Writes the page: fills the templates, packs Plotly's code, and forbids everything else by a content policy."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from finesweep.files import write_text
from finesweep.report import curves, drawings, outlook, sections
from finesweep.report.answers import answer_table
from finesweep.report.charts import Chart, best_so_far, learning_curves, parallel_coordinates
from finesweep.report.literal import in_a_script
from finesweep.report.table import table
from finesweep.results.board import Board
from finesweep.results.leaderboard_facts import cost_of_seeds
from finesweep.results.worst_rows import ShownRow
from finesweep.text import clean

COMPRESSION = 6
"""Level of gzip; 9 takes a third longer and saves 0.2 %."""

NAME = "report.html"


def write_report(board: Board, rows: Sequence[ShownRow] = ()) -> Path:
    """Write ``report.html`` into the sweep's folder, atomically, and return its path.

    The page can be made again from the folder, so it is not synced to disk.

    Args:
        board: The board.
        rows: Rows of the data that the page shows, by default none.

    Raises:
        FolderError: The disk is full or the folder cannot be written.
    """
    path = board.folder / NAME
    write_text(path, page(board, rows), durable=False)
    return path


def page(board: Board, rows: Sequence[ShownRow] = ()) -> str:
    """Return the page of a board, as one HTML document that needs no other file; see ``write_report``."""
    script, (code_hash, bundle) = _own("report.js"), _plotly()
    found, costs = curves.progress(board), curves.costs(board)
    ahead = outlook.look_ahead(board, found)
    charts = _charts(board, found, ahead)
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            policy=_policy(_hash(script.encode()), code_hash),
            style=Markup(_own("report.css")),
            script=Markup(script),
            bundle=bundle,
            figures=in_a_script({chart.name: chart.figure for chart in charts}),
            charts={chart.name: chart for chart in charts},
            made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            name=clean(board.manifest.name),
            metric=clean(board.summary.metric),
            top=sections.top(board),
            board=board,
            basis=sections.in_short(board),
            table=table(board),
            confirmed=sections.confirmed(board),
            seeds_cost=cost_of_seeds(board.confirmation) if board.confirmation else "",
            comparison=sections.comparison(board),
            outlook=list(outlook.sentences(board, found, ahead)),
            notes=list(sections.notes(board)),
            reasons=sections.unranked_reasons(board),
            drawing=drawings.best_curves(curves.curves(board)),
            size=drawings,
            answers=answer_table(board),
            weights=sections.which_weights(board.evidence) if board.evidence is not None else "",
            rows=rows,
            costs=drawings.bars(costs),
            on_gpu=any(cost.device_hours for cost in costs),
            facts=sections.basis(board),
            commands=sections.commands(board),
            spec=sections.spec_yaml(board),
        )
    )


def _charts(board: Board, found: Sequence[curves.SearchState], ahead: outlook.Outlook | None) -> Sequence[Chart]:
    # Optuna and Plotly take a second to import, so a face that only names this module does not.
    from finesweep.report.optuna_charts import optuna_charts

    own = [
        learning_curves(board, curves.curves(board)),
        parallel_coordinates(board),
        best_so_far(board, found, ahead),
    ]
    return [*filter(None, own), *optuna_charts(board)]


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("finesweep.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["hours"] = _hours
    return environment


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:,.1f} min"


def _own(name: str) -> str:
    return (resources.files("finesweep.report") / "templates" / name).read_text(encoding="utf-8")


@functools.cache
def _plotly() -> tuple[str, str]:
    """Return Plotly's code for browsers, from the installed package: its hash, and the code by gzip and base64."""
    import plotly  # here, because only a page needs it

    code = (resources.files(plotly) / "package_data" / "plotly.min.js").read_bytes()
    return _hash(code), base64.b64encode(gzip.compress(code, COMPRESSION, mtime=0)).decode()


def _policy(*hashes: str) -> str:
    """Return a content security policy: only scripts with these hashes run, nothing is loaded, nothing is sent."""
    rules: dict[str, Any] = {
        "default-src": "'none'",
        "script-src": " ".join(hashes),
        "style-src": "'unsafe-inline'",  # Plotly sets style attributes
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
