"""Keeps the weights of the best trials so far on disk, and deletes all others.

Several trials may end at the same time. Two rules keep them apart. A folder is deleted only if its trial's record shows
that better trials exist. A record is written only after its weights. So at every moment, even if all processes are
killed, each COMPLETE record among the best has its weights.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from finesweep.errors import Unreadable
from finesweep.files import write_json
from finesweep.files.atomic import sync
from finesweep.folder import Repeat, SweepFolder, disk
from finesweep.launch import Profile
from finesweep.model.weights import WeightsFault, digest
from finesweep.results.ranking import cost, order, ranks
from finesweep.trial import Direction, TrialRecord, TrialState

ARGUMENTS = "training_args.json"
# Parts of the names of arguments that hold tokens, accounts or paths.
_WITHHELD = ("token", "hub_", "output_dir", "push_to", "trackio", "project", "run_name")


def keep_if_best(
    sweep_folder: SweepFolder,
    profile: Profile,
    record: TrialRecord,
    direction: Direction,
    trainer: Any,
    *,
    cheap: bool = False,
    repeats: Sequence[Repeat] = (),
) -> TrialRecord:
    """Save a finished trial's best weights if it is among the best; to be called before its record is written.

    Args:
        sweep_folder: The sweep's folder.
        profile: Has the number of trials that keep their weights, and the disk limit.
        record: The trial, COMPLETE.
        direction: The objective's direction.
        trainer: Holds the best weights, the tokenizer and the arguments.
        cheap: Whether a cheaper trial than the best may become the winner; see ``is_among_best``.
        repeats: In a confirmation, what each trial repeats; the best seed of each is kept.

    Returns:
        The record, with the digest of the kept weights.

    Raises:
        AttemptOutdated: Another process has taken over the trial.
        FolderError: There is no room for the weights.
    """
    # Each of the best trials has weights, so only trials with weights are read, not thousands of records.
    with_weights = filter(None, map(sweep_folder.read_record, sweep_folder.checkpoints()))
    rivals, keep = _rivals(record, with_weights, repeats), _kept(profile.keep_best, repeats)
    if not is_among_best(record, rivals, keep, direction, cheap=cheap):
        return record
    folder = sweep_folder.checkpoint(record.trial)
    building = folder.with_name(f".{folder.name}.{record.attempt}.tmp")
    what = f"keeping the weights of trial {record.trial}"
    disk.refuse_overrun(sweep_folder.path, weights_bytes(trainer), what, profile.limits.disk_gb)
    try:
        save(building, trainer)
        kept = dataclasses.replace(record, weights_sha256=digest(building))
        publish(sweep_folder, record.trial, record.attempt, building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return kept


def weights_bytes(trainer: Any) -> int:
    """Return the size of a model's weights in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in trainer.model.state_dict().values())


def publish(sweep_folder: SweepFolder, trial: int, attempt: int, building: Path, folder: Path) -> None:
    """Move a complete folder to its final name, unless the attempt is outdated.

    Raises:
        AttemptOutdated: Another process has taken over the trial.
    """
    for file in building.iterdir():
        sync(file)  # a power cut must not leave the name without the bytes
    with sweep_folder.claims.fenced(trial, attempt):
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)


def remove_beaten(
    sweep_folder: SweepFolder,
    keep: int,
    direction: Direction,
    *,
    cheap: bool = False,
    repeats: Sequence[Repeat] = (),
) -> None:
    """Delete the weights of every finished trial that is not among the best.

    A trial without a final record may be about to write one, so its folder stays. In a confirmation the best seed of
    each repeated trial is kept; ``repeats`` has what each trial repeats.
    """
    # Locked, so that no record is written between the look at the records and the deletion.
    with sweep_folder.claims.locked():
        kept = sweep_folder.checkpoints()
        keep = _kept(keep, repeats)
        if len(kept) <= keep:  # none too many
            return
        records = sweep_folder.records()
        for record in records:
            if record.trial not in kept or not record.state.finished:
                continue
            if not is_among_best(record, _rivals(record, records, repeats), keep, direction, cheap=cheap):
                shutil.rmtree(sweep_folder.checkpoint(record.trial), ignore_errors=True)


def _kept(keep: int, repeats: Sequence[Repeat]) -> int:
    """Return how many of the trials that compete keep their weights; of several seeds it is the best one."""
    return 1 if repeats else keep


def _rivals(record: TrialRecord, records: Iterable[TrialRecord], repeats: Sequence[Repeat]) -> Iterable[TrialRecord]:
    """Return the trials that a trial competes with: all, or those that repeat the same trial of the search."""
    if not repeats:
        return records
    repeated = repeats[record.trial].trial
    return (one for one in records if repeats[one.trial].trial == repeated)


def is_among_best(
    record: TrialRecord, records: Iterable[TrialRecord], keep: int, direction: Direction, *, cheap: bool = False
) -> bool:
    """Return whether fewer than ``keep`` other trials are better; it stops counting there.

    Args:
        record: The trial.
        records: The records of all ended trials.
        keep: Number of trials.
        direction: Whether a smaller or a larger objective is better.
        cheap: Whether only a trial that costs no more beats it. Which trials are tied with the best is not known before
            the last one has ended; until then each may turn out to be the cheapest that is not beaten in this way.
    """
    if not ranks(record):
        return False
    place, most = order(record, direction), cost(record)
    others = (other for other in records if other.trial != record.trial and ranks(other))
    others = (other for other in others if not cheap or cost(other) <= most)
    return len(list(itertools.islice((other for other in others if order(other, direction) < place), keep))) < keep


def set_aside_if_damaged(sweep_folder: SweepFolder, record: TrialRecord) -> str | None:
    """Check a trial's kept weights; set damaged ones aside and queue the trial again.

    Args:
        sweep_folder: The sweep's folder.
        record: The best trial, COMPLETE.

    Returns:
        What was found and done; None if the weights are sound.
    """
    folder = sweep_folder.checkpoint(record.trial)
    try:
        if digest(folder) == record.weights_sha256:
            return None
        found = "its kept weights are not what it left (another sha256)"
    except (OSError, Unreadable, WeightsFault) as error:
        found = f"its kept weights cannot be read ({error})"
    aside = folder.with_name(f"{folder.name}.corrupt")
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        found += f"; set aside as {aside.relative_to(sweep_folder.path)}"
    sweep_folder.record(
        dataclasses.replace(record, state=TrialState.INTERRUPTED, reason=f"{found}; to be trained again")
    )
    return f"trial {record.trial}: {found}; it is trained again"


def save(folder: Path, trainer: Any) -> None:
    """Write model, tokenizer and training arguments into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    with trainer.as_exported():
        trainer.model.save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
    write_json(folder / ARGUMENTS, _shareable(trainer.args.to_dict()))


def _shareable(arguments: dict[str, Any]) -> dict[str, Any]:
    """Drop arguments that must not travel with a model: tokens, accounts, and this machine's paths."""
    kept = {name: value for name, value in arguments.items() if not any(word in name for word in _WITHHELD)}
    shareable: dict[str, Any] = json.loads(json.dumps(kept, default=str))
    return shareable
