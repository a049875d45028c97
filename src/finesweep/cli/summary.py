"""Prints the messages of ``sweep run`` and ``sweep submit``: before the training and after the end."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape

from finesweep.display.status import set_aside_lines
from finesweep.errors import printable
from finesweep.launch import Submission
from finesweep.registry import TASKS
from finesweep.results.board import read_board
from finesweep.results.leaderboard import console_table
from finesweep.results.ranking import verdict
from finesweep.sweep.preflight import Checked
from finesweep.sweep.run import RunResult
from finesweep.text import clean, first_few, metric, setting

LABELS_SHOWN = 8


class Screen(Console):
    """A console that becomes silent when its reader is gone: a sweep outlives `| head -1`."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        """Discard the remaining output; the library would end the process."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def say(self, text: str) -> None:
        """Print one line without markup; only a terminal's lines are wrapped."""
        self.print(text, markup=False, soft_wrap=not self.is_terminal)


def announce(screen: Screen, checked: Checked) -> None:
    """Print what a sweep will use: the data, the model, every default."""
    spec, model = checked.loaded.spec, checked.model
    rows = checked.data.facts().rows
    screen.print(f"[bold]{escape(spec.name)}[/]: {escape(spec.task)}")
    screen.say(f"  model     {clean(model.name)}{f' at {model.revision[:12]}' if model.revision else ''}")
    screen.say(f"  data      {', '.join(f'{count:,} {split}' for split, count in rows.items())} rows")
    if checked.data.names:
        screen.say(f"  labels    {first_few([clean(name) for name in checked.data.names], LABELS_SHOWN)}")
    if defaults := checked.loaded.defaults:
        screen.say(f"  defaults  {', '.join(f'{name}={setting(value)}' for name, value in defaults.items())}")
    for note in checked.notes:
        screen.say(f"  note      {clean(note)}")


def conclude(outcome: RunResult) -> None:
    """Print the leaderboard, why the run ended, and the place of the winner.

    Raises:
        typer.Exit: A signal ended the run.
    """
    _print_result(Screen(), outcome)
    if outcome.signal is not None:
        raise typer.Exit(128 + outcome.signal)


def _print_result(screen: Screen, outcome: RunResult) -> None:
    folder = outcome.sweep.sweep_folder
    board = read_board(folder, outcome.sweep.manifest, outcome.records)
    screen.print(console_table(board))
    path = _relative(folder.path)
    best = board.choice.record if board.choice is not None else None
    for line in folder.text_notes(best.effective["data.max_length"]) if best else ():
        screen.say(f"Note: {line}.")
    for note in folder.notes:
        screen.say(f"Note: {clean(note)}.")
    for line in set_aside_lines(folder):
        screen.say(f"Note: {clean(line, len(line))}.")
    screen.say(f"Ended: {clean(outcome.why)}.")
    screen.say(f"Leaderboard: {path}/leaderboard.md")
    if outcome.owner is None:
        screen.say(f"Report: {path}/report.html")
    if (evidence := outcome.evidence) is not None:
        again = f"{evidence.metric} {metric(evidence.reloaded[evidence.metric])}"
        screen.say(f"Winner: trial {evidence.trial}, reloaded in a fresh process and evaluated again: {again}")
        for warning in evidence.warnings(verdict(outcome.sweep.manifest, best)):
            screen.say(f"Note: {warning}")
        task = TASKS.load(outcome.sweep.spec.task)
        options = "".join(f", {name}={value!r}" for name, value in task.pipeline_options.items())
        # The command is to be copied, so it is not wrapped.
        asked = f'transformers.pipeline("{task.pipeline}", "{path}/winner"{options})'
        screen.print(f"  {asked}", markup=False, soft_wrap=True)
    else:
        _say_no_winner(screen, outcome)


def _say_no_winner(screen: Screen, outcome: RunResult) -> None:
    """Print why no winner was exported, and what exports it."""
    if outcome.submitted is not None:
        screen.say("The confirmation was submitted; its last job exports the winner.")
        _say_lines(screen, outcome.submitted)
    elif outcome.unconfirmed and outcome.signal is None:
        launcher = outcome.sweep.profile.asked.launcher
        on = "" if launcher == "local" else f" --on PROFILE.yaml  (the profile with launcher: {launcher})"
        screen.say("The confirmation is not complete, so no winner is exported. To complete it:")
        screen.say(f"  sweep confirm {shlex.quote(str(_relative(outcome.sweep.sweep_folder.path)))}{on}")
    elif outcome.owner is not None:
        screen.say(f"The winner is exported by the `sweep run` that was joined ({clean(outcome.owner)}).")
    elif outcome.signal is not None:
        screen.say("The same command continues from here; the winner is exported when the sweep ends.")


def handed_over(screen: Screen, submitted: Submission | str) -> None:
    """Print what was submitted to a cluster, and what to do next."""
    if isinstance(submitted, str):
        screen.say(f"Nothing was submitted: {clean(submitted)}.")
        screen.say("`sweep run` with the same spec exports the winner, if that has not been done.")
        return
    _say_lines(screen, submitted)


def _say_lines(screen: Screen, submitted: Submission) -> None:
    for line in submitted.lines:
        # Script lines keep their indentation, and a command that is to be copied is not wrapped.
        screen.print(printable(line, limit=len(line)), markup=False, soft_wrap=True)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
