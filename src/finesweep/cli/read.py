"""Defines the commands that read a sweep's folder: status, leaderboard, report, doctor, export-study."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from finesweep.cli.app import Folder, ItsCluster
from finesweep.errors import FolderError, printable


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
    from finesweep.results.board import read_board
    from finesweep.results.leaderboard import console_table, write

    board = read_board(SweepFolder(folder.absolute()))
    permissions.follow(board.folder)
    write(board)
    Screen().print(console_table(board))


def report(
    folder: Folder,
    rows: Annotated[
        bool, typer.Option("--rows", help="Show the 20 validation rows on which the winner is most wrong, with texts.")
    ] = False,
) -> None:
    """Write a sweep's report: one page for a browser, which needs no network.

    `sweep run` writes it when it ends.
    """
    from finesweep.files import permissions
    from finesweep.folder import SweepFolder
    from finesweep.report import write_report
    from finesweep.results.board import read_board
    from finesweep.results.worst_rows import read_worst_rows

    sweep_folder = SweepFolder(folder.absolute())
    board = read_board(sweep_folder, sweep_folder.search_manifest())
    shown = read_worst_rows(board) if rows else []
    permissions.follow(board.folder)
    typer.echo(f"Report: {printable(str(write_report(board, shown)), limit=1_000)}")


def doctor(
    folder: Folder,
    write: Annotated[
        Path | None,
        typer.Option(metavar="NEXT.yaml", help="Write the next sweep's YAML, with the cures.", show_default=False),
    ] = None,
) -> None:
    """Say what is wrong with a sweep, and which YAML would cure it.

    The next sweep starts from this one: the best trials are trained first, and the others tell the sampler.
    """
    from finesweep.doctor.next_spec import next_spec
    from finesweep.files import create
    from finesweep.folder import SweepFolder
    from finesweep.results.board import read_board

    sweep_folder = SweepFolder(folder.absolute())
    board = read_board(sweep_folder, sweep_folder.search_manifest())
    for finding in board.findings:
        typer.echo(printable(f"{finding.weight}: {finding.text}: {finding.evidence}.", limit=2_000))
        if finding.cure is not None:
            typer.echo(printable(f"    {finding.cure}", limit=2_000))
    if not board.findings:
        typer.echo("Nothing was found.")
    if write is not None:
        text = next_spec(board.folder, board.manifest, board.runs, board.findings)
        try:
            create(write, text.encode())
        except FileExistsError:
            raise FolderError(f"{write}: is there already; name another file") from None
        typer.echo(printable(f"Wrote {write}. To check it: sweep validate {shlex.quote(str(write))}", limit=2_000))


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
