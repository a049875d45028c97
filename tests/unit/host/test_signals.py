"""Signals to a command: which count, when they end a block, and what a terminal that closes does."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from finesweep.errors import SpecError, Stopped
from finesweep.host import signals as module
from finesweep.host.signals import STOPS, Signals

ALL = (*STOPS, signal.SIGHUP)


@pytest.fixture(autouse=True)
def terminal(handlers: None) -> None:
    """Give every test the signals as a terminal's shell does."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def leave(signals: Signals, number: int) -> None:
    with signals.ending_the_block():
        signal.raise_signal(number)
        pytest.fail("the block went on")


@pytest.mark.parametrize("number", ALL)
def test_a_signal_ends_a_block_in_which_nothing_runs_yet_and_is_counted_afterwards(number):
    before = [signal.getsignal(one) for one in ALL]
    with Signals().counted() as signals:
        with pytest.raises(Stopped, match=r"^stopped by .* before anything was begun$") as caught:
            leave(signals, number)
        assert caught.value.exit_code == 128 + number
        signal.raise_signal(number)
        assert signals.received == [number, number]
        with pytest.raises(Stopped, match="stopped by"), signals.ending_the_block():
            pytest.fail("a signal that came before the block was not seen")
    for one, handler in zip(ALL, before, strict=True):
        assert signal.getsignal(one) is signal.SIG_IGN, "the command is on its way out"
        signal.signal(one, handler)


INSIDE_EXEC = """
import sys
from finesweep.errors import Stopped
from finesweep.host.signals import Signals

try:
    with Signals().counted() as signals, signals.ending_the_block():
        exec("import signal; signal.raise_signal(signal.SIGTERM)")
except Stopped as stopped:
    sys.exit(stopped.exit_code)
"""


def test_a_signal_inside_an_exec_gives_the_same_exit_code(tmp_path: Path) -> None:
    """Dataclasses are made by one, so most imports have it; with `python -m`, Python would end itself by SIGINT."""
    (tmp_path / "inside_exec.py").write_text(INSIDE_EXEC)
    assert subprocess.run([sys.executable, "-m", "inside_exec"], cwd=tmp_path, check=False).returncode == 143


def test_without_a_signal_everything_is_as_it_was():
    before = [signal.getsignal(one) for one in ALL]
    with Signals().counted() as signals, signals.ending_the_block():
        assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL
    assert [signal.getsignal(one) for one in ALL] == before


def within(signals: Signals, body: Callable[[], object]) -> None:
    with signals.ending_the_block():
        body()


def put_away_under_fire(left: list[str]) -> None:
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        for number in ALL:
            signal.raise_signal(number)
        left.append("everything put away")


def swallow(number: int, then: Callable[[], object]) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(number)
    then()


def translate(number: int) -> None:
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        raise SpecError([]) from None


def sleep_on() -> None:
    time.sleep(5)
    pytest.fail("the block went on")


def test_more_signals_while_a_block_is_left_do_not_disturb_it():
    left: list[str] = []
    with Signals().counted() as signals, pytest.raises(Stopped, match="SIGTERM") as caught:
        within(signals, lambda: put_away_under_fire(left))
    assert left
    assert caught.value.exit_code == 128 + signal.SIGTERM


def test_an_interrupt_that_a_library_swallowed_still_ends_the_command():
    with Signals().counted() as signals, pytest.raises(Stopped, match="SIGTERM"):
        within(signals, lambda: swallow(signal.SIGTERM, list))


def test_a_block_that_goes_on_after_its_interrupt_is_interrupted_again(monkeypatch):
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.05)
    with Signals().counted() as signals, pytest.raises(Stopped, match="Ctrl-C"):
        within(signals, lambda: swallow(signal.SIGINT, sleep_on))


def test_a_signal_decides_where_a_library_made_another_error_of_it():
    with Signals().counted() as signals, pytest.raises(Stopped, match="Ctrl-C"):
        within(signals, lambda: translate(signal.SIGINT))


def test_a_terminal_that_is_gone_is_no_request_to_stop(monkeypatch):
    there = [True]
    monkeypatch.setattr(module, "_has_terminal", lambda: there[0])
    with Signals().counted() as signals:
        there[0] = False
        signal.raise_signal(signal.SIGHUP)
        assert signals.received == []
        there[0] = True
        signal.raise_signal(signal.SIGHUP)
        assert signals.received == [signal.SIGHUP]


@pytest.mark.parametrize("number", module.STOPS)
def test_signals_that_were_ignored_at_the_start_are_received(number):
    signal.signal(number, signal.SIG_IGN)
    with Signals().counted() as signals:
        signal.raise_signal(number)
    assert signals.received == [number]


def test_nohup_keeps_sighup_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Signals().counted() as signals:
        signal.raise_signal(signal.SIGHUP)
        assert signals.received == []


@pytest.mark.parametrize(("pause", "is_urgent"), [(0.02, False), (0.3, True)])
def test_only_a_repeated_request_is_urgent(pause, is_urgent, clock):
    with Signals().counted() as signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
            clock(pause)
        signal.raise_signal(signal.SIGINT)
        assert (signals.first, signals.is_urgent) == (signal.SIGINT, is_urgent)
