"""Finds the runs of a sweep and of its confirmation on a cluster, and the submitter of each."""

from __future__ import annotations

from collections.abc import Iterator

from finesweep.folder import Run, SweepFolder
from finesweep.launch.protocol import Submitter
from finesweep.registry import SUBMITTERS


def submitted_runs(folder: SweepFolder) -> Iterator[tuple[SweepFolder, Run, Submitter]]:
    """Yield the submitted runs that have not ended, each with its folder: the sweep's, or that of its confirmation."""
    confirming = folder.confirmation.runs()
    for part, runs in ((folder, folder.runs()), (folder.confirmation, confirming)):
        for run in runs:
            launcher = run.profile.get("launcher")
            is_submitted = not run.watched or bool(part.jobs(run.number))
            if is_submitted and _goes_on(run, confirming) and launcher in SUBMITTERS.names:
                yield part, run, SUBMITTERS.load(launcher)()


def _goes_on(run: Run, confirming: list[Run]) -> bool:
    """Return whether a run has not ended; the process of a search may go on with a run of the confirmation."""
    last = confirming[-1] if confirming else None
    confirms = last is not None and last.ended is None and (last.host, last.pid) == (run.host, run.pid)
    return run.ended is None or (run.watched and confirms)
