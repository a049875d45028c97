"""Says whether the files that a sweep trains on are still those that were checked.

A file whose size, time and inode are those of the check is not read again. Where they differ, as they do when a folder
was copied, its digest decides.
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
    """What tells a file from another one, or from itself once it was changed.

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
        """Read a file.

        Raises:
            OSError, Unreadable: It cannot be read.
        """
        with open_regular(file) as stream:
            status = os.fstat(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, digest)

    def fits(self, status: os.stat_result) -> bool:
        """Say whether a file has the same size, time and inode."""
        return (self.size, self.changed_ns, self.inode) == (status.st_size, status.st_mtime_ns, status.st_ino)


Fingerprints = Mapping[str, Fingerprint]
"""By the file's path in its folder."""


def fingerprints(folder: Path, files: Iterable[Path]) -> Fingerprints:
    """Read files of a folder."""
    return {str(file.relative_to(folder)): Fingerprint.of(file) for file in files}


@dataclass
class CheckedFiles:
    """Files of a folder as they were checked.

    Attributes:
        folder: The folder.
        known: Their fingerprints; those of a copy once it was found to be the same.
    """

    folder: Path
    known: Fingerprints

    def changed(self) -> Path | None:
        """Return the first file that is not what was checked, or is gone; None where all are."""
        return next((self.folder / name for name in self.known if not self._is_same(name)), None)

    def _is_same(self, name: str) -> bool:
        file, known = self.folder / name, self.known[name]
        try:
            status = file.stat()
            if known.fits(status):
                return True
            found = Fingerprint.of(file) if status.st_size == known.size else None
        except (OSError, Unreadable):
            return False
        if found is None or found.sha256 != known.sha256:
            return False
        self.known = {**self.known, name: found}
        return True


def digest(files: CheckedFiles) -> str:
    """Return the SHA-256 over the names and digests of files in their order, as ``weights_file.files_digest`` does."""
    total = hashlib.sha256()
    for name, one in files.known.items():
        total.update(f"{Path(name).name}\n{one.sha256}\n".encode())
    return total.hexdigest()


@dataclass(frozen=True)
class _File:
    """What ``data/checked.json`` holds: the files of the sweep's own folder, and those of the model's."""

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
        """Make sure that nothing has changed since it was checked.

        Raises:
            FolderError: Something has.
        """
        if (file := self.own.changed() or self.model.changed()) is not None:
            raise FolderError(
                f"{file}: it was changed or removed while the sweep ran, so that trials would not be comparable; "
                "put it back and run the same command again, or start anew with --fresh"
            )


def note(sweep_folder: SweepFolder, model_folder: Path, model_files: Iterable[Path]) -> TrainedOn:
    """Write down what the files of a sweep are that was just prepared.

    Args:
        sweep_folder: The sweep's folder, with rows and perhaps a model made from scratch.
        model_folder: Where the model lies.
        model_files: Its files; none for a model made from scratch, whose files are the sweep's own.

    Raises:
        FolderError: The folder cannot be written.
        OSError, Unreadable: A file cannot be read.
    """
    own = fingerprints(sweep_folder.path, _own_files(sweep_folder))
    model = fingerprints(model_folder, model_files)
    write_json(_file(sweep_folder), dataclasses.asdict(_File(dict(own), dict(model))))
    return TrainedOn(CheckedFiles(sweep_folder.path, own), CheckedFiles(model_folder, model))


def read(sweep_folder: SweepFolder, model_folder: Path) -> TrainedOn | None:
    """Return what was written down, None if that is missing or damaged.

    Args:
        sweep_folder: The sweep's folder.
        model_folder: Where the model lies at present.
    """
    return _kept(_file(sweep_folder), sweep_folder.path, model_folder)


def refuse_changed(sweep_folder: SweepFolder, model_folder: Path) -> None:
    """Make sure that nothing that trials are trained on has changed.

    Raises:
        FolderError: Something has.
    """
    if (files := read(sweep_folder, model_folder)) is not None:
        files.refuse_changed()


def _own_files(sweep_folder: SweepFolder) -> Iterator[Path]:
    yield from sorted(sweep_folder.data.glob("*.parquet"))
    yield from sorted(file for file in sweep_folder.model.glob("*") if file.is_file())


def _file(sweep_folder: SweepFolder) -> Path:
    return sweep_folder.data / NAME


def seal(folder: Path) -> None:
    """Write into a folder what its files are, to be looked at by ``is_sound``.

    Raises:
        FolderError: The folder cannot be written.
        OSError, Unreadable: A file cannot be read.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != NAME)
    write_json(folder / NAME, dataclasses.asdict(_File(dict(fingerprints(folder, files)), {})))


def is_sound(folder: Path) -> bool:
    """Say whether a folder's files are those that it was sealed with."""
    files = _kept(folder / NAME, folder, None)
    return files is not None and files.own.changed() is None


def _kept(file: Path, own: Path, model: Path | None) -> TrainedOn | None:
    """Return what stands in a file, read once by this process and its forks, with the copies that it has seen."""
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
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in (*found.own, *found.model)):
        return None
    return TrainedOn(CheckedFiles(own, found.own), CheckedFiles(model, found.model))
