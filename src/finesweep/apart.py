"""Owns running steps in a process of their own, whose memory is given back as soon as it ends.

The process is a fork of this one, which has imported nothing heavy yet. The two talk through a pipe that nobody else
has; what goes through it is small: values, errors, and a lock to be held together.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import multiprocessing.reduction
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from finesweep import activity
from finesweep.errors import LaunchError, SweepError
from finesweep.scratch import scratch_environment, scratch_folder
from finesweep.signals import STOPS

END_SECONDS = 2.0
"""How long a process that is told to end has to clear up."""

INTERRUPTED = 128 + signal.SIGINT
_STOPS = (*STOPS, signal.SIGHUP, signal.SIGALRM)


class Elsewhere(Exception):
    """The traceback of an error in the other process; to be seen as the cause of what is raised here."""

    def __str__(self) -> str:
        """Return the traceback as Python writes it."""
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class _Activity:
    """What the child is doing, sent before what it finds."""

    text: str


class Gone(Exception):
    """Whoever is at the other end of the pipe is no more."""


class Link:
    """The child's end: answers what it is asked, in turns.

    Args:
        connection: The pipe.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tell(self, value: Any) -> None:
        """Send a value.

        Raises:
            Gone: Nobody is there to receive it.
        """
        try:
            self._connection.send((value, None, ""))
        except BrokenPipeError:
            raise Gone from None

    def tell_activity(self, text: str) -> None:
        """Send what is being done now, if the command still wants to know."""
        with contextlib.suppress(BrokenPipeError):
            self._connection.send((_Activity(text), None, ""))

    def fail(self, error: BaseException) -> None:
        """Send an error with its traceback."""
        with contextlib.suppress(BrokenPipeError):
            self._connection.send((None, error, traceback.format_exc()))

    def hear(self) -> tuple[Any, int]:
        """Wait for a value and an open file that comes with it; return both.

        Raises:
            Gone: Nothing more will come.
        """
        try:
            return self._connection.recv(), multiprocessing.reduction.recv_handle(self._connection)
        except (EOFError, ConnectionError):
            raise Gone from None


class Apart:
    """A process that takes steps for this one, from its first question until the block ends.

    Args:
        what: What it does, for messages.
        steps: Runs there.
    """

    def __init__(self, what: str, steps: Callable[[Link], None]) -> None:
        self._what = what
        self._has_ended = False
        self._scratch = scratch_folder()
        self._connection, there = multiprocessing.Pipe()
        # A signal that came between the fork and the end of this would leave a process that nobody ends.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        self._process = multiprocessing.get_context("fork").Process(
            target=_in_child, args=(steps, there, self._connection, mask, self._scratch.name)
        )
        try:
            try:
                self._process.start()
            finally:
                there.close()
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        except KeyboardInterrupt as interrupt:
            self.__exit__(KeyboardInterrupt, interrupt, None)
            raise

    def __enter__(self) -> Apart:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process: it ends by itself if it waits to be told something."""
        self._connection.close()
        if kind is not None and not self._has_ended:
            self._process.terminate()
        self._process.join(END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._scratch.cleanup()

    def hear(self) -> Any:
        """Return what the process finds next.

        Raises:
            KeyboardInterrupt: It was interrupted.
            LaunchError: Something has killed it.
            SystemExit: It failed in a way that nobody foresaw, and has said how.
            BaseException: What its step raised.
        """
        value = _Activity("")
        while isinstance(value, _Activity):
            activity.tell(value.text)
            try:
                value, error, trace = self._connection.recv()
            except (EOFError, ConnectionError):
                raise self._end() from None
        if error is not None:
            self._has_ended = True  # by itself; a signal would only disturb it
            raise error from Elsewhere(trace)
        return value

    def tell(self, value: Any, file: int) -> None:
        """Send a value and a file that is to stay open there too.

        Raises:
            LaunchError: Something has killed the process.
        """
        try:
            self._connection.send(value)
            multiprocessing.reduction.send_handle(self._connection, file, self._process.pid or 0)
        except ConnectionError:
            raise self._end() from None

    def _end(self) -> BaseException:
        """Say why there is nothing more to hear."""
        self._process.join()
        code = self._process.exitcode or 0
        if code == INTERRUPTED:
            return KeyboardInterrupt()
        if code >= 0:
            return SystemExit(code or 1)
        hint = "; this is mostly the system, when memory runs out" if code == -signal.SIGKILL else ""
        return LaunchError(f"{self._what} was killed by {signal.Signals(-code).name}{hint}")


def _in_child(
    steps: Callable[[Link], None],
    connection: Connection,
    other_end: Connection,
    mask: set[signal.Signals],
    scratch: str,
) -> None:
    try:
        os.environ.update(scratch_environment(scratch))
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        other_end.close()  # or the end of whoever started this would go unnoticed
        link = Link(connection)
        with activity.heard_by(link.tell_activity):
            _answer(steps, link)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _answer(steps: Callable[[Link], None], link: Link) -> None:
    try:
        steps(link)
    except Gone:
        sys.exit(0)
    except SweepError as error:
        link.fail(error)
    except OSError as error:
        link.fail(OSError(error.errno or errno.EIO, error.strerror or str(error), error.filename))
    except RuntimeError as error:
        link.fail(RuntimeError(f"{type(error).__name__}: {error}"))
