"""Owns the command line: argv to one call, its outcome to the screen and an exit code."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from finesweep import __version__
from finesweep.errors import LaunchError, RunDirError, SpecError, SweepError

app = typer.Typer(
    name="sweep",
    help="Hyperparameter sweeps for transformers: a ranked leaderboard, the winner, and the evidence for it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_SIGNALLED = 128

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="The search space.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A sweep's folder.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Override a value of the YAML; repeatable.", show_default=False),
]
On = Annotated[
    Path | None, typer.Option("--on", metavar="PROFILE.yaml", help="Where to run it.", show_default="this machine")
]
Name = Annotated[str | None, typer.Option(help="Name of the results folder.", show_default="the YAML's name")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model. Read it first.")
]
Results = Annotated[Path, typer.Option(metavar="DIR", help="Folder that holds one folder per sweep.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"finesweep {__version__}")
        raise typer.Exit
    if debug:
        os.environ["FINESWEEP_DEBUG"] = "1"


@app.command()
def run(
    spec: SpecFile,
    overrides: Overrides = None,
    on: On = None,
    name: Name = None,
    results: Results = Path("results"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an earlier sweep of this name aside.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Try everything once: 32 rows, 2 trials, 1 step.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Trials at a time.", show_default="the profile's")
    ] = None,
    join: Annotated[bool, typer.Option("--join", help="Help a sweep of this name that runs already.")] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Search, rank, and export the winner.

    The same command again goes on where it stopped.
    """
    from finesweep import summary, sweep

    screen = summary.Screen()
    if join and (fresh or smoke):
        raise SweepError(f"--join helps a sweep that is there; it does not go with {'--fresh' if fresh else '--smoke'}")
    request = sweep.Request(
        spec, overrides or [], on, name, results, fresh, smoke, join, workers, trust_remote_code=trust_remote_code
    )
    outcome = sweep.run(request, announce=lambda checked: summary.announce(screen, checked))
    summary.conclude(screen, outcome)
    if outcome.signal is not None:
        raise typer.Exit(_SIGNALLED + outcome.signal)


@app.command()
def validate(
    spec: SpecFile,
    overrides: Overrides = None,
    on: On = None,
    name: Name = None,
    results: Results = Path("results"),
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Check the YAML, the data and the model.

    Nothing is written and nothing is trained.
    """
    from finesweep import summary, sweep

    screen = summary.Screen()
    request = sweep.Request(spec, overrides or [], on, name, results, trust_remote_code=trust_remote_code)
    summary.announce(screen, sweep.check(request))
    screen.say("No problems found.")


@app.command()
def status(folder: Folder) -> None:
    """Say how far a sweep is."""
    from finesweep.status import status_lines

    for line in status_lines(folder.absolute()):
        typer.echo(line)


@app.command()
def leaderboard(folder: Folder) -> None:
    """Show a sweep's leaderboard as it stands.

    Its files are written anew from the trials' records.
    """
    from finesweep import leaderboard as board
    from finesweep.run_dir import RunDir
    from finesweep.summary import Screen

    run_dir = RunDir(folder.absolute())
    manifest, records, runs = run_dir.manifest(), run_dir.records(), run_dir.runs()
    board.write(run_dir, manifest, records, runs)
    Screen().print(board.console_table(manifest, records, runs))


@app.command()
def init(
    data: Annotated[
        Path, typer.Argument(metavar="DATA.csv", help="CSV, TSV, JSON lines or Parquet.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="SPEC.yaml", help="Where to write.", show_default="DATA.yaml"),
    ] = None,
) -> None:
    """Write a search space for a data file.

    It looks at the columns and writes a commented YAML that runs.
    """
    from finesweep.init_spec import propose

    target = output or Path(f"{data.stem}.yaml")
    text = propose(data, target)
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise SweepError(f"{target} is there already; name another file with --output") from None
    except OSError as error:
        raise SweepError(f"{target}: cannot be written ({error.strerror})") from None
    typer.echo(f"Wrote {target}. Look at it, then: sweep run {target}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a search space, for editors."""
    from finesweep.spec_schema import schema as spec_schema

    typer.echo(json.dumps(spec_schema(), indent=2))


@app.command(hidden=True)
def worker(
    folder: Folder,
    run: Annotated[int, typer.Option(help="Number of the run.")],
    parent: Annotated[int | None, typer.Option(help="Process id of whoever starts it, without whom it stops.")] = None,
) -> None:
    """Run trials of a prepared sweep until none is left."""
    with _importing():
        from finesweep.worker import Worker

    Worker.open(folder.absolute(), run, parent).work()


@app.command(hidden=True)
def verify(
    folder: Folder,
    model: Path,
    trial: Annotated[int, typer.Option()],
    output: Annotated[Path, typer.Option()],
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Evaluate an exported model in this process."""
    with _importing():
        from finesweep.verification import verify as evaluate

    evaluate(folder, model, trial, output, trusted=trust_remote_code)


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Import a lot without looking for garbage: there is none, and the search takes a quarter of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


def main() -> None:
    """Run the command line; every expected error is one message and an exit code."""
    try:
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
    """Say what the system has no more of, None if that is not what went wrong."""
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename if isinstance(error, OSError) else None
        return RunDirError(f"{where or 'writing'}: the disk is full; make room and run it again")
    if code in (errno.EMFILE, errno.ENFILE):
        return LaunchError(f"{error}: raise the limit (ulimit -n), or start fewer workers (--workers)")
    if code == errno.EAGAIN or "can't start new thread" in str(error):
        return LaunchError(f"{error}: raise the limit of processes (ulimit -u), or start fewer workers (--workers)")
    return None


def _complain(error: SweepError) -> None:
    if isinstance(error, SpecError) and len(error.problems) > 1:
        typer.echo(f"error: {len(error.problems)} problems", err=True)
        for problem in error.problems:
            typer.echo(f"  {_printable(str(problem))}", err=True)
    else:
        typer.echo(f"error: {_printable(str(error))}", err=True)


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable() or character == "\n")
