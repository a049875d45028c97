"""Defines the paths under ``results/<name>/``, and reads and writes the files there atomically.

The folder is the contract: everything that is shown, ranked or resumed is read from it.

    spec.json               what the sweep is; written once (Manifest)
    runs/0001.json          one per ``sweep run``: budget, profile, host, start, end
    runs/0001.jobs          ids of the jobs that a cluster was given for it
    runs/0001.stop          its trials on other machines are to stop
    calibration.json        how many trials at a time suit which machine (Calibration)
    claims/0007.1           trial and attempt, held by one worker, and its parameters (Claims)
    progress/0007.json      a running trial, rewritten once a second
    trials/0007.json        how a trial ended (TrialRecord)
    row_scores/0007.json    metrics of a finished trial, row by row (RowScores)
    logs/ tensorboard/      one each per trial
    checkpoints/trial-0007/ best weights of the contenders only
    states/trial-0007/      the state from which an interrupted or waiting trial resumes, unless it is in memory
    openings/0001.json      when the test rows were opened, and for which winner (Opening)
    data/ model/            rows, tokens and the resolved model, prepared once
    data/checked.json       sizes, times and digests of these and of the model's folder (TrainedOn)
    references.json         scores of models without a transformer (Reference); row_facts.json: counts (RowFacts)
    early_end.json          why it ends before its budget, if little is expected of the rest (EarlyEnd)
    foreign.json            trials of an earlier sweep that tell the sampler (Foreign)
    confirm/                the folder of a sweep of its own: the best trials, trained again on fresh seeds
    leaderboard.{md,csv,json}  report.html  winner/
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from finesweep.errors import FolderError
from finesweep.files import Damaged, check_folder_name, read_as, refuse_all_but_files, write_json, writing
from finesweep.files.atomic import read_json, staged_json
from finesweep.files.checked_json import read_numbered
from finesweep.folder import state_memory
from finesweep.folder.claims import Claims
from finesweep.folder.manifest import Manifest, Run, hours_ran
from finesweep.folder.records import Records, is_pruned_already, refuse_lost
from finesweep.folder.row_scores import RowScores
from finesweep.spec.sections import FORMAT
from finesweep.trial import Params, Progress, TrialRecord

UNKNOWN = 0.05
"""Share of texts with mostly unknown words above which the user gets a note."""


@dataclass(frozen=True)
class SweepFolder:
    """One sweep's folder.

    Args:
        path: Absolute path of ``results/<name>``.
    """

    path: Path
    notes: list[str] = field(default_factory=list, compare=False)
    _finished: set[int] = field(default_factory=set, compare=False, repr=False)

    @property
    def spec_file(self) -> Path:
        """The manifest; if it exists, the folder is complete."""
        return self.path / "spec.json"

    @property
    def calibration_file(self) -> Path:
        """Measurements of the machines that the sweep ran on."""
        return self.path / "calibration.json"

    @property
    def data(self) -> Path:
        """Folder of the prepared rows and tokens."""
        return self.path / "data"

    def tokens(self, max_length: int) -> Path:
        """Folder of the tokenised rows, cut at a length."""
        return self.data / f"tokens-{max_length}"

    def text_notes(self, max_length: int) -> list[str]:
        """Return notes for each split: number of texts cut at ``max_length`` tokens, and of mostly unknown ones."""
        counts = read_json(self.tokens(max_length) / "counts.json") or {}
        cut = [
            f"{count['cut']:,} of {count['rows']:,} {split} texts are longer than {max_length} tokens and were cut"
            for split, count in counts.items()
            if count["cut"]
        ]
        unknown = [
            f"{count['unknown']:,} of {count['rows']:,} {split} texts are mostly words that the tokenizer does not know"
            for split, count in counts.items()
            if count.get("unknown", 0) > UNKNOWN * count["rows"]
        ]
        return cut + unknown

    @property
    def model(self) -> Path:
        """Folder of a model made from scratch: config and tokenizer."""
        return self.path / "model"

    @property
    def winner(self) -> Path:
        """The exported best model."""
        return self.path / "winner"

    @property
    def confirmation(self) -> SweepFolder:
        """The folder in which the best trials are trained again."""
        return SweepFolder(self.path / "confirm")

    @property
    def leaderboard(self) -> Path:
        """Path of the leaderboard without its suffix."""
        return self.path / "leaderboard"

    @functools.cached_property
    def claims(self) -> Claims:
        """The claims on trials."""
        return Claims(self.path / "claims")

    @functools.cached_property
    def _records(self) -> Records:
        return Records(self.path / "trials", self.notes.append)

    def worker_log(self, run: int, index: int) -> Path:
        """Log of a run's worker; ``index`` is from 0."""
        return self.path / "logs" / f"worker-{run:04d}-{index + 1}.log"

    def trial_log(self, trial: int) -> Path:
        """Log of a trial, with everything that it prints."""
        return self.path / "logs" / f"trial-{trial:04d}.log"

    def tensorboard(self, trial: int) -> Path:
        """Folder of a trial's TensorBoard scalars."""
        return self.path / "tensorboard" / f"trial-{trial:04d}"

    def checkpoint(self, trial: int) -> Path:
        """Folder of a trial's best weights, if it is among the best trials."""
        return self.path / "checkpoints" / f"trial-{trial:04d}"

    def checkpoints(self) -> set[int]:
        """Return the numbers of the trials whose weights are kept."""
        names = (folder.name.removeprefix("trial-") for folder in (self.path / "checkpoints").glob("trial-*"))
        return {int(name) for name in names if name.isdecimal()}

    def state(self, trial: int) -> Path:
        """Folder on disk of the state from which an interrupted or waiting trial resumes; see ``states_of``."""
        return self.path / "states" / f"trial-{trial:04d}"

    def state_places(self) -> list[Path]:
        """Return the folders with saved states: the one on disk, and those of its runs in this machine's memory."""
        in_memory = state_memory.folders(run.token for run in self.runs()) if state_memory.is_used() else []
        return [self.path / "states", *in_memory]

    def states_of(self, trial: int) -> list[Path]:
        """Return a trial's saved states, the newest first; more than one only if processes were killed."""
        return state_memory.newest_first(place / self.state(trial).name for place in self.state_places())

    def record_file(self, trial: int) -> Path:
        """File of a trial's record."""
        return self.path / "trials" / f"{trial:04d}.json"

    def row_scores_file(self, trial: int) -> Path:
        """File of a finished trial's metrics, row by row."""
        return self.path / "row_scores" / f"{trial:04d}.json"

    def progress_file(self, trial: int) -> Path:
        """File of a running trial's progress."""
        return self.path / "progress" / f"{trial:04d}.json"

    def manifest(self) -> Manifest:
        """Read the sweep's manifest.

        Raises:
            FolderError: The folder is no sweep's, is damaged, or has another version's layout.
        """
        check_folder_name(self.path)
        if not self.path.is_dir():
            raise FolderError(f"{self.path}: no such folder")
        if not self.spec_file.is_file():
            raise FolderError(f"{self.path}: this is no sweep's folder (it has no spec.json)")
        refuse_all_but_files(self.path)
        values = read_json(self.spec_file)
        if not isinstance(values, dict):
            raise FolderError(f"{self.spec_file}: cannot be read as JSON; start anew with --fresh")
        if (found := values.get("format")) != FORMAT:
            raise FolderError(
                f"{self.spec_file}: layout {found}, this finesweep reads {FORMAT}; use another --name or --fresh"
            )
        try:
            return Manifest.read(values)
        except ValueError as error:
            raise FolderError(f"{self.spec_file}: {error}; start anew with --fresh") from None

    def search_manifest(self) -> Manifest:
        """Read the manifest of a sweep that searches.

        Raises:
            FolderError: As ``manifest``; or the folder is that of a confirmation.
        """
        manifest = self.manifest()
        if manifest.repeats:
            raise FolderError(f"{self.path} is a confirmation itself; name the folder of its sweep, {self.path.parent}")
        return manifest

    def runs(self) -> list[Run]:
        """Return every ``sweep run`` so far, oldest first."""
        return [run for number, run in read_numbered(Run, self.path / "runs") if run.number == number]

    def begin_run(self, made: Callable[[int], Run]) -> Run:
        """Write the facts of a new run under the next free number."""
        with self.claims.locked():
            numbers = [int(file.stem) for file in (self.path / "runs").glob("*.json") if file.stem.isdecimal()]
            run = made(max(numbers, default=0) + 1)
            self.write_run(run)
        return run

    def write_run(self, run: Run) -> None:
        """Write one run's facts, replacing the old ones."""
        write_json(self.path / "runs" / f"{run.number:04d}.json", run.to_json())

    def jobs(self, run: int) -> Mapping[str, str]:
        """Return the ids of a run's cluster jobs, by role; empty if there are none."""
        values = read_json(self._jobs_file(run))
        return {str(role): str(job) for role, job in values.items()} if isinstance(values, dict) else {}

    def write_jobs(self, run: int, jobs: Mapping[str, str]) -> None:
        """Save the ids of a run's cluster jobs."""
        write_json(self._jobs_file(run), dict(jobs))

    def request_stop(self, run: int) -> None:
        """Ask a run's trials to stop by a file, which also reaches those that their worker cannot signal."""
        with writing(self.path):
            self._stop_file(run).touch()

    def withdraw_stop(self, run: int) -> None:
        """Delete the request to stop, so that the run's trials can start again."""
        with writing(self.path):
            self._stop_file(run).unlink(missing_ok=True)

    def is_stop_requested(self, run: int) -> bool:
        """Return whether a run's trials were asked to stop."""
        return self._stop_file(run).exists()

    def _stop_file(self, run: int) -> Path:
        return self.path / "runs" / f"{run:04d}.stop"

    def _jobs_file(self, run: int) -> Path:
        return self.path / "runs" / f"{run:04d}.jobs"

    def hours_used(self, besides: int = 0) -> float:
        """Return the hours in which runs ran; hours of simultaneous runs count once.

        Args:
            besides: Number of a run that is left out.
        """
        runs = [run for run in self.runs() if run.number != besides]
        is_watched = all(run.watched for run in runs)
        running = [] if is_watched else [(item.started, time.time()) for item in self.running()]
        return hours_ran(runs, self.records(), running)

    def records(self, *, checked: bool = False) -> list[TrialRecord]:
        """Return the records of all ended trials, by number.

        An unreadable record is set aside as ``*.corrupt`` and named in ``notes``; its trial is then run again. A record
        that was replaced after its trial had finished is noticed some seconds later, or at once if ``checked``.
        """
        return self._records.all(checked=checked)

    def read_record(self, trial: int) -> TrialRecord | None:
        """Return the record of a trial's last ended attempt, None if there is none."""
        return self._records.read(f"{trial:04d}.json")

    def read_row_scores(self, record: TrialRecord) -> RowScores | None:
        """Return what a trial kept of each row; None if there is nothing, or not of this record's attempt."""
        try:
            found = read_as(RowScores, self.row_scores_file(record.trial))
        except (Damaged, OSError):
            return None
        return found if (found.trial, found.attempt) == (record.trial, record.attempt) else None

    def changed_records(self, since: int) -> list[tuple[int, TrialRecord | None]]:
        """Return the records that were added, changed or removed, in order, after the first ``since`` changes."""
        return self._records.changed(since)

    def params_of(self, trial: int) -> Iterator[Params]:
        """Yield the known parameters of a trial, the surest first; they are the same in all its attempts."""
        record = self.read_record(trial)
        if record is not None:
            yield record.params
        yield from self.claims.params(trial)
        progress = self.read_progress(trial)
        if progress is not None:  # claims of earlier versions have none
            yield progress.params

    def set_aside(self) -> list[str]:
        """Return the paths in the folder of damaged files that this process or another one has set aside."""
        found = (item for part in ("", *FOLDERS) for item in (self.path / part).glob("*.corrupt*"))
        return sorted(str(item.relative_to(self.path)) for item in found)

    def progress(self) -> list[Progress]:
        """Return the running trials' progress, by number."""
        return [item for number, item in read_numbered(Progress, self.path / "progress") if item.trial == number]

    def read_progress(self, trial: int) -> Progress | None:
        """Return a trial's progress, None if it is missing or unreadable."""
        try:
            progress = read_as(Progress, self.progress_file(trial))
        except (Damaged, OSError):
            return None
        return progress if progress.trial == trial else None

    def running(self) -> list[Progress]:
        """Return the progress of the trials with a live claim, by number.

        Raises:
            FolderError: The claims folder is missing.
        """
        newest = self.claims.newest()
        current = (item for item in self.progress() if newest.get(item.trial) == item.attempt)
        return [item for item in current if self.claims.is_alive(item.trial, item.attempt)]

    def write_progress(self, progress: Progress) -> None:
        """Replace a running trial's progress.

        Raises:
            AttemptOutdated: Another process has taken over the trial.
        """
        self.claims.refuse_outdated(progress.trial, progress.attempt)
        write_json(self.progress_file(progress.trial), dataclasses.asdict(progress), durable=False)

    def record(self, record: TrialRecord, row_scores: RowScores | None = None) -> None:
        """Write an attempt's record, durably; delete its progress, and with a final record its saved state.

        Args:
            record: The record.
            row_scores: The trial's metrics row by row, written just before the record.

        Raises:
            AttemptOutdated: Another process has taken over the trial, or a fault is on record as the end of this
                attempt: a later result of its process does not count.
            FolderError: The disk is full or the folder is gone.
        """
        file = self.record_file(record.trial)
        # Written before the lock is taken, so that no other worker waits for the disk.
        with staged_json(file, record.to_json()) as staged, self.claims.fenced(record.trial, record.attempt):
            known = self.read_record(record.trial)
            before = known if known is not None and known.attempt == record.attempt else None
            refuse_lost(before, record)
            if not is_pruned_already(before, record):
                self._write_row_scores(row_scores)
                staged.replace(file)
            self.progress_file(record.trial).unlink(missing_ok=True)
        self._records.look_again(file.name)
        if record.state.finished:
            for state in self.states_of(record.trial):
                shutil.rmtree(state, ignore_errors=True)
        else:
            self._finished.discard(record.trial)  # its weights were damaged, and it runs again

    def _write_row_scores(self, row_scores: RowScores | None) -> None:
        if row_scores is None:
            return
        file = self.row_scores_file(row_scores.trial)
        with writing(file.parent):
            file.parent.mkdir(exist_ok=True)  # a folder of an older version has none
        # Not durable: a loss costs an interval, not a result, and other workers wait for this lock.
        write_json(file, dataclasses.asdict(row_scores), durable=False)

    def is_finished(self, trial: int) -> bool:
        """Return whether a trial has a final record; once it has, its file is not read again."""
        if trial not in self._finished:
            if not self._records.has_finished(f"{trial:04d}.json"):
                return False
            self._finished.add(trial)
        return True


FOLDERS = ("runs", "claims", "progress", "trials", "logs", "tensorboard", "checkpoints", "states", "openings", "data")


def make_folders(path: Path) -> SweepFolder:
    """Create a sweep's folder without its manifest, which is written last, when everything else is complete.

    Raises:
        FolderError: The folder cannot be written; names the path and the reason.
    """
    try:
        for folder in FOLDERS:
            (path / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(f"{path}: cannot be written ({error.strerror})") from None
    return SweepFolder(path)
