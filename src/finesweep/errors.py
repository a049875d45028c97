"""Defines the errors that end a command with one message instead of a traceback.

There is one class for each thing that the user does next, beside the exit code of the command:

    SweepError
    ├─ SpecError(ValueError)      edits a YAML or a data file                 exit 2
    ├─ FolderError                repairs the folder, or names another one    exit 2
    ├─ Unreadable                 corrects a path, or its permissions         exit 2
    ├─ LaunchError                reads what the worker or the cluster said   exit 3
    ├─ TrialFailed                nothing: it is recorded                     the sweep continues
    ├─ NoFinishedTrial            reads why no trial finished                 exit 1
    ├─ WinnerMismatch             reads in which metrics the winner differs   exit 1
    └─ Stopped                    starts the same command again               exit 128 + signal

A pruned, diverged or failed trial is a state in its record (``finesweep.trial``), not an error.
"""

from __future__ import annotations

import difflib
import os
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that a user has to change.

    Attributes:
        where: File and line and the dotted name, as ``bert.yaml:12 space.learning_rat``.
        message: What was found and what is allowed.
        hint: The nearest fix, or an empty string.
    """

    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" + (f" ({self.hint})" if self.hint else "")
        return printable(text, limit=len(text))


class SweepError(Exception):
    """Anything that ends a command with one clear message instead of a traceback."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by attributes, because subclasses have constructors with other arguments."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[SweepError], args: tuple[Any, ...], values: dict[str, Any]) -> SweepError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(values)
    return error


class SpecError(SweepError, ValueError):
    """The spec, the data or the model cannot be used as they are; lists every problem at once."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def of(cls, where: str, message: str, hint: str = "") -> SpecError:
        """Return the error of one problem; see ``Problem``."""
        return cls([Problem(where, message, hint)])


class DataProblem(ValueError):
    """Data that cannot be used; its loader makes a ``Problem`` of it.

    Attributes:
        about: The key under ``data``, or the split, that the problem is about.
        message: What was found and what is allowed.
        hint: The nearest fix.
    """

    def __init__(self, about: str, message: str, hint: str = "") -> None:
        self.about, self.message, self.hint = about, message, hint
        super().__init__(message)


class FolderError(SweepError):
    """A results folder belongs to another sweep, is in use, or cannot be read or written."""

    exit_code = 2


class Unreadable(SweepError):
    """A path is no regular file, is missing, too large, or may not be read.

    Attributes:
        path: The path.
        reason: What was found, without the path.
        missing: Whether there is no such file.
    """

    exit_code = 2

    def __init__(self, path: os.PathLike[str], reason: str, *, missing: bool = False) -> None:
        self.path, self.reason, self.missing = path, reason, missing
        super().__init__(f"{printable(os.fspath(path), 300)}: {reason}")


class LaunchError(SweepError):
    """A worker, or the process that measures for `sweep plan`, could not start or ended before its first trial."""

    exit_code = 3


class TrialFailed(SweepError):
    """One trial failed and its record says so; its worker continues with the next one.

    Args:
        number: The trial.
        reason: Why, on one line.
        log: Its log, relative to the sweep's folder.
    """

    def __init__(self, number: int, reason: str, log: str) -> None:
        super().__init__(f"trial {number} failed: {reason} ({log})")


class NoFinishedTrial(SweepError):
    """The search ended without a single COMPLETE trial, so there is no winner."""


class WinnerMismatch(SweepError):
    """The winner, reloaded and evaluated again, does not give the value on the leaderboard."""


class Stopped(SweepError):
    """The user stopped a command before it had begun anything."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(f"stopped by {signal_name(number)} before anything was begun")


def signal_name(number: int) -> str:
    """Return what a user calls a signal."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def printable(text: str, limit: int = 80) -> str:
    """Return text that is safe to show in a terminal: control characters escaped, shortened to ``limit``.

    It shows what was found, for a message; ``text.format.clean`` drops what cannot be seen.
    """
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: limit + 1])
    return shown if len(text) <= limit else shown[: limit - 3] + "..."


def lines_of(error: BaseException) -> list[str]:
    """Return the lines of an error's message, without those that are empty; its class's name where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines or [type(error).__name__]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest allowed word.

    Returns:
        ``did you mean X?``, or an empty string where nothing is near.
    """
    near = difflib.get_close_matches(word[:100], list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""
