"""What the command line does before it calls anything, and what it makes of errors that are the machine's."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from finesweep import __version__
from finesweep.cli import command_line
from finesweep.cli.app import found_folder
from finesweep.cli.internal import importing, seek_garbage_rarely
from finesweep.errors import FolderError


def test_garbage_is_collected_again_after_imports_even_failed_ones() -> None:
    try:
        with importing():
            assert not gc.isenabled()
        assert gc.isenabled()
        with pytest.raises(ImportError, match="broken"), importing():
            raise ImportError("broken")
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0, "what was imported is looked at in every collection"
    finally:
        gc.unfreeze()


def test_garbage_of_imports_is_sought_rarely_and_yet_collected() -> None:
    usual = gc.get_threshold()
    try:
        seek_garbage_rarely()
        before = gc.get_stats()[0]["collections"]
        for _ in range(10 * usual[0]):
            loop: list[object] = []
            loop.append(loop)
        assert gc.get_stats()[0]["collections"] - before <= 1
        for _ in range(200_000):
            loop = []
            loop.append(loop)
        assert gc.get_stats()[0]["collections"] - before >= 2
    finally:
        gc.set_threshold(*usual)


def test_a_process_seeks_no_garbage_at_its_end() -> None:
    """What is registered first is called last: after everything was frozen, and before Python seeks garbage."""
    code = (
        "import atexit, gc, sys; atexit.register(lambda: print(gc.get_freeze_count())); sys.argv = ['sweep', '-V']; "
        "from finesweep.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, frozen = done.stdout.split("\n")[:2]
    assert version == f"finesweep {__version__}"
    assert int(frozen) > 10_000


@pytest.mark.parametrize(
    ("error", "code", "advice"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/results/a"), 2, "/results/a: the disk is full"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), 3, "Too many open files: raise the limit (ulimit -n)"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 3, "ulimit -u"),
        (RuntimeError("can't start new thread"), 3, "can't start new thread: raise the limit of processes (ulimit -u)"),
    ],
)
def test_what_the_system_has_no_more_of_is_named_without_a_traceback(monkeypatch, capsys, error, code, advice):
    def app() -> None:
        raise error

    monkeypatch.setattr(command_line, "app", app)
    with pytest.raises(SystemExit, match=str(code)):
        command_line.main()
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert advice in err


def test_any_other_error_is_a_bug_and_is_shown_in_full(monkeypatch):
    def app() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(command_line, "app", app)
    with pytest.raises(RuntimeError, match="a bug"):
        command_line.main()


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_needs_no_command(option):
    result = CliRunner().invoke(command_line.app, [option])
    assert (result.exit_code, result.output) == (0, f"finesweep {__version__}\n")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_may_stand_anywhere(place, monkeypatch, tmp_path):
    monkeypatch.setenv("FINESWEEP_DEBUG", "")
    words = ["status", str(tmp_path / "none")]
    words.insert(place, "--debug")
    assert isinstance(CliRunner().invoke(command_line.app, words).exception, FolderError)
    assert os.environ["FINESWEEP_DEBUG"] == "1"


def test_debug_after_two_dashes_is_a_name(monkeypatch):
    monkeypatch.setenv("FINESWEEP_DEBUG", "")
    result = CliRunner().invoke(command_line.app, ["status", "--", "--debug"])
    assert isinstance(result.exception, FolderError)
    assert os.environ["FINESWEEP_DEBUG"] == ""


def test_a_sweep_is_found_by_its_name_in_results(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("results/bert", "bert", "results/other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "results/bert/spec.json").touch()
    assert found_folder(Path("bert")) == Path("results/bert"), "a folder that is no sweep's hides none"
    assert found_folder(Path("other")) == Path("other"), "what is reported as missing is what was asked for"
    assert found_folder(Path("results/bert")) == Path("results/bert")
    (tmp_path / "bert/spec.json").touch()
    assert found_folder(Path("bert")) == Path("bert"), "the path comes first"


def test_the_shell_completes_commands(monkeypatch):
    monkeypatch.setenv("_SWEEP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "sweep lea")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert CliRunner().invoke(command_line.app, [], prog_name="sweep").output.split() == ["leaderboard"]
