"""Writes the two batch scripts for Slurm: the workers of a run, and the job that collects the winner.

A user can read, edit and submit them. Values come from checked profiles, and are quoted for the shell.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from finesweep.errors import FolderError, printable
from finesweep.folder import SweepFolder
from finesweep.host.python_process import FOR_TRAINING, THREAD_COUNTS, UNLESS_SET
from finesweep.launch.commands import run_command
from finesweep.launch.protocol import Order
from finesweep.launch.slurm.profile import SlurmProfile

WORKERS, COLLECT = "submit.sbatch", "collect.sbatch"
"""The scripts' names in a sweep's folder."""

_UNSAFE = frozenset('%"\\')
"""Characters that ``sbatch`` interprets in the path of a log."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]+", re.ASCII)

_SETTLE_SECONDS = 2
"""Seconds that the script waits before it requeues a job whose worker has ended, so that a cancellation can arrive."""

_TASK_ID = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
_JOB_ID = "$SLURM_JOB_ID"


def job_name(name: str) -> str:
    """Return the name of a sweep's jobs in the queue."""
    return f"finesweep-{name}"


def comment(token: str) -> str:
    """Return the comment that identifies the jobs of a run in the queue, however they were submitted."""
    return f"finesweep-{token}"


def note_name(run: int, job: str) -> str:
    """Return the name of a job's note in ``runs/``, in which it records its state."""
    return f"{run:04d}.slurm-{job}"


def collect_log(sweep_folder: SweepFolder, run: int) -> Path:
    """Return the log of a run's last job."""
    return sweep_folder.path / "logs" / f"collect-{run:04d}.log"


def width(order: Order) -> int:
    """Return the number of tasks in the array: one for each worker, or one that runs all trials itself."""
    return 1 if order.single_worker else order.profile.workers


def array_id(job: str, order: Order) -> str:
    """Return Slurm's id of an array with all its tasks, as ``1234_[1-8]``."""
    return f"{job}_[1-{width(order)}]"


def refuse_folder(path: Path) -> None:
    """Refuse a folder's path that the shell or Slurm would interpret, or that cannot be shown.

    Raises:
        FolderError: It has a character that Slurm interprets, or that is not printable.
    """
    if bad := sorted({character for character in str(path) if character in _UNSAFE or not character.isprintable()}):
        found = ", ".join(printable(character) for character in bad)
        raise FolderError(f"{printable(str(path), 300)}: Slurm takes no path with {found} in it; use another --results")


def by_hand(path: Path) -> list[str]:
    """Return the commands that submit the scripts of a folder."""
    return [
        f"sbatch {shlex.quote(str(path / WORKERS))}",
        f"sbatch --dependency=afterany:ID {shlex.quote(str(path / COLLECT))}",
    ]


def workers_script(order: Order, profile: SlurmProfile) -> str:
    """Return the script of the workers, an array with one worker per task."""
    log = order.sweep_folder.path / "logs" / f"worker-{order.run.number:04d}-%a.log"
    tasks = width(order)
    array = f"1-{tasks}" + (f"%{profile.at_once}" if profile.at_once and profile.at_once < tasks else "")
    own = {"array": array, "signal": f"USR1@{profile.signal_seconds}"}
    first = by_hand(order.sweep_folder.path)
    about = [
        f"Workers of the sweep {order.name}, run {order.run.number}: each task of this array is one.",
        "`sweep submit` has made and submitted this. After --dry-run, and any time later, you can do so yourself:",
        "",
        f"    {first[0]}",
        f"    {first[1]}",
        "",
        "where ID is the number that the first command prints. Each worker runs trials of the sweep's folder until",
        "none is left, so there may be more or fewer of them at any time. `sweep status` and `sweep cancel` with the",
        "sweep's folder know these jobs, however they were submitted.",
    ]
    command = run_command("worker", order.sweep_folder, order.run)
    return _script(order, profile, about, {**own, "output": str(log)}, _TASK_ID, command)


def collect_script(order: Order, profile: SlurmProfile) -> str:
    """Return the script of the job that exports and proves the winner after the workers have ended."""
    log = collect_log(order.sweep_folder, order.run.number)
    about = [
        f"Ends run {order.run.number} of the sweep {order.name}: leaderboard, winner, and the proof of it.",
        f"It is submitted so that it waits for the workers; {WORKERS} says how.",
    ]
    command = run_command("collect", order.sweep_folder, order.run)
    return _script(order, profile, about, {"output": str(log)}, _JOB_ID, command)


def _script(
    order: Order, profile: SlurmProfile, about: Sequence[str], own: dict[str, Any], job: str, command: Sequence[str]
) -> str:
    parts = [
        "#!/bin/bash",
        *(f"# {line}".rstrip() for line in about),
        "",
        *_asks(order, profile, own),
        "",
        *_begins(order, job),
        *_setup(profile),
        *_environment(order, profile),
        *_runs(command, _threads(order, profile)),
        *_ends(profile),
    ]
    return "\n".join(parts) + "\n"


def _asks(order: Order, profile: SlurmProfile, own: dict[str, Any]) -> Iterator[str]:
    """Yield the ``#SBATCH`` lines."""
    share = order.profile.workers if order.single_worker else 1
    gpus = f"gpu:{profile.gpu_type}:{profile.gpus * share}" if profile.gpu_type else f"gpu:{profile.gpus * share}"
    asked = {
        "job-name": job_name(order.name),
        "comment": comment(order.run.token),
        **own,
        "open-mode": "append",
        "requeue": True,
        "export": "ALL",
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": _threads(order, profile),
        "gres": gpus if profile.gpus else None,
        "mem": None if profile.memory_gb is None else f"{math.ceil(profile.memory_gb * share * 1e9 / 2**20)}M",
        "time": profile.minutes,
        **profile.options,
    }
    for name, value in asked.items():
        if value is not None:
            yield f"#SBATCH --{name}" + ("" if value is True else f"={_sbatch_word(value)}")


def _threads(order: Order, profile: SlurmProfile) -> int:
    return profile.cpus * (order.profile.workers if order.single_worker else 1)


def _sbatch_word(value: object) -> str:
    """Return a value that ``sbatch`` reads as one word; no value here has a quote or a backslash."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else f'"{text}"'


def _begins(order: Order, job: str) -> Iterator[str]:
    note = f"{order.sweep_folder.path}/runs/{note_name(order.run.number, '')}"
    variable = "SLURM_ARRAY_TASK_ID" if job == _TASK_ID else "SLURM_JOB_ID"
    yield f': "${{{variable}:?submit this file with sbatch}}"'
    yield f'job="{job}"'
    yield "# What becomes of this job stands here, for `sweep status`."
    yield f'note={shlex.quote(note)}"$job"'
    yield 'noted() { echo "$(date +%FT%T) $(hostname) $*" >>"$note"; }'
    yield "# scancel and scontrol requeue tell this script to end too; a time limit tells the worker alone."
    yield "told="
    yield "trap 'told=yes' TERM"
    yield "trap : USR1"
    yield "noted started"


def _setup(profile: SlurmProfile) -> Iterator[str]:
    if profile.setup:
        yield ""
        yield "# From the profile's key `setup`."
        yield from profile.setup


def _environment(order: Order, profile: SlurmProfile) -> Iterator[str]:
    yield ""
    yield "# Everything that is needed lies in the sweep's folder or on this file system; nothing is downloaded."
    yield from (f"export {name}={value}" for name, value in FOR_TRAINING.items())
    yield from (f'export {name}="${{{name}:-{value}}}"' for name, value in UNLESS_SET.items())
    if not order.single_worker:
        yield f"export {' '.join(f'{name}={profile.cpus}' for name in THREAD_COUNTS)}"
    if not profile.gpus:
        yield "export CUDA_VISIBLE_DEVICES="


def _runs(command: Sequence[str], threads: int) -> Iterator[str]:
    python = shlex.quote(command[0])
    yield ""
    yield f"if [ ! -x {python} ]; then"
    yield f'    echo "error: $(hostname) has no "{python}"; it must lie on a file system that all nodes share"'
    yield "    noted ended 127"
    yield "    exit 127"
    yield "fi"
    yield "# Slurm's signals reach only what srun has started."
    yield f"srun --ntasks=1 --cpus-per-task={threads} --export=ALL --mpi=none \\"
    yield f"    {shlex.join(command)}"
    yield "code=$?"


def _ends(profile: SlurmProfile) -> Iterator[str]:
    yield from _ENDS.replace("REQUEUES", str(profile.requeues)).replace("SETTLE", f"{_SETTLE_SECONDS}").splitlines()


_ENDS = r"""
back_to_queue() {
    # scancel signals the worker and this script one after the other, and a cancelled job could be requeued.
    sleep SETTLE
    [ -z "$told" ] || return
    noted "back to the queue: $1"
    scontrol requeue "$job" && exit "$code"
    echo "error: $job could not go back to the queue; the same \`sweep submit\` continues from here"
}
if [ -z "$told" ]; then
    case $code in
        # The time limit was near, or the node is wanted. The trial has saved its state and continues in the next job.
        138) back_to_queue "its time was nearly up" ;;
        143) back_to_queue "it was asked to stop" ;;
        129 | 13[0-9] | 14[0-9] | 15[0-9])
            # Killed, and perhaps by no fault of its own.
            [ "$(grep -c "back to the queue: killed" "$note")" -lt REQUEUES ] && back_to_queue "killed, exit $code" ;;
    esac
fi
noted ended "$code"
exit "$code"
"""
