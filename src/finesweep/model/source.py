"""Finds the model of a spec: a folder, a Hub snapshot, or a model to be made from scratch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesweep import activity
from finesweep.errors import Problem, SpecError, did_you_mean
from finesweep.folder import Loading, ModelFacts
from finesweep.hub import HubError, Snapshot, snapshot
from finesweep.model.folder_check import DEFAULT_TOKENS, WIDTHS, ModelFolder, inspect, positions
from finesweep.model.remote_code import Fault
from finesweep.spec import ModelSpec, ScratchModelSpec, YamlSource
from finesweep.spec.yaml_source import expand


@dataclass(frozen=True)
class ResolvedModel:
    """A model that was found and has no known fault.

    Attributes:
        name: As the user wrote it, or ``bert (from scratch)``.
        path: Folder with config, tokenizer and weights; None for a model made from scratch.
        revision: Commit on the Hub, else None.
        digest: The commit; SHA-256 over a local folder's files; or ``scratch``.
        config: ``config.json``, or the settings of a model made from scratch.
        max_tokens: Longest input in tokens, special tokens included.
        notes: Remarks for the user.
        files: The files of the folder that are used.
    """

    name: str
    path: Path | None
    revision: str | None
    digest: str
    config: Mapping[str, Any]
    max_tokens: int
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def width(self) -> int | None:
        """Width of its layers, None if its config does not say."""
        found = (self.config.get(name) for name in WIDTHS)
        return next((value for value in found if type(value) is int and value > 0), None)

    def facts(self, loading: Loading | None) -> ModelFacts:
        """Return the facts that the manifest keeps.

        Args:
            loading: Result of the load check; None for a model made from scratch.
        """
        path = str(self.path) if self.path else None
        return ModelFacts(self.name, path, self.revision, self.digest, self.max_tokens, self.path is None, loading)


def resolve(
    model: ModelSpec | ScratchModelSpec, *, base: Path, source: YamlSource, trusted: bool = False
) -> ResolvedModel:
    """Find a model and check everything that can be read without loading it.

    A name that starts with ``.``, ``/`` or ``~``, or exists, is a folder; any other name is a Hub id.

    Args:
        model: The spec's ``model:``.
        base: Folder that relative paths start from.
        source: Gives the place of ``model:``, for messages.
        trusted: Whether code that comes with the model may run; of a Hub model it is then fetched.

    Raises:
        SpecError: The model does not exist or cannot be used; lists every problem.
    """
    if isinstance(model, ScratchModelSpec):
        return _from_scratch(model)
    where = source.where("model", "name") if isinstance(source.values.get("model"), dict) else source.where("model")
    folder = _named_folder(model.name, base)
    if folder is not None:
        if model.revision is not None:
            message = "a local folder has no revisions"
            raise SpecError.of(source.where("model", "revision"), message, "leave revision out")
        return _local(model.name, folder, where, trusted=trusted)
    return _from_hub(model, where, trusted=trusted)


def _from_scratch(model: ScratchModelSpec) -> ResolvedModel:
    config = {"model_type": model.config, "vocab_size": model.vocab_size, **model.settings}
    tokens = positions({"pad_token_id": 0, **config}) or DEFAULT_TOKENS
    return ResolvedModel(f"{model.config} (from scratch)", None, None, "scratch", config, tokens)


def _named_folder(name: str, base: Path) -> Path | None:
    path = _absolute(name, base)
    if name[0] in "./~" or "\\" in name or name.endswith("/") or name.count("/") > 1 or _exists(path):
        return path
    # `models/bert` beside a folder `models` is a misspelled path, not a Hub id.
    return path if "/" in name and _exists(path.parent) else None


def _absolute(name: str, base: Path) -> Path:
    return Path(os.path.normpath(base / expand(Path(name))))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file system allows
        return False


def _local(name: str, folder: Path, where: str, *, trusted: bool) -> ResolvedModel:
    if not _exists(folder):
        raise SpecError.of(where, f"no such folder: {folder}", _near(folder))
    if not folder.is_dir():
        beside = (folder.parent / "config.json").is_file()
        hint = f"did you mean {folder.parent}?" if beside else "name the folder that holds config.json"
        raise SpecError.of(where, f"expected a folder, found a file: {folder}", hint)
    activity.tell(f"looking at the model in {name}")
    found = inspect(folder, trusted=trusted)
    _raise_faults(found.faults, where, str(folder))
    return _resolved(name, found, None, found.digest(), ())


def _near(folder: Path) -> str:
    if not _exists(folder.parent):
        return ""
    return did_you_mean(folder.name, [child.name for child in folder.parent.iterdir() if child.is_dir()])


def _from_hub(model: ModelSpec, where: str, *, trusted: bool) -> ResolvedModel:
    activity.tell(f"fetching the model {model.name}")
    try:
        found: Snapshot = snapshot(model.name, kind="model", revision=model.revision, code=trusted)
    except HubError as error:
        raise SpecError.of(where, error.message, error.hint) from None
    folder = inspect(found.path, trusted=trusted)
    _raise_faults(folder.faults, where, f"{model.name} at {found.commit[:8]}")
    return _resolved(model.name, folder, found.commit, found.commit, (found.note,) if found.note else ())


def _raise_faults(faults: list[Fault], where: str, what: str) -> None:
    if faults:
        raise SpecError(Problem(where, f"{what}: {fault.message}", fault.hint) for fault in dict.fromkeys(faults))


def _resolved(
    name: str, found: ModelFolder, revision: str | None, digest: str, notes: tuple[str, ...]
) -> ResolvedModel:
    notes = (*notes, *found.notes)
    return ResolvedModel(name, found.path, revision, digest, found.config, found.max_tokens, notes, found.files)
