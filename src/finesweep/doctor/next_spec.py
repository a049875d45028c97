"""Writes the YAML of the next sweep: the spec of the old one with the cures, and the old one as its start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finesweep.doctor.case import Finding
from finesweep.folder import Manifest, Run
from finesweep.spec import ModelSpec
from finesweep.text import clean

TOP = 5
"""Best trials of the old sweep that the next one trains first."""

_LONGEST_NAME = 95


def next_spec(folder: Path, manifest: Manifest, runs: Sequence[Run], findings: Sequence[Finding]) -> str:
    """Return the YAML of the next sweep.

    Args:
        folder: The old sweep's folder.
        manifest: Its manifest.
        runs: Its runs; the last one has the budget.
        findings: What was found; cures are applied in their order.
    """
    import yaml

    values = _written(manifest, runs)
    for finding in findings:
        if finding.cure is not None:
            _apply(values, yaml.safe_load(f"{{{finding.cure}}}"))
    values["start"] = {"from": str(folder), "top": TOP}
    heads = [f"# {clean(f'{one.name}: {one.line()}', 1_000)}" for one in findings]
    lines = [f"# Follows the sweep in {clean(str(folder), 500)}; what was found there:", *(heads or ["# nothing."])]
    return "\n".join(lines) + "\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def _written(manifest: Manifest, runs: Sequence[Run]) -> dict[str, Any]:
    """Return the old spec as it could have been written, with absolute paths."""
    spec = manifest.spec_for(runs[-1]) if runs else manifest.spec
    left_out = {"base", "start", "name"}
    dumped = spec.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
    values: dict[str, Any] = {"name": f"{spec.name[:_LONGEST_NAME]}-next", **dumped}
    if spec.data.dataset is None:
        values["data"] |= {split: source.place for split, source in manifest.data.sources.items()}
    if isinstance(spec.model, ModelSpec) and manifest.model.revision is None and manifest.model.path is not None:
        values["model"] = {**values["model"], "name": manifest.model.path}
    return values


def _apply(values: dict[str, Any], cure: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the sections of a cure into a spec; a setting stands either in the space or in fixed."""
    for section, changed in cure.items():
        values[section] = {**values.get(section, {}), **changed}
        other = {"space": "fixed", "fixed": "space"}.get(section)
        for name in changed:
            if other is not None and name in values.get(other, {}):
                del values[other][name]
        if section == "data" and "max_length" in changed:
            for place in ("space", "fixed"):
                values.get(place, {}).pop("data.max_length", None)
