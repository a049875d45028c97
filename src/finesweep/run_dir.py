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
import fcntl
import json
import math
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finesweep.atomic import read_json, write_failure, write_json
from finesweep.errors import RunDirError
from finesweep.manifest import Manifest, Run
from finesweep.spec import FORMAT
from finesweep.trial import Progress, TrialRecord


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
    _records: dict[str, tuple[tuple[int, int, int], TrialRecord]] = field(
        default_factory=dict, compare=False, repr=False
    )

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

    def tokens(self, max_length: int) -> Path:
        """Folder of the rows as tokens, cut at a length."""
        return self.data / f"tokens-{max_length}"

    def cut_texts(self, max_length: int) -> list[str]:
        """Say for each split how many texts were longer than ``max_length`` tokens; nothing where none was."""
        counts = read_json(self.tokens(max_length) / "counts.json") or {}
        return [
            f"{count['cut']:,} of {count['rows']:,} {split} texts are longer than {max_length} tokens and were cut"
            for split, count in counts.items()
            if count["cut"]
        ]

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
        values = read_json(self.spec_file)
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
        read = (self._read_record(file) for file in (self.path / "trials").glob("*.json"))
        return sorted((record for record in read if record is not None), key=lambda record: record.trial)

    def _read_record(self, file: Path) -> TrialRecord | None:
        """Read one record, again only if its file was replaced since: a sweep is looked at often."""
        try:
            status = file.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            known = self._records.get(file.name)
            if known is None or known[0] != version:
                known = self._records[file.name] = (version, TrialRecord.from_json(json.loads(file.read_bytes())))
        except FileNotFoundError:  # set aside by another process since the folder was listed
            return None
        except (KeyError, TypeError, ValueError) as error:
            self._set_aside(file, str(error))
            return None
        return known[1]

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
            values = read_json(file)
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
            raise RunDirError(write_failure(file, error)) from error

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


def move_aside(path: Path) -> Path:
    """Rename a folder out of the way, keeping what is in it; return its new place."""
    aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    path.rename(aside)
    return aside


def _whole(kind: type[Any], folder: Path) -> list[Any]:
    """Read a folder's JSON files in order of their names, without those that are damaged."""
    made = []
    for file in sorted(folder.glob("*.json")):
        with contextlib.suppress(TypeError):
            made.append(kind(**read_json(file)))
    return made
