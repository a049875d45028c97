"""Where a sweep's folder is made: it is not made in foreign folders, and an earlier one is kept."""

from pathlib import Path

import pytest

from finesweep.errors import FolderError
from finesweep.files import write_json
from finesweep.folder import SweepFolder, placement
from finesweep.folder.sweep_folder import make_folders


def test_checking_that_a_folder_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    placement.check_writable(tmp_path / "results" / "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(FolderError, match=r"results: cannot be written \(Not a directory\); use --results DIR"):
        placement.check_writable(tmp_path / "results" / "demo")
    with pytest.raises(FolderError, match=r"cannot be written \(Not a directory\)"):
        make_folders(tmp_path / "results" / "demo")


def test_a_folder_whose_manifest_was_cut_short_is_not_foreign(tmp_path: Path) -> None:
    folder = make_folders(tmp_path / "begun")
    (folder.path / ".spec.json.4711.00aa00aa.tmp").write_text("{")
    placement.refuse_foreign(folder.path)


def test_a_foreign_folder_is_not_taken_over(tmp_path: Path) -> None:
    placement.refuse_foreign(tmp_path / "new")
    placement.refuse_foreign(make_folders(tmp_path / "begun").path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(FolderError, match=r"photos is no sweep's folder \(it holds cat.jpg\)"):
        placement.refuse_foreign(tmp_path / "photos")
    with pytest.raises(FolderError, match=r"cat.jpg is a file; use another --name"):
        placement.refuse_foreign(tmp_path / "photos" / "cat.jpg")


def test_a_folder_moved_aside_keeps_what_is_in_it(tmp_path: Path) -> None:
    folder = make_folders(tmp_path / "demo")
    write_json(folder.record_file(3), {})
    aside = placement.move_aside(folder.path)
    assert not folder.path.exists()
    assert SweepFolder(aside).record_file(3).is_file()
