"""A copy by links takes no space, and stays what it was when its source is replaced."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from finesweep.files.linked_copy import linked_copy

CONTENT = {"model.safetensors": b"weights", "config.json": b"{}", "part/merges.txt": b"a b"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "part").mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o640)
    (folder / ".hidden").write_bytes(b"-")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def linked(source: Path, target: Path) -> set[str]:
    return {name for name in content(target) if (target / name).samefile(source / name)}


def test_all_files_are_linked_and_hidden_ones_left_out(source: Path, tmp_path: Path) -> None:
    linked_copy(source, tmp_path / "copy")
    assert content(tmp_path / "copy") == CONTENT
    assert linked(source, tmp_path / "copy") == CONTENT.keys()


def test_only_files_of_the_pattern_are_linked(source: Path, tmp_path: Path) -> None:
    linked_copy(source, tmp_path / "copy", "*.safetensors")
    assert content(tmp_path / "copy") == CONTENT
    assert linked(source, tmp_path / "copy") == {"model.safetensors"}
    (tmp_path / "copy" / "config.json").write_bytes(b"edited where it is")
    assert content(source) == {**CONTENT, ".hidden": b"-"}


def test_copy_stays_when_a_file_of_the_source_is_replaced_and_when_all_of_it_is(source: Path, tmp_path: Path) -> None:
    linked_copy(source, tmp_path / "copy")
    (tmp_path / "new").write_bytes(b"other weights")
    (tmp_path / "new").rename(source / "model.safetensors")
    assert content(tmp_path / "copy") == CONTENT
    shutil.rmtree(source)
    assert content(tmp_path / "copy") == CONTENT


@pytest.mark.parametrize("pattern", ["*", "*.safetensors"])
def test_permissions_are_those_of_the_source(source: Path, tmp_path: Path, pattern: str) -> None:
    linked_copy(source, tmp_path / "copy", pattern)
    modes = {stat.S_IMODE((tmp_path / "copy" / name).stat().st_mode) for name in CONTENT}
    assert modes == {0o640}


@pytest.mark.parametrize("number", [1, 18, 31, 95])
def test_files_that_cannot_be_linked_are_copied(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """EPERM: no links there, or another user's file. EXDEV: another file system. EMLINK, ENOTSUP: not there."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    linked_copy(source, tmp_path / "copy")
    assert content(tmp_path / "copy") == CONTENT
    assert linked(source, tmp_path / "copy") == set()


def test_what_a_symbolic_link_leads_to_is_copied(source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").rename(tmp_path / "elsewhere")
    (source / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    linked_copy(source, tmp_path / "copy")
    (tmp_path / "elsewhere").write_bytes(b"changed")
    assert not (tmp_path / "copy" / "model.safetensors").is_symlink()
    assert content(tmp_path / "copy") == CONTENT


def test_a_target_that_exists_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with pytest.raises(FileExistsError):
        linked_copy(source, tmp_path / "copy")
