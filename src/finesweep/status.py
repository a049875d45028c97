"""Owns what ``sweep status`` says: how far a sweep is, read from its folder alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from finesweep import ownership, ranking
from finesweep.run_dir import RunDir
from finesweep.trial import Direction, Progress


def status_lines(path: Path) -> Iterator[str]:
    """Yield the lines that describe a sweep's state.

    Args:
        path: The sweep's folder.

    Raises:
        RunDirError: The folder is no sweep's.
    """
    folder = RunDir(path)
    manifest = folder.manifest()
    records, runs = folder.records(), folder.runs()
    owner = ownership.owner(path)
    counts = Counter(record.state for record in records)
    finished = sum(count for state, count in counts.items() if state.finished)
    budget = runs[-1].budget if runs else {}
    yield f"{manifest.name}: {f'running ({owner})' if owner else 'not running'}"
    yield f"  trials   {finished} of {budget.get('trials', '?')} finished" + "".join(
        f", {count} {state}" for state, count in sorted(counts.items())
    )
    yield f"  hours    {folder.hours_used():.2f}" + (f" of {budget['hours']:g}" if budget.get("hours") else "")
    best = ranking.winner(records, Direction(manifest.spec["objective"]["direction"]))
    if best is not None:
        yield f"  best     trial {best.trial}, {manifest.spec['objective']['metric']} {best.objective:.4f}"
    if owner:
        yield from map(_progress_line, folder.progress())
    elif runs:
        yield f"  ended    {runs[-1].outcome or 'killed; the same `sweep run` goes on from here'}"
    for note in folder.notes:
        yield f"  note     {note}"


def _progress_line(progress: Progress) -> str:
    loss = f", loss {progress.loss:.4f}" if progress.loss is not None else ""
    minutes = (time.time() - progress.started) / 60
    return f"  running  trial {progress.trial}, step {progress.step} of {progress.total_steps}{loss}, {minutes:.1f} min"
