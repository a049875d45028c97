"""Makes the command lines of finesweep's own processes, the same on this machine and on a cluster."""

from __future__ import annotations

from finesweep.folder import Run, SweepFolder
from finesweep.host.python_process import own_command


def worker_command(python: str, sweep_folder: SweepFolder, run: Run) -> list[str]:
    """Return the command line of a worker.

    Args:
        python: The interpreter on the worker's machine.
        sweep_folder: The sweep's folder.
        run: The run.
    """
    return _command(python, "worker", sweep_folder, run)


def collect_command(python: str, sweep_folder: SweepFolder, run: Run) -> list[str]:
    """Return the command line that ends a run: leaderboard, winner, and its proof."""
    return _command(python, "collect", sweep_folder, run)


def supervise_command(python: str, sweep_folder: SweepFolder, run: Run) -> list[str]:
    """Return the command line that runs a prepared run: workers, leaderboard, winner."""
    return _command(python, "supervise", sweep_folder, run)


def survey_command(python: str, sweep_folder: SweepFolder, run: Run) -> list[str]:
    """Return the command line that measures a prepared sweep; the caller adds the output file."""
    return _command(python, "survey", sweep_folder, run)


def _command(python: str, name: str, sweep_folder: SweepFolder, run: Run) -> list[str]:
    token = ["--token", run.token] if run.token else []
    return own_command(name, str(sweep_folder.path), "--run", str(run.number), *token, python=python)
