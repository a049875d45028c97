"""Checks whether the files that a sweep trains on are unchanged since they were checked.

A file with the same size, time and inode is not read again. If they differ, as after a copy of the folder, its digest
decides.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from finesweep.errors import FolderError, Unreadable
from finesweep.files import Damaged, open_regular, read_as, write_json
from finesweep.folder.sweep_folder import SweepFolder

NAME = "checked.json"


@dataclass(frozen=True)
class Fingerprint:
    """Properties of a file by which a change is noticed.

    Attributes:
        size: Bytes.
        changed_ns: Time of the last change in nanoseconds.
        inode: Its number in the file system.
        sha256: Digest of its bytes.
    """

    size: int
    changed_ns: int
    inode: int
    sha256: str

    @classmethod
    def of(cls, file: Path) -> Fingerprint:
        """Read a file's properties.

        Raises:
            OSError, Unreadable: It cannot be read.
        """
        with open_regular(file) as stream:
            status = os.fstat(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, digest)

    def fits(self, status: os.stat_result) -> bool:
        """Return whether a file has the same size, time and inode."""
        return (self.size, self.changed_ns, self.inode) == (status.st_size, status.st_mtime_ns, status.st_ino)


Fingerprints = Mapping[str, Fingerprint]
"""Properties by the file's path in its folder."""


def fingerprints(folder: Path, files: Iterable[Path]) -> Fingerprints:
    """Read the properties of files of a folder."""
    return {str(file.relative_to(folder)): Fingerprint.of(file) for file in files}


@dataclass
class CheckedFiles:
    """Files of a folder with the properties that they had when they were checked.

    Attributes:
        folder: The folder.
        known: Their properties; those of a copy once its digest was found equal.
    """

    folder: Path
    known: Fingerprints

    def changed(self) -> Path | None:
        """Return the first file that was changed or removed; None if all are unchanged."""
        return next((self.folder / name for name in self.known if not self._is_same(name)), None)

    def _is_same(self, name: str) -> bool:
        file, known = self.folder / name, self.known[name]
        try:
            status = file.stat()
            if known.fits(status):
                return True
            # A copy of the folder has other times and inodes. Only then the bytes are read, which takes seconds.
            found = Fingerprint.of(file) if status.st_size == known.size else None
        except (OSError, Unreadable):
            return False
        if found is None or found.sha256 != known.sha256:
            return False
        self.known = {**self.known, name: found}
        return True


def digest(files: CheckedFiles) -> str:
    """Return the SHA-256 over the names and digests of files in order, as ``model.weights.files_digest`` does."""
    total = hashlib.sha256()
    for name, one in files.known.items():
        total.update(f"{Path(name).name}\n{one.sha256}\n".encode())
    return total.hexdigest()


@dataclass(frozen=True)
class _File:
    """Content of ``data/checked.json``: the files of the sweep's own folder, and those of the model's folder."""

    own: dict[str, Fingerprint]
    model: dict[str, Fingerprint]


@dataclass(frozen=True)
class TrainedOn:
    """The files that all trials of a sweep are trained on.

    Attributes:
        own: Rows, and a model made from scratch.
        model: The files of a model's folder elsewhere; none for a model made from scratch.
    """

    own: CheckedFiles
    model: CheckedFiles

    def refuse_changed(self) -> None:
        """Refuse to continue if a file has changed since it was checked.

        Raises:
            FolderError: A file has changed.
        """
        if (file := self.own.changed() or self.model.changed()) is not None:
            raise FolderError(
                f"{file}: it was changed or removed while the sweep ran, so that trials would not be comparable; "
                "put it back and run the same command again, or start anew with --fresh"
            )


def note(sweep_folder: SweepFolder, model_folder: Path, model_files: Iterable[Path]) -> TrainedOn:
    """Save the properties of the files of a sweep that was just prepared.

    Args:
        sweep_folder: The sweep's folder, with rows and perhaps a model made from scratch.
        model_folder: The model's folder.
        model_files: Its files; none for a model made from scratch, whose files are in the sweep's folder.

    Raises:
        FolderError: The folder cannot be written.
        OSError, Unreadable: A file cannot be read.
    """
    own = fingerprints(sweep_folder.path, _own_files(sweep_folder))
    model = fingerprints(model_folder, model_files)
    write_json(_file(sweep_folder), dataclasses.asdict(_File(dict(own), dict(model))))
    return TrainedOn(CheckedFiles(sweep_folder.path, own), CheckedFiles(model_folder, model))


def read(sweep_folder: SweepFolder, model_folder: Path) -> TrainedOn | None:
    """Return the saved properties; None if they are missing or damaged.

    Args:
        sweep_folder: The sweep's folder.
        model_folder: The model's present folder.
    """
    return _kept(_file(sweep_folder), sweep_folder.path, model_folder)


def refuse_changed(sweep_folder: SweepFolder, model_folder: Path) -> None:
    """Refuse to continue if a file that trials are trained on has changed.

    Raises:
        FolderError: A file has changed.
    """
    if (files := read(sweep_folder, model_folder)) is not None:
        files.refuse_changed()


def _own_files(sweep_folder: SweepFolder) -> Iterator[Path]:
    yield from sorted(sweep_folder.data.glob("*.parquet"))
    yield from sorted(file for file in sweep_folder.model.glob("*") if file.is_file())


def _file(sweep_folder: SweepFolder) -> Path:
    return sweep_folder.data / NAME


def seal(folder: Path) -> None:
    """Save the properties of a folder's files in the folder itself, for ``is_sound``.

    Raises:
        FolderError: The folder cannot be written.
        OSError, Unreadable: A file cannot be read.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != NAME)
    write_json(folder / NAME, dataclasses.asdict(_File(dict(fingerprints(folder, files)), {})))


def is_sound(folder: Path) -> bool:
    """Return whether a folder's files are unchanged since ``seal``."""
    files = _kept(folder / NAME, folder, None)
    return files is not None and files.own.changed() is None


def _kept(file: Path, own: Path, model: Path | None) -> TrainedOn | None:
    """Return the content of a file; it is read once for this process and its forks, until it is replaced."""
    try:
        status = file.stat()
    except OSError:
        return None
    return _read(file, own, model or own, (status.st_ino, status.st_mtime_ns))


@functools.cache
def _read(file: Path, own: Path, model: Path, _: tuple[int, int]) -> TrainedOn | None:
    try:
        found = read_as(_File, file)
    except (OSError, Damaged):
        return None
    # The file may come from another user: it must not name files outside of these folders.
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in (*found.own, *found.model)):
        return None
    return TrainedOn(CheckedFiles(own, found.own), CheckedFiles(model, found.model))
