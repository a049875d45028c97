"""What the command line does before it calls anything, and what it makes of errors that are the machine's."""

from __future__ import annotations

import errno
import gc
import os

import pytest

from finesweep import cli
from finesweep.cli.internal import importing


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

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit, match=str(code)):
        cli.main()
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert advice in err


def test_any_other_error_is_a_bug_and_is_shown_in_full(monkeypatch):
    def app() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()
