"""Files that were checked: a touched or copied one is the same, a changed one is named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from finesweep.errors import FolderError
from finesweep.folder import checked_files
from finesweep.folder.checked_files import (
    CheckedFiles,
    Fingerprint,
    fingerprints,
    is_sound,
    note,
    read,
    refuse_changed,
    seal,
)
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.model.weights import files_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tokens-24"
    (folder / "train").mkdir(parents=True)
    (folder / "train/rows.arrow").write_bytes(b"0123456789" * 100)
    (folder / "counts.json").write_text("{}")
    return folder


@pytest.fixture
def sweep_folder(tmp_path: Path) -> SweepFolder:
    sweep_folder = make_folders(tmp_path / "sweep")
    (sweep_folder.data / "train.parquet").write_bytes(b"rows")
    return sweep_folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    return model


def overwritten(file: Path) -> None:
    """Change one byte in place, and put the time back."""
    before = file.stat()
    with file.open("r+b") as stream:
        stream.seek(3)
        stream.write(b"!")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


CHANGES = {
    "overwritten": overwritten,
    "cut": lambda file: os.truncate(file, 3),
    "longer": lambda file: os.truncate(file, 10_000),
    "removed": Path.unlink,
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_file_is_named(folder, change):
    files = CheckedFiles(folder, fingerprints(folder, [folder / "counts.json", folder / "train/rows.arrow"]))
    assert files.changed() is None
    change(folder / "train/rows.arrow")
    assert files.changed() == folder / "train/rows.arrow"


def test_a_copy_is_the_same_and_is_read_once(folder, tmp_path, monkeypatch):
    seal(folder)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    assert is_sound(copy)
    monkeypatch.setattr(Fingerprint, "of", lambda _: pytest.fail("it was read again"))
    assert is_sound(copy)
    assert is_sound(folder)


def test_a_folder_is_sound_only_as_it_was_sealed(folder):
    assert not is_sound(folder), "nothing says what it should be"
    seal(folder)
    assert is_sound(folder)
    overwritten(folder / "train/rows.arrow")
    assert not is_sound(folder)
    seal(folder)
    assert is_sound(folder), "it was made again"


@pytest.mark.parametrize("text", ["", "[]", '{"own": {"/etc/passwd": 1}, "model": {}}'])
def test_a_damaged_seal_is_none(folder, text):
    (folder / checked_files.NAME).write_text(text)
    assert not is_sound(folder)


@pytest.mark.parametrize("name", ["/etc/hosts", "../secret"])
def test_a_seal_that_leads_out_of_its_folder_is_none(folder, name):
    seal(folder)
    values = json.loads((folder / checked_files.NAME).read_text())
    values["own"][name] = values["own"]["counts.json"]
    (folder / checked_files.NAME).write_text(json.dumps(values))
    assert not is_sound(folder)


def test_rows_and_model_that_change_are_refused_by_name(sweep_folder, model):
    files = sorted(model.iterdir())
    known = note(sweep_folder, model, files)
    assert checked_files.digest(known.model) == files_digest(files)
    refuse_changed(sweep_folder, model)
    overwritten(model / "model.safetensors")
    with pytest.raises(FolderError, match=r"model/model\.safetensors: it was changed or removed while the sweep ran"):
        refuse_changed(sweep_folder, model)
    note(sweep_folder, model, files)
    refuse_changed(sweep_folder, model)
    (sweep_folder.data / "train.parquet").write_bytes(b"swor")
    with pytest.raises(FolderError, match=r"data/train\.parquet: it was changed or removed"):
        refuse_changed(sweep_folder, model)


def test_a_model_that_has_moved_is_the_same(sweep_folder, model, tmp_path):
    note(sweep_folder, model, sorted(model.iterdir()))
    moved = model.rename(tmp_path / "elsewhere")
    refuse_changed(sweep_folder, moved)
    known = read(sweep_folder, moved)
    assert known is not None
    assert known.model.folder == moved


def test_without_a_note_nothing_is_refused(sweep_folder, model):
    refuse_changed(sweep_folder, model)
