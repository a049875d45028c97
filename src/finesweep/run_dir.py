"""Owns every path under ``results/<name>/`` and how it is written: atomically, once, by one owner.

The folder is the contract: everything that is shown, ranked or resumed is read from it.

    spec.json               what the sweep is; written once (Manifest)
    runs/0001.json          one per ``sweep run``: budget, profile, host, start, end
    study.journal           Optuna's log
    claims/0007.1           trial and attempt, taken by one worker
    progress/0007.json      a running trial, rewritten once a second
    trials/0007.json        how a trial ended (TrialRecord)
    logs/ tensorboard/      one each per trial
    checkpoints/trial-0007/ best weights of the contenders only
    data/ model/            rows, tokens and the resolved model, prepared once
    leaderboard.{md,csv,json}  winner/
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import math
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finesweep import __version__
from finesweep.errors import RunDirError
from finesweep.spec import FORMAT
from finesweep.trial import Params, Progress, TrialRecord


@dataclass(frozen=True)
class Manifest:
    """What a sweep is: everything that two runs of it must have in common.

    Attributes:
        name: The sweep's name.
        spec: The spec's sections as plain values, without ``budget`` and ``stop``.
        data: Facts of the prepared data: ``sources`` (split to file or dataset with its digest or
            commit), ``rows`` (split to count), ``labels`` (names in the order of their ids, or None),
            ``text_pair`` (bool).
        model: Facts of the resolved model: ``name``, ``path`` (absolute folder), ``revision``,
            ``digest``, ``max_tokens``.
        plan: Parameters of the first trials, which no sampler proposes: baseline, ``start``, grid.
        created: Unix time.
        format: Version of this folder's layout.
        version: finesweep's version.
    """

    name: str
    spec: Mapping[str, Any]
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    plan: Sequence[Params]
    created: float
    format: int = FORMAT
    version: str = __version__

    def identity(self) -> dict[str, Any]:
        """Return what must not change under one name, flat by dotted name.

        Where files lie is no part of it; what is in them is.
        """
        spec = {key: value for key, value in self.spec.items() if key not in ("data", "model")}
        places = ("dataset", "train", "validation", "test", "revision")
        data = {key: value for key, value in self.spec["data"].items() if key not in places}
        digests = {split: source["digest"] for split, source in self.data["sources"].items()}
        model = {key: value for key, value in self.spec["model"].items() if key not in ("name", "revision")}
        whole = {**spec, "data": {**data, "content": digests}, "model": {**model, "content": self.model["digest"]}}
        return dict(_flat(whole))


@dataclass(frozen=True)
class Run:
    """One ``sweep run`` of a sweep.

    Attributes:
        number: From 1.
        budget: ``trials`` and ``hours``.
        stop: ``target`` and ``no_gain_trials``.
        profile: The launch profile.
        environment: Versions and device.
        host: Machine that the command ran on.
        pid: Process id of the command.
        started: Unix time.
        ended: Unix time, None while it runs or if it was killed.
        outcome: One line: why it ended.
    """

    number: int
    budget: Mapping[str, Any]
    stop: Mapping[str, Any]
    profile: Mapping[str, Any]
    environment: Mapping[str, Any]
    host: str
    pid: int
    started: float
    ended: float | None = None
    outcome: str | None = None


@dataclass(frozen=True)
class Claim:
    """The right to run one attempt of one trial."""

    trial: int
    attempt: int
    run: int


@dataclass(frozen=True)
class RunDir:
    """One sweep's folder.

    Args:
        path: Absolute path of ``results/<name>``.
    """

    path: Path
    notes: list[str] = field(default_factory=list, compare=False)

    @property
    def spec_file(self) -> Path:
        """The manifest; its existence means that the folder is whole."""
        return self.path / "spec.json"

    @property
    def study_file(self) -> Path:
        """Optuna's journal."""
        return self.path / "study.journal"

    @property
    def data(self) -> Path:
        """Folder of the prepared rows and tokens."""
        return self.path / "data"

    @property
    def model(self) -> Path:
        """Folder of a model made from scratch: config and tokenizer."""
        return self.path / "model"

    @property
    def winner(self) -> Path:
        """The exported best model."""
        return self.path / "winner"

    @property
    def leaderboard(self) -> Path:
        """The leaderboard without its suffix."""
        return self.path / "leaderboard"

    @property
    def worker_log(self) -> Path:
        """Where the worker's own output goes."""
        return self.path / "logs" / "worker.log"

    def trial_log(self, trial: int) -> Path:
        """Where everything that a trial prints goes."""
        return self.path / "logs" / f"trial-{trial:04d}.log"

    def tensorboard(self, trial: int) -> Path:
        """Folder of a trial's scalars."""
        return self.path / "tensorboard" / f"trial-{trial:04d}"

    def checkpoint(self, trial: int) -> Path:
        """Folder of a contender's best weights."""
        return self.path / "checkpoints" / f"trial-{trial:04d}"

    def record_file(self, trial: int) -> Path:
        """A trial's record."""
        return self.path / "trials" / f"{trial:04d}.json"

    def progress_file(self, trial: int) -> Path:
        """A running trial's progress."""
        return self.path / "progress" / f"{trial:04d}.json"

    def manifest(self) -> Manifest:
        """Read what the sweep is.

        Raises:
            RunDirError: The folder is no sweep's, is damaged, or has another version's layout.
        """
        if not self.path.is_dir():
            raise RunDirError(f"{self.path}: no such folder")
        if not self.spec_file.is_file():
            raise RunDirError(f"{self.path}: this is no sweep's folder (it has no spec.json)")
        values = _read_json(self.spec_file)
        if not isinstance(values, dict):
            raise RunDirError(f"{self.spec_file}: cannot be read as JSON; start anew with --fresh")
        if (found := values.get("format")) != FORMAT:
            raise RunDirError(
                f"{self.spec_file}: layout {found}, this finesweep reads {FORMAT}; use another --name or --fresh"
            )
        try:
            return Manifest(**values)
        except TypeError as error:
            raise RunDirError(f"{self.spec_file}: {error}; start anew with --fresh") from None

    def runs(self) -> list[Run]:
        """Return every ``sweep run`` so far, oldest first."""
        return _whole(Run, self.path / "runs")

    def write_run(self, run: Run) -> None:
        """Write one run's facts, replacing what stood there."""
        write_json(self.path / "runs" / f"{run.number:04d}.json", dataclasses.asdict(run))

    def hours_used(self) -> float:
        """Return the hours in which earlier, ended runs ran; a killed run counts up to its last record."""
        records = self.records()
        total = 0.0
        runs = self.runs()
        for run, following in zip(runs, [*(later.started for later in runs[1:]), math.inf], strict=True):
            ends = [r.started + r.seconds for r in records if run.started <= r.started < following]
            total += max((run.ended or max(ends, default=run.started)) - run.started, 0.0)
        return total / 3600

    def records(self) -> list[TrialRecord]:
        """Return how each ended trial ended, by number.

        A record that cannot be read is set aside as ``*.corrupt`` and named in ``notes``; its trial is
        then run again.
        """
        records = []
        for file in sorted((self.path / "trials").glob("*.json")):
            values = _read_json(file)
            try:
                if values is None:
                    raise ValueError("not JSON")
                records.append(TrialRecord.from_json(values))
            except (KeyError, TypeError, ValueError) as error:
                self._set_aside(file, str(error))
        return sorted(records, key=lambda record: record.trial)

    def _set_aside(self, file: Path, why: str) -> None:
        aside = file.with_name(file.name + ".corrupt")
        with contextlib.suppress(OSError):
            file.replace(aside)
        self.notes.append(f"{file.name} could not be read ({why}); set aside as {aside.name}")

    def progress(self) -> list[Progress]:
        """Return the running trials' progress, by number."""
        return _whole(Progress, self.path / "progress")

    def write_progress(self, progress: Progress) -> None:
        """Replace a running trial's progress."""
        write_json(self.progress_file(progress.trial), dataclasses.asdict(progress), durable=False)

    def record(self, record: TrialRecord) -> None:
        """Write how a trial ended, durably, and take its progress away."""
        write_json(self.record_file(record.trial), record.to_json())
        self.progress_file(record.trial).unlink(missing_ok=True)

    def claim(self, run: int, trials: int) -> Claim | None:
        """Take one unit of the budget: the lowest trial number that still has to run.

        A number is free if it has no finished record and no claim of this run; claims of earlier runs
        are dead, because a sweep's folder has one run at a time.

        Args:
            run: Number of this run.
            trials: The budget.

        Returns:
            The claim, or None when every trial below ``trials`` is taken.

        Raises:
            RunDirError: The claims folder is missing or not writable.
        """
        with self._locked("claims/.lock"):
            finished = {record.trial for record in self.records() if record.state.finished}
            claims = self._latest_claims()
            for trial in range(trials):
                last = claims.get(trial)
                if trial in finished or (last is not None and last.run == run):
                    continue
                claim = Claim(trial, last.attempt + 1 if last else 1, run)
                self._write_claim(claim)
                return claim
        return None

    def _latest_claims(self) -> dict[int, Claim]:
        latest: dict[int, Claim] = {}
        for file in (self.path / "claims").iterdir():
            trial, _, attempt = file.name.partition(".")
            if not (trial.isdecimal() and attempt.isdecimal()):
                continue
            # A claim that was cut off in writing belongs to a run that died.
            values = _read_json(file)
            claim = Claim(int(trial), int(attempt), values.get("run", 0) if isinstance(values, dict) else 0)
            if claim.trial not in latest or latest[claim.trial].attempt < claim.attempt:
                latest[claim.trial] = claim
        return latest

    def _write_claim(self, claim: Claim) -> None:
        file = self.path / "claims" / f"{claim.trial:04d}.{claim.attempt}"
        values = {"run": claim.run, "host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
        try:
            with file.open("x") as stream:
                json.dump(values, stream)
        except OSError as error:
            raise RunDirError(_write_failure(file, error)) from error

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        try:
            descriptor = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise RunDirError(f"{self.path / name}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


FOLDERS = ("runs", "claims", "progress", "trials", "logs", "tensorboard", "checkpoints", "data")


def make_folders(path: Path) -> RunDir:
    """Make a sweep's folder without its manifest, which is written last, when the rest is there.

    Raises:
        RunDirError: The folder cannot be written; names the path and the reason.
    """
    try:
        for folder in FOLDERS:
            (path / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirError(f"{path}: cannot be written ({error.strerror})") from None
    return RunDir(path)


def refuse_foreign(path: Path) -> None:
    """Make sure that a folder without a manifest holds nothing but the start of a sweep.

    Raises:
        RunDirError: Something else lies there, or it is no folder.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise RunDirError(f"{path} is a file; use another --name")
    if foreign := sorted(item.name for item in path.iterdir() if item.name not in (*FOLDERS, "model")):
        raise RunDirError(f"{path} is no sweep's folder (it holds {foreign[0]}); use another --name or --results")


def changes(old: Manifest, new: Manifest) -> list[str]:
    """Say what differs between two identities, a line each: ``space.learning_rate.high: 5e-05 -> 0.0001``."""
    before, after = old.identity(), new.identity()
    lines = []
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            lines.append(f"{name}: {_shown(before.get(name))} -> {_shown(after.get(name))}")
    return lines


def check_writable(folder: Path) -> None:
    """Make sure that a folder could be made and written, without leaving anything behind.

    Raises:
        RunDirError: It could not; names the nearest existing folder and the reason.
    """
    existing = folder
    while not existing.exists():
        existing = existing.parent
    probe = existing / f".finesweep-probe-{secrets.token_hex(8)}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise RunDirError(f"{existing}: cannot be written ({error.strerror}); use --results DIR") from None


def owner(path: Path) -> str | None:
    """Say who owns a sweep's folder at present (host, pid, since), None if nobody does."""
    try:
        with contextlib.closing(_Lock(path)):
            return None
    except RunDirError as error:
        return str(error).partition("`sweep run`: ")[2]


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Own a sweep's folder for as long as the block runs; the lock dies with its owner.

    Yields:
        The lock's file descriptor, for child processes to inherit, so that the folder stays owned until
        the last of them is gone.

    Raises:
        RunDirError: Another process owns it; says which, where and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(_Lock(path)) as lock:
        lock.sign()
        yield lock.descriptor


class _Lock:
    """The lock file beside a sweep's folder, so that the folder itself can be moved aside."""

    def __init__(self, path: Path) -> None:
        file = path.with_name(f".{path.name}.lock")
        try:
            self.descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise RunDirError(f"{file}: cannot be opened ({error.strerror})") from None
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            signature = os.read(self.descriptor, 1000).decode(errors="replace").strip()
            self.close()
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise RunDirError(f"{file}: cannot be locked ({error.strerror})") from None
            raise RunDirError(f"{path} is in use by another `sweep run`: {signature or 'unknown'}") from None

    def sign(self) -> None:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.ftruncate(self.descriptor, 0)
        os.write(self.descriptor, f"host {socket.gethostname()}, pid {os.getpid()}, since {since}\n".encode())

    def close(self) -> None:
        os.close(self.descriptor)


def move_aside(path: Path) -> Path:
    """Rename a folder out of the way, keeping what is in it; return its new place."""
    aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    path.rename(aside)
    return aside


def write_json(file: Path, values: Any, *, durable: bool = True) -> None:
    """Write JSON atomically; NaN and infinity are refused, since JSON has neither.

    Raises:
        RunDirError: The disk is full or the folder cannot be written.
        ValueError: A number is not finite.
    """
    write_text(file, json.dumps(values, indent=1, allow_nan=False, ensure_ascii=False) + "\n", durable=durable)


def write_text(file: Path, text: str, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old text or the new one, never a part.

    Args:
        file: Its folder must exist: a folder that someone removed is not made again.
        text: Written as UTF-8.
        durable: Whether it must survive a power cut (fsync).

    Raises:
        RunDirError: The disk is full or the folder cannot be written; names the path and what is free.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunDirError(_write_failure(file, error)) from error


def _write_failure(file: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(file.parent).free
        return f"{file}: the disk is full ({free / 1e6:.1f} MB free); make room and run the same command again"
    return f"{file}: cannot be written ({error.strerror})"


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _whole(kind: type[Any], folder: Path) -> list[Any]:
    """Read a folder's JSON files in order of their names, without those that are damaged."""
    made = []
    for file in sorted(folder.glob("*.json")):
        with contextlib.suppress(TypeError):
            made.append(kind(**_read_json(file)))
    return made


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = "nothing" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
