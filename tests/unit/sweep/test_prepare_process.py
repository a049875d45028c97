"""The process that checks and prepares: what it answers, what is said where it does not, and who holds the lock."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from finesweep.errors import LaunchError, Stopped
from finesweep.folder import sweep_lock
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.host.signals import Signals
from finesweep.launch.local import WorkerPlace
from finesweep.sweep import prepare_process
from finesweep.sweep.prepare_process import Begun
from finesweep.sweep.request import Request

REQUEST = Request(Path("spec.yaml"), overrides=("a=1",), workers=2)
Does = Callable[[str], None]


def begin_run(request: Request, signals: Signals) -> tuple[object, int | None]:
    with prepare_process.started(request, signals) as preparation:
        return preparation.opened()


@pytest.fixture
def does(monkeypatch: pytest.MonkeyPatch) -> Does:
    """Let the process carry out some lines instead; they have ``command``, its socket, and the line it was sent."""

    def set_lines(lines: str) -> None:
        head = """
            import os, signal, socket, sys, time
            command = socket.socket(fileno=int(sys.argv[1]))
            line = command.makefile().readline()
        """
        code = textwrap.dedent(head) + textwrap.dedent(lines)
        monkeypatch.setattr(prepare_process, "own_command", lambda _, fd: [sys.executable, "-c", code, fd])

    return set_lines


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Begun]:
    """Keep the answers instead of opening the folders that they name."""
    answers: list[Begun] = []
    monkeypatch.setattr(Begun, "opened", lambda answer: answers.append(answer))
    return answers


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the process ids of what is started."""
    pids: list[int] = []

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            pids.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return pids


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


ANSWER = """command.sendall(b' {"folder": "/r/s", "run": 3, "token": "t", "notes": ["moved"]}\\n')"""


def test_the_request_arrives_and_the_answer_comes_back(does: Does, opened: list[Begun], tmp_path: Path) -> None:
    does(f"open({str(tmp_path / 'line')!r}, 'w').write(line); {ANSWER}")
    assert begin_run(REQUEST, Signals()) == (None, None)
    assert opened == [Begun("/r/s", 3, "t", ["moved"])]
    assert Request.from_json((tmp_path / "line").read_text()) == REQUEST


def test_an_answer_may_come_in_pieces(does: Does, opened: list[Begun]) -> None:
    does(f"{ANSWER.replace('command.sendall', 'text = ')}\nfor byte in text: command.sendall(bytes([byte]))")
    begin_run(REQUEST, Signals())
    assert [answer.run for answer in opened] == [3]


@pytest.mark.parametrize(
    "request_",
    [Request(Path("a\udcff.yaml"), results=Path("/r é"), profile=Path("p.yaml")), Request(Path("a"), fresh=True)],
)
def test_a_request_is_the_same_in_another_process(request_: Request) -> None:
    line = request_.to_json()
    assert "\n" not in line
    assert line.isascii()
    assert Request.from_json(line) == request_


def test_a_process_that_is_killed_for_memory_is_said_to_be(does: Does) -> None:
    does("os.kill(os.getpid(), signal.SIGKILL)")
    said = (
        r"^the process that checks and prepares was killed by SIGKILL; this is mostly the system, when memory runs out$"
    )
    with pytest.raises(LaunchError, match=said):
        begin_run(REQUEST, Signals())


def test_another_end_is_named_by_its_signal(does: Does) -> None:
    does("os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(LaunchError, match=r"^the process that checks and prepares was killed by SIGSEGV$"):
        begin_run(REQUEST, Signals())


@pytest.mark.parametrize("code", [1, 2, 143])
def test_a_process_that_has_failed_has_said_why(does: Does, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    does(f"sys.exit({code})")
    with pytest.raises(SystemExit, match=str(code)) as ended:
        begin_run(REQUEST, Signals())
    assert ended.value.code == code
    assert capfd.readouterr() == ("", "")


def test_an_end_without_an_answer_is_no_success(does: Does) -> None:
    does("command.sendall(b' {'); sys.exit(0)")
    with pytest.raises(SystemExit, match="1"):
        begin_run(REQUEST, Signals())


def test_the_first_signal_is_passed_on(does: Does, started: list[int]) -> None:
    """The process clears up and says itself that it was stopped."""
    unblocked = "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1]); time.sleep(60)"
    does(f"signal.signal(signal.SIGUSR1, lambda *_: sys.exit(138)); {unblocked}")
    with pytest.raises(SystemExit, match="138"):
        begin_run(REQUEST, Signals([signal.SIGUSR1, signal.SIGTERM]))
    assert is_gone(*started)


def test_a_process_that_does_not_end_after_a_signal_is_killed(
    does: Does, started: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_process, "END_SECONDS", 0.2)
    does("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); time.sleep(60)")
    began = time.monotonic()
    with pytest.raises(Stopped, match="stopped by Ctrl-C before anything was begun"):
        begin_run(REQUEST, Signals([signal.SIGINT]))
    assert time.monotonic() - began < 50
    assert is_gone(*started)


def test_a_run_that_was_begun_when_the_signal_came_is_answered(does: Does, opened: list[Begun]) -> None:
    """The command then ends it as it ends every run."""
    does(f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {ANSWER}")
    begin_run(REQUEST, Signals([signal.SIGTERM]))
    assert len(opened) == 1


def test_a_signal_that_comes_with_the_start_finds_the_process(does: Does, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept for both: the new process gets it when it can clear up, and the command knows of that process."""
    started: list[tuple[int, bool]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: object, **options: object) -> None:
            signal.raise_signal(signal.SIGINT)
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            started.append((self.pid, signal.SIGINT in signal.sigpending()))

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    does("sys.exit(130 if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()) else 1)")
    with Signals().counted() as signals, pytest.raises(SystemExit, match="130"):
        begin_run(REQUEST, signals)
    ((pid, was_pending),) = started
    assert was_pending
    assert is_gone(pid)


def test_the_lock_is_held_without_a_gap_and_no_child_inherits_it(
    does: Does, opened: list[Begun], tmp_path: Path
) -> None:
    """The process takes it and ends; the command holds it, and hands it on only where it means to."""
    folder = tmp_path / "results" / "sweep"
    does(f"""
        from finesweep.folder import sweep_lock
        from pathlib import Path
        with sweep_lock.held(Path({str(folder)!r}), {os.getpid()}) as lock:
            socket.send_fds(command, [b' '], [lock])
            {ANSWER}
    """)
    _, lock = begin_run(REQUEST, Signals())
    assert lock is not None
    assert not os.get_inheritable(lock)
    present = sweep_lock.owner(folder)
    assert present is not None
    assert f"pid {os.getpid()}," in present
    with pytest.raises(sweep_lock.InUse, match="is in use"):
        sweep_lock.refuse_owned(folder)
    os.close(lock)
    assert sweep_lock.owner(folder) is None


def test_the_lock_is_not_free_while_either_process_lives(tmp_path: Path) -> None:
    """The command may be killed while the other process still writes into the folder."""
    ours, theirs = socket.socketpair()
    with ours, theirs, sweep_lock.held(tmp_path / "sweep") as lock:
        socket.send_fds(theirs, [b" "], [lock])
        _, (passed,), *_ = socket.recv_fds(ours, 1, 1)
    assert sweep_lock.owner(tmp_path / "sweep") is not None
    os.close(passed)
    assert sweep_lock.owner(tmp_path / "sweep") is None


def test_an_answer_that_nothing_reads_is_no_error(tmp_path: Path) -> None:
    """The command was killed a moment ago."""
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        run = SimpleNamespace(number=1, token="")
        prepare_process._send(theirs, SimpleNamespace(sweep_folder=SweepFolder(tmp_path), run=run))  # type: ignore[arg-type]


def test_the_process_is_started_before_what_the_command_needs_later_is_imported():
    code = "import sys, finesweep.sweep.prepare_process; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"finesweep.folder", "finesweep.spec", "finesweep.sweep.open_sweep", "pydantic"}.isdisjoint(
        done.stdout.split()
    )


PLACE = """command.sendall(b'places [{"device": "", "threads": 3, "all_devices": false}]\\n')"""


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note the places of workers that are started ahead, and their ends, instead of starting them."""
    noted: list[object] = []

    class Ahead:
        def end(self) -> None:
            noted.append("ended")

    def start(place: WorkerPlace) -> Ahead:
        noted.append(place)
        return Ahead()

    monkeypatch.setattr(WorkerPlace, "worker_ahead", start)
    return noted


@pytest.mark.parametrize("between", ["time.sleep(0.2)", ""], ids=["apart", "together"])
def test_a_worker_is_started_as_soon_as_its_place_is_known(
    does: Does, ahead: list[object], monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    sweep = SimpleNamespace(workers_ahead=())
    monkeypatch.setattr(Begun, "opened", lambda _: sweep)
    does("\n".join([PLACE, between, ANSWER]))
    with prepare_process.started(REQUEST, Signals()) as preparation:
        assert preparation.opened() == (sweep, None)
        assert ahead == [WorkerPlace("", 3)]
        assert sweep.workers_ahead is preparation.workers_ahead
        assert len(preparation.workers_ahead) == 1
    assert ahead == [WorkerPlace("", 3), "ended"]


def places(*threads: int) -> str:
    """Return the line of code that sends places with these numbers of threads."""
    listed = ", ".join(f'{{"device": "", "threads": {number}, "all_devices": false}}' for number in threads)
    return f"command.sendall(b'places [{listed}]\\n')"


def test_others_may_follow_in_the_same_packet(does: Does, opened: list[Begun], ahead: list[object]) -> None:
    both = " + ".join(line.removeprefix("command.sendall") for line in (places(3), places(3, 3)))
    does("\n".join([f"command.sendall({both}); time.sleep(0.2)", ANSWER]))
    with pytest.raises(AttributeError):  # `opened` has no sweep for them
        begin_run(REQUEST, Signals())
    assert len(opened) == 1
    assert ahead == [WorkerPlace("", 3)] * 2 + ["ended"] * 2


def test_those_for_which_the_model_leaves_no_memory_are_ended(
    does: Does, opened: list[Begun], ahead: list[object]
) -> None:
    does("\n".join([places(1, 2, 3), "time.sleep(0.2)", places(1), places(), places(), places(4), ANSWER]))
    with pytest.raises(AttributeError):  # `opened` has no sweep for them
        begin_run(REQUEST, Signals())
    started = [WorkerPlace("", threads) for threads in (1, 2, 3)]
    assert ahead == [*started, "ended", "ended", "ended", WorkerPlace("", 4), "ended"]


def test_it_is_gone_when_the_check_has_found_a_problem(does: Does, ahead: list[object]) -> None:
    does(f"{PLACE}; sys.exit(2)")
    with pytest.raises(SystemExit, match="2"):
        begin_run(REQUEST, Signals())
    assert ahead == [WorkerPlace("", 3), "ended"]


def test_after_a_signal_none_is_started(does: Does, opened: list[Begun], ahead: list[object]) -> None:
    does(f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {PLACE}; {ANSWER}")
    begin_run(REQUEST, Signals([signal.SIGTERM]))
    assert (len(opened), ahead) == (1, [])


def test_a_place_that_nothing_reads_is_no_error() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        prepare_process._tell_places(theirs, [WorkerPlace("", 1)])


def test_places_are_told_on_a_line_also_if_there_is_none_any_more() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        prepare_process._tell_places(theirs, [WorkerPlace("", 1)])
        prepare_process._tell_places(theirs, [])
        assert ours.recv(1_000) == b'places [{"device": "", "threads": 1, "all_devices": false}]\nplaces []\n'
