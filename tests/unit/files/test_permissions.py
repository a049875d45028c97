"""Who may read and write what a sweep leaves follows from the profile, the umask and the folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from finesweep.files import permissions


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def made(folder: Path) -> tuple[str, str]:
    """Return the modes of a folder and of a file that are made now."""
    folder.mkdir()
    (folder / "file").touch()
    return oct(folder.stat().st_mode & 0o777), oct((folder / "file").stat().st_mode & 0o777)


@pytest.mark.parametrize(
    ("shared", "umask", "modes"),
    [
        (None, 0o000, ("0o750", "0o640")),
        (None, 0o022, ("0o750", "0o640")),
        (None, 0o002, ("0o750", "0o640")),
        (None, 0o077, ("0o700", "0o600")),
        (None, 0o037, ("0o740", "0o640")),
        ("group", 0o022, ("0o770", "0o660")),
        ("group", 0o077, ("0o770", "0o660")),
        ("world", 0o022, ("0o775", "0o664")),
        ("world", 0o000, ("0o775", "0o664")),
    ],
)
def test_new_folder_is_as_open_as_profile_and_umask_say(
    tmp_path: Path, shared: permissions.Shared | None, umask: int, modes: tuple[str, str]
) -> None:
    os.umask(umask)
    permissions.prepare(tmp_path / "sweep", shared)
    assert made(tmp_path / "sweep") == modes
    permissions.follow(tmp_path / "sweep")
    assert made(tmp_path / "sweep" / "inner") == modes


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o770, 0o775])
def test_folder_that_is_there_is_followed(tmp_path: Path, mode: int) -> None:
    (tmp_path / "sweep").mkdir(0o700)
    (tmp_path / "sweep").chmod(mode)
    os.umask(0o022)
    permissions.prepare(tmp_path / "sweep", None)
    assert made(tmp_path / "sweep" / "inner") == (oct(mode), oct(mode & 0o666))


def test_missing_folder_changes_nothing(tmp_path: Path) -> None:
    os.umask(0o012)
    permissions.follow(tmp_path / "sweep")
    assert os.umask(0) == 0o012
