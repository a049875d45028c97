"""Owns the commands that read a sweep's folder, or write a first search space: status, leaderboard, init, schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from finesweep.cli.app import Folder
from finesweep.errors import SweepError


def status(folder: Folder) -> None:
    """Say how far a sweep is."""
    from finesweep.status import status_lines

    for line in status_lines(folder.absolute()):
        typer.echo(line)


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


def schema() -> None:
    """Print the JSON Schema of a search space, for editors."""
    from finesweep.spec_schema import schema as spec_schema

    typer.echo(json.dumps(spec_schema(), indent=2))
