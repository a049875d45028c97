"""What a process is doing reaches the terminal, the command or the log."""

from __future__ import annotations

import os
import pty
import re
import sys
import time

from finesweep import activity
from finesweep.display.activity_line import ActivityLine


def test_the_innermost_listener_hears_and_silence_is_fine() -> None:
    outer: list[str] = []
    inner: list[str] = []
    activity.tell("lost")
    with activity.heard_by(outer.append):
        activity.tell("a")
        with activity.heard_by(inner.append):
            activity.tell("b")
        activity.tell("c")
    activity.tell("lost")
    assert (outer, inner) == (["a", "c"], ["b"])


def test_a_log_ends_with_an_activity_or_with_something_else(tmp_path, capsys) -> None:
    activity.log("")
    activity.log("rehearsing")
    log = tmp_path / "log"
    log.write_text(f"a warning\n{capsys.readouterr().out}")
    assert activity.last_logged(log) == "rehearsing"
    log.write_text("... rehearsing\nerror: no memory\n")
    assert activity.last_logged(log) == ""
    log.write_bytes(b"x" * 10_000 + b"\n... half \xff\n")
    assert activity.last_logged(log) == "half \ufffd"
    assert activity.last_logged(tmp_path / "none") == ""


def test_a_terminal_shows_the_activity_and_its_seconds(monkeypatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(theirs, "w", buffering=1) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        with ActivityLine() as line:
            line.show("reading [a].csv\x1b[31m")
            line.show("tokenising train: 0 of 10 rows")
            line.show("tokenising train: 5 of 10 rows")
            time.sleep(0.6)
        shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(ours, 65_536).decode())
    os.close(ours)
    assert re.search(r"reading \[a\]\.csv 0:00:0\d", shown)
    assert "tokenising train: 5 of 10 rows" in shown


def test_what_is_no_terminal_shows_nothing(capsys) -> None:
    with ActivityLine() as line:
        line.show("reading a.csv")
    assert capsys.readouterr() == ("", "")
