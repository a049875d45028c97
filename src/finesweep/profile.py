"""Owns the launch profile: where and with what means workers run; no part of a sweep's identity."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from finesweep.errors import Problem, SpecError, did_you_mean
from finesweep.registry import LAUNCHERS
from finesweep.spec import Section
from finesweep.wording import findings, unknown_keys
from finesweep.yaml_source import YamlSource, read


class Profile(Section):
    """One YAML of ``sweeps/``."""

    launcher: str = Field("local", description="Where workers run.")
    threads_per_worker: Literal["auto"] | Annotated[int, Field(ge=1, le=1_024)] = Field(
        "auto", description="CPU threads of a trial; auto: all cores."
    )
    keep_best: int = Field(1, ge=1, le=1_000, description="How many of the best trials keep their weights.")

    @property
    def threads(self) -> int:
        """CPU threads for one trial."""
        return _usable_cores() if self.threads_per_worker == "auto" else self.threads_per_worker


def load(path: Path | None) -> Profile:
    """Read a launch profile; without one, everything runs on this machine with the defaults.

    Raises:
        SpecError: With every problem, each with file, line and the nearest fix.
    """
    if path is None:
        return Profile()
    source = read(path)
    try:
        profile = Profile.model_validate(source.values)
    except ValidationError as error:
        raise SpecError(_problems(source, error)) from None
    if profile.launcher not in LAUNCHERS.names:
        message = f"no launcher is called {profile.launcher!r}; there are {', '.join(LAUNCHERS.names)}"
        raise SpecError([Problem(source.where("launcher"), message, did_you_mean(profile.launcher, LAUNCHERS.names))])
    return profile


def _problems(source: YamlSource, error: ValidationError) -> Iterator[Problem]:
    known = list(Profile.model_fields)
    for path, key in unknown_keys(error):
        message = f"no such key; there are {', '.join(known)}"
        yield Problem(source.where(*path), message, did_you_mean(key, known))
    for path, message, hint in findings(error, source.values):
        yield Problem(source.where(*path), message, hint)


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1
