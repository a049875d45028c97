"""Renders figures: as Markdown for RESULTS.md, as plain text for a terminal."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.figures import Figures, Goal, Table, number, shown

PACKAGES = ("finesweep", "torch", "transformers", "optuna", "ray", "accelerate", "datasets")

INTRODUCTION = """\
Written by `make bench`; [README.md](README.md) says what is measured. Ratios say how many times finesweep's figure fits
into the other one, or where the goal is an upper bound, the other way round. Figures are medians, with the smallest and
the largest in brackets where there are several."""


def machine() -> dict[str, str]:
    """Return facts of this machine and what is installed on it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return {
        "machine": f"{os.cpu_count()} cores ({', '.join(sorted(names)) or platform.machine()}), {memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": versions,
    }


def results(
    head: Mapping[str, str], measured: Mapping[str, Figures], failed: Mapping[str, str], missing: Sequence[str] = ()
) -> str:
    """Return RESULTS.md.

    Args:
        head: Facts of the machine and of this run.
        measured: Figures by measure.
        failed: Measures that failed, and why.
        missing: Measures that have not run.
    """
    goals = sorted((goal for figures in measured.values() for goal in figures.goals), key=lambda goal: goal.measure)
    blocks = [
        "# Results",
        INTRODUCTION,
        "\n".join(f"* {key}: {value}" for key, value in head.items()),
        "## Goals",
        as_markdown(goals_table(goals)),
    ]
    for name, why in failed.items():
        blocks.append(f"**{name} failed:** {why}")
    if missing:
        blocks.append(f"Not run: {', '.join(missing)}.")
    for figures in measured.values():
        blocks.append(section(figures))
    return "\n\n".join(blocks) + "\n"


def goals_table(goals: Sequence[Goal]) -> Table:
    """Return what was promised and what was found, a goal a row."""
    rows = [
        [goal.measure, goal.what, goal.against or "-", _wanted(goal), _found(goal), _verdict(goal)] for goal in goals
    ]
    return Table("", ["", "what", "against", "goal", "found", "met"], rows)


def _wanted(goal: Goal) -> str:
    return f"{'at least' if goal.at_least else 'at most'} {number(goal.wanted).removesuffix('.0')}{goal.unit}"


def _found(goal: Goal) -> str:
    if goal.found is None:
        return "nothing"
    return f"{'at least ' if goal.bound else ''}{shown(goal.found, goal.unit)}"


def _verdict(goal: Goal) -> str:
    reasons = [] if goal.is_on_par else ["at a worse winner"]
    notes = "; ".join([*reasons, *([goal.note] if goal.note else [])])
    return f"{'yes' if goal.is_met else '**no**'}{f' ({notes})' if notes else ''}"


def section(figures: Figures) -> str:
    """Return the section of one measure."""
    tables = [f"**{table.title}**\n\n{as_markdown(table)}" for table in figures.tables]
    notes = ["\n".join(f"* {note}" for note in figures.notes)] if figures.notes else []
    return "\n\n".join([f"## {figures.title}", figures.method, *tables, *notes])


def as_markdown(table: Table) -> str:
    """Return a table in Markdown."""
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)


def as_text(table: Table) -> str:
    """Return a table for a terminal, its columns aligned."""
    rows = [list(table.columns), *map(list, table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([table.title, *lines])
