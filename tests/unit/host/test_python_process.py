"""The import path of what finesweep starts: never the current folder, always what PYTHONPATH names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from finesweep.host import python_process

SHOWN = """\
import sys
before = list(sys.path)
from finesweep.host.python_process import keep_out_current_folder
keep_out_current_folder()
import os
print([folder for folder in sys.path if folder not in ("", os.path.dirname(os.__file__)) and "/place" in folder])
print(os.environ["PYTHONPATH"])
print(os.environ["PYTHONSAFEPATH"])
"""


@pytest.mark.parametrize(
    ("python_path", "left"),
    [
        ("{place}/a::{place}/b", ["a", "b"]),
        (":{place}/a", ["a"]),
        ("{place}/a:", ["a"]),
        ("a:.", ["a", ""]),  # named, and so meant
        ("a:", ["a"]),
        (":{place}:{place}/a", ["", "a"]),
    ],
)
def test_an_empty_entry_of_pythonpath_goes_and_what_is_named_stays(tmp_path: Path, python_path, left) -> None:
    place = tmp_path / "place"
    for name in "ab":
        (place / name).mkdir(parents=True)
    package = str(Path(python_process.__file__).parents[2])
    given = f"{python_path.format(place=place)}:{package}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", SHOWN],
        cwd=place,
        env={**os.environ, "PYTHONPATH": given},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [str(place / name) if name else str(place) for name in left]
    assert done.stdout.splitlines() == [str(expected), ":".join([*expected, package]), "1"]


@pytest.mark.parametrize("name", python_process.SEARCHED)
@pytest.mark.parametrize(("given", "left"), [(None, ""), ("", ""), (":", ""), (":/a", "/a"), ("/a::b:", "/a:{here}/b")])
def test_programs_and_libraries_are_searched_for_where_folders_are_named(
    monkeypatch, tmp_path, name, given, left
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(name, raising=False)
    if given is not None:
        monkeypatch.setenv(name, given)
    assert python_process.own_environment().get(name, "") == left.format(here=tmp_path)


def test_what_a_child_starts_is_kept_from_the_current_folder_too(tmp_path: Path) -> None:
    """Also what is started without `-P`: multiprocessing's helpers, Ray's daemons, a user's own `python -c`."""
    (tmp_path / "planted.py").touch()
    grandchild = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', 'import planted']).returncode)"
    for given, code in ((python_process.child_environment(), 1), ({**os.environ, "PYTHONSAFEPATH": ""}, 0)):
        command = [sys.executable, "-P", "-c", grandchild]
        assert subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, check=False).returncode == code
