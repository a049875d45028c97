"""Rows, labels and columns that act on a terminal: they are shown, and do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from security.attacks import Sweep

ATTACKS = ("\x1b]0;PWNED\x07", "\x1b[2J", "\x9b31m", "\u202e", "\x1b]52;c;UFdORUQ=\x07", "\r")


def hostile(said: str) -> list[str]:
    return [repr(character) for character in said if not character.isprintable() and character != "\n"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_s23_labels_are_shown_without_what_they_do(project: Path, sweep: Sweep, attack: str) -> None:
    rows = [(text, f"good{attack}" if label else f"[red]bad{attack}") for text, label in tiny.review_rows(40, seed=1)]
    tiny.write_csv(project / "train.csv", rows)
    tiny.write_csv(project / "validation.csv", rows[:20])
    spec = (project / "spec.yaml").read_text().replace("./model", "{config: bert}")
    (project / "spec.yaml").write_text(spec)
    code, said = sweep("validate", "spec.yaml")
    assert code == 0, said
    assert "good" in said
    assert "[red]bad" in said
    assert not hostile(said)


@pytest.mark.parametrize("attack", ATTACKS)
def test_s23_columns_in_an_error_are_shown_without_what_they_do(project: Path, sweep: Sweep, attack: str) -> None:
    tiny.write_csv(project / "train.csv", tiny.review_rows(40, seed=1), (f"te{attack}xt", "label"))
    code, said = sweep("validate", "spec.yaml")
    assert code == 2
    assert "label" in said
    assert not hostile(said)


@pytest.mark.parametrize("attack", ATTACKS)
def test_s23_paths_and_settings_in_an_error_are_shown_without_what_they_do(
    project: Path, sweep: Sweep, attack: str
) -> None:
    code, said = sweep("validate", f"no{attack}.yaml", "--set", f"fixed.x{attack}=1")
    assert code == 2
    assert not hostile(said)
