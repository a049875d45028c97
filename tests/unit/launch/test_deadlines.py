"""A process that waits for another one to stop waits longer than that one may take."""

import itertools
import re
from pathlib import Path

import pytest

from finesweep.launch import deadlines

CONSTANTS = {value for name, value in vars(deadlines).items() if name.endswith("_SECONDS")}
ENDED = deadlines.COMMAND_SECONDS + deadlines.KILLED_SECONDS
"""Seconds after which the command has ended, whatever its workers do."""


@pytest.mark.parametrize(("inner", "outer"), list(itertools.pairwise(deadlines.ORDER)))
def test_each_deadline_is_longer_than_the_one_inside(inner: float, outer: float) -> None:
    assert inner < outer


def test_every_deadline_stands_in_the_order() -> None:
    assert {ENDED, *CONSTANTS} == {deadlines.KILLED_SECONDS, *deadlines.ORDER}


def test_a_trial_has_saved_before_slurm_kills_it_by_default() -> None:
    assert deadlines.TRIAL_SECONDS < 30.0


def test_the_page_says_when_the_command_has_ended() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how_it_works.md").read_text(encoding="utf-8")
    (seconds,) = re.findall(r"has\s+ended within (\d+) seconds", page)
    assert int(seconds) >= ENDED
