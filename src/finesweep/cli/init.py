"""Defines the commands that help to write a spec: init, schema."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from finesweep.errors import Problem, SpecError, printable


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
            help="Write an example of finesweep's own instead: the spec quickstart, bert, multiclass, "
            "multilabel or regression, or the profile local, gpu_box, slurm or ray.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a spec for a data file, or one of the examples.

    It looks at the columns and writes a commented YAML that runs.
    """
    if example is not None:
        _write_example(example, data or output)
    elif data is None:
        hint = "`sweep init DATA.csv`, or `sweep init --example quickstart`"
        raise SpecError.of("sweep init", "there is no data file to look at", hint)
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
        raise SpecError.of(str(target), "is there already", "name another file with --output") from None
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
    """Print the JSON Schema of a spec, for editors."""
    from finesweep.spec.json_schema import schema as spec_schema

    typer.echo(json.dumps(spec_schema(), indent=2))
