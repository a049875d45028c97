from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.text.format import clean, clock, duration, finite, first_few, metric, setting, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("two\nlines\r\nand\ta tab", "two lines and a tab"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]8;;https://x.example\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x1b\\after", "after"),
        ("\x1bPpayload\x1b\\after", "after"),
        ("\x1b]0;never closed", "]0;never closed"),
        ("a\x00b\x7fc\x08d", "abcd"),
        ("user\u202egnp.exe", "usergnp.exe"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("half \ud800 pair", "half \ufffd pair"),
        ("Größe 日本 👩\u200d🔬", "Größe 日本 👩\u200d🔬"),
        ("[red]markup[/]", "[red]markup[/]"),
    ],
)
def test_clean_drops_what_acts_on_a_terminal(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text(st.characters(codec=None), max_size=200))
def test_clean_gives_one_printable_line_that_can_be_encoded(text: str) -> None:
    shown = clean(text)
    shown.encode("utf-8")
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in shown)
    assert clean(shown) == shown


def test_clean_cuts_long_texts() -> None:
    assert clean("x" * 50, limit=10) == "xxxxxxx..."
    assert len(clean("\x1b]" * 1_000_000, limit=100)) <= 100


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.31204, "0.3120"),
        (0.0, "0.0000"),
        (-0.5, "-0.5000"),
        (3e-6, "3.0000e-06"),
        (1234567.0, "1.2346e+06"),
        (math.nan, ""),
        (math.inf, ""),
        (None, ""),
    ],
)
def test_metric(value: float | None, shown: str) -> None:
    assert metric(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3.217e-5, "3.2e-05"),
        (1e-5, "1e-05"),
        (0.06, "0.06"),
        (3.0, "3"),
        (16, "16"),
        (True, "true"),
        (None, "null"),
        ("co\x1b[1msine", "cosine"),
        (0.0, "0"),
    ],
)
def test_setting(value: object, shown: str) -> None:
    assert setting(value) == shown  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (4.21, "4.2 s"),
        (9.97, "10 s"),
        (42, "42 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (math.nan, "0.0 s"),
        (-3, "0.0 s"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (42.9, "0:42"), (200, "3:20"), (7510, "2:05:10")])
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_finite_keeps_numbers_only() -> None:
    assert [finite(value) for value in (1.5, math.nan, -math.inf, None)] == [1.5, None, None, None]


@given(st.text(), st.integers(3, 100))
def test_a_shortened_text_is_short_and_begins_alike(text: str, limit: int) -> None:
    short = shortened(text, limit)
    assert len(short) <= max(limit, 3)
    assert short == text if len(text) <= limit else short.endswith("...")
    assert text.startswith(short.removesuffix("..."))


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a, b"),
        (["a", "b", "c"], "a, b and 1 more"),
        (["a"] * 1_002, "a, a and 1,000 more"),
    ],
)
def test_the_first_few_say_how_many_more_there_are(texts: list[str], shown: str) -> None:
    assert first_few(texts, 2) == shown


def test_longer_texts_have_another_separator() -> None:
    assert first_few(["a, b", "c", "d"], 2, "; ") == "a, b; c and 1 more"
