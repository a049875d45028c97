"""Defines the commands that read a sweep's folder, or write a first search space: status, leaderboard, init, schema."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from finesweep.cli.app import Folder, ItsCluster
from finesweep.errors import Problem, SpecError, printable


def status(folder: Folder, on: ItsCluster = None) -> None:
    """Say how far a sweep is."""
    from finesweep.display.status import status_lines
    from finesweep.launch import profile

    for line in status_lines(folder.absolute(), profile.load(on)):
        typer.echo(line)


def leaderboard(folder: Folder) -> None:
    """Show a sweep's leaderboard as it stands.

    Its files are written anew from the trials' records.
    """
    from finesweep.cli.summary import Screen
    from finesweep.files import permissions
    from finesweep.folder import SweepFolder
    from finesweep.results import leaderboard as board

    sweep_folder = SweepFolder(folder.absolute())
    manifest, records, runs = sweep_folder.manifest(), sweep_folder.records(), sweep_folder.runs()
    permissions.follow(sweep_folder.path)
    board.write(sweep_folder, manifest, records, runs)
    Screen().print(board.console_table(sweep_folder, manifest, records, runs))


def export_study(
    folder: Folder,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write.", show_default=False)],
) -> None:
    """Write a sweep's trials as a journal that Optuna and optuna-dashboard open."""
    from finesweep.backends.optuna.export import export_study as export
    from finesweep.folder import SweepFolder

    trials = export(SweepFolder(folder.absolute()), file)
    shown = printable(str(file), limit=1_000)
    typer.echo(f"Wrote {trials} trials to {shown}. To look at them: optuna-dashboard {shlex.quote(shown)}")


def init(
    data: Annotated[
        Path | None, typer.Argument(metavar="DATA.csv", help="CSV, TSV, JSON lines or Parquet.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="SPEC.yaml", help="Where to write.", show_default="DATA.yaml"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Hub id or folder.",
            show_default="one for the texts and this machine",
        ),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(
            "--example",
            metavar="NAME",
            help="Write an example of finesweep's own instead: the search space quickstart, bert, multiclass, "
            "multilabel or regression, or the profile local, gpu_box, slurm or ray.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a search space for a data file, or one of the examples.

    It looks at the columns and writes a commented YAML that runs.
    """
    if example is not None:
        _write_example(example, data or output)
    elif data is None:
        hint = "`sweep init DATA.csv`, or `sweep init --example quickstart`"
        raise SpecError([Problem("sweep init", "there is no data file to look at", hint)])
    else:
        _propose(data, output or Path(f"{data.stem}.yaml"), model)


def _propose(data: Path, target: Path, model: str | None) -> None:
    from finesweep import activity
    from finesweep.files import create
    from finesweep.propose.proposed_spec import propose

    found = propose(data, target, model)
    activity.tell("")
    try:
        create(target, found.text.encode())
    except FileExistsError:
        raise SpecError([Problem(str(target), "is there already", "name another file with --output")]) from None
    for note in found.notes:
        typer.echo(f"note: {note}")
    shown = printable(str(target), limit=1_000)
    typer.echo(f"Wrote {shown}. Look at it, then: sweep run {shlex.quote(shown)}")


def _write_example(name: str, other: Path | None) -> None:
    from finesweep.propose.examples import write_example

    if other is not None:
        hint = "leave it out"
        raise SpecError(
            [Problem(str(other), "an example is written to search_spaces/ or sweeps/ of this folder", hint)]
        )
    written, command = write_example(name, Path())
    for file in written:
        typer.echo(f"Wrote {file}")
    typer.echo(f"Look at it, then: {command}")


def schema() -> None:
    """Print the JSON Schema of a search space, for editors."""
    from finesweep.spec.json_schema import schema as spec_schema

    typer.echo(json.dumps(spec_schema(), indent=2))
