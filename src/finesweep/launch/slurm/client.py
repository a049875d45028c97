"""Calls Slurm's client programs: by argv, with a timeout, in an environment that does not change the call."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping

from finesweep.errors import LaunchError, printable
from finesweep.host.python_process import SAFE_IMPORTS

SUBMIT_SECONDS = 60.0
"""Timeout of ``sbatch`` and ``scancel`` in seconds; a busy controller answers late."""

LOOK_SECONDS = 8.0
"""Timeout of ``squeue`` in seconds: a user waits for it, and it would try much longer if the controller is down."""

_MOST_SAID = 2_000
_KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_DEBUG_FLAGS"})
"""Slurm variables that tell where the cluster is; all others belong to a job in which this may run."""

_PREFERENCES = frozenset({"SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_QOS", "SBATCH_RESERVATION"})
"""Variables that users set once for all their jobs. ``sbatch`` prefers them to the script, so they may only fill gaps.
"""


def require(program: str) -> str:
    """Return the path of a client program.

    Raises:
        LaunchError: It is not on PATH.
    """
    found = shutil.which(program)
    if found is None:
        otherwise = "; --dry-run writes the scripts without it" if program == "sbatch" else ""
        message = f"{program} is not on this machine's PATH: it is on a Slurm cluster's login nodes{otherwise}"
        raise LaunchError(message)
    return found


def call(arguments: list[str], seconds: float, given: frozenset[str] = frozenset()) -> str:
    """Call a client program and return its output.

    Args:
        arguments: The program and its arguments.
        seconds: Timeout.
        given: The user's ``SBATCH_`` variables that must be ignored, without the prefix and in lower case.

    Raises:
        LaunchError: It is missing, failed, or timed out; holds its own words and the command.
    """
    command = [require(arguments[0]), *arguments[1:]]
    shown = printable(shlex.join(arguments), 500)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            env=_environment(given),
            start_new_session=True,  # only the command handles Ctrl-C
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LaunchError(f"Slurm did not answer within {seconds:g} seconds: {shown}") from None
    except OSError as error:
        raise LaunchError(f"{arguments[0]} could not be started: {error.strerror}") from None
    if done.returncode != 0:
        words = _said(done.stderr) or _said(done.stdout) or f"exit code {done.returncode}"
        raise LaunchError(f"Slurm refused: {words}\nThe command: {shown}")
    return done.stdout.decode(errors="replace")


def _environment(given: frozenset[str]) -> Mapping[str, str]:
    """Return this process's environment without variables that would change the meaning of a call."""

    def stays(name: str) -> bool:
        if name in SAFE_IMPORTS:  # this command's own; it must not reach the profile's `setup` lines
            return sys.flags.safe_path
        if name.startswith("SBATCH_"):
            return name in _PREFERENCES and name.removeprefix("SBATCH_").lower() not in given
        return not name.startswith(("SLURM_", "SQUEUE_", "SCANCEL_")) or name in _KEPT

    return {name: value for name, value in os.environ.items() if stays(name)}


def _said(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return "; ".join(printable(line.strip(), 500) for line in lines if line.strip())[:_MOST_SAID]
