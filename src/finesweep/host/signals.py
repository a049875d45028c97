"""Receives the signals that ask a command to stop; the command decides when to act on them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from finesweep.errors import Stopped

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that ask a command to stop, even if the parent process had them ignored."""

BURST_SECONDS = 0.25
"""Seconds in which several signals count as one request: shells and cluster managers send two or three at once."""

AGAIN_SECONDS = 5.0
"""Seconds after which a block that has not ended is interrupted again: libraries can swallow an interrupt."""

_PR_SET_PDEATHSIG = 1


class _Interrupt(KeyboardInterrupt):
    """Leaves a block; libraries let it pass, unlike other exceptions.

    It is a class of its own because of ``python -m``: if ``KeyboardInterrupt`` itself was raised inside an ``exec`` or
    ``eval``, as dataclasses have one, the process ends by SIGINT, whatever its exit code is.
    """


@dataclass
class Signals:
    """Collects requests to stop; ``received`` has their signal numbers, and the first one decides the exit code."""

    received: list[int] = field(default_factory=list)
    is_urgent: bool = field(default=False, init=False)
    """Whether the request was repeated: the user does not want to wait for the current step."""

    _since: float = field(default=0.0, init=False)
    _ends_block: bool = field(default=False, init=False)
    _had_terminal: bool = field(default=False, init=False)

    @property
    def first(self) -> int | None:
        """The first signal; None if there was none."""
        return self.received[0] if self.received else None

    @contextlib.contextmanager
    def counted(self) -> Iterator[Signals]:
        """Collect signals while the block runs.

        SIGHUP counts only if it was sent on purpose: not if the terminal is gone, nor under ``nohup``.
        """
        before = {number: signal.getsignal(number) for number in (*STOPS, signal.SIGHUP, signal.SIGALRM)}
        self._had_terminal = _has_terminal()
        for number in STOPS:
            signal.signal(number, self._receive)
        if before[signal.SIGHUP] is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._hang_up)
        signal.signal(signal.SIGALRM, self._interrupt)
        try:
            yield self
        finally:
            # After a request the command is ending: one more Ctrl-C must not change its exit code.
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if self.received else handler)

    @contextlib.contextmanager
    def ending_the_block(self) -> Iterator[None]:
        """Leave the block at the first signal, because nothing has been started yet that must be stopped.

        Raises:
            Stopped: A signal was received.
        """
        try:
            try:
                self._ends_block = True
                if self.received:  # just before the block
                    raise _Interrupt
                yield
            finally:
                self._disarm()
        except KeyboardInterrupt:
            raise Stopped(self.first or signal.SIGINT) from None
        finally:
            # A library may have swallowed the interrupt, or turned it into another error.
            if self.received:
                raise Stopped(self.received[0]) from None

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """Delay the interrupt of ``ending_the_block`` until this block is done, so that what it starts is known."""
        self._disarm()
        yield
        self._ends_block = True
        if self.received:
            raise _Interrupt

    def _disarm(self) -> None:
        self._ends_block = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _hang_up(self, number: int, _: object) -> None:
        if not self._had_terminal or _has_terminal():
            self._receive(number, _)

    def _receive(self, number: int, _: object) -> None:
        # The first signal decides; more of them within a moment are the same request.
        now = time.monotonic()
        self._since = self._since if self.received else now
        self.is_urgent = self.is_urgent or now - self._since > BURST_SECONDS
        self.received.append(number)
        if self._ends_block and len(self.received) == 1:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)
            self._interrupt(number, _)

    def _interrupt(self, _: int, __: object) -> None:
        if self._ends_block:
            raise _Interrupt


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Hold back signals until after the block; a process started in it holds them back until it calls ``unblock``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOPS, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """Let through the signals that were held back since this process was started, and later ones."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOPS, signal.SIGHUP))


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Let the kernel send a signal to this process when its parent ends, none if it is 0; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _has_terminal() -> bool:
    """Return whether this process has a terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
