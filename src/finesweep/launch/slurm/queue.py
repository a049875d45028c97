"""Reads the state of a run's jobs from Slurm's queue and from the jobs' notes in the folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from finesweep.errors import printable
from finesweep.files import last_lines
from finesweep.folder import Run, SweepFolder
from finesweep.launch.protocol import Job, JobState
from finesweep.launch.slurm.client import LOOK_SECONDS, call
from finesweep.launch.slurm.script import collect_log, comment, note_name

_FORMAT = "%F|%K|%T|%r|%N|%k"
"""Array or job, task, state, reason, nodes, comment; the comment is last, because foreign ones may hold any text."""

_ID = re.compile(r"(\d{1,12})(?:_(\d{1,7}))?", re.ASCII)
_ARRAY = re.compile(r"(\d{1,12})_\[1-(\d{1,3}|1000)\]", re.ASCII)

_QUEUED = "PENDING REQUEUED REQUEUE_FED REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT"
_RUNNING = "RUNNING CONFIGURING COMPLETING RESIZING SIGNALING STAGE_OUT STOPPED SUSPENDED"
QUEUED, RUNNING = frozenset(_QUEUED.split()), frozenset(_RUNNING.split())
UNSHARED = "Slurm could not open its log there: do the nodes share the sweep's folder?"


@dataclass(frozen=True)
class Entry:
    """One job or task of an array, as ``squeue`` lists it.

    Attributes:
        job: Id of the job, or of the task's array.
        task: Number of the task, None for a job that is no array.
        state: State in Slurm's words, as ``RUNNING``.
        reason: Why it waits or ended, in Slurm's words; may be empty.
        node: Where it runs or ran; may be empty.
    """

    job: str
    task: str | None
    state: str
    reason: str
    node: str

    @property
    def id(self) -> str:
        """Its id in Slurm."""
        return self.job if self.task is None else f"{self.job}_{self.task}"

    @property
    def is_over(self) -> bool:
        """Whether it neither waits nor runs."""
        return self.state not in QUEUED | RUNNING


def entries(sweep_folder: SweepFolder, run: Run) -> list[Entry]:
    """Return the queue's entries of a run, including those that ended minutes ago.

    They are recognised by the scripts' comment, which holds the run's own random word. So a folder from another person
    cannot name foreign jobs.

    Raises:
        LaunchError: The queue cannot be asked.
    """
    # A large cluster has tens of thousands of jobs; the folder's owner has fewer.
    owner = str(sweep_folder.spec_file.stat().st_uid)
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={owner}", f"--format={_FORMAT}"]
    mine = comment(run.token)
    lines = (line.split("|", 5) for line in call(command, LOOK_SECONDS).splitlines())
    return [_entry(fields) for fields in lines if len(fields) == 6 and fields[5].strip() == mine]


def jobs(sweep_folder: SweepFolder, run: Run) -> list[Job]:
    """Return the state of each job of a run, by id.

    A job that the queue no longer lists has ended; its note tells how.

    Raises:
        LaunchError: The queue cannot be asked.
    """
    listed = {entry.id: _job(sweep_folder, run, entry) for entry in entries(sweep_folder, run)}
    gone = {
        job: _gone(sweep_folder, run, job, note) for job, note in _known(sweep_folder, run).items() if job not in listed
    }
    return sorted([*listed.values(), *gone.values()], key=lambda job: [int(part) for part in job.id.split("_")])


def _entry(fields: list[str]) -> Entry:
    job, task, state, reason, node, _ = (field.strip() for field in fields)
    return Entry(job, task if task.isdecimal() else None, state, "" if reason == "None" else reason, node)


def _job(sweep_folder: SweepFolder, run: Run, entry: Entry) -> Job:
    state: JobState = "dead"
    if entry.state in QUEUED:
        state, detail = "queued", entry.reason
    elif entry.state in RUNNING:
        state, detail = "running", f"on {entry.node}"
    elif entry.state == "COMPLETED":
        state, detail = "finished", ""
    else:
        detail = _death(sweep_folder, run, entry)
    return Job(entry.id, _role(entry.task), state, printable(detail, 500))


def _role(task: str | None) -> str:
    return "collect" if task is None else f"worker {task}"


def _death(sweep_folder: SweepFolder, run: Run, entry: Entry) -> str:
    """Describe how a job failed: in Slurm's words, and by the last line of its log."""
    where = f" on {entry.node}" if entry.node else ""
    what = entry.state + where + (f", {entry.reason}" if entry.reason not in ("", "NonZeroExitCode") else "")
    if entry.reason == "JobLaunchFailure":
        return f"{what}: {UNSHARED}"
    last = _last_words(sweep_folder, run, entry.task)
    return f"{what}: {last}" if last and entry.state != "CANCELLED" else what


def _known(sweep_folder: SweepFolder, run: Run) -> dict[str, list[str]]:
    """Return the notes of the run's jobs by id; a submitted job without a note has an empty list."""
    submitted = sweep_folder.jobs(run.number)
    known: dict[str, list[str]] = {}
    if array := _ARRAY.fullmatch(submitted.get("workers", "")):
        known |= {f"{array[1]}_{task}": [] for task in range(1, int(array[2]) + 1)}
    if _ID.fullmatch(collect := submitted.get("collect", "")):
        known[collect] = []
    return known | dict(_notes(sweep_folder, run))


def _notes(sweep_folder: SweepFolder, run: Run) -> Iterator[tuple[str, list[str]]]:
    prefix = note_name(run.number, "")
    for file in (sweep_folder.path / "runs").glob(f"{prefix}*"):
        if _ID.fullmatch(job := file.name.removeprefix(prefix)):
            yield job, last_lines(file)


def _gone(sweep_folder: SweepFolder, run: Run, job: str, note: list[str]) -> Job:
    """Return the state of a job that the queue has forgotten."""
    task = job.partition("_")[2] or None
    match note[-1].split() if note else []:
        case [_, _, "ended", "0"]:
            return Job(job, _role(task), "finished")
        case [_, host, "ended", code]:
            detail = f"exit code {code} on {host}"
        case [_, host, *_]:
            detail = f"it was killed on {host}"
        case _:
            return Job(job, _role(task), "dead", "the queue no longer has it, and it left no note in the folder")
    last = _last_words(sweep_folder, run, task)
    return Job(job, _role(task), "dead", printable(f"{detail}: {last}" if last else detail, 500))


def _last_words(sweep_folder: SweepFolder, run: Run, task: str | None) -> str:
    log = collect_log(sweep_folder, run.number) if task is None else sweep_folder.worker_log(run.number, int(task) - 1)
    lines = last_lines(log)
    # srun's line on the exit code follows the worker's line with the reason.
    telling = [line for line in lines if not line.startswith(("srun:", "slurmstepd"))]
    return (telling or lines or [""])[-1].removeprefix("error: ")
