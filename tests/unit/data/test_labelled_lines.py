"""Lines of a label, a blank and a text, and the command that makes a table of them."""

from __future__ import annotations

import csv
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from finesweep.data import labelled_lines

LINES = 'pos so "good", really\nneg  bad\n\npos fine\nneg h\u00e4sslich\n'


@pytest.mark.parametrize("mark", ["", "__label__"])
def test_the_command_makes_a_csv_of_the_lines(mark: str, tmp_path: Path) -> None:
    text = "".join(f"{mark}{line}\n" if line else "\n" for line in LINES.splitlines())
    (tmp_path / "my data's.txt").write_text(text, encoding="utf-8")
    command = labelled_lines.command(text, "my data's.txt")
    assert command is not None
    shown = command.replace("python3", shlex.quote(sys.executable))
    subprocess.run(shown, shell=True, cwd=tmp_path, check=True, env={"LC_ALL": "C"})
    with (tmp_path / "my data's_columns.csv").open(encoding="utf-8", newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["label", "text"],
            ["pos", 'so "good", really'],
            ["neg", "bad"],
            ["pos", "fine"],
            ["neg", "h\u00e4sslich"],
        ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("pos good\nneg bad\n", id="too-few"),
        pytest.param("the box\na cup\nmy hat\nyour dog\n", id="texts"),
        pytest.param("pos good\nneg\npos fine\nneg bad\n", id="a-line-without-text"),
        pytest.param("__label__a __label__b x\n__label__a y\n__label__b z\n__label__a v\n", id="several-labels"),
        pytest.param("pos a\npos b\npos c\npos d\n", id="one-label"),
        pytest.param("", id="nothing"),
        pytest.param("a b;pos\nc d;neg\na e;pos\nc f;neg\n", id="another-separator"),
    ],
)
def test_other_lines_have_no_command(text: str) -> None:
    assert labelled_lines.command(text, "my.txt") is None
