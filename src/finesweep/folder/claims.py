"""Claims attempts at trials, checks whether claim holders are alive, and refuses writes of outdated attempts.

A claim is a file ``claims/0007.1`` (trial, attempt) that appears at once and complete. Its holder and the process that
trains keep it locked, and the holder increments its ``beat``. On the same machine a claim is dead as soon as no process
holds its lock; no clock can change that. On another machine it is dead when its beat has not changed for
``LEASE_SECONDS`` on the reader's own monotonic clock. Clocks of two machines are never compared.

The attempt is the fencing token: once a claim of the next attempt exists, the holder of this one must not write
anything more.

Once a trial's parameters are drawn, they are appended to its claim as a second line. So other processes know which
parameters are being tried, and a later attempt uses the same ones.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesweep.errors import FolderError
from finesweep.files import exclusive, file_lock, open_own, write_failure
from finesweep.files.checked_json import read_lines
from finesweep.trial import AttemptOutdated, Params, Value

LEASE_SECONDS = 60.0
"""Seconds without a new beat after which another machine's claim is dead and its trial is retried."""

RENEW_SECONDS = 5.0
"""Seconds between two renewals of a claim; a dozen of them must fail before a lease counts as dead."""

_NAME = re.compile(r"(\d{4,7})\.(\d{1,6})")
_BEAT_DIGITS = 12
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Claim:
    """The right to run one attempt of one trial.

    Attributes:
        trial: The trial's number.
        attempt: From 1.
        run: Number of the ``sweep run`` that it is claimed for.
        faults: Infrastructure faults that ended earlier attempts, oldest first.
        batch_divisor: Divisor of the batch per device, because the batch was too large for the device.
    """

    trial: int
    attempt: int
    run: int
    faults: tuple[str, ...] = ()
    batch_divisor: int = 1


@dataclass(frozen=True)
class Holder:
    """Content of a claim's file; zeros and empty texts if writing was cut off.

    Attributes:
        claim: The claim.
        host: Name of the machine.
        boot: Id of the machine's boot, which distinguishes machines of the same name.
        pid: The worker's process id.
        started: Unix time of the claim.
        beat: Number of renewals.
    """

    claim: Claim
    host: str
    boot: str
    pid: int
    started: float
    beat: int

    @property
    def is_local(self) -> bool:
        """Whether the claim was made on this machine since its last boot, so that its lock can be checked."""
        # A claim that was cut off while it was written counts as local, since its lock still tells whether it is held.
        return (self.host, self.boot) in {_here(), ("", "")}


@dataclass(frozen=True)
class _Standstill:
    """A reader's memory of a claim: its beat, seconds without a change, and the time of the last look."""

    beat: int
    seconds: float
    looked: float


class Lease:
    """A held claim; it ends with ``release``, or with the last process that inherited it."""

    def __init__(self, claim: Claim, file: Path) -> None:
        self.claim = claim
        self._beat = 0
        self._renewed = time.monotonic()
        self._facts = _facts(claim)
        self._descriptor = _create(file, self._text())

    def renew(self) -> None:
        """Increment the beat for readers on other machines; do nothing if a renewal is not due yet."""
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        self._renewed = time.monotonic()
        self._beat += 1
        # The text keeps its length, so this needs no space. If it fails nevertheless, the folder is gone or broken, and
        # the next write of a record reports that.
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, self._text(), 0)

    def release(self) -> None:
        """Release the claim, also for live processes that inherited it."""
        if self._descriptor >= 0:
            file_lock.unlock(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _text(self) -> bytes:
        return f'{self._facts[:-1]}, "beat": {self._beat:>{_BEAT_DIGITS}}}}\n'.encode()


@dataclass(frozen=True)
class BorrowedLease:
    """A claim in the process that runs its trial; the worker holds and renews it."""

    claim: Claim

    def renew(self) -> None:
        """Do nothing: the holder renews the claim."""

    def release(self) -> None:
        """Do nothing: the holder releases the claim."""


def _facts(claim: Claim) -> str:
    """Return the JSON for a claim's file, with this process as the holder."""
    host, boot = _here()
    return json.dumps(
        {
            "run": claim.run,
            "host": host,
            "boot": boot,
            "pid": os.getpid(),
            "started": time.time(),
            "faults": claim.faults,
            "batch_divisor": claim.batch_divisor,
        }
    )


class Claims:
    """The claims of one sweep.

    Args:
        folder: ``results/<name>/claims``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stood: dict[tuple[int, int], _Standstill] = {}
        self._newest: dict[int, int] = {}
        self._listed: set[str] = set()
        self._released: set[tuple[int, int]] = set()
        self._is_listed = False

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other processes from claiming and recording while the block runs; not reentrant.

        Raises:
            FolderError: The folder is missing or not writable.
        """
        return exclusive(self._folder / ".lock")

    @contextlib.contextmanager
    def fenced(self, trial: int, attempt: int) -> Iterator[None]:
        """Lock, and check that an attempt is still the newest one.

        Raises:
            AttemptOutdated: Another process has taken over the trial.
            FolderError: The folder is missing or not writable.
        """
        with self.locked():
            self.refuse_outdated(trial, attempt)
            yield

    def refuse_outdated(self, trial: int, attempt: int) -> None:
        """Raise AttemptOutdated if there is a newer attempt; attempts are consecutive, so one look is enough."""
        if self._file(trial, attempt + 1).exists():
            raise AttemptOutdated(f"trial {trial}: attempt {attempt} was given up, there is a newer one")

    def newest(self) -> dict[int, int]:
        """Return the newest attempt of each claimed trial.

        Raises:
            FolderError: The folder is missing.
        """
        try:
            names = set(os.listdir(self._folder))  # noqa: PTH208 - a Path for each of thousands of names takes its time
        except OSError as error:
            raise FolderError(f"{self._folder}: {error.strerror}") from None
        new = names - self._listed
        if len(names) - len(new) < len(self._listed):  # claims were deleted
            self._newest, self._listed, new = {}, set(), names
        for match in filter(None, map(_NAME.fullmatch, new)):
            trial, attempt = int(match[1]), int(match[2])
            self._listed.add(match[0])
            self._newest[trial] = max(attempt, self._newest.get(trial, 0))
        self._is_listed = True
        return dict(self._newest)

    def newest_of(self, trial: int) -> int:
        """Return the newest attempt of one trial, 0 if it was never claimed.

        All claims are listed only once. Attempts are consecutive, so later ones are found by their names.

        Raises:
            FolderError: The folder is missing.
        """
        if not self._is_listed:
            self.newest()
        attempt = self._newest.get(trial, 0)
        while (file := self._file(trial, attempt + 1)).exists():
            attempt += 1
            self._newest[trial] = attempt
            self._listed.add(file.name)
        return attempt

    def take(self, claim: Claim) -> Lease | None:
        """Take a claim; None if another process was faster.

        Raises:
            FolderError: The folder is missing or not writable.
        """
        file = self._file(claim.trial, claim.attempt)
        try:
            return Lease(claim, file)
        except FileExistsError:
            return None
        except OSError as error:
            raise FolderError(write_failure(file, error)) from error

    def holder(self, trial: int, attempt: int) -> Holder:
        """Return the content of an attempt's claim."""
        known = self._line(trial, attempt, 0)
        try:
            faults = tuple(map(str, known.get("faults", ())))
            claim = Claim(trial, attempt, int(known.get("run", 0)), faults, int(known.get("batch_divisor", 1)))
            host, boot, pid = str(known.get("host", "")), str(known.get("boot", "")), int(known.get("pid", 0))
            return Holder(claim, host, boot, pid, float(known.get("started", 0)), int(known.get("beat", 0)))
        except (TypeError, ValueError):
            return Holder(Claim(trial, attempt, 0), "", "", 0, 0.0, 0)

    def note(self, claim: Claim, params: Params) -> None:
        """Append a trial's parameters to its claim, durably; to be called before the trial trains.

        Raises:
            AttemptOutdated: Another process has taken over the trial.
            FolderError: The disk is full or the folder is gone.
        """
        self.refuse_outdated(claim.trial, claim.attempt)
        file = self._file(claim.trial, claim.attempt)
        try:
            # Synced, because a retry after a power cut must find the parameters of the saved state.
            _append(file, f"{json.dumps({'params': params}, allow_nan=False)}\n".encode())
        except OSError as error:
            raise FolderError(write_failure(file, error)) from error

    def params(self, trial: int) -> Iterator[Params]:
        """Yield the parameters in a trial's claims, the newest attempt's first; many claims have none yet."""
        for attempt in range(self.newest_of(trial), 0, -1):
            params = self._line(trial, attempt, 1).get("params")
            if isinstance(params, dict) and all(isinstance(value, Value) for value in params.values()):
                yield params

    def is_alive(self, trial: int, attempt: int) -> bool:
        """Return whether a process holds an attempt's claim."""
        # The lock tells at once, but only on one machine: network file systems share locks unreliably or not at all.
        holder = self.holder(trial, attempt)
        return self._is_locked(trial, attempt) if holder.is_local else self.seconds_still(holder) < LEASE_SECONDS

    def held_here(self) -> list[Holder]:
        """Return the holders of claims on this machine, also of trials that have ended meanwhile.

        Raises:
            FolderError: The folder is missing.
        """
        looked_at = self.newest().items() - self._released
        locked = {item for item in looked_at if self._is_locked(*item)}
        self._released |= looked_at - locked  # a claim that was released is never taken again
        return [holder for holder in (self.holder(*item) for item in sorted(locked)) if holder.is_local]

    def seconds_still(self, holder: Holder) -> float:
        """Return for how long a claim's beat has not changed, on this process's monotonic clock.

        A gap between two looks counts as two renewals at most. This process may have been frozen together with the
        holder, as on a suspended machine.
        """
        key, now = (holder.claim.trial, holder.claim.attempt), time.monotonic()
        before = self._stood.get(key)
        if before is None or before.beat != holder.beat:
            self._stood[key] = _Standstill(holder.beat, 0.0, now)
        else:
            seconds = before.seconds + min(now - before.looked, 2 * RENEW_SECONDS)
            self._stood[key] = _Standstill(holder.beat, seconds, now)
        return self._stood[key].seconds

    def _is_locked(self, trial: int, attempt: int) -> bool:
        try:
            descriptor = open_own(self._file(trial, attempt), os.O_RDONLY)
        except OSError:
            return False
        try:
            return file_lock.is_locked(descriptor)
        except OSError:
            return True  # in doubt it is alive: a trial that runs twice costs more than one that is retried late
        finally:
            os.close(descriptor)

    def _line(self, trial: int, attempt: int, number: int) -> dict[str, Any]:
        """Return one of the lines of a claim, an empty dict if it is missing or damaged."""
        lines = read_lines(self._file(trial, attempt), number + 1)
        values = lines[number] if number < len(lines) else None
        return values if isinstance(values, dict) else {}

    def _file(self, trial: int, attempt: int) -> Path:
        return self._folder / f"{trial:04d}.{attempt}"


def _create(file: Path, text: bytes) -> int:
    """Create a file that appears complete and locked, and must not exist yet; return its descriptor."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    descriptor = _written(temporary, text)
    try:
        # The link makes the file appear at once: its content is written and its lock is held before it has this name.
        os.link(temporary, file)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in _NO_LINKS:
            raise
        return _written(file, text)  # complete a moment later, on a file system without hard links
    finally:
        temporary.unlink(missing_ok=True)
    return descriptor


def _written(file: Path, text: bytes) -> int:
    descriptor = open_own(file, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        file_lock.lock(descriptor)
        if os.write(descriptor, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.close(descriptor)
        file.unlink(missing_ok=True)
        raise
    return descriptor


def _append(file: Path, line: bytes) -> None:
    descriptor = open_own(file, os.O_WRONLY | os.O_APPEND)
    try:
        if os.write(descriptor, line) < len(line):  # readers skip half a line
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@functools.cache
def _here() -> tuple[str, str]:
    """Return this machine's name, and the id of its boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return socket.gethostname(), boot.read_text().strip() if boot.is_file() else "-"
