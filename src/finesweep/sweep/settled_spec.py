"""Puts values in place of each ``auto`` that a sweep must not change its mind about."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from finesweep.errors import FolderError
from finesweep.folder import SweepFolder
from finesweep.spec import (
    AUTO,
    LEARNING,
    LoadedSpec,
    ScratchModelSpec,
    SweepSpec,
    automatic_sampler,
    automatic_stop,
    may_start_well,
)

_AS_BEFORE = "as the folder has it"


def settled(loaded: LoadedSpec, folder: SweepFolder | None) -> LoadedSpec:
    """Return a spec without ``auto`` in sampler, factor and ``stop.auto``, and in ``start`` where it is none.

    The manifest has their values, and the file of the first run that of ``stop.auto``. So a folder keeps what it began
    with, whatever ``auto`` means in a later version or with another budget. The values are listed among the defaults,
    with the reason.

    Args:
        loaded: The spec as the YAML has it.
        folder: The sweep's folder, which need not exist; None if the sweep begins anew.
    """
    before = _before(folder)
    return _with_stop(_with_factor(_with_start(_with_sampler(loaded, before), before), before), before, folder)


def _with_sampler(loaded: LoadedSpec, before: SweepSpec | None) -> LoadedSpec:
    spec = loaded.spec
    if spec.search.sampler != AUTO:
        return loaded
    sampler, why = automatic_sampler(spec)
    # A folder whose sampler does not learn was begun by a YAML that names it; this one is of another sweep.
    if before is not None and before.search.sampler in LEARNING:
        sampler, why = before.search.sampler, _AS_BEFORE
    search = spec.search.model_copy(update={"sampler": sampler})
    return _changed(loaded, {"search": search}, {"search.sampler": f"{sampler} (auto: {why})"})


def _with_start(loaded: LoadedSpec, before: SweepSpec | None) -> LoadedSpec:
    """Return a spec with ``start: auto`` only where there are known good configurations to try first."""
    spec = loaded.spec
    if spec.start != AUTO or (may_start_well(spec) and (before is None or before.start != ())):
        return loaded
    found = _changed(loaded, {"start": ()}, {})
    return dataclasses.replace(found, defaults={name: one for name, one in found.defaults.items() if name != "start"})


def _with_factor(loaded: LoadedSpec, before: SweepSpec | None) -> LoadedSpec:
    spec = loaded.spec
    if spec.pruning.factor != AUTO:
        return loaded
    halves = spec.search.pruner == "halving"
    if before is not None:
        factor, why = before.pruning.factor, _AS_BEFORE
    elif halves:
        factor, why = spec.factor, "from scratch" if isinstance(spec.model, ScratchModelSpec) else "pretrained"
    else:
        return loaded  # no other pruner has a factor
    pruning = spec.pruning.model_copy(update={"factor": factor})
    return _changed(loaded, {"pruning": pruning}, {"pruning.factor": f"{factor} (auto: {why})"} if halves else {})


def _with_stop(loaded: LoadedSpec, before: SweepSpec | None, folder: SweepFolder | None) -> LoadedSpec:
    spec = loaded.spec
    if spec.stop.auto != AUTO:
        return loaded
    ends, why = automatic_stop(spec)
    runs = folder.runs() if folder is not None and before is not None else []
    if runs:
        # The run of a version that did not know the rule has no decision on it.
        ends, why = runs[0].stop.auto is True, _AS_BEFORE
    stop = spec.stop.model_copy(update={"auto": ends})
    return _changed(loaded, {"stop": stop}, {"stop.auto": f"{str(ends).lower()} (auto: {why})"})


def _changed(loaded: LoadedSpec, sections: Mapping[str, Any], shown: Mapping[str, str]) -> LoadedSpec:
    """Return a spec with other sections, and with other values among the defaults."""
    spec = loaded.spec.model_copy(update=dict(sections))
    return dataclasses.replace(loaded, spec=spec, defaults={**loaded.defaults, **shown})


def _before(folder: SweepFolder | None) -> SweepSpec | None:
    """Return the spec of the folder's sweep, None if there is none that can be read."""
    if folder is None or not folder.spec_file.exists():
        return None
    try:
        return folder.manifest().spec
    except FolderError:
        return None  # reported when the command opens the folder
