"""Runs the command line: parses argv, calls one function, and prints its errors with an exit code."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from finesweep import activity
from finesweep.cli.app import app
from finesweep.cli.init import init, schema
from finesweep.cli.internal import ahead, collect, prepare, supervise, survey, tied, try_model, verify, worker
from finesweep.cli.read import doctor, export_study, leaderboard, report, status
from finesweep.cli.run import cancel, confirm, plan, run, submit, validate
from finesweep.display.activity_line import ActivityLine
from finesweep.errors import FolderError, LaunchError, SpecError, SweepError, Unreadable, printable

COMMANDS: tuple[Callable[..., None], ...] = (
    *(run, validate, plan, submit, confirm),
    *(status, leaderboard, report, doctor, export_study),
    *(cancel, init, schema),
)
"""The commands in the order in which they are shown."""

INTERNAL: tuple[Callable[..., None], ...] = (
    *(prepare, ahead, worker, supervise, collect),
    *(survey, verify, tied, try_model),
)
"""Hidden commands, which finesweep calls itself."""

for _command in COMMANDS:
    app.command()(_command)
for _command in INTERNAL:
    app.command(hidden=True)(_command)


_OF_A_PATH = frozenset(
    (
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO),
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENODEV),
    )
)
"""Errors about a path, which the user can change."""


def main() -> None:
    """Run the command line; every expected error becomes one message and an exit code."""
    # At its end Python seeks garbage among all objects, several times. In the process that proves the winner that took
    # more than a CPU second. Frozen objects are passed over.
    atexit.register(gc.freeze)
    try:
        with ActivityLine() as line, activity.heard_by(line.show):
            app()
    except (OSError, RuntimeError) as error:
        lack = _lack(error)
        if lack is None or os.environ.get("FINESWEEP_DEBUG"):
            raise
        _complain(lack)
        sys.exit(lack.exit_code)
    except SweepError as error:
        if os.environ.get("FINESWEEP_DEBUG"):
            raise
        _complain(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("stopped before anything was started", err=True)
        sys.exit(130)


def _lack(error: OSError | RuntimeError) -> SweepError | None:
    """Return an error for a refused path or an exhausted resource; None for any other failure."""
    code = error.errno if isinstance(error, OSError) else None
    if code in _OF_A_PATH and isinstance(error, OSError) and error.filename is not None:
        return Unreadable(Path(os.fsdecode(error.filename)), f"cannot be used: {error.strerror}")
    if code in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename if isinstance(error, OSError) else None
        return FolderError(f"{where or 'writing'}: the disk is full; make room and run it again")
    if code in (errno.EMFILE, errno.ENFILE):
        return LaunchError(f"{error}: raise the limit (ulimit -n), or start fewer workers (--workers)")
    if code == errno.EAGAIN or "can't start new thread" in str(error):
        return LaunchError(f"{error}: raise the limit of processes (ulimit -u), or start fewer workers (--workers)")
    return None


def _complain(error: SweepError) -> None:
    if isinstance(error, SpecError) and len(error.problems) > 1:
        typer.echo(f"error: {len(error.problems)} problems", err=True)
        for problem in error.problems:
            typer.echo(f"  {problem}", err=True)
    else:
        for number, line in enumerate(str(error).split("\n")):
            typer.echo(("" if number else "error: ") + printable(line, limit=len(line)), err=True)
