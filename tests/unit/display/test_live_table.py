from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import COMPLETE, FAILED, INTERRUPTED, PRUNED, WAITING, record, running
from rich.cells import cell_len
from sweep_replays import ROWS, spec_with

from finesweep.display.live_table import LiveTable
from finesweep.display.progress_lines import Subject
from finesweep.forecast.course import Course
from finesweep.forecast.time_left import TimeLeft
from finesweep.trial import Direction, Progress, TrialRecord
from growth import growth

PARAMETERS = ("learning_rate", "num_train_epochs")


def shown(
    records: Sequence[TrialRecord] = (),
    progress: Sequence[Progress] = (),
    *,
    width: int = 100,
    height: int = 24,
    now: float = 450.0,
    hours: float | None = None,
    trials: int = 20,
    ascii_only: bool = False,
    left: TimeLeft | None = None,
) -> list[str]:
    subject = Subject("sst2", Direction.MINIMIZE, "eval_loss", trials, PARAMETERS, hours, left)
    screen = LiveTable(subject, 0.0, records, progress, now=lambda: now)
    return [line.plain for line in screen.lines(width, height, ascii_only=ascii_only)]


def numbers(lines: Sequence[str]) -> list[int]:
    """The trials shown, top to bottom; the state follows the number."""
    words = [line.split() for line in lines]
    states = ("COMPLETE", "PRUNED", "FAILED")
    return [
        int(row[index - 1])
        for row in words
        for index, word in enumerate(row)
        if index and (word in states or word[0] in "█░" or word == "starting")
    ]


def test_heading_says_how_things_stand() -> None:
    records = [record(0, 0.5), record(1, 0.4), record(2, None, FAILED)]
    assert shown(records)[0] == "sst2  3/20 trials  best eval_loss 0.4000 (trial 1)  7:30 elapsed"


def time_left(trials: int = 20) -> TimeLeft:
    return TimeLeft(Course(spec_with("none"), ROWS), trials)


def test_heading_says_how_long_it_may_still_take() -> None:
    records = [record(n, 0.5, seconds=99.0, examples=12_000, examples_per_second=12_000 / 99) for n in range(3)]
    heading = shown(records, left=time_left())[0]
    assert re.search(r"elapsed  \d+ to \d+ min left$", heading)


def test_heading_says_how_many_wait_for_their_turn() -> None:
    records = [record(0, 0.5), record(1, 0.6, WAITING), record(2, 0.7, WAITING), record(3, 0.7, WAITING)]
    heading = shown(records, [running(3)])[0]
    assert heading == "sst2  1/20 trials  2 waiting  best eval_loss 0.5000 (trial 0)  7:30 elapsed"


def test_waiting_trials_are_shown_after_the_ranked_ones() -> None:
    lines = shown([record(0, 0.5), record(1, None, FAILED), record(2, 0.6, WAITING)], [running(3)])
    assert [line.split()[:2] for line in lines[-2:]] == [["2", "WAITING"], ["1", "FAILED"]]


def test_a_promoted_trial_is_shown_once_where_it_goes_on() -> None:
    lines = shown([record(0, 0.5), record(4, 0.6, WAITING)], [running(4, attempt=2, step=200)])
    assert not any("WAITING" in line for line in lines)
    assert any("████░░░░ 200/400" in line for line in lines)


def test_a_trial_that_runs_again_is_shown_once() -> None:
    lines = shown([record(0, 0.5), record(4, None, INTERRUPTED), record(5, None, INTERRUPTED)], [running(4)])
    assert [line.split()[0] for line in lines if "INTERRUPTED" in line] == ["5"]
    assert numbers(lines) == [4, 0]


def test_heading_promises_nothing_before_a_trial_has_ended() -> None:
    assert shown([], [running(4)], left=time_left())[0] == "sst2  0/20 trials  7:30 elapsed"


def test_time_left_ends_with_the_hours_allowed() -> None:
    records = [record(n, 0.5, seconds=3600.0, examples=12_000, examples_per_second=3.3) for n in range(3)]
    assert shown(records, hours=0.25, left=time_left())[0].endswith("about 8 min left")


def test_time_left_names_the_confirmation_that_it_includes() -> None:
    records = [record(n, 0.5, seconds=60.0, examples=12_000, examples_per_second=200.0) for n in range(3)]
    left = TimeLeft(Course(spec_with("none", confirm={"top": 3}), ROWS), 20)
    assert " left with the confirmation" in " ".join(line for line in shown(records, left=left))


def test_running_trials_show_how_far_they_are() -> None:
    lines = shown([], [running(4), running(5, step=0, total_steps=0, loss=None, best=None)])
    assert lines[-2].split() == ["4", "██░░░░░░", "100/400", "0.6123", "0.5000", "3.2e-05", "3", "0:50"]
    assert lines[-1].split() == ["5", "starting", "3.2e-05", "3", "0:00"]


def test_bars_do_without_block_characters_where_the_terminal_has_none() -> None:
    text = "\n".join(shown([record(0, 0.5)], [running(4)], ascii_only=True))
    assert "##......" in text
    assert text.isascii()


def test_short_sweeps_are_shown_whole_in_order_of_rank() -> None:
    records = [record(0, 0.5), record(1, None, FAILED), record(2, 0.3), record(3, 0.4, PRUNED)]
    assert numbers(shown(records, [running(4)])) == [4, 2, 0, 3, 1]


def test_long_sweeps_show_what_runs_the_best_and_the_latest() -> None:
    records = [record(n, 1 - n / 2000 if n < 500 else 2.0) for n in range(1000)]
    lines = shown(records, [running(1000), running(1001)], height=20, trials=2000)
    # 20 lines: heading 2 (broken), names 1, "and more" 1, which leaves 15 or 16 rows.
    assert numbers(lines)[:7] == [1000, 1001, 499, 498, 497, 496, 495]
    assert numbers(lines)[7:10] == [999, 998, 997]
    assert lines[-1] == f"and {1002 - len(numbers(lines)):,} more"


def test_many_workers_leave_room_for_the_best() -> None:
    records = [record(n, 0.5) for n in range(10)]
    lines = shown(records, [running(100 + n) for n in range(64)], height=20, trials=200)
    shown_numbers = numbers(lines)
    assert shown_numbers[0] == 100
    assert {0, 1, 2, 3, 4} <= set(shown_numbers)


def test_narrow_terminals_keep_trial_state_and_objective() -> None:
    lines = shown([record(0, 0.5)], [running(4)], width=40)
    assert lines[-2].split() == ["4", "██░░░░░░", "100/400", "0.5000"]
    assert lines[-1].split() == ["0", "COMPLETE", "0.5000"]


@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 40), st.integers(0, 20))
@settings(max_examples=60)
def test_nothing_is_wider_or_taller_than_the_terminal(width: int, height: int, ended: int, workers: int) -> None:
    records = [record(n, 0.5 + n / 100, (COMPLETE, PRUNED, FAILED)[n % 3]) for n in range(ended)]
    lines = shown(records, [running(100 + n) for n in range(workers)], width=width, height=height)
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)


@pytest.mark.parametrize("bad", ["\x1b[31mred", "[red]x[/]", "two\nlines"])
def test_parameters_cannot_draw(bad: str) -> None:
    lines = shown([record(0, 0.5, params={"learning_rate": bad})])
    assert len(lines) == 3
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_of_ten_thousand_trials_only_those_on_the_screen_are_drawn() -> None:
    records = [record(n, 1 / (n + 1)) for n in range(10_000)]
    # 40 times as long as for the ten that fit; drawing all of them would take a thousand times as long.
    assert growth(lambda count: shown(records[:count], left=time_left(20_000), trials=20_000), 10, 10_000) < 250


def test_what_the_workers_do_is_shown_before_the_first_trial() -> None:
    screen = LiveTable(Subject("sst2", Direction.MINIMIZE, "eval_loss", 20, PARAMETERS, None), 0.0, now=lambda: 5.0)
    screen.starting = "tokenising train: 5,000 of 67,349 rows"
    lines = [line.plain for line in screen.lines(40, 10)]
    assert lines[-1] == "starting: tokenising train: 5,000 of..."
