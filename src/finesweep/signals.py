"""Owns the signals that a user sends to `sweep run`: counted, and acted upon by whoever is in charge."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

from finesweep.errors import Stopped


@dataclass
class Signals:
    """Counts Ctrl-C and signals to stop; whoever supervises decides what follows."""

    received: list[int] = field(default_factory=list)
    _ends_block: bool = field(default=False, init=False)

    @contextlib.contextmanager
    def counted(self) -> Iterator[Signals]:
        """Count signals for as long as the block runs, also where the caller had them ignored.

        A lost terminal does not end a sweep.
        """
        stops = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        before = {number: signal.getsignal(number) for number in (*stops, signal.SIGHUP)}
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in stops:
            signal.signal(number, self._receive)
        try:
            yield self
        finally:
            # Once told to stop, the command is on its way out: one more Ctrl-C must not spoil its exit code.
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if self.received else handler)

    @contextlib.contextmanager
    def ending_the_block(self) -> Iterator[None]:
        """Leave the block at the first signal: nothing runs yet that had to be stopped.

        Raises:
            Stopped: There was one.
        """
        self._ends_block = True
        try:
            if self.received:  # a moment ago
                raise KeyboardInterrupt
            yield
        except KeyboardInterrupt:
            raise Stopped(self.received[0] if self.received else signal.SIGINT) from None
        finally:
            self._ends_block = False

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """Within ``ending_the_block``, finish this first: whoever ends the block must know what was begun here."""
        self._ends_block = False
        yield
        self._ends_block = True
        if self.received:
            raise KeyboardInterrupt

    def _receive(self, number: int, _: object) -> None:
        self.received.append(number)
        if self._ends_block:
            raise KeyboardInterrupt  # which libraries let pass, unlike other exceptions
