"""Test rows are opened as they were at the start, and each opening is noted."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from finesweep.errors import FolderError
from finesweep.folder import checked_files
from finesweep.folder.openings import open_test, openings
from finesweep.folder.sweep_folder import make_folders


@pytest.fixture
def folder(tmp_path):
    made = make_folders(tmp_path / "sweep")
    (made.data / "test.parquet").write_bytes(b"rows")
    checked_files.note(made, tmp_path, ())
    return made


def test_each_opening_is_kept_in_order(folder):
    file = folder.data / "test.parquet"
    assert openings(folder) == []
    assert open_test(folder, "run", 3) == open_test(folder, "confirm", 5) == file
    first, second = openings(folder)
    assert (first.command, first.trial, second.command, second.trial) == ("run", 3, "confirm", 5)
    assert first.when <= second.when
    assert {first.rows_digest, second.rows_digest} == {sha256(b"rows").hexdigest()}


@pytest.mark.parametrize("content", [b"other", None])
def test_rows_that_changed_are_not_opened(folder, content):
    file = folder.data / "test.parquet"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(FolderError, match="test rows"):
        open_test(folder, "run", 3)
    assert openings(folder) == []


def test_rows_that_were_added_later_are_not_opened(tmp_path):
    folder = make_folders(tmp_path / "sweep")
    checked_files.note(folder, tmp_path, ())
    assert open_test(folder, "run", 3) is None
    (folder.data / "test.parquet").write_bytes(b"rows")
    with pytest.raises(FolderError, match="not the test rows that the sweep began with"):
        open_test(folder, "run", 3)


def test_number_of_a_damaged_note_is_not_used_again(folder):
    open_test(folder, "run", 3)
    (folder.path / "openings" / "0001.json").write_text("damaged")
    open_test(folder, "run", 5)
    assert json.loads((folder.path / "openings" / "0002.json").read_text())["trial"] == 5


def test_folder_of_an_earlier_version_gets_its_place(folder):
    (folder.path / "openings").rmdir()
    open_test(folder, "run", 3)
    assert len(openings(folder)) == 1
