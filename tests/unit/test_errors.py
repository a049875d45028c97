"""The tree of errors and how a problem reads."""

import inspect
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep import errors
from finesweep.errors import (
    LaunchError,
    Problem,
    SpecError,
    Stopped,
    SweepError,
    TrialFailed,
    Unreadable,
    did_you_mean,
    lines_of,
    printable,
)

TREE = [
    item
    for _, item in inspect.getmembers(errors, inspect.isclass)
    if issubclass(item, SweepError) and item is not SweepError
]


def test_a_problem_reads_as_place_message_fix() -> None:
    problem = Problem("bert.yaml:12 space.learning_rat", "no such training argument", "did you mean learning_rate?")
    expected = "bert.yaml:12 space.learning_rat: no such training argument (did you mean learning_rate?)"
    assert str(problem) == expected
    assert str(Problem("f:1 a", "is missing")) == "f:1 a: is missing"


def test_a_spec_error_shows_every_problem_on_a_line() -> None:
    error = SpecError(iter([Problem("f:1 a", "one"), Problem("f:2 b", "two")]))
    assert str(error) == "f:1 a: one\nf:2 b: two"
    assert [problem.message for problem in error.problems] == ["one", "two"]
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_error_stands_in_the_modules_picture(kind: type[SweepError]) -> None:
    line = re.search(rf"─ {kind.__name__}\b(.*)", errors.__doc__ or "")
    assert line is not None
    if shown := re.search(r"exit (\d)", line[1]):
        assert kind.exit_code == int(shown[1])


@pytest.mark.parametrize(
    "error",
    [
        SpecError([Problem("f:1 a", "one")]),
        LaunchError("refused"),
        TrialFailed(3, "NaN", "logs/3.log"),
        Unreadable(Path("a"), "no such file", missing=True),
        Stopped(15),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_pickling(error: SweepError) -> None:
    """Ray pickles what an actor raises."""
    found = pickle.loads(pickle.dumps(error))
    assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))


def test_did_you_mean_finds_the_nearest_word_or_nothing() -> None:
    assert did_you_mean("learning_rat", ["learning_rate", "weight_decay"]) == "did you mean learning_rate?"
    assert did_you_mean("zzz", ["learning_rate"]) == ""


@pytest.mark.parametrize(
    ("text", "lines"), [("", ["ValueError"]), ("\n \n", ["ValueError"]), (" one\n\n  two \n", ["one", "two"])]
)
def test_an_error_has_at_least_one_line(text: str, lines: list[str]) -> None:
    assert lines_of(ValueError(text)) == lines


def test_what_is_shown_cannot_control_a_terminal() -> None:
    assert str(Problem("f:1 \x1b[31mx", "found \u202e", "a\nb")) == "f:1 \\x1b[31mx: found \\u202e (a\\nb)"


@given(st.text(max_size=200), st.integers(4, 100))
def test_printable_text_is_printable_and_short(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    if text.isprintable():
        assert len(shown) <= limit
        assert shown == text or len(text) > limit
