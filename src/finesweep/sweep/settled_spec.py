"""Puts values in place of each ``auto`` that a sweep must not change its mind about."""

from __future__ import annotations

import dataclasses

from finesweep.errors import FolderError
from finesweep.folder import SweepFolder
from finesweep.spec import LoadedSpec, ScratchModelSpec, SweepSpec


def settled(loaded: LoadedSpec, folder: SweepFolder | None) -> LoadedSpec:
    """Return a spec with a number for ``pruning.factor: auto``, which is then listed among the defaults.

    The manifest has the number. So a folder keeps the factor that it began with, whatever ``auto`` means in a later
    version.

    Args:
        loaded: The spec as the YAML has it.
        folder: The sweep's folder, which need not exist; None if the sweep begins anew.
    """
    spec = loaded.spec
    if spec.pruning.factor != "auto":
        return loaded
    halves, before = spec.search.pruner == "halving", _before(folder)
    if before is not None:
        factor, why = before.pruning.factor, "as the folder has it"
    elif halves:
        factor, why = spec.factor, "from scratch" if isinstance(spec.model, ScratchModelSpec) else "pretrained"
    else:
        return loaded  # no other pruner has a factor
    changed = spec.model_copy(update={"pruning": spec.pruning.model_copy(update={"factor": factor})})
    shown = {"pruning.factor": f"{factor} (auto: {why})"} if halves else {}
    return dataclasses.replace(loaded, spec=changed, defaults={**loaded.defaults, **shown})


def _before(folder: SweepFolder | None) -> SweepSpec | None:
    """Return the spec of the folder's sweep, None if there is none that can be read."""
    if folder is None or not folder.spec_file.exists():
        return None
    try:
        return folder.manifest().spec
    except FolderError:
        return None  # reported when the command opens the folder
