from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from made_records import FAILED, record, running
from rich.console import Console

from finesweep.display.display import Display, LiveDisplay, PlainDisplay, _Terminal, open_display
from finesweep.display.progress_lines import Subject
from finesweep.trial import Direction

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")


class Closed(io.StringIO):
    """A stream whose reader has gone away."""

    def __init__(self, error: type[OSError], after: int) -> None:
        super().__init__()
        self.error, self.left = error, after

    def write(self, text: str) -> int:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().write(text)


def terminal(file: io.StringIO | None = None, **environment: str) -> Console:
    settings = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "24", **environment}
    return _Terminal(file=file or io.StringIO(), force_terminal=True, color_system="standard", _environ=settings)


def display_on(console: Console, **options: Any) -> Display:
    subject = Subject("sst2", Direction.MINIMIZE, "eval_loss", 20, ["learning_rate", "num_train_epochs"], None)
    return open_display(dataclasses.replace(subject, **options), console)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_terminals_get_the_live_table_and_others_lines() -> None:
    assert isinstance(display_on(terminal()), LiveDisplay)
    assert isinstance(display_on(terminal(TERM="dumb")), PlainDisplay)
    assert isinstance(display_on(Console(file=io.StringIO(), _environ={})), PlainDisplay)


def test_forced_colours_do_not_make_a_pipe_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    display = open_display(Subject("sst2", Direction.MINIMIZE, "eval_loss", 1, [], None))
    assert isinstance(display, PlainDisplay)


def test_plain_lines_one_for_each_change() -> None:
    console = Console(file=io.StringIO(), width=40, _environ={})
    with display_on(console) as display:
        display.update([], [])
        display.update([], [running(0)])
        display.update([], [running(0, step=200)])
        display.note("a remark\nof two lines")
        display.update([record(0, 0.5)], [running(1)])
    params = "  learning_rate=3.2e-05 num_train_epochs=3"
    assert text_of(console).splitlines() == [
        "sst2: 20 trials, minimize eval_loss",
        f"[0/20] trial 0 RUNNING{params}",
        "a remark",
        "of two lines",
        f"[1/20] trial 0 COMPLETE eval_loss 0.5000 (best so far) in 42 s{params}",
        f"[1/20] trial 1 RUNNING{params}",
    ]


def test_what_earlier_runs_did_is_told_in_one_line() -> None:
    console = Console(file=io.StringIO(), _environ={})
    with display_on(console) as display:
        display.update([record(0, 0.5), record(1, 0.4)], [])
        display.update([record(0, 0.5), record(1, 0.4)], [])
    assert text_of(console).splitlines()[1:] == ["[2/20] by earlier runs  best 0.4000, trial 1"]


def test_plain_lines_hold_no_escape_codes() -> None:
    console = Console(file=io.StringIO(), _environ={})
    with display_on(console) as display:
        display.note("\x1b[31m[red]note[/]\x07")
        display.update([], [])
        display.update([record(0, None, FAILED, reason="\x1b]0;title\x07boom\r")], [])
    text = text_of(console)
    assert "[red]note[/]" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


def test_the_live_table_shows_trials_and_goes_away() -> None:
    console = terminal()
    with display_on(console) as display:
        display.update([], [])
        display.update([record(0, 0.4321)], [running(1)])
        drawn = text_of(console)
        assert "0.4321" in drawn
        assert "100/400" in drawn
        assert "\x1b[?25l" in drawn
    left = text_of(console).removeprefix(drawn)
    assert "\x1b[?25h" in left
    assert left.rstrip().endswith("\x1b[2K")


def test_the_live_table_tells_failures_and_notes_above() -> None:
    console = terminal()
    with display_on(console) as display:
        display.update([], [])
        display.note("[red]a note[/]")
        display.update([record(0, None, FAILED, reason="[bold]boom[/]"), record(1, 0.5)], [])
    text = text_of(console)
    assert "[red]a note[/]" in text
    assert "[1/20] trial 0 FAILED in 42 s: [bold]boom[/] (logs/trial-0000.log)" in text
    assert "trial 1 COMPLETE" not in text


def test_no_color_is_honoured() -> None:
    texts = []
    for environment in ({}, {"NO_COLOR": "1"}):
        console = terminal(**environment)
        with display_on(console) as display:
            display.update([record(0, 0.5)], [running(1)])
        texts.append(text_of(console))
    assert COLOUR.search(texts[0])
    assert not COLOUR.search(texts[1])


@pytest.mark.parametrize("columns", ["1", "20", "40"])
def test_the_live_table_stands_narrow_terminals(columns: str) -> None:
    console = terminal(COLUMNS=columns, LINES="5")
    with display_on(console) as display:
        display.update([record(n, 0.5) for n in range(30)], [running(31)])
    assert "eval" in text_of(console) or columns == "1"


@pytest.mark.parametrize("error", [BrokenPipeError, OSError])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_display_that_goes_away_falls_silent(error: type[OSError], after: int) -> None:
    streams = sys.stdout, sys.stderr
    for console in (Console(file=Closed(error, after), _environ={}), terminal(Closed(error, after))):
        with display_on(console) as display:
            display.update([], [])
            for trial in range(5):
                display.update([record(n, 0.5) for n in range(trial)], [running(trial)])
                display.note("still here")
    assert (sys.stdout, sys.stderr) == streams


def test_after_the_first_failure_nothing_more_is_tried() -> None:
    stream = Closed(OSError, after=1)
    with display_on(Console(file=stream, _environ={})) as display:
        display.note("fails")
        stream.left = 100
        display.note("would work again")
    assert stream.getvalue() == "sst2: 20 trials, minimize eval_loss\n"


def test_a_closed_stream_falls_silent() -> None:
    file = io.StringIO()
    with display_on(Console(file=file, _environ={})) as display:
        file.close()
        display.note("nobody hears this")


def test_an_error_in_the_sweep_leaves_the_terminal_as_it_was() -> None:
    console = terminal()
    with contextlib.suppress(RuntimeError), display_on(console) as display:
        display.update([], [running(0)])
        raise RuntimeError("boom")
    assert "\x1b[?25h" in text_of(console)


SCRIPT = """
import sys, time
from finesweep.display.display import open_display
from finesweep.display.progress_lines import Subject
from finesweep.trial import Direction
with open_display(Subject("s", Direction.MINIMIZE, "m", 3, [], None)) as display:
    for number in range(200):
        display.note(f"line {number} Größe")
        time.sleep(0.001)
print("the sweep went on")
print("and came to its end", file=sys.stderr)
"""


def test_a_pipe_that_is_closed_does_not_end_the_program() -> None:
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "s: 3 trials, minimize m\n"
        process.stdout.close()
        assert process.stderr.read() == "and came to its end\n"
    assert process.returncode == 0


@pytest.mark.parametrize("redirection", [">&-", "| cat"])
def test_odd_standard_outputs_do_not_end_the_program(redirection: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "COLUMNS": "1"}
    command = f'"$0" -c "$1" {redirection}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, SCRIPT], capture_output=True, text=True, env=environment, check=True
    )
    assert "and came to its end" in done.stderr
    assert "Traceback" not in done.stderr


def test_plain_lines_tell_each_activity_before_the_first_trial_once() -> None:
    console = Console(file=io.StringIO(), _environ={})
    with display_on(console) as display:
        for activity in ("importing", "tokenising: 0 of 9 rows", "tokenising: 5 of 9 rows", "", "rehearsing"):
            display.starting(activity)
    shown = text_of(console).splitlines()[1:]
    assert shown == ["starting: importing", "starting: tokenising: 0 of 9 rows", "starting: rehearsing"]
