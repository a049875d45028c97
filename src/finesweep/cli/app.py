"""Owns the command ``sweep`` itself, and the options that several of its commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from finesweep import __version__

app = typer.Typer(
    name="sweep",
    help="Hyperparameter sweeps for transformers: a ranked leaderboard, the winner, and the evidence for it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="The search space.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A sweep's folder.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Override a value of the YAML; repeatable.", show_default=False),
]
On = Annotated[
    Path | None, typer.Option("--on", metavar="PROFILE.yaml", help="Where to run it.", show_default="this machine")
]
RunNumber = Annotated[int, typer.Option("--run", help="Number of the run.")]
Token = Annotated[str, typer.Option(help="The run's token, by which the folder is known.")]
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
