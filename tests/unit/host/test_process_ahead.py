"""A process that is started ahead carries a command out like one that was started with it, or is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finesweep.host import process_ahead
from finesweep.host.process_ahead import ProcessAhead

STAND_IN = """
    import sys
    from finesweep.cli import internal, main
    internal.STARTED_AHEAD["worker"] = ("worker", "wait for the folder", ("imported_ahead",))
    main()
"""
Make = Callable[..., ProcessAhead]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path / "temporary")}


@pytest.fixture
def make(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Start a process ahead that imports some lines instead of PyTorch."""
    script = tmp_path / "stand_in.py"
    script.write_text(textwrap.dedent(STAND_IN), encoding="utf-8")
    monkeypatch.setattr(process_ahead, "own_command", lambda *words: [sys.executable, str(script), *words])
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    made: list[ProcessAhead] = []

    def start(lines: str = "") -> ProcessAhead:
        (tmp_path / "imported_ahead.py").write_text(lines, encoding="utf-8")
        made.append(ProcessAhead("worker", environment))
        return made[-1]

    yield start
    for ahead in made:
        ahead.end()
        ahead.process.kill()
        ahead.process.wait()
        ahead.temporary.cleanup()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"an earlier line\n")
    yield descriptor
    os.close(descriptor)


def words(*arguments: str) -> list[str]:
    return process_ahead.own_command(*arguments)


def said(tmp_path: Path) -> str:
    return (tmp_path / "log").read_text(encoding="utf-8")


def is_gone(ahead: ProcessAhead, tmp_path: Path) -> bool:
    return ahead.process.returncode is not None and not list((tmp_path / "temporary").iterdir())


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("ready", [True, False], ids=["when it has imported", "while it imports"])
def test_it_carries_a_command_out_with_what_it_has_printed_before_in_the_log(
    make: Make, environment, log, tmp_path: Path, ready
) -> None:
    waits = f"time.sleep({0 if ready else 0.5}); open({str(tmp_path / 'on')!r}, 'w').close()"
    ahead = make(f"import time; print('a warning'); {waits}")
    if ready:
        until((tmp_path / "on").exists)
    assert ahead.carry_out(words("leaderboard", str(tmp_path / "none")), environment, log)
    ahead.end()
    code = ahead.process.wait(60)
    alone = subprocess.run(
        words("leaderboard", str(tmp_path / "none")), env=environment, capture_output=True, text=True
    )
    assert code == alone.returncode != 0
    assert said(tmp_path) == f"an earlier line\na warning\n{alone.stdout}{alone.stderr}"


def test_it_is_the_leader_of_a_session_and_holds_the_files_until_it_ends(
    make: Make, environment, log, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    ahead = make()
    assert os.getsid(ahead.process.pid) == ahead.process.pid
    assert ahead.carry_out(words("--help"), environment, log, (writer,))
    os.close(writer)
    assert os.read(reader, 1) == b""  # the end of the pipe: nobody holds it any more
    os.close(reader)
    assert ahead.process.wait(60) == 0


@pytest.mark.parametrize("fits", [True, False])
def test_without_an_environment_it_keeps_its_own(make: Make, environment, log, tmp_path: Path, fits: bool) -> None:
    """A library that the parent imports may change the parent's environment, and not that of the child."""
    ahead = make()
    assert ahead.carry_out(words("--help"), None if fits else {**environment, "SET_BY_A_LIBRARY": "1"}, log) is fits


def test_a_module_that_cannot_be_imported_is_in_the_log(make: Make, environment, log, tmp_path: Path) -> None:
    ahead = make("raise ImportError('libtorch is broken')")
    assert ahead.carry_out(words("--help"), environment, log)
    assert ahead.process.wait(60) == 1
    assert "Traceback" in said(tmp_path)
    assert "libtorch is broken" in said(tmp_path)
    assert "Usage" not in said(tmp_path)


def test_with_another_environment_it_is_dropped(make: Make, environment, log, tmp_path: Path) -> None:
    ahead = make()
    assert not ahead.carry_out(words("--help"), {**environment, "OMP_NUM_THREADS": "7"}, log)
    assert is_gone(ahead, tmp_path)
    assert said(tmp_path) == "an earlier line\n"
    assert not ahead.carry_out(words("--help"), environment, log), "nor later"


def test_another_program_is_not_for_it(make: Make, environment, log, tmp_path: Path) -> None:
    ahead = make()
    assert not ahead.carry_out(["python3", *words("--help")[1:]], environment, log)
    assert is_gone(ahead, tmp_path)


def test_one_that_has_died_carries_nothing_out(make: Make, environment, log, tmp_path: Path) -> None:
    ahead = make("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    until(lambda: ahead.process.poll() is not None)
    assert not ahead.carry_out(words("--help"), environment, log)
    assert is_gone(ahead, tmp_path)


def test_one_that_no_longer_listens_carries_nothing_out(make: Make, environment, log, tmp_path: Path) -> None:
    ahead = make(
        f"import os, sys, time; os.close(int(sys.argv[-1])); open({str(tmp_path / 'on')!r}, 'w').close()\n"
        "time.sleep(600)"
    )
    until((tmp_path / "on").exists)
    assert not ahead.carry_out(words("--help"), environment, log)
    assert is_gone(ahead, tmp_path)


def test_one_that_cannot_be_started_leaves_no_folder(make: Make, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(process_ahead, "own_command", lambda *_: [str(tmp_path / "no-python")])
    with pytest.raises(FileNotFoundError) as caught:
        make()
    assert list((tmp_path / "temporary").iterdir()) == [], caught


AWAITS = """
    import ctypes, sys
    from finesweep.host import process_ahead
    from finesweep.host.signals import end_with_parent

    def signal_at_parents_end():
        found = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(found))  # PR_GET_PDEATHSIG
        return found.value

    end_with_parent()
    print(signal_at_parents_end())
    print(process_ahead.awaited(int(sys.argv[-1])), signal_at_parents_end())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends it")
def test_a_worker_at_work_outlives_its_parent_as_long_as_one_that_was_not_ahead(
    make: Make, environment, log, tmp_path: Path
) -> None:
    """It notices its parent's end by itself, and ends its trial in order."""
    (tmp_path / "stand_in.py").write_text(textwrap.dedent(AWAITS), encoding="utf-8")
    ahead = make()
    assert ahead.carry_out(words("--help"), environment, log)
    assert ahead.process.wait(60) == 0
    assert said(tmp_path) == "an earlier line\n9\n['--help'] 0\n"


def test_it_carries_out_one_command_and_is_then_out_of_reach(make: Make, environment, log) -> None:
    ahead = make()
    assert ahead.carry_out(words("--help"), environment, log)
    assert not ahead.carry_out(words("--help"), environment, log)
    ahead.end()
    assert ahead.process.wait(60) == 0


def test_it_is_killed_once_because_its_number_may_be_given_to_another_process(make: Make, monkeypatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda pid, number: (killed.append(pid), os.kill(pid, number)))
    ahead = make()
    ahead.end()
    ahead.end()
    assert killed == [ahead.process.pid]


def test_its_end_takes_what_it_has_started(make: Make, tmp_path: Path) -> None:
    ahead = make(
        "import subprocess, sys; s = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{s.pid}} '); s.wait()"
    )
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith(" "))
    ahead.end()
    assert is_gone(ahead, tmp_path)
    until(lambda: not _is_running(int((tmp_path / "pid").read_text())))


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


PARENT = """
    import sys, time
    from finesweep.host import process_ahead
    process_ahead.own_command = lambda *words: [sys.executable, sys.argv[1], *words]
    import os
    print(process_ahead.ProcessAhead("worker", os.environ).process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends it")
@pytest.mark.parametrize("imports", ["import time; time.sleep(600)", ""], ids=["while it imports", "while it waits"])
def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path, environment, imports) -> None:
    (tmp_path / "stand_in.py").write_text(textwrap.dedent(STAND_IN), encoding="utf-8")
    on = f"open({str(tmp_path / 'on')!r}, 'w').close()\n"
    (tmp_path / "imported_ahead.py").write_text(on + imports, encoding="utf-8")
    (tmp_path / "temporary").mkdir()
    command = [sys.executable, "-c", textwrap.dedent(PARENT), str(tmp_path / "stand_in.py")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        until((tmp_path / "on").exists)
        parent.send_signal(signal.SIGKILL)
    until(lambda: not _is_running(pid), 10)
