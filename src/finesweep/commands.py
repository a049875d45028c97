"""Makes the command lines by which finesweep starts itself: the same ones on this machine and on a cluster."""

from __future__ import annotations

import sys

from finesweep.manifest import Run
from finesweep.run_dir import RunDir


def worker_command(python: str, run_dir: RunDir, run: Run) -> list[str]:
    """Return the command line of a worker.

    Args:
        python: The interpreter on the machine where it runs.
        run_dir: The sweep's folder.
        run: The run.
    """
    return _command(python, "worker", run_dir, run)


def collect_command(python: str, run_dir: RunDir, run: Run) -> list[str]:
    """Return the command line that ends a run: leaderboard, winner, and the proof of it."""
    return _command(python, "collect", run_dir, run)


def supervise_command(python: str, run_dir: RunDir, run: Run) -> list[str]:
    """Return the command line that carries a prepared run out: workers, leaderboard, winner."""
    return _command(python, "supervise", run_dir, run)


def survey_command(python: str, run_dir: RunDir, run: Run) -> list[str]:
    """Return the command line that measures a prepared sweep; the file for what it finds is to be added."""
    return _command(python, "survey", run_dir, run)


def own_command(*arguments: str, python: str | None = None, module: str = "finesweep") -> list[str]:
    """Return a command line of finesweep's own, which imports nothing from the current folder.

    Every Python process that finesweep starts is started by one of these, and in an environment from
    ``finesweep.environment``, which carries the same over to the processes that it starts itself.

    Args:
        arguments: What follows the module's name.
        python: The interpreter; None for the one that runs this.
        module: What it runs.
    """
    return [python or sys.executable, "-P", "-m", module, *arguments]


def _command(python: str, name: str, run_dir: RunDir, run: Run) -> list[str]:
    token = ["--token", run.token] if run.token else []
    return own_command(name, str(run_dir.path), "--run", str(run.number), *token, python=python)
