"""Owns whose weights are on disk: those of the best trials so far, and nobody else's."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finesweep.atomic import write_json
from finesweep.ranking import ranked
from finesweep.run_dir import RunDir
from finesweep.spec import SweepSpec
from finesweep.trial import TrialRecord

ARGUMENTS = "training_args.json"
_WITHHELD = ("token", "hub_", "output_dir", "push_to", "trackio", "project", "run_name")


@contextlib.contextmanager
def kept_if_best(run_dir: RunDir, keep: int, record: TrialRecord, spec: SweepSpec, trainer: Any) -> Iterator[None]:
    """Save a finished trial's best weights if it is among the best; then remove whom it replaces.

    The trial's record is written inside the block. So at every moment, also if everything is killed,
    each COMPLETE record among the best has its weights: the new ones are there before the record that
    ranks them, the old ones until that record is there.

    Args:
        run_dir: The sweep's folder.
        keep: How many trials keep their weights.
        record: The trial, COMPLETE.
        spec: Supplies the direction.
        trainer: Holds the best weights, the tokenizer and the arguments.
    """
    best = [item.trial for item in ranked([*run_dir.records(), record], spec.direction)[:keep]]
    if record.trial in best:
        save(run_dir.checkpoint(record.trial), trainer)
    yield
    for folder in run_dir.checkpoint(0).parent.iterdir():
        if folder.name not in {run_dir.checkpoint(trial).name for trial in best}:
            shutil.rmtree(folder, ignore_errors=True)


def save(folder: Path, trainer: Any) -> None:
    """Write model, tokenizer and training arguments into a folder that appears only when it is whole."""
    building = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    trainer.model.save_pretrained(building)
    trainer.processing_class.save_pretrained(building)
    write_json(building / ARGUMENTS, _shareable(trainer.args.to_dict()))
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)


def _shareable(arguments: dict[str, Any]) -> dict[str, Any]:
    """Drop what must not travel with a model: tokens, accounts, and this machine's paths."""
    kept = {name: value for name, value in arguments.items() if not any(word in name for word in _WITHHELD)}
    shareable: dict[str, Any] = json.loads(json.dumps(kept, default=str))
    return shareable
