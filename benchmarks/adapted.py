"""Turns what other benchmarks measure into figures: many trials (M7), and quality beside grouped batches (M3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures, Goal, Spread, Table, number, shown
from benchmarks.workload import Size, Source, make


def many_trials(sizes: Sequence[int], window: int, rounds: int, scratch: Path) -> Figures:
    """Measure what a trial costs by how many there are."""
    from benchmarks import many_trials as measured

    many = measured.measure(sizes, window, rounds, scratch)
    last, first = f"{max(sizes):,}", f"{min(sizes):,}"
    goals = [
        _goal(f"CPU of a trial at {last} trials", f"at {first}", measured.FLAT_GOAL, "x", many.cpu_growth),
        _goal(f"wall clock of a trial at {last} trials", f"at {first}", measured.FLAT_GOAL, "x", many.growth),
        _goal(f"resume at {last} trials", "-", measured.RESUME_GOAL_SECONDS, " s", many.resume_seconds),
        _goal(f"sweep status at {last} trials", "-", measured.STATUS_GOAL_SECONDS, " s", many.status_seconds),
    ]
    rows = [
        [
            f"{size:,}",
            *(number(1e3 * cost(size)) for cost in (many.cost, many.cpu_cost)),
            number(_worker_mb(many, size)),
        ]
        for size in sizes
    ]
    table = Table("Trials that do not train", ["trials", "ms per trial", "CPU ms per trial", "MB of the worker"], rows)
    notes = [f"sweep leaderboard at {last} trials: {many.leaderboard_seconds:.1f} s"]
    method = " ".join((measured.__doc__ or "").partition("\n\n")[2].partition("\n\n")[2].split())
    return Figures("Many trials", method, goals, [table], notes, dataclasses.asdict(many))


def _goal(what: str, against: str, wanted: float, unit: str, found: float) -> Goal:
    return Goal("M7", what, against, wanted, unit, False, Spread.of([found]))


def _worker_mb(many: Any, size: int) -> float:
    return Spread.of([window.worker_mb for window in many.windows if window.trials == size]).median


def grouping(sources: Sequence[Source], size: Size, seeds: int, scratch: Path) -> Figures:
    """Train pairs with and without grouped batches."""
    from benchmarks import grouping as measured

    tables, notes, raw = [], [], {}
    for source in sources:
        workload = make(source, size, scratch / source.name)
        data = f"data={{train: '{workload.train}', validation: '{workload.validation}', max_length: {size.max_length}}}"
        changes = ["search.pruner=none", "patience=none", "evaluation.per_epoch=1", data, f"model={workload.model}"]
        found = measured.measure(measured.prepare(scratch / source.name / "results", changes), seeds)
        mean, half = measured.difference(found)
        verdict = "on par" if abs(mean) <= half else "**not on par**" if mean > 0 else "better"
        notes.append(f"{source.name}: grouped minus shuffled eval_loss {mean:+.4f} ± {half:.4f} (95 %): {verdict}")
        tables.append(_pairs_table(source.name, found))
        raw[source.name] = {name: [dataclasses.asdict(one) for one in trainings] for name, trainings in found.items()}
    method = " ".join((measured.__doc__ or "").split("\n\n")[2].split())
    return Figures("Quality beside batches of one length", method, (), tables, notes, raw)


def _pairs_table(name: str, found: Mapping[str, Sequence[Any]]) -> Table:
    rows = [
        [
            strategy,
            shown(Spread.of([one.objective for one in trainings]), digits=4),
            f"{100 * Spread.of([one.padding for one in trainings]).median:.0f} %",
            shown(Spread.of([one.real / one.cpu for one in trainings])),
        ]
        for strategy, trainings in found.items()
    ]
    return Table(name, ["batches", "eval_loss", "padding", "real tokens per CPU second"], rows)
