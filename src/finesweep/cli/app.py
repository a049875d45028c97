"""Defines the command ``sweep`` itself, and the options that several of its commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from finesweep import __version__
from finesweep.files.regular_file import check_name, is_regular

DEBUG = "--debug"
RESULTS = Path("results")
"""Folder that holds one folder per sweep, unless ``--results`` names another."""


class _Sweep(TyperGroup):
    """Accepts ``--debug`` anywhere on the command line, because users add it at the end of a command that failed.

    An argument that is not UTF-8 is refused: it can be neither shown nor written into JSON.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        for arg in args:
            check_name(Path(arg))
        end = args.index("--") if "--" in args else len(args)
        options = [arg for arg in args[:end] if arg != DEBUG]
        moved = [DEBUG] if len(options) < end else []
        return super().parse_args(ctx, [*moved, *options, *args[end:]])


app = typer.Typer(
    name="sweep",
    cls=_Sweep,
    help="Hyperparameter sweeps for transformers: a ranked leaderboard, the winner, and the evidence for it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def found_folder(folder: Path) -> Path:
    """Return a sweep's folder, given by its path or by its name in ``results/``."""
    named = RESULTS / folder
    is_name = len(folder.parts) == 1 and not is_regular(folder / "spec.json")
    return named if is_name and is_regular(named / "spec.json") else folder


SpecFile = Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="The YAML of the sweep.")]
Folder = Annotated[
    Path,
    typer.Argument(metavar="FOLDER", help="A sweep's folder, or its name in results/.", callback=found_folder),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Override a value of the YAML; repeatable.", show_default=False),
]
On = Annotated[
    Path | None, typer.Option("--on", metavar="PROFILE.yaml", help="Where to run it.", show_default="this machine")
]
ItsCluster = Annotated[
    Path | None,
    typer.Option("--on", metavar="PROFILE.yaml", help="The cluster that has its jobs.", show_default=False),
]
Workers = Annotated[int | None, typer.Option(min=1, max=1000, help="Trials at a time.", show_default="the profile's")]
RunNumber = Annotated[int, typer.Option("--run", help="Number of the run.")]
Token = Annotated[str, typer.Option(help="The run's token, which identifies its folder.")]
Name = Annotated[str | None, typer.Option(help="Name of the results folder.", show_default="the YAML's name")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model. Read it first.")
]
RerunLost = Annotated[bool, typer.Option("--rerun-lost", help="Train ended trials again whose records are gone.")]
Results = Annotated[Path, typer.Option(metavar="DIR", help="Folder that holds one folder per sweep.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"finesweep {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option(DEBUG, help="Show tracebacks. It may stand anywhere.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--version", "-V", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    if debug:
        os.environ["FINESWEEP_DEBUG"] = "1"
