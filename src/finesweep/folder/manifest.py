"""Describes a sweep and its runs as ``spec.json`` and ``runs/`` hold them, and counts the hours of runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from finesweep import __version__
from finesweep.data import DataFacts
from finesweep.files import as_kind
from finesweep.folder.model_facts import ModelFacts
from finesweep.spec import BudgetSpec, ConfirmSpec, StopSpec, SweepSpec, is_name
from finesweep.spec.sections import FORMAT
from finesweep.text import shortened
from finesweep.trial import Params, TrialRecord


@dataclass(frozen=True)
class Repeat:
    """A trial of a search that is trained again.

    Attributes:
        trial: Its number in the search.
        seed: The seed of weights, order and dropout.
    """

    trial: Annotated[int, Field(ge=0)]
    seed: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Manifest:
    """The identity of a sweep: everything that all its runs have in common.

    Attributes:
        spec: The spec, with the default ``budget`` and ``stop``; each run has its own (``spec_for``).
        data: Facts about the prepared data.
        model: Facts about the resolved model.
        planned: Parameters of the first trials, which no sampler proposes: baseline, ``start``, grid.
        repeats: In a confirmation, which trial of the search each planned trial repeats, and with which seed; else
            empty.
        created: Unix time.
        format: Version of this folder's layout.
        version: finesweep's version.
        trusts_code: Whether code that comes with the model may run; only a run can allow it (``of_run``).
    """

    spec: SweepSpec
    data: DataFacts
    model: ModelFacts
    planned: Sequence[Params]
    created: float
    format: int = FORMAT
    version: str = __version__
    trusts_code: bool = False
    repeats: Sequence[Repeat] = ()

    def seed_of(self, trial: int) -> int:
        """Return the seed of a trial's weights, order and dropout."""
        return self.repeats[trial].seed if self.repeats else self.spec.search.seed

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.spec.name

    @classmethod
    def read(cls, values: Any) -> Manifest:
        """Return the manifest in ``spec.json``, which may be of an older version or come from a stranger.

        Raises:
            ValueError: A part is missing, or a checked spec could not have it; the message gives the place.
        """
        written = as_kind(_Written, values)
        if not is_name(written.name):
            raise ValueError(f"name: {written.name[:100]!r} is not a name for a sweep")
        try:
            spec = SweepSpec.model_validate(
                {**_as_now(written.spec), "name": written.name, "base": Path()}, strict=False
            )
            data, model = _DATA.validate_python(written.data), _MODEL.validate_python(written.model)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))[:100]}: {first['msg']}") from None
        if spec.objective.direction is None:
            raise ValueError("objective.direction: missing")
        if "train" not in data.rows:
            raise ValueError("rows.train: missing")
        if strangers := sorted({name for params in written.plan for name in params} - spec.space.keys()):
            raise ValueError(f"plan: {strangers[0][:100]!r} is not in the space")
        if written.repeats and len(written.repeats) != len(written.plan):
            raise ValueError(f"repeats: {len(written.repeats)}, and there are {len(written.plan)} planned trials")
        plan, created = written.plan, written.created
        versions = written.format, written.version
        return cls(without_run(spec), data, model, plan, created, *versions, repeats=tuple(written.repeats))

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``spec.json``."""
        return {
            "name": self.name,
            "spec": self.spec.model_dump(mode="json", exclude=_NOT_WRITTEN),
            "data": dataclasses.asdict(self.data),
            "model": dataclasses.asdict(self.model),
            "plan": [dict(params) for params in self.planned],
            "repeats": [dataclasses.asdict(repeat) for repeat in self.repeats],
            "created": self.created,
            "format": self.format,
            "version": self.version,
        }

    def of_run(self, run: Run) -> Manifest:
        """Return the manifest with the facts of one run: the model's folder, and whether its code may run."""
        model = dataclasses.replace(self.model, path=run.model_path or self.model.path)
        trusts_code = run.trust_remote_code and not self.model.from_scratch
        return dataclasses.replace(self, model=model, trusts_code=trusts_code)

    def spec_for(self, run: Run) -> SweepSpec:
        """Return the spec with the budget of one run."""
        own = {"budget": run.budget, "stop": run.stop, "prefer": run.prefer, "confirm": run.confirm}
        return self.spec.model_copy(update=own)

    def identity(self) -> dict[str, Any]:
        """Return everything that must not change under one name, flat by dotted name.

        The places of files are not part of it; their contents are.
        """
        spec = self.spec.model_dump(mode="json", exclude={**dict.fromkeys(_NOT_WRITTEN, True), **_PLACES})
        if isinstance(spec["start"], dict):
            del spec["start"]["from"]
        digests = {split: source.digest for split, source in self.data.sources.items()}
        spec["data"]["content"], spec["model"]["content"] = digests, self.model.digest
        return dict(_flat(spec))


def _as_now(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a written spec with what earlier versions left out, where the default is another one today."""
    search = spec.get("search", {})
    return {"start": (), **spec, "search": {"sampler": "tpe", **search} if isinstance(search, Mapping) else search}


_NOT_WRITTEN = {"name", "budget", "stop", "prefer", "confirm"}
_PLACES = {"data": {"dataset", "train", "validation", "test", "revision"}, "model": {"name", "revision"}}
_DATA, _MODEL = TypeAdapter(DataFacts), TypeAdapter(ModelFacts)


def without_run(spec: SweepSpec) -> SweepSpec:
    """Return a spec without what each run sets for itself: budget, stop, preference, confirmation and base folder."""
    own = {"base": Path(), "budget": BudgetSpec(), "stop": StopSpec(), "prefer": "best", "confirm": None}
    return spec.model_copy(update=own)


@dataclass(frozen=True)
class _Written:
    """Content of ``spec.json``."""

    name: str
    spec: Mapping[str, Any]
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    plan: Sequence[Params]
    created: float
    format: int = FORMAT
    version: str = __version__
    repeats: Sequence[Repeat] = ()


@dataclass(frozen=True)
class Run:
    """One ``sweep run`` of a sweep.

    Attributes:
        number: From 1.
        budget: Its budget.
        stop: Its conditions to end before the budget.
        profile: The launch profile, with numbers; see ``SettledProfile.record``.
        environment: Versions and device.
        host: Machine that the command ran on.
        pid: Process id of the command.
        started: Unix time.
        ended: Unix time, None while it runs or if it was killed.
        outcome: Why it ended, on one line.
        seconds: How long it has run by its own monotonic clock, saved every few seconds; None if it never was.
        model_path: Folder in which this run found the model; the one in the manifest may have moved.
        trust_remote_code: Whether its command line allowed code that comes with the model.
        token: A random word by which a worker on another machine recognises the folder.
        watched: Whether a command watches its workers. Workers of a cluster without such a command enforce the sweep's
            limits themselves.
        prefer: Which trial becomes the winner; see ``SweepSpec.prefer``.
        measures: Whether its workers still measure how many workers there should be. No trial begins until the command
            has written the number into the profile.
        confirm: How the best trials are confirmed; None if they are not.
    """

    number: int
    budget: BudgetSpec
    stop: StopSpec
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
    prefer: Literal["best", "cheapest-tied"] = "best"
    measures: bool = False
    confirm: ConfirmSpec | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the content of the run's file."""
        sections = {"budget": self.budget, "stop": self.stop, "confirm": self.confirm}
        return {**vars(self), **{name: one and one.model_dump() for name, one in sections.items()}}


Period = tuple[float, float]
"""Start and end in Unix time."""


def hours_ran(runs: Sequence[Run], records: Sequence[TrialRecord], running: Sequence[Period] = ()) -> float:
    """Return the hours in which runs ran; hours of simultaneous runs count once.

    A run that is not over or was killed counts up to the last time that it saved. The length of a run is measured by
    its own monotonic clock, since the wall clock may jump. A run without a watching command counts while its trials
    run; its time in a queue is free.

    Args:
        runs: The runs.
        records: The sweep's ended trials.
        running: Periods of the trials that have not ended.
    """
    total, reached = 0.0, 0.0
    for start, end in sorted([*running, *(span for run in runs for span in _spans(run, records))]):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total / 3600


def _spans(run: Run, records: Sequence[TrialRecord]) -> list[Period]:
    trials = [(record.started, record.ended) for record in records if record.run == run.number]
    if not run.watched:
        return trials
    if run.seconds is not None:
        return [(run.started, run.started + run.seconds)]
    if run.ended is not None:
        return [(run.started, run.ended)]
    return [(run.started, max((end for _, end in trials), default=run.started))]


def changes(old: Manifest, new: Manifest) -> list[str]:
    """Return the differences of two identities, one line each: ``space.learning_rate.high: 5e-05 -> 0.0001``."""
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
