"""The tables of what takes time before the first training step and after the last."""

from __future__ import annotations

from rich.console import Console

from finesweep.display.start_profile import start_profile
from finesweep.host.timeline import BEGIN_TRAINING, FIRST_STEP, TRAIN_ON, Note

COMMAND, PREPARATION, WORKER, OTHER = 1, 2, 3, 4


def note(process: str, pid: int, name: str, began: float, ended: float, parent: int = COMMAND, depth: int = 0) -> Note:
    """Return a note that takes as many CPU seconds as seconds."""
    return Note(process, pid, parent, name, depth, began, ended - began, ended - began)


NOTES = [
    note("command", COMMAND, "start", 100.0, 101.0),
    note("preparation", PREPARATION, "check", 101.0, 104.0),
    note("preparation", PREPARATION, "read the data", 102.0, 104.0, depth=1),
    note("worker", WORKER, "rehearse", 105.0, 107.0),
    note("worker", OTHER, "rehearse elsewhere", 105.0, 108.0),
    note("trial 0", 10, BEGIN_TRAINING, 107.0, 108.0, WORKER),
    note("trial 0", 10, FIRST_STEP, 108.0, 108.5, WORKER),
    note("trial 1", 11, BEGIN_TRAINING, 108.0, 109.0, OTHER),
    note("trial 0", 10, TRAIN_ON, 108.5, 150.0, WORKER),
    note("trial 1", 11, TRAIN_ON, 109.5, 160.0, OTHER),
    note("trial 1", 11, "write the record", 160.0, 161.0, OTHER),
    note("command", COMMAND, "prove", 162.0, 165.0),
]


def shown(notes: list[Note], end: float = 166.0) -> list[str]:
    """Return the lines of what is shown."""
    console = Console(width=120, file=None, color_system=None)
    with console.capture() as capture:
        for part in start_profile(notes, end):
            console.print(part)
    return capture.get().splitlines()


def test_the_tables_reach_to_the_first_step_and_from_the_last() -> None:
    lines = shown(NOTES)
    assert lines[0] == "From the command to the first training step: 8.0 s"
    split = lines.index("From the last training step to the end: 6.0 s")
    before, after = ([line.split() for line in part] for part in (lines[2 : split - 1], lines[split + 2 : -1]))
    assert [" ".join(words[:-3]) for words in before] == [
        "command start",
        "preparation check",
        "preparation read the data",
        "worker rehearse",
        f"trial 0 {BEGIN_TRAINING}",
        f"trial 0 {FIRST_STEP}",
    ]
    assert before[1][-3:] == ["1.00", "3.00", "3.00"]
    assert [" ".join(words[:-3]) for words in after] == ["trial 1 write the record", "command prove"]


def test_time_in_which_nothing_was_noted_is_named() -> None:
    lines = shown(NOTES)
    rest = [line.partition("In ")[2].split()[0] for line in lines if "none of these" in line]
    # From 104 to 105 in the first stretch; from 161 to 162 and from 165 on in the second.
    assert rest == ["1.0", "2.0"]


def test_phases_that_lie_in_others_are_indented() -> None:
    lines = shown(NOTES)
    check, read = (next(line for line in lines if name in line) for name in ("check", "read the data"))
    assert read.index("read") == check.index("check") + 2


def test_without_a_step_there_is_no_table() -> None:
    for notes in ([], NOTES[:4]):
        assert shown(notes) == [
            "No trial has trained on this machine in this run, so there is no first step to look at."
        ]


def test_a_run_that_is_stopped_while_it_trains_has_the_first_table_alone() -> None:
    stopped = [one for one in NOTES if one.name != TRAIN_ON and one.began < 150]
    assert [line for line in shown(stopped) if line.startswith("From")] == [
        "From the command to the first training step: 8.0 s"
    ]
