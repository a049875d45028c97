"""A file appears whole or not at all, leaves nothing half written, and a lock is held by one at a time."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finesweep.errors import FolderError
from finesweep.files import atomic


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow beyond 100 bytes during the block: that stands for a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("value", [{"ä\u2028": ["\x00", "😀"]}, [], None, 1e300, -0.0, "x" * 10_000], ids=str)
def test_json_is_read_as_it_was_written(tmp_path: Path, value: Any, durable: bool) -> None:
    atomic.write_json(tmp_path / "f.json", ["earlier"])
    atomic.write_json(tmp_path / "f.json", value, durable=durable)
    assert atomic.read_json(tmp_path / "f.json") == value
    assert names(tmp_path) == ["f.json"]


@pytest.mark.parametrize("value", [float("inf"), [{"a": float("nan")}], {1, 2}, "\ud83d"], ids=repr)
def test_value_that_is_no_json_leaves_the_earlier_file(tmp_path: Path, value: Any) -> None:
    atomic.write_json(tmp_path / "f.json", ["earlier"])
    with pytest.raises((ValueError, TypeError), match=r"."):
        atomic.write_json(tmp_path / "f.json", value)
    assert atomic.read_json(tmp_path / "f.json") == ["earlier"]
    assert names(tmp_path) == ["f.json"]


def test_link_at_the_target_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("keep")
    (tmp_path / "f").symlink_to(tmp_path / "other")
    atomic.write_text(tmp_path / "f", "new")
    assert not (tmp_path / "f").is_symlink()
    assert ((tmp_path / "f").read_text(), (tmp_path / "other").read_text()) == ("new", "keep")


def test_reader_that_has_the_old_file_open_reads_it_whole(tmp_path: Path) -> None:
    atomic.write_text(tmp_path / "f", "old" * 1_000)
    with (tmp_path / "f").open() as stream:
        assert stream.read(3) == "old"
        atomic.write_text(tmp_path / "f", "new")
        assert stream.read() == "old" * 999


@pytest.mark.parametrize("durable", [True, False])
def test_full_disk_leaves_the_earlier_file_and_no_part(tmp_path: Path, durable: bool) -> None:
    atomic.write_text(tmp_path / "f", "earlier")
    with pytest.raises(FolderError, match=r"f: cannot be written \(File too large\)"), full_disk():
        atomic.write_text(tmp_path / "f", "x" * 200, durable=durable)
    assert (tmp_path / "f").read_text() == "earlier"
    assert names(tmp_path) == ["f"]


def test_folder_that_was_removed_is_not_made_again(tmp_path: Path) -> None:
    for write in (lambda file: atomic.write_text(file, "x"), lambda file: atomic.create(file, b"x")):
        with pytest.raises(FolderError, match=r"gone/f: cannot be written.*No such file"):
            write(tmp_path / "gone" / "f")
    assert names(tmp_path) == []


def test_name_that_is_too_long_is_an_error_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="File name too long"):
        atomic.write_text(tmp_path / ("x" * 250), "text")


def test_new_file_is_created_once(tmp_path: Path) -> None:
    atomic.create(tmp_path / "f", b"\x00first")
    with pytest.raises(FileExistsError, match="File exists"):
        atomic.create(tmp_path / "f", b"second")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="File exists"):
        atomic.create(tmp_path / "link", b"through a link")
    assert (tmp_path / "f").read_bytes() == b"\x00first"
    assert names(tmp_path) == ["f", "link"]


def test_new_file_that_cannot_be_filled_is_removed(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="f: cannot be written: File too large"), full_disk():
        atomic.create(tmp_path / "f", b"x" * 200)
    assert names(tmp_path) == []
    atomic.create(tmp_path / "f", b"x")


def test_staged_file_appears_only_if_the_block_renames_it(tmp_path: Path) -> None:
    with atomic.staged_json(tmp_path / "f", [1]) as temporary:
        assert names(tmp_path) == [temporary.name]
        assert atomic.has_living_writer(temporary)
    assert names(tmp_path) == []
    with atomic.staged_json(tmp_path / "f", [1]) as temporary:
        temporary.rename(tmp_path / "f")
    assert json.loads((tmp_path / "f").read_text()) == [1]
    with pytest.raises(KeyError, match="inside"), atomic.staged_json(tmp_path / "f", [2]):
        raise KeyError("inside")
    assert json.loads((tmp_path / "f").read_text()) == [1]
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize(
    ("name", "alive"),
    [
        (".f.json.{pid}.0123abcd.tmp", True),
        (".a.7.json.{pid}.0123abcd.tmp", True),
        (".f.json.1.0123abcd.tmp", True),
        (f".f.json.{2**22 + 1}.0123abcd.tmp", False),
        (f".f.json.{10**30}.0123abcd.tmp", False),
        (".f.json.{pid}.0123abcg.tmp", False),
        (".f.json.{pid}.0123abcd", False),
        ("f.json.{pid}.0123abcd.tmp", False),
        (".f.json.-{pid}.0123abcd.tmp", False),
    ],
)
def test_writer_is_told_from_the_name(name: str, alive: bool) -> None:
    """Process 1 belongs to another user where tests do not run as root; it lives all the same."""
    assert atomic.has_living_writer(Path("/x") / name.format(pid=os.getpid())) is alive


def test_lock_is_held_by_one_at_a_time_and_released_by_an_error(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"

    def fail() -> None:
        with atomic.exclusive(lock):
            for _ in range(2):  # a try that fails releases nothing
                with atomic.alone(lock) as held:
                    assert not held
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    with atomic.alone(lock) as held:
        assert held
        with atomic.alone(tmp_path / ".other") as other:
            assert other
    with atomic.exclusive(lock):
        pass


def test_exclusive_lock_waits_for_its_holder(tmp_path: Path) -> None:
    lock, happened, waits = tmp_path / ".lock", [], threading.Event()

    def wait() -> None:
        waits.set()
        with atomic.exclusive(lock):
            happened.append("second")

    with atomic.exclusive(lock):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waits.wait(10)
        thread.join(0.05)
        happened.append("first")
    thread.join(10)
    assert happened == ["first", "second"]


def test_lock_file_that_is_a_link_or_in_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for file in (tmp_path / "link", tmp_path / "gone" / ".lock", tmp_path):
        for lock in (atomic.exclusive, atomic.alone):
            with pytest.raises(FolderError, match=f"{file.name}: cannot be written"), lock(file):
                pytest.fail("it was locked")


def test_failure_of_a_library_to_write_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=f"{tmp_path.name}: cannot be written"), atomic.writing(tmp_path):
        (tmp_path / "gone" / "f").write_text("")
    with pytest.raises(ValueError, match="no number"), atomic.writing(tmp_path):
        raise ValueError("no number")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"a": NaN}', None], ids=repr)
def test_file_that_is_missing_or_damaged_reads_as_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "f").write_bytes(content)
    assert atomic.read_json(tmp_path / "f") is None
