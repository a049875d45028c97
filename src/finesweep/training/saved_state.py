"""Saves and reads the state from which an interrupted trial resumes.

Nothing in its folder can run when it is read: tensors are safetensors, everything else is JSON. The JSON has the digest
of each tensor file and its own, and is written last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from finesweep.errors import FolderError, Unreadable
from finesweep.files import open_regular, read_text, write_failure, write_json
from finesweep.host.machine import usable_memory_gb
from finesweep.training import tensor_json
from finesweep.trial import Evaluation, Params

Weights = dict[str, torch.Tensor]
"""A model's weights by name, on the CPU."""

MAX_JSON = 200_000_000
"""Maximum size of a state's JSON in bytes; that of a trial with 10,000 evaluations has a few million."""

STATE = "state.json"
_MODEL, _BEST, _REST = "model.safetensors", "best.safetensors", "rest.safetensors"
_FILES = (_MODEL, _BEST, _REST)


class StateDamaged(ValueError):
    """A saved state that cannot be used; the message says why."""


@dataclass(frozen=True)
class TrainerMemory:
    """The state on which a Trainer's next steps depend.

    Attributes:
        account: Fields of transformers' ``TrainerState``: steps, epochs, logs.
        running_loss: Sum of the training loss since it was last logged.
        logged_loss: Sum of the training loss until then.
        logged_step: Optimizer step at which it was last logged.
        random: State of the random generators after the last step.
        optimizer: The optimizer's ``state_dict``.
        scheduler: The learning rate scheduler's.
        scaler: That of fp16's loss scaler, empty without one.
        weights: The model's weights.
    """

    account: Mapping[str, Any]
    running_loss: torch.Tensor
    logged_loss: float
    logged_step: int
    random: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    scaler: Mapping[str, Any]
    weights: Weights


@dataclass(frozen=True)
class SavedState:
    """A trial's state after one of its optimizer steps.

    Attributes:
        params: The trial's parameters.
        batch_divisor: Divisor of the batch per device.
        step: Optimizer steps done.
        examples: Training examples seen.
        loss: Last logged training loss.
        learning_rate: Last logged learning rate.
        evaluations: All evaluations in order.
        guard: State of the divergence guard, by its fields' names.
        best: Weights at the best evaluation; empty if there was none, or if the best one was at this very step: its
            weights are then ``trainer.weights``.
        trainer: State of the Trainer.
    """

    params: Params
    batch_divisor: int
    step: int
    examples: int
    loss: float | None
    learning_rate: float | None
    evaluations: tuple[Evaluation, ...]
    guard: Mapping[str, Any]
    best: Weights
    trainer: TrainerMemory

    def fits(self, params: Params, batch_divisor: int) -> bool:
        """Return whether a trial with these parameters and batches may resume this state."""
        return dict(self.params) == dict(params) and self.batch_divisor == batch_divisor


def write_state(folder: Path, state: SavedState) -> None:
    """Write a state into a new folder; it survives a power cut only after the caller has synced the files.

    Raises:
        FolderError: The disk is full or the folder cannot be written.
    """
    trainer = {**_shallow(state.trainer), "weights": None}
    evaluations = [dataclasses.asdict(evaluation) for evaluation in state.evaluations]
    values = {**_shallow(state), "evaluations": evaluations, "best": None, "trainer": trainer}
    plain, rest = tensor_json.split(values)
    tensors = {_MODEL: state.trainer.weights, _BEST: state.best, _REST: rest}
    try:
        folder.mkdir()
        # Before the JSON: without it the folder is no state, so a kill in between leaves nothing that could be read.
        digests = {name: _write_tensors(folder / name, tensors[name]) for name in _FILES}
    except OSError as error:
        raise FolderError(write_failure(folder / STATE, error)) from error
    content = {"made_with": _versions(), "files": digests, "values": plain}
    write_json(folder / STATE, {"sha256": _digest_of(content), **content})


def read_state(folder: Path) -> SavedState:
    """Read what ``write_state`` wrote, and check its digests.

    Raises:
        StateDamaged: A file is missing or was changed, or other versions of the libraries wrote it.
    """
    content = _read_content(folder / STATE)
    if content["made_with"] != _versions():
        raise StateDamaged(f"{folder / STATE}: was saved with other versions: {content['made_with']}")
    tensors = {name: _read_tensors(folder / name, content["files"].get(name)) for name in _FILES}
    try:
        values = tensor_json.join(content["values"], tensors[_REST])
        trainer = TrainerMemory(**{**values["trainer"], "weights": tensors[_MODEL]})
        evaluations = tuple(Evaluation(**evaluation) for evaluation in values["evaluations"])
        return SavedState(**{**values, "evaluations": evaluations, "best": tensors[_BEST], "trainer": trainer})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StateDamaged(f"{folder / STATE}: is no saved state ({error})") from error


def _shallow(item: Any) -> dict[str, Any]:
    """Return a dataclass's fields as they are: ``asdict`` would copy every tensor."""
    return {entry.name: getattr(item, entry.name) for entry in dataclasses.fields(item)}


def _versions() -> dict[str, str]:
    """Return the versions that must be equal: in others the same numbers may mean something else."""
    return {"format": "4", **{name: importlib.metadata.version(name) for name in ("torch", "transformers")}}


def _write_tensors(file: Path, tensors: Weights) -> str:
    try:
        safetensors.torch.save_file(tensors, file)
    except SafetensorError as error:
        raise FolderError(f"{file}: cannot be written ({error})") from error
    return _digest(file)


def _read_tensors(file: Path, digest: object) -> Weights:
    try:
        # Compared before the library parses the file.
        if _digest(file) != digest:
            raise StateDamaged(f"{file}: is not what was saved (another sha256)")
        tensors: Weights = safetensors.torch.load_file(file)
    except (OSError, SafetensorError) as error:
        raise StateDamaged(f"{file}: cannot be read ({error})") from error
    except Unreadable as error:
        raise StateDamaged(f"{file}: cannot be read ({error.reason})") from error
    return tensors


def _read_content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(file, MAX_JSON, links=False))
        digest = content.pop("sha256")
        found = _digest_of(content)
    except Unreadable as error:
        raise StateDamaged(f"{file}: cannot be read ({error.reason})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateDamaged(f"{file}: cannot be read ({type(error).__name__}: {error})") from error
    if found != digest or not {"made_with", "files", "values"} <= content.keys():
        raise StateDamaged(f"{file}: is not what was saved (another sha256)")
    return dict(content)


def _digest(file: Path) -> str:
    with open_regular(file, limit=int(usable_memory_gb() * 1e9), links=False) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
