"""Owns the command line: argv to one call, its outcome to the screen and an exit code."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from finesweep import __version__
from finesweep.errors import RunDirError, SpecError, SweepError

if TYPE_CHECKING:
    from finesweep.preflight import Checked
    from finesweep.sweep import Outcome

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
Results = Annotated[Path, typer.Option(metavar="DIR", help="Folder that holds one folder per sweep.")]


class _Screen(Console):
    """A console that falls silent when its reader is gone: a sweep outlives `| head -1`."""

    def on_broken_pipe(self) -> None:
        """Throw away what is still to be printed, where the library would end the process."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
) -> None:
    """Search, rank, and export the winner; the same command again goes on where it stopped."""
    from finesweep import sweep

    console = _Screen(highlight=False)
    request = sweep.Request(spec, overrides or [], on, name, results, fresh, smoke)
    outcome = sweep.run(request, announce=lambda checked: _announce(console, checked))
    _conclude(console, outcome)
    if outcome.signal is not None:
        raise typer.Exit(_SIGNALLED + outcome.signal)


@app.command()
def validate(
    spec: SpecFile,
    overrides: Overrides = None,
    on: On = None,
    name: Name = None,
    results: Results = Path("results"),
) -> None:
    """Check the YAML, the data and the model without writing or training anything."""
    from finesweep import sweep

    console = _Screen(highlight=False)
    _announce(console, sweep.check(sweep.Request(spec, overrides or [], on, name, results)))
    console.print("No problems found.")


@app.command()
def status(folder: Folder) -> None:
    """Say how far a sweep is."""
    from finesweep.status import status_lines

    for line in status_lines(folder.absolute()):
        typer.echo(line)


@app.command()
def leaderboard(folder: Folder) -> None:
    """Show a sweep's leaderboard as it stands, and write it anew from the trials' records."""
    from finesweep import leaderboard as board
    from finesweep.run_dir import RunDir

    run_dir = RunDir(folder.absolute())
    manifest, records, runs = run_dir.manifest(), run_dir.records(), run_dir.runs()
    board.write(run_dir, manifest, records, runs)
    _Screen(highlight=False).print(board.console_table(manifest, records, runs))


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
    """Look at a file's columns and write a commented search space that runs."""
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
def worker(folder: Folder, run: Annotated[int, typer.Option(help="Number of the run.")]) -> None:
    """Run trials of a prepared sweep until none is left."""
    from finesweep.worker import Worker

    Worker.open(folder.absolute(), run).work()


@app.command(hidden=True)
def verify(
    folder: Folder, model: Path, trial: Annotated[int, typer.Option()], output: Annotated[Path, typer.Option()]
) -> None:
    """Evaluate an exported model in this process."""
    from finesweep.verification import verify as evaluate

    evaluate(folder, model, trial, output)


def main() -> None:
    """Run the command line; every expected error is one message and an exit code."""
    try:
        app()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        typer.echo(f"error: {error.filename or 'writing'}: the disk is full; make room and run it again", err=True)
        sys.exit(RunDirError.exit_code)
    except SweepError as error:
        if os.environ.get("FINESWEEP_DEBUG"):
            raise
        _complain(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("stopped before anything was started", err=True)
        sys.exit(130)


def _complain(error: SweepError) -> None:
    if isinstance(error, SpecError) and len(error.problems) > 1:
        typer.echo(f"error: {len(error.problems)} problems", err=True)
        for problem in error.problems:
            typer.echo(f"  {_printable(str(problem))}", err=True)
    else:
        typer.echo(f"error: {_printable(str(error))}", err=True)


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable() or character == "\n")


def _announce(console: Console, checked: Checked) -> None:
    """Say what is about to happen: the data, the model, every default that was used."""
    rows = checked.data.facts()["rows"]
    console.print(f"[bold]{escape(checked.loaded.spec.name)}[/]: {escape(checked.loaded.spec.task)}")
    revision = f" at {checked.model.revision[:12]}" if checked.model.revision else ""
    console.print(f"  model     {escape(checked.model.name)}{revision}")
    console.print(f"  data      {', '.join(f'{count:,} {split}' for split, count in rows.items())} rows")
    if checked.data.names:
        console.print(f"  labels    {escape(_shortened(checked.data.names))}")
    if checked.loaded.defaults:
        listed = ", ".join(f"{name}={_yaml(value)}" for name, value in checked.loaded.defaults.items())
        console.print(f"  defaults  {escape(listed)}")
    for note in checked.notes:
        console.print(f"  note      {escape(_printable(note))}")


def _shortened(names: tuple[str, ...]) -> str:
    shown = ", ".join(_printable(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _conclude(console: Console, outcome: Outcome) -> None:
    from finesweep import leaderboard as board

    console.print(board.console_table(outcome.manifest, outcome.records, outcome.run_dir.runs()))
    console.print(f"Ended: {escape(outcome.why)}.")
    path = _relative(outcome.run_dir.path)
    console.print(f"Leaderboard: {path}/leaderboard.md")
    if outcome.evidence is not None:
        value = outcome.evidence.reloaded[outcome.evidence.metric]
        metric = outcome.evidence.metric
        console.print(f"Winner: trial {outcome.evidence.trial}, reloaded and evaluated again: {metric} {value:.4f}")
        task = outcome.spec.task
        if task.startswith("text"):
            console.print(f'  transformers.pipeline("text-classification", "{path}/winner")')
    elif outcome.signal is not None:
        console.print("The same command goes on from here; the winner is exported when the sweep ends.")


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
