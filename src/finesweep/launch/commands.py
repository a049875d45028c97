"""Makes the command lines of finesweep's own processes, the same on this machine and on a cluster."""

from __future__ import annotations

from typing import Literal

from finesweep.folder import Run, SweepFolder
from finesweep.host.python_process import own_command


def run_command(
    name: Literal["worker", "collect", "supervise", "survey"],
    sweep_folder: SweepFolder,
    run: Run,
    python: str | None = None,
) -> list[str]:
    """Return the command line of a process of a run.

    Args:
        name: The command.
        sweep_folder: The sweep's folder.
        run: The run.
        python: The interpreter on the process's machine; None for the running one.
    """
    token = ["--token", run.token] if run.token else []
    return own_command(name, str(sweep_folder.path), "--run", str(run.number), *token, python=python)
