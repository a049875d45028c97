"""Only regular files are opened, nothing is waited for, and no more than the limit is read."""

import json
import os
import pickle
import socket
from pathlib import Path

import pytest

from finesweep.errors import SweepError, Unreadable
from finesweep.files import regular_file


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Return a folder with one of each thing that is no regular file, under the name of its kind."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "terminal").symlink_to("/dev/ptmx")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "other").symlink_to(tmp_path / "circle")
    (tmp_path / "piped").symlink_to(tmp_path / "pipe")
    (tmp_path / "file").write_text("text")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(tmp_path)  # the name of a socket has 108 bytes at most
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pipe", "this is a pipe"),
        ("piped", "this is a pipe"),
        ("folder", "this is a folder; a file is needed"),
        ("device", "this is a device"),
        ("terminal", "this is a device"),
        ("socket", "this is a socket"),
        ("circle", "a symbolic link that leads to itself"),
        ("other", "a symbolic link that leads to itself"),
        ("nothing", "no such file"),
        ("file/more", "no such file: what should be a folder"),
        ("x" * 300, "the name is too long"),
        ("a\0b", "a name cannot hold a zero byte"),
        (os.fsdecode(b"a\xff"), "the name is not UTF-8; rename it"),
        ("half\ud83d", "the name is not UTF-8"),
    ],
)
def test_odd_path_is_one_error_of_one_line(odd: Path, name: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=f": {reason}") as caught:
        regular_file.read_bytes(odd / name, 100)
    assert isinstance(caught.value, SweepError)
    assert caught.value.exit_code == 2
    assert str(caught.value).isprintable()
    assert caught.value.missing == (name == "nothing")
    assert not regular_file.is_regular(odd / name)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_file_without_permission_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()

    def refused(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)  # root may read anything
    with pytest.raises(Unreadable, match="file: cannot be read: Permission denied"):
        regular_file.read_bytes(tmp_path / "file", 100)


def test_link_is_followed_only_where_allowed(odd: Path) -> None:
    (odd / "link").symlink_to("file")
    assert regular_file.read_bytes(odd / "link", 100) == b"text"
    with pytest.raises(Unreadable, match="this is a symbolic link; it is not followed"):
        regular_file.read_bytes(odd / "link", 100, links=False)


def test_limit_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as stream:
        stream.truncate(10**13)  # of which the disk holds nothing
    with pytest.raises(Unreadable, match="10,000,000,000,000 bytes are more than the 5 that are read"):
        regular_file.read_bytes(tmp_path / "hole", 5)
    (tmp_path / "five").write_bytes(b"12345")
    assert regular_file.read_bytes(tmp_path / "five", 5) == b"12345"


def test_file_that_says_no_size_is_read_to_its_end() -> None:
    assert regular_file.read_bytes(Path("/proc/self/status"), 100_000).startswith(b"Name:")
    with pytest.raises(Unreadable, match="more than the 20 that are read"):
        regular_file.read_bytes(Path("/proc/self/status"), 20)


def test_text_that_is_none_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"ab\xff")
    with pytest.raises(Unreadable, match="not UTF-8 at byte 2"):
        regular_file.read_text(tmp_path / "file", 100)


def test_control_characters_of_a_path_are_escaped(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"a\\x1b\[31m\\n\\u202eb: no such file"):
        regular_file.check(tmp_path / "a\x1b[31m\n\u202eb")


ODD = ("pipe", "device", "folder", "nothing")


def test_last_lines_of_a_log_or_nothing(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular_file, "TAIL_BYTES", 16)
    (odd / "log").write_bytes(b"x" * 1_000 + b"\nfirst\n\n  last \xff\n")
    assert regular_file.last_lines(odd / "log") == ["first", "last \ufffd"]
    assert regular_file.last_lines(odd / "log", 1_008) == ["last \ufffd"]
    assert regular_file.last_lines(odd / "log", 10_000) == []
    assert [regular_file.last_lines(odd / name) for name in ODD] == [[]] * 4


def test_last_words_of_a_process_are_its_error_or_its_exit_code(odd: Path) -> None:
    (odd / "log").write_text("... reading train.csv\nerror: the disk is full\n\n")
    assert regular_file.last_words(odd / "log", 2) == "the disk is full"
    (odd / "log").write_text(" \n")
    assert [regular_file.last_words(odd / name, -9) for name in ("log", *ODD)] == ["exit code -9"] * 5


@pytest.mark.parametrize("name", ["pipe", "device", "socket", "circle"])
@pytest.mark.parametrize("place", [".", "below"])
def test_folder_with_anything_but_files_is_refused(odd: Path, tmp_path: Path, name: str, place: str) -> None:
    folder = tmp_path / "model"
    (folder / place).mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"123456")
    (folder / "link").symlink_to("nothing")
    regular_file.check_folder(folder, limit=5, limited={".json"})
    (odd / name).rename(folder / place / "merges.txt")
    if name == "circle":
        (folder / place / "merges.txt").unlink()
        (folder / place / "merges.txt").symlink_to("merges.txt")
    with pytest.raises(Unreadable, match=r"merges\.txt: (this is a|a symbolic link)"):
        regular_file.check_folder(folder, limit=5, limited={".json"})


def test_folder_with_a_large_file_of_a_limited_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"123456")
    with pytest.raises(Unreadable, match=r"a\.json: 6 bytes are more than the 5"):
        regular_file.check_folder(tmp_path, limit=5, limited={".json"})


def test_names_for_a_proposal_are_those_that_can_be_shown(odd: Path) -> None:
    (odd / "a\x1b").touch()
    assert "file" in regular_file.names_in(odd)
    assert all(map(str.isprintable, regular_file.names_in(odd)))
    assert regular_file.names_in(odd / "file") == regular_file.names_in(odd / ("x" * 300)) == []
    json.dumps(regular_file.names_in(odd))
