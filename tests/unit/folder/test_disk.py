"""What a folder takes, and that nothing is written which would overrun the limit or the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from finesweep.errors import FolderError
from finesweep.folder import disk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "weights").write_bytes(os.urandom(1_000_000))
    return tmp_path


def test_a_file_with_two_names_counts_once(folder: Path) -> None:
    before = disk.used_bytes(folder)
    assert 1_000_000 <= before < 1_100_000
    os.link(folder / "checkpoints" / "weights", folder / "winner")
    assert disk.used_bytes(folder) == before


def test_what_fits_is_not_refused(folder: Path) -> None:
    disk.refuse_overrun(folder, 500_000, "keeping weights", 0.002)
    disk.refuse_overrun(folder, 500_000, "keeping weights", None)


def test_states_have_ten_gigabytes_or_a_tenth_of_the_disk_or_what_is_asked() -> None:
    assert disk.states_limit(None, 1e15) == 10e9
    assert disk.states_limit(None, 20e9) == 2e9
    assert disk.states_limit(None, 0.0) == 0.0
    assert disk.states_limit(50.0, 20e9) == 50e9
    assert disk.states_limit(0.0, 20e9) == 0.0


def test_what_would_overrun_the_limit_is_refused_with_figures(folder: Path) -> None:
    found = r"keeping weights needs 1\.5 MB, and of the 0\.002 GB that `limits\.disk_gb` allows 1\.\d MB are in use"
    with pytest.raises(FolderError, match=found):
        disk.refuse_overrun(folder, 1_500_000, "keeping weights", 0.002)


def test_confirmation_counts_with_its_sweep(folder: Path) -> None:
    confirmation = folder / "confirm"
    confirmation.mkdir()
    disk.refuse_excess(confirmation, 0.0005)
    (folder / "spec.json").touch()
    with pytest.raises(FolderError, match=rf"^{folder}: it takes 1\.\d MB, more than the 0\.0005 GB"):
        disk.refuse_excess(confirmation, 0.0005)
    with pytest.raises(FolderError, match=r"keeping weights needs 0\.1 MB"):
        disk.refuse_overrun(confirmation, 100_000, "keeping weights", 0.001)


def test_what_would_overrun_the_disk_is_refused(folder: Path) -> None:
    with pytest.raises(FolderError, match=r"keeping weights needs .* are free; make room"):
        disk.refuse_overrun(folder, 10**18, "keeping weights", None)


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "x"), False),
        (ValueError("3 labels, 2 expected"), False),
    ],
)
def test_a_lack_of_space_is_known_by_whatever_library_reports_it(tmp_path: Path, error: Exception, lack: bool) -> None:
    assert disk.is_for_lack_of_space(error, tmp_path) is lack


def test_a_full_disk_makes_any_failure_one_for_lack_of_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library may say anything: `[enforce fail at inline_container.cc:672]`."""
    monkeypatch.setattr(disk, "NO_SPACE_BYTES", 10**18)
    assert disk.is_for_lack_of_space(RuntimeError("[enforce fail at inline_container.cc:672]"), tmp_path)
    assert not disk.is_for_lack_of_space(RuntimeError("x"), tmp_path / "gone"), "a folder that is gone is not full"


def test_a_folder_that_takes_more_than_it_may_is_refused_with_figures(folder: Path) -> None:
    disk.refuse_excess(folder, None)
    disk.refuse_excess(folder, 0.002)
    with pytest.raises(FolderError, match=r"it takes 1\.\d MB, more than the 0\.001 GB of `limits\.disk_gb`"):
        disk.refuse_excess(folder, 0.001)
