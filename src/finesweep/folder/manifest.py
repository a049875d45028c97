"""Owns what a sweep is and what its runs were: the two things that ``spec.json`` and ``runs/`` hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from finesweep import __version__
from finesweep.spec.sections import FORMAT, BudgetSpec, StopSpec, SweepSpec, is_name
from finesweep.text.format import shortened
from finesweep.trial import Params, TrialRecord


@dataclass(frozen=True)
class Manifest:
    """What a sweep is: everything that two runs of it must have in common.

    Attributes:
        name: The sweep's name.
        spec: The spec's sections as plain values, without ``budget`` and ``stop``.
        data: Facts of the prepared data: ``sources`` (split to file or dataset with its digest or
            commit), ``rows`` (split to count), ``labels`` (names in the order of their ids, or None),
            ``text_pair`` (bool), ``naive`` (what answering the same to every text scores; see ``Naive``).
        model: Facts of the resolved model: ``name``, ``path`` (absolute folder), ``revision``,
            ``digest``, ``max_tokens``, ``from_scratch``, ``loading`` (how its weights become a trial's model, as in
            ``load_check.Loading``; None where there are none); in memory also ``trust_remote_code``, which only
            a run can say (``of_run``).
        plan: Parameters of the first trials, which no sampler proposes: baseline, ``start``, grid.
        created: Unix time.
        format: Version of this folder's layout.
        version: finesweep's version.
    """

    name: str
    spec: Mapping[str, Any]
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    plan: Sequence[Params]
    created: float
    format: int = FORMAT
    version: str = __version__

    def checked(self) -> Manifest:
        """Return the manifest as its readers rely on it, whoever wrote the file that it was read from.

        Raises:
            ValueError: Something in it is missing or none that a checked spec has; the message says where.
        """
        if not is_name(self.name):
            raise ValueError(f"name: {self.name[:100]!r} is none that a sweep can have")
        try:
            asked = {**self.spec, "name": self.name, "base": Path()}
            spec = SweepSpec.model_validate(asked, strict=False).model_dump(mode="json", exclude=_NO_IDENTITY)
            data = _DataFacts.model_validate(self.data).model_dump()
            model = _ModelFacts.model_validate(self.model).model_dump()
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))[:100]}: {first['msg']}") from None
        if spec["objective"]["direction"] is None:
            raise ValueError("objective.direction: missing")
        if strangers := sorted({name for params in self.plan for name in params} - spec["space"].keys()):
            raise ValueError(f"plan: {strangers[0][:100]!r} is not in the space")
        return dataclasses.replace(self, spec=spec, data=data, model=model)

    @property
    def trusts_code(self) -> bool:
        """Whether code that comes with the model may be run."""
        return bool(self.model.get("trust_remote_code"))

    def of_run(self, run: Run) -> Manifest:
        """Return the manifest with what each run says anew: where the model lies, and whether its code may run."""
        trusted = run.trust_remote_code and not self.model["from_scratch"]
        model = {**self.model, "path": run.model_path or self.model["path"], "trust_remote_code": trusted}
        return dataclasses.replace(self, model=model)

    def spec_for(self, run: Run | None = None) -> SweepSpec:
        """Rebuild the checked spec, with the budget of one of the runs."""
        budget = BudgetSpec.model_validate(dict(run.budget)) if run else BudgetSpec()
        stop = StopSpec.model_validate(dict(run.stop)) if run else StopSpec()
        values = {**self.spec, "name": self.name, "base": Path(), "budget": budget, "stop": stop}
        return SweepSpec.model_validate(values, strict=False)

    def identity(self) -> dict[str, Any]:
        """Return what must not change under one name, flat by dotted name.

        Where files lie is no part of it; what is in them is.
        """
        spec = {key: value for key, value in self.spec.items() if key not in ("data", "model")}
        places = ("dataset", "train", "validation", "test", "revision")
        data = {key: value for key, value in self.spec["data"].items() if key not in places}
        digests = {split: source["digest"] for split, source in self.data["sources"].items()}
        model = {key: value for key, value in self.spec["model"].items() if key not in ("name", "revision")}
        whole = {**spec, "data": {**data, "content": digests}, "model": {**model, "content": self.model["digest"]}}
        return dict(_flat(whole))


_NO_IDENTITY = {"name", "base", "budget", "stop"}


class _Source(BaseModel):
    place: str
    digest: str
    revision: str | None = None


class _Naive(BaseModel):
    answer: str
    scores: dict[str, float]
    limits: dict[str, float]


class _DataFacts(BaseModel):
    sources: dict[str, _Source]
    rows: dict[str, int]
    labels: list[str] | None
    text_pair: bool
    naive: _Naive | None = None


class _Loading(BaseModel):
    output: list[str]
    rows: list[int] | None
    new: list[str]
    notes: list[str]


class _ModelFacts(BaseModel):
    # What else a file says is dropped, and with it the leave to run code, which is the command line's to give.
    model_config = ConfigDict(extra="ignore")

    name: str
    path: str | None
    revision: str | None
    digest: str
    max_tokens: int = Field(ge=1)
    from_scratch: bool
    loading: _Loading | None = None


@dataclass(frozen=True)
class Run:
    """One ``sweep run`` of a sweep.

    Attributes:
        number: From 1.
        budget: ``trials`` and ``hours``.
        stop: ``target`` and ``no_gain_trials``.
        profile: The launch profile, with numbers; see ``profile.SettledProfile.record``.
        environment: Versions and device.
        host: Machine that the command ran on.
        pid: Process id of the command.
        started: Unix time.
        ended: Unix time, None while it runs or if it was killed.
        outcome: One line: why it ended.
        seconds: How long it has run, on its own monotonic clock, noted every few seconds; None if it never was.
        model_path: Folder in which this run found the model; the one in the manifest may have moved.
        trust_remote_code: Whether its command line allowed code that comes with the model.
        token: A random word, by which a worker on another machine knows that it sees this very folder.
        watched: Whether a command watches its workers. Where a cluster runs them without one, they keep the
            sweep's limits themselves.
        measures: Whether its workers still measure how many they should be. None begins a trial until the command
            has written the number into the profile.
    """

    number: int
    budget: Mapping[str, Any]
    stop: Mapping[str, Any]
    profile: Mapping[str, Any]
    environment: Mapping[str, Any]
    host: str
    pid: int
    started: float
    ended: float | None = None
    outcome: str | None = None
    seconds: float | None = None
    model_path: str | None = None
    trust_remote_code: bool = False
    token: str = ""
    watched: bool = True
    measures: bool = False

    def __post_init__(self) -> None:
        BudgetSpec.model_validate(dict(self.budget))
        StopSpec.model_validate(dict(self.stop))


Period = tuple[float, float]
"""Start and end in Unix time."""


def hours_ran(runs: Sequence[Run], records: Sequence[TrialRecord], running: Sequence[Period] = ()) -> float:
    """Return the hours in which runs ran, each hour once also where several ran at a time.

    A run that goes on or was killed counts up to when it last noted its time. How long a run ran is taken
    from its own monotonic clock, since the wall clock may jump. A run that nobody watched ran while its
    trials did; that it waited in a queue costs nothing.

    Args:
        runs: The runs.
        records: The sweep's ended trials.
        running: From when to when trials have run that have not ended.
    """
    total, reached = 0.0, 0.0
    for start, end in sorted([*running, *(span for run in runs for span in _spans(run, records))]):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total / 3600


def _spans(run: Run, records: Sequence[TrialRecord]) -> list[Period]:
    trials = [(record.started, record.started + record.seconds) for record in records if record.run == run.number]
    if not run.watched:
        return trials
    if run.seconds is not None:
        return [(run.started, run.started + run.seconds)]
    if run.ended is not None:
        return [(run.started, run.ended)]
    return [(run.started, max((end for _, end in trials), default=run.started))]


def changes(old: Manifest, new: Manifest) -> list[str]:
    """Say what differs between two identities, a line each: ``space.learning_rate.high: 5e-05 -> 0.0001``."""
    before, after = old.identity(), new.identity()
    lines = []
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            lines.append(f"{name}: {_shown(before.get(name))} -> {_shown(after.get(name))}")
    return lines


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = "nothing" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return shortened(text, 60)
