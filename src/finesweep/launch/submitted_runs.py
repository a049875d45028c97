"""Finds the runs of a sweep on a cluster, and the submitter of each."""

from __future__ import annotations

from collections.abc import Iterator

from finesweep.folder import Run, SweepFolder
from finesweep.launch.protocol import Submitter
from finesweep.registry import SUBMITTERS


def submitted_runs(folder: SweepFolder) -> Iterator[tuple[Run, Submitter]]:
    """Yield the submitted runs that have not ended, each with its submitter."""
    for run in folder.runs():
        launcher = run.profile.get("launcher")
        is_submitted = not run.watched or bool(folder.jobs(run.number))
        if is_submitted and run.ended is None and launcher in SUBMITTERS.names:
            yield run, SUBMITTERS.load(launcher)()
