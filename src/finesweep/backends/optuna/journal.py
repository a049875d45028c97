"""Owns the study's journal file: opened, locked, healed where it is torn, set aside where it is garbage."""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import json
import os
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.storages.journal._storage import JournalStorageReplayResult
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from finesweep.backends.optuna.trial_attributes import as_seen, marked
from finesweep.errors import FolderError
from finesweep.files import file_lock
from finesweep.files.atomic import write_failure
from finesweep.files.regular_file import open_own
from finesweep.folder.claims import Claim

LONGEST_EVENT = 10_000_000
"""Bytes of a line that are read; an event has some hundred."""

UNREADABLE = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading and replaying a damaged journal raises, depending on where the damage is."""


class Journal(BaseJournalBackend):
    """One line of JSON per event, written by many processes, each with a ``Journal`` of its own.

    Optuna's own file backend glues an event onto a line that was cut off, after which the study cannot be
    opened any more, and its lock outlives a dead owner by half a minute. Here the lock is an ``flock`` on the
    file itself.

    The file stays open: if it is moved aside or removed meanwhile, this process goes on with the one it has
    read, and its events cannot be mistaken for those of a study that was begun anew.

    Attributes:
        failure: Why an event could not be written, None as long as all could.
        lenient: Whether to skip a line that is no event instead of raising. Whoever opens a journal must know
            that it is damaged; whoever is in the middle of a trial goes on.

    Args:
        file: Its folder must exist; the file is made where it is missing.

    Raises:
        FolderError: It cannot be opened for writing.
        ValueError: It is something else than a file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor = _opened(file)
        self._place = (0, 0)
        self._newest = (0, b"")
        self.failure: FolderError | None = None
        self.lenient = False

    def close(self) -> None:
        """Let the file go."""
        os.close(self._descriptor)

    def continues(self, earlier: Journal) -> bool:
        """Say whether this is the file that another journal has read; if so, go on from where that one ended."""
        end, line = earlier._newest
        if not line or os.pread(self._descriptor, len(line), end - len(line)) != line:
            return False
        self._place, self._newest = earlier._place, earlier._newest
        return True

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield all whole events from a number on; a last line without its end may still be being written.

        Raises:
            ValueError: A line is no event, and this is not ``lenient``.
        """
        if log_number_from < self._place[0]:
            self._place = (0, 0)
        number, start = self._place
        with open(self._descriptor, "rb", closefd=False) as stream:
            stream.seek(start)
            while (line := stream.readline(LONGEST_EVENT)).endswith(b"\n"):
                event = self._event(line)
                start += len(line)
                number += event is not None
                self._place = (number, start)
                if event is not None and number > log_number_from:
                    self._newest = (start, line)
                    yield event
            if len(line) == LONGEST_EVENT and not self.lenient:
                raise ValueError("a line is too long for an event")

    def _event(self, line: bytes) -> dict[str, Any] | None:
        try:
            event = json.loads(line)
            if isinstance(event, dict):
                return event
            raise ValueError("a line is no event")
        except (ValueError, RecursionError):
            if not self.lenient:
                raise
            return None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write events, after a line that was left torn has been set aside.

        They outlive any process; a power cut they need not outlive, see ``sync``.

        Raises:
            FolderError: The disk is full or the file cannot be written; it is then as it was.
        """
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        try:
            with self._locked():
                self._heal()
                self._append(text.encode())
        except OSError as error:
            self.failure = FolderError(write_failure(self._file, error))
            raise self.failure from error

    def sync(self) -> None:
        """Make all events so far survive a power cut.

        Raises:
            FolderError: The disk fails.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise FolderError(write_failure(self._file, error)) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        file_lock.lock(self._descriptor)
        try:
            yield
        finally:
            file_lock.unlock(self._descriptor)

    def _heal(self) -> None:
        """Cut the file back to its last whole line, keeping what is cut off in ``*.corrupt``."""
        size = os.fstat(self._descriptor).st_size
        if size == 0 or os.pread(self._descriptor, 1, size - 1) == b"\n":
            return
        start = max(0, size - LONGEST_EVENT)
        content = os.pread(self._descriptor, LONGEST_EVENT, start)
        whole = content.rfind(b"\n") + 1
        if start and not whole:
            raise OSError(errno.EFBIG, "its last line is too long for an event")
        with contextlib.suppress(OSError):  # half an event is worth less than the next whole one
            _keep(corrupt_file(self._file), content[whole:])
        os.ftruncate(self._descriptor, start + whole)

    def _append(self, text: bytes) -> None:
        size = os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, text) < len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise


class FileStorage(JournalStorage):
    """Optuna's store of a study in a file, to be opened in the process that uses it.

    Children that share an open one share its worker id and take each other's trials. A trial that is made
    here is marked from its first moment, so that whenever its process dies, it is known whose it was.

    Args:
        file: The journal.
        claim: Whose trial is made here, if any.
        known: One that was opened and closed before: what it has read is not read again.

    Raises:
        FolderError: The file cannot be written.
        Exception: One of ``UNREADABLE``: the journal is damaged.
    """

    def __init__(self, file: Path, claim: Claim | None = None, known: FileStorage | None = None) -> None:
        self.journal = Journal(file)
        self._claim, self._known = claim, known
        self.replay: Replay | None = None
        try:
            super().__init__(self.journal)
        except BaseException:
            self.close()
            raise
        self.journal.lenient = True

    @property
    def failure(self) -> FolderError | None:
        """Why an event could not be written, None as long as all could."""
        return self.journal.failure

    def close(self) -> None:
        """Let the journal go."""
        self.journal.close()

    def keep(self) -> None:
        """Make what was written so far survive a power cut.

        Raises:
            FolderError: The disk fails.
        """
        self.journal.sync()

    def has_study(self, name: str) -> bool:
        """Say whether there is a study of this name."""
        return any(study.study_name == name for study in self.get_all_studies())

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make a trial; see Optuna."""
        return super().create_new_trial(study_id, marked(template_trial, self._claim))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials as the claimed one is to see them; see Optuna."""
        read = functools.partial(super().get_all_trials, study_id, deepcopy)
        return as_seen(read, self._claim, states)

    def read(self, name: str) -> None:
        """Read all that the study of a name has been told.

        Raises:
            KeyError: There is none of that name.
        """
        self.get_study_id_from_name(name)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """Return the best trial; see Optuna, which would look at all of them, twice for each trial that ends."""
        with self._thread_lock:
            self._sync_with_backend()
            best = self.replay.best.get(study_id) if self.replay else None
        if best is None:
            raise ValueError("No trials are completed yet.")
        return best

    def _sync_with_backend(self) -> None:
        if self.replay is None:
            known, self._known = self._known, None
            if known is not None and known.replay is not None and self.journal.continues(known.journal):
                # Not copied: to touch each of ten thousand trials is most of what a forked one would cost.
                self.replay, known.replay = known.replay.handed_over(self._worker_id_prefix), None
            else:
                self.replay = Replay(self._worker_id_prefix)
            self._replay_result = self.replay
        super()._sync_with_backend()


class Replay(JournalStorageReplayResult):
    """What a journal's events come to, and which of a study's trials is the best so far."""

    def __init__(self, worker_id_prefix: str) -> None:
        super().__init__(worker_id_prefix)
        self.best: dict[int, FrozenTrial] = {}

    def handed_over(self, worker_id_prefix: str) -> Replay:
        """Become another worker's, who has made no trial yet."""
        self._worker_id_prefix = worker_id_prefix
        self._worker_id_to_owned_trial_id = {}
        return self

    def _apply_create_trial(self, log: dict[str, Any]) -> None:
        super()._apply_create_trial(log)
        self._weigh(len(self._trials) - 1)

    def _apply_set_trial_state_values(self, log: dict[str, Any]) -> None:
        super()._apply_set_trial_state_values(log)
        self._weigh(log["trial_id"])

    def _weigh(self, trial_id: int) -> None:
        """Compare a trial with the best one of its study."""
        trial = self._trials.get(trial_id)
        if trial is None or trial.state is not TrialState.COMPLETE or trial.value is None:
            return
        study = self._trial_id_to_study_id[trial_id]
        is_maximized = self._studies[study].directions[0] is StudyDirection.MAXIMIZE
        best = self.best.get(study)
        known = None if best is None else best.value
        if known is None or (trial.value > known if is_maximized else trial.value < known):
            self.best[study] = trial


@dataclass
class FileSource:
    """A journal in the sweep's folder."""

    file: Path
    name: str
    refresh_seconds: float = 0.0

    @property
    def shown(self) -> str:
        """The file's name."""
        return self.file.name

    def open(self, claim: Claim | None = None, known: FileStorage | None = None) -> FileStorage:
        """Open the journal; see ``FileStorage``."""
        return FileStorage(self.file, claim, known)

    def set_aside(self) -> str:
        """Rename the file."""
        return set_aside(self.file).name

    def persist(self, action: Callable[[], None]) -> None:
        """Do it once: a disk does not come back by waiting."""
        action()

    def hastily(self) -> contextlib.AbstractContextManager[None]:
        """Change nothing."""
        return contextlib.nullcontext()


def corrupt_file(file: Path) -> Path:
    """Where what is damaged of a file is kept."""
    return file.with_name(f"{file.name}.corrupt")


def set_aside(file: Path) -> Path:
    """Rename a file that cannot be used, to a name that is free; return that.

    Raises:
        FolderError: The folder cannot be written.
    """
    first = corrupt_file(file)
    names = itertools.chain([first], (first.with_name(f"{first.name}.{count}") for count in itertools.count(2)))
    aside = next(name for name in names if not os.path.lexists(name))
    try:
        return file.rename(aside)
    except OSError as error:
        raise FolderError(write_failure(file, error)) from error


def _opened(file: Path) -> int:
    if os.path.lexists(file) and (file.is_symlink() or not file.is_file()):
        raise ValueError(f"{file.name} is no file")
    try:
        return open_own(file, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    except OSError as error:
        raise FolderError(write_failure(file, error)) from error


def _keep(file: Path, tail: bytes) -> None:
    descriptor = open_own(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, tail + b"\n")
    finally:
        os.close(descriptor)
