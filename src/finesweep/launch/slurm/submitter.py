"""Submits a sweep to Slurm: an array of workers that share its folder, and a last job that collects."""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from collections.abc import Sequence
from typing import ClassVar

from finesweep.errors import LaunchError, printable
from finesweep.files import write_text
from finesweep.folder import Run, SweepFolder
from finesweep.launch.profile import Profile
from finesweep.launch.protocol import Job, Order, Submission
from finesweep.launch.slurm.client import SUBMIT_SECONDS, call, require
from finesweep.launch.slurm.profile import SlurmProfile
from finesweep.launch.slurm.queue import Entry, entries
from finesweep.launch.slurm.queue import jobs as listed_jobs
from finesweep.launch.slurm.script import (
    COLLECT,
    WORKERS,
    array_id,
    by_hand,
    collect_script,
    refuse_folder,
    width,
    workers_script,
)

END_SECONDS = 30.0
"""Seconds that ``sweep cancel`` waits for the jobs to end; by default Slurm kills them after that time."""

POLL_SECONDS = 1.0

_ACCEPTED = re.compile(r"(\d{1,12})(?:;.*)?", re.ASCII)
"""Output of ``sbatch --parsable``: the id, and the cluster if there are several."""


class SlurmSubmitter:
    """Submits batch scripts with ``sbatch``, asks ``squeue``, and ends jobs with ``scancel``."""

    watched: ClassVar[bool] = False

    def check(self, profile: Profile) -> None:
        """Check that ``sbatch`` is on PATH; see ``Submitter``."""
        require("sbatch")

    def submit(self, order: Order, *, dry_run: bool) -> Submission:
        """Write the two scripts into the folder and submit them; see ``Submitter``.

        Raises:
            FolderError: The folder cannot be written, or Slurm does not accept its path.
        """
        asked, path = order.profile.asked, order.sweep_folder.path
        assert isinstance(asked, SlurmProfile)
        refuse_folder(path)
        scripts = {WORKERS: workers_script(order, asked), COLLECT: collect_script(order, asked)}
        for name, text in scripts.items():
            write_text(path / name, text)
        if dry_run:
            return Submission({}, _shown(order, scripts))
        workers = _submitted(order, [str(path / WORKERS)])
        try:
            collect = _submitted(order, [f"--dependency=afterany:{workers}", str(path / COLLECT)])
        # Without the last job no winner would be exported, so the workers are cancelled too.
        except LaunchError:
            with contextlib.suppress(LaunchError):
                call(["scancel", workers], SUBMIT_SECONDS)
            raise
        return Submission({"workers": array_id(workers, order), "collect": collect}, _told(order, workers, collect))

    def jobs(self, sweep_folder: SweepFolder, run: Run, given: Profile | None = None) -> Sequence[Job]:
        """Return the state of each worker and of the last job, also of those submitted by hand."""
        return listed_jobs(sweep_folder, run)

    def cancel(self, sweep_folder: SweepFolder, run: Run, given: Profile | None = None) -> Sequence[str]:
        """End the jobs of a run, and wait a while for them, since trials save their state first."""
        present = _present(sweep_folder, run)
        if not present:
            return []
        # The last job is cancelled first: it would start as soon as its array has ended.
        ids = dict.fromkeys(entry.job for entry in sorted(present, key=lambda entry: entry.task is not None))
        call(["scancel", *ids], SUBMIT_SECONDS)
        deadline = time.monotonic() + END_SECONDS
        while (left := _present(sweep_folder, run)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        still = {entry.id for entry in left}
        return [f"job {entry.id}: {'ending' if entry.id in still else 'cancelled'}" for entry in present]


def _present(sweep_folder: SweepFolder, run: Run) -> list[Entry]:
    return [entry for entry in entries(sweep_folder, run) if not entry.is_over]


def _submitted(order: Order, arguments: list[str]) -> str:
    """Submit a script and return the id of its job."""
    given = frozenset(name for name in ("account", "partition", "qos") if getattr(order.profile.asked, name))
    options = frozenset(getattr(order.profile.asked, "options", {}))
    said = call(["sbatch", "--parsable", *arguments], SUBMIT_SECONDS, given | options).strip()
    if (match := _ACCEPTED.fullmatch(said)) is None:
        raise LaunchError(f"sbatch printed no job id: {printable(said, 200)}")
    return match[1]


def _told(order: Order, workers: str, collect: str) -> list[str]:
    folder = shlex.quote(str(order.sweep_folder.path))
    count = width(order)
    after = "exports the winner"
    if order.run.confirm is not None:
        after = "submits the confirmation, whose last job exports the winner,"
    return [
        f"Submitted {count} worker{'s' * (count != 1)} as job array {workers}.",
        f"Job {collect} {after} when they have ended.",
        f"  folder   {order.sweep_folder.path}",
        f"  script   {order.sweep_folder.path / WORKERS}",
        "Next:",
        f"  sweep status {folder}",
        f"  sweep leaderboard {folder}",
        f"  sweep cancel {folder}",
    ]


def _shown(order: Order, scripts: dict[str, str]) -> list[str]:
    lines = []
    for name, text in scripts.items():
        lines += [f"--- {order.sweep_folder.path / name}", *text.splitlines()]
    commands = [f"  {command}" for command in by_hand(order.sweep_folder.path)]
    return [
        *lines,
        "---",
        "Nothing was submitted. By hand, with the number that the first command prints as ID:",
        *commands,
    ]
