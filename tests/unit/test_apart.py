"""Steps in a process of their own: what comes back, and what is said where nothing does."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess as Process
from pathlib import Path

import pytest

from finesweep import apart as apart_module
from finesweep import ownership
from finesweep.apart import Apart, Elsewhere, Link
from finesweep.errors import LaunchError, Problem, RunDirError, SpecError

WHAT = "the process that counts"


def heard(steps: Callable[[Link], None]) -> object:
    with Apart(WHAT, steps) as apart:
        return apart.hear()


def test_what_a_step_finds_comes_back_and_what_it_imports_does_not() -> None:
    module = "wave"  # of no use to anybody here
    assert module not in sys.modules

    def steps(link: Link) -> None:
        import wave

        link.tell((wave.__name__, os.getpid()))

    name, pid = heard(steps)
    assert name == module
    assert pid != os.getpid()
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SpecError([Problem("a.yaml:1", "no", "yes"), Problem("a.yaml:2", "nor this")]), r"a.yaml:1: no \(yes\)"),
        (RunDirError("the folder is gone"), "the folder is gone"),
        (LaunchError("it refused", ["sweep", "worker"], "words"), "it refused"),
        (ownership.InUse(Path("results/a"), "host b, pid 1"), "is in use by another `sweep run`: host b"),
        (FileNotFoundError(2, "No such file or directory", "a.csv"), r"\[Errno 2\] No such file or directory: 'a.csv'"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
    ],
)
def test_an_error_is_raised_here_as_it_was_there_with_its_traceback(error: Exception, message: str) -> None:
    def steps(link: Link) -> None:
        raise error

    with pytest.raises(type(error), match=message) as caught:
        heard(steps)
    raised, cause = caught.value, caught.value.__cause__
    assert vars(raised).keys() >= vars(error).keys() - {"__notes__"}
    assert [vars(raised)[name] for name in vars(error)] == list(vars(error).values())
    assert isinstance(cause, Elsewhere)
    assert "in steps" in str(cause)
    assert "raise error" in str(cause)


def test_whoever_is_killed_for_memory_is_said_to_be() -> None:
    said = r"^the process that counts was killed by SIGKILL; this is mostly the system, when memory runs out$"
    with pytest.raises(LaunchError, match=said):
        heard(lambda _: os.kill(os.getpid(), signal.SIGKILL))


def test_another_end_is_named_by_its_signal() -> None:
    with pytest.raises(LaunchError, match=r"^the process that counts was killed by SIGTERM$"):
        heard(lambda _: os.kill(os.getpid(), signal.SIGTERM))


def test_what_nobody_foresaw_is_told_by_the_process_itself(capfd: pytest.CaptureFixture[str]) -> None:
    def steps(link: Link) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(SystemExit, match="1") as caught:
        heard(steps)
    assert caught.value.code == 1
    assert "ZeroDivisionError: a bug" in capfd.readouterr().err


def test_an_interrupt_there_is_one_here_and_nobody_says_so_twice(capfd: pytest.CaptureFixture[str]) -> None:
    def steps(link: Link) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        heard(steps)
    assert caught.value.__cause__ is None
    assert capfd.readouterr().err == ""


def test_who_waits_to_be_told_something_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart_module, "END_SECONDS", 60.0)

    def steps(link: Link) -> None:
        link.tell(os.getpid())
        link.hear()
        link.tell("never")

    began = time.monotonic()
    pid = heard(steps)
    assert time.monotonic() - began < 30, "it was killed when its time was up"
    with pytest.raises(ProcessLookupError, match="No such process"):
        os.kill(pid, 0)


def test_who_is_busy_when_the_block_is_left_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart_module, "END_SECONDS", 0.2)

    def steps(link: Link) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        link.tell(os.getpid())
        time.sleep(60)

    with contextlib.suppress(ValueError), Apart(WHAT, steps) as apart:
        pid = apart.hear()
        raise ValueError("the block has failed")
    with pytest.raises(ProcessLookupError, match="No such process"):
        os.kill(pid, 0)


def test_a_lock_that_is_handed_over_is_held_until_both_have_let_go(tmp_path: Path) -> None:
    """The command may be killed while the other process still writes into the folder."""
    folder, is_done = tmp_path / "sweep", tmp_path / "done"

    def steps(link: Link) -> None:
        link.hear()
        link.tell("held")
        while not is_done.exists():
            time.sleep(0.01)
        link.hear()

    with Apart(WHAT, steps) as apart:
        with ownership.held(folder) as lock:
            apart.tell("hold this", lock)
            assert apart.hear() == "held"
        assert ownership.owner(folder) is not None
        is_done.touch()
    assert ownership.owner(folder) is None


def test_a_signal_that_comes_with_the_fork_leaves_no_process_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept until the process can be ended; else the command waited at its exit until all was checked."""
    started: list[int] = []
    real = Process.start

    def start(process: Process) -> None:
        signal.raise_signal(signal.SIGINT)
        real(process)
        started.append(process.pid)

    monkeypatch.setattr(Process, "start", start)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Apart(WHAT, lambda _: time.sleep(60))
    finally:
        signal.signal(signal.SIGINT, before)
    (pid,) = started
    with pytest.raises(ProcessLookupError, match="No such process"):
        os.kill(pid, 0)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
