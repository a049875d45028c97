"""Exports the best trial's weights as the winner, and proves that they give the ranked result."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from finesweep import activity
from finesweep.errors import FolderError, WinnerMismatch
from finesweep.files import (
    Damaged,
    as_kind,
    open_log,
    read_as,
    read_bytes,
    read_text,
    write_failure,
    write_json,
    write_text,
)
from finesweep.files.linked_copy import linked_copy
from finesweep.folder import Manifest, SweepFolder
from finesweep.host.process_ahead import ProcessAhead
from finesweep.host.python_process import child_environment, own_command
from finesweep.host.temporary_folders import temporary_folder, temporary_folders_in
from finesweep.launch import SettledProfile
from finesweep.model.remote_code import FLAG
from finesweep.model.weights import files_digest
from finesweep.registry import TASKS
from finesweep.results.answers import Answers
from finesweep.results.choice import Choice
from finesweep.results.model_card import model_card
from finesweep.results.ranking import verdict, winner
from finesweep.text import clean
from finesweep.trial import Direction, TrialRecord

TOLERANCE = 1e-4
"""Maximum relative difference of a loss between the ranked trial and the reloaded winner."""

TOLERANCE_OF_ROUNDING = 1e-2
"""The same, if only one of them was evaluated with a GPU's tf32, which rounds factors, or on another machine with it.
"""

SCORE_TOLERANCE = 10.0
"""Maximum difference of a score (1 at best), as a multiple of the tolerance of a loss: one of its rows may be a tie."""

EVIDENCE = "evidence.json"

POLL_SECONDS = 0.1
_LONGEST = 10_000_000
"""Maximum size in bytes of a file of code, or of the proof's answer."""


@dataclass(frozen=True)
class Evidence:
    """Evidence that a winner is the model that was ranked.

    Attributes:
        trial: The trial it comes from.
        metric: Name of the objective.
        ranked: The objective on the leaderboard.
        reloaded: Validation metrics of the exported folder, evaluated in a fresh process.
        test: Test metrics of the same folder; empty without a test set.
        sample: The pipeline's answer to the first validation text, without the text.
        precision: Precision of the fresh process, as in ``TrialRecord.effective``.
        files: Digest of each file of the model, by name.
        rows: Number of validation rows; None if unknown.
        same_answer: Its answer to the validation rows, if it is always the same.
        answers: What it answers to the validation rows.
        seed: The fresh seed of its weights; None if they are those of the search.
    """

    trial: int
    metric: str
    ranked: float
    reloaded: Mapping[str, float]
    test: Mapping[str, float]
    sample: Mapping[str, Any]
    precision: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None
    same_answer: str | None = None
    answers: Answers = field(default_factory=Answers)
    seed: int | None = None

    def warnings(self, verdict: str | None) -> list[str]:
        """Return sentences on the winner's weaknesses.

        Args:
            verdict: Message that it does not beat a naive answer; None if it does.
        """
        found = [f"This model is {verdict}."] if verdict is not None else []
        if self.same_answer is not None:
            found.append(f"It answers {clean(self.same_answer, 60)!r} to each of the {self.rows:,} validation rows.")
        return found

    def differences(self, record: TrialRecord, directions: Mapping[str, Direction]) -> list[str]:
        """Return the metrics in which the reloaded model and the ranked trial differ by more than rounding."""
        there, here = (bool(ways.get("tf32")) for ways in (record.effective, self.precision))
        is_alike = there == here and record.host == socket.gethostname()
        tolerance = TOLERANCE if is_alike or not (there or here) else TOLERANCE_OF_ROUNDING
        slack = max(SCORE_TOLERANCE * tolerance, 1.5 / self.rows if self.rows else 0.0)
        # If every answer is the same, correlations and ranks depend on rounding alone.
        names = {self.metric, "eval_loss"} if self.same_answer else self.reloaded.keys()
        found = []
        for name in (name for name in directions if name in names and record.metrics.get(name) is not None):
            is_loss = directions[name] is Direction.MINIMIZE
            limits = {"rel_tol": tolerance, "abs_tol": 1e-8} if is_loss else {"rel_tol": 0.0, "abs_tol": slack}
            if not math.isclose(self.reloaded[name], record.metrics[name] or 0.0, **limits):
                found.append(name)
        return found

    def is_about(self, choice: Choice) -> bool:
        """Return whether it is about a model."""
        return (self.trial, self.ranked, self.seed) == (choice.trial, choice.record.objective, _fresh_seed(choice))

    def is_of(self, choice: Choice, folder: Path) -> bool:
        """Return whether a folder still holds the model for which this is the evidence, and it is this one."""
        return self.is_about(choice) and bool(self.files) and self.files.items() <= _digests(folder).items()


def export(
    sweep_folder: SweepFolder,
    manifest: Manifest,
    choice: Choice,
    profile: SettledProfile,
    stopping: Callable[[], bool],
    command: str,
    *,
    meanwhile: Callable[[], None],
    ahead: ProcessAhead | None = None,
) -> Evidence | None:
    """Export a model as ``winner/``: copy it, reload it in a fresh process, evaluate it, then move it into place.

    Its weights are hard links to the trial's, so they are written and stored once. An existing winner that is this
    very model stays as it is.

    Args:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest.
        choice: The model; its weights are under ``checkpoints/``.
        profile: Has the device and the threads for the evaluation.
        stopping: Returns whether to stop.
        command: Name of the command that exports it, for the note of the opening of the test rows.
        meanwhile: Called once while the fresh process loads the model; not at all if there is nothing to prove.
        ahead: From ``proof_ahead``, to become the fresh process; the caller ends it.

    Returns:
        The evidence, None if it was asked to stop.

    Raises:
        FolderError: The weights are gone, or cannot be copied.
        WinnerMismatch: The reloaded model does not give the ranked value.
    """
    record, metric = choice.record, manifest.spec.objective.metric
    assert record.objective is not None
    if (present := read_evidence(sweep_folder)) and present.is_of(choice, sweep_folder.winner):
        return present
    building = sweep_folder.path / ".winner.tmp"
    shutil.rmtree(building, ignore_errors=True)
    _copy(choice.folder.checkpoint(record.trial), building)
    _check_code(building, manifest)
    activity.tell(f"proving the winner: trial {choice.trial}, loaded in a fresh process and evaluated again")
    arguments = [str(sweep_folder.path), str(building), str(choice.folder.record_file(record.trial))]
    options = ["--trial", str(choice.trial), "--command", command, *([FLAG] if manifest.trusts_code else [])]
    started = functools.partial(_started, profile, ahead)
    found = _evaluate_in_fresh_process(sweep_folder, choice.trial, started, stopping, meanwhile, arguments, options)
    activity.tell("")
    if found is None:
        shutil.rmtree(building, ignore_errors=True)
        return None
    seed = _fresh_seed(choice)
    known = {"trial": choice.trial, "metric": metric, "ranked": record.objective, "seed": seed}
    evidence = as_kind(Evidence, {**found, **known, "files": _digests(building)})
    if differing := evidence.differences(record, TASKS.load(manifest.spec.task).metrics):
        pairs = ", ".join(f"{name} {record.metrics[name]:.6g} and {evidence.reloaded[name]:.6g}" for name in differing)
        raise WinnerMismatch(
            f"trial {choice.trial} was ranked, and its weights, loaded again and evaluated by a plain loop, differ: "
            f"{pairs}; they are left in {building} and are not exported as winner/"
        )
    write_json(building / EVIDENCE, dataclasses.asdict(evidence))
    warnings = evidence.warnings(verdict(manifest, record))
    cut = sweep_folder.text_notes(record.effective["data.max_length"])
    best = winner(sweep_folder.records(), manifest.spec.direction)
    card = model_card(manifest, choice, cut, evidence.reloaded, evidence.test, warnings, best)
    write_text(building / "README.md", card)
    # Removed first: a rename cannot replace a folder that is not empty.
    shutil.rmtree(sweep_folder.winner, ignore_errors=True)
    building.rename(sweep_folder.winner)
    return evidence


def _fresh_seed(choice: Choice) -> int | None:
    return choice.record.effective.get("seed") if choice.candidate is not None else None


def read_evidence(sweep_folder: SweepFolder) -> Evidence | None:
    """Return the evidence of the exported winner, None if there is none."""
    try:
        return read_as(Evidence, sweep_folder.winner / EVIDENCE)
    except (OSError, Damaged):
        return None


def _digests(folder: Path) -> dict[str, str]:
    return {file.name: files_digest([file]) for file in folder.iterdir() if file.is_file()}


def _copy(checkpoint: Path, target: Path) -> None:
    if not checkpoint.is_dir():
        raise FolderError(f"{checkpoint}: the best trial's weights are gone; run the sweep anew with --fresh")
    try:
        # The other files are small, and a user may edit them where they are.
        linked_copy(checkpoint, target, linked="*.safetensors")
    except (OSError, shutil.Error) as error:
        free = shutil.disk_usage(checkpoint).free / 1e6
        raise FolderError(f"{target}: the winner cannot be written ({error}); {free:.0f} MB are free") from error


def _check_code(folder: Path, manifest: Manifest) -> None:
    """Raise WinnerMismatch if a folder holds code other than the model's own, which the user has read and trusts."""
    for file in sorted(folder.rglob("*.py")):
        original = manifest.model.folder / file.name
        known = manifest.trusts_code and original.is_file() and file.parent == folder
        if not known or read_bytes(original, _LONGEST) != read_bytes(file, _LONGEST):
            raise WinnerMismatch(f"{file}: this code is not the model's own; nothing is run, and there is no winner")


def proof_ahead(profile: SettledProfile) -> ProcessAhead | None:
    """Start the process that will prove the winner before there is one; None if it cannot be started.

    Args:
        profile: Has the device and the threads for the evaluation.
    """
    with contextlib.suppress(OSError):
        return ProcessAhead("verify", _environment(profile))
    return None


def _evaluate_in_fresh_process(
    sweep_folder: SweepFolder,
    trial: int,
    process: Callable[[Sequence[str], IO[bytes], Path], subprocess.Popen[bytes]],
    stopping: Callable[[], bool],
    meanwhile: Callable[[], None],
    arguments: Sequence[str],
    options: Sequence[str],
) -> dict[str, Any] | None:
    """Return the fields of ``Evidence`` that a new process finds, which knows only folders; None if asked to stop."""
    with temporary_folder() as temporary:
        output = Path(temporary) / "evidence.json"
        log = sweep_folder.path / "logs" / "winner.log"
        command = own_command("verify", *arguments, str(output), *options)
        try:
            with os.fdopen(open_log(log), "ab") as stream:
                code = _ended(process(command, stream, Path(temporary)), stopping, meanwhile)
        except OSError as error:
            raise FolderError(write_failure(log, error)) from error
        if code is None:
            return None
        if code != 0 or not output.is_file():
            raise WinnerMismatch(f"the winner of trial {trial} could not be loaded again; see {log}")
        found: dict[str, Any] = json.loads(read_text(output, _LONGEST))
        return found


def _environment(profile: SettledProfile) -> dict[str, str]:
    return child_environment("" if profile.gpus_per_trial == 0 else None, profile.threads_per_worker)


def _started(
    profile: SettledProfile, ahead: ProcessAhead | None, command: Sequence[str], log: IO[bytes], temporary: Path
) -> subprocess.Popen[bytes]:
    """Start the process that proves the winner in its own session, out of reach of Ctrl-C, unless it was ahead."""
    environment = _environment(profile)
    if ahead is not None and ahead.carry_out(command, environment, log.fileno()):
        return ahead.process
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={**environment, **temporary_folders_in(os.fspath(temporary))},
        start_new_session=True,
    )


def _ended(process: subprocess.Popen[bytes], stopping: Callable[[], bool], meanwhile: Callable[[], None]) -> int | None:
    """Return the exit code of a process, None if asked to stop; then, and after any error, the process is killed."""
    with process:
        try:
            meanwhile()
            while (code := process.poll()) is None and not stopping():
                time.sleep(POLL_SECONDS)
            return code
        finally:
            process.kill()
