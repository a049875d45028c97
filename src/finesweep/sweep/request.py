"""Holds a user's request to `sweep run`, `submit`, `plan` or `validate`; converts it to JSON for another process."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """A user's request.

    Attributes:
        spec: The YAML of the sweep.
        overrides: ``dotted.name=value`` of every ``--set``.
        profile: The launch profile YAML; None for this machine with the defaults.
        name: Overrides the name of the results folder.
        results: Folder that holds one folder per sweep.
        fresh: Move an earlier sweep of this name aside and start anew.
        smoke: Run every step once, on few rows, in a folder of its own.
        join: If a sweep of this name runs already, run more of its trials beside it.
        workers: Overrides the profile's number of workers.
        trust_remote_code: Allow code that comes with the model; needed anew for each run.
        rerun_lost: Run trials again whose records are gone.
    """

    spec: Path
    overrides: Sequence[str] = ()
    profile: Path | None = None
    name: str | None = None
    results: Path = Path("results")
    fresh: bool = False
    smoke: bool = False
    join: bool = False
    workers: int | None = None
    trust_remote_code: bool = False
    rerun_lost: bool = False

    def to_json(self) -> str:
        """Return the request as one line of JSON; a path may hold bytes that are not UTF-8."""
        return json.dumps(dataclasses.asdict(self), default=os.fspath)

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Return the request that ``to_json`` has written."""
        values = json.loads(text)
        paths = {name: Path(values[name]) for name in ("spec", "profile", "results") if values[name] is not None}
        return cls(**{**values, **paths, "overrides": tuple(values["overrides"])})
