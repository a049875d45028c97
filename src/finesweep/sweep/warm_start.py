"""Reads the earlier sweep that ``start: {from: ...}`` names: its best configurations, and trials for the sampler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from finesweep.errors import FolderError, SpecError
from finesweep.folder import Manifest, SweepFolder
from finesweep.folder.foreign import Foreign, ForeignTrial
from finesweep.results.ranking import ranked
from finesweep.spec import TRAINING_FIELDS, LoadedSpec, SweepSpec, WarmStart
from finesweep.spec.planned_trials import configuration
from finesweep.spec.yaml_source import expand
from finesweep.trial import Params, TrialRecord, TrialState, Value

_FREE = ("search", "pruning", "space", "fixed", "start")
"""Parts of a sweep's identity that do not change what a trial with given settings reaches."""

_UNTOLD = frozenset({TrialState.FAILED})
"""States that say nothing about the parameters."""


@dataclass(frozen=True)
class Warmth:
    """What an earlier sweep gives to a new one.

    Attributes:
        best: Its best configurations that lie in the new space, best first.
        foreign: Its trials that would train the same in the new sweep.
        note: A remark for the user.
    """

    best: Sequence[Params]
    foreign: Foreign
    note: str


def read(loaded: LoadedSpec, new: Manifest) -> Warmth | None:
    """Read the sweep that a spec starts from.

    Args:
        loaded: The new spec.
        new: The manifest of the new sweep.

    Returns:
        None if the spec names no sweep.

    Raises:
        SpecError: The folder is no sweep's.
    """
    spec = loaded.spec
    if not isinstance(spec.start, WarmStart):
        return None
    folder = SweepFolder((spec.base / expand(Path(spec.start.folder))).absolute())
    try:
        old = folder.search_manifest()
    except FolderError as error:
        raise SpecError.of(loaded.source.where("start", "from"), str(error), "name the folder of a sweep") from None
    records = [record for record in folder.records() if record.state.finished]
    best = _best(spec, old.spec, ranked(records, old.spec.direction), spec.start.top)
    differing = next(_differences(old, new), None)
    told = () if differing else tuple(_told(spec, old.spec, records))
    found = f"start: {len(told):,} of {len(records):,} trials of {folder.path.name} tell the sampler"
    why = f" ({differing} differs, so its values do not compare)" if differing else ""
    note = f"{found}{why}; its best {len(best)} in this space are tried first."
    return Warmth(best, Foreign(str(folder.path), told), note)


def _differences(old: Manifest, new: Manifest) -> Iterator[str]:
    """Yield the parts of two sweeps' identities by which equal settings reach other values."""
    before, after = old.identity(), new.identity()
    for name in sorted({*before, *after}):
        counts = not name.startswith(_FREE) or name == "search.seed"
        if counts and before.get(name) != after.get(name):
            yield name


def _best(spec: SweepSpec, old: SweepSpec, best_first: Sequence[TrialRecord], top: int) -> list[Params]:
    found: dict[object, Params] = {}
    for record in best_first:
        params = _in_space(spec, old, record.params)
        if params is not None and len(found) < top:
            found.setdefault(configuration(spec, params), params)
    return list(found.values())


def _told(spec: SweepSpec, old: SweepSpec, records: Sequence[TrialRecord]) -> Iterator[ForeignTrial]:
    """Yield the trials that would train the same in the new sweep."""
    for record in records:
        params = _in_space(spec, old, record.params)
        if record.state not in _UNTOLD and params is not None and _is_same_outside(spec, old, record.params):
            yield ForeignTrial(record.trial, record.state, params, record.objective)


def _in_space(spec: SweepSpec, old: SweepSpec, params: Params) -> Params | None:
    """Return the parameters that a trial of the old sweep has in the new space, None if it lies outside."""
    settings = _settings(old, params)
    kept = spec.search_space.active_only({name: settings[name] for name in spec.space if name in settings})
    return kept if spec.search_space.contains(kept) else None


def _is_same_outside(spec: SweepSpec, old: SweepSpec, params: Params) -> bool:
    """Return whether all settings that the new sweep does not search are equal in both."""
    names = {*old.space, *old.fixed, *spec.fixed} - spec.space.keys()
    before, after = _settings(old, params), _settings(spec, {})
    return all(before.get(name) == after.get(name) for name in names)


def _settings(spec: SweepSpec, params: Params) -> dict[str, Value]:
    """Return the settings of a trial with their defaults, as far as these are known without the model."""
    return {**{name: field.default for name, field in TRAINING_FIELDS.items()}, **spec.merged(params)}
