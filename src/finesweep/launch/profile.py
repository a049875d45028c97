"""Reads launch profiles, which say where workers run and with which resources; they are not part of a sweep's identity.

``Profile`` has the keys of all launchers. A launcher with its own keys has a subclass in its own package.
``finesweep.registry.PROFILES`` names the class of each launcher; a launcher that is missing there is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from finesweep.errors import FolderError, Problem, SpecError, did_you_mean
from finesweep.files import Shared
from finesweep.host.machine import Machine
from finesweep.registry import PROFILES
from finesweep.spec import YamlSource
from finesweep.spec.messages import example, findings, unknown_keys
from finesweep.spec.sections import Section
from finesweep.spec.training_arguments import describe
from finesweep.spec.yaml_source import read

MAX_CHOSEN = 8
"""Maximum number of workers for ``auto`` without a GPU, except in long sweeps. The more trials run at a time, the fewer
results the sampler knows when it proposes the next. The other cores become threads."""

MOST_WORKERS = 32
TRIALS_EACH = 4
"""Minimum number of trials of each worker if there are more than ``MAX_CHOSEN``."""

MAX_PER_GPU = 64

GONE = {"storage": "is no longer needed, since the study is made of the sweep's own records; take this line out"}
"""Keys of earlier versions, with what replaced them."""


Auto = Literal["auto"]


def number(asked: Auto | int, otherwise: int) -> int:
    """Return the given number, or the one that ``auto`` stands for."""
    return otherwise if asked == "auto" else asked


def one_gpu_at_most(instead: str) -> Callable[[Any], Any]:
    """Make the validator of a trial's number of GPUs, which refuses more than one.

    Args:
        instead: The keys that set the number of simultaneous trials.
    """

    def checked(value: Any) -> Any:
        if type(value) is int and value > 1:
            raise ValueError(f"more than one GPU per trial is not supported yet; {instead} how many trials run")
        return value

    return checked


def _auto_or_integer(low: int, high: int) -> Callable[[Any], Any]:
    """Make the validator of a key that is a number or ``auto``; a union of types would report only one of them."""

    def checked(value: Any) -> Any:
        if value == "auto" or (type(value) is int and low <= value <= high):
            return value
        raise ValueError(f"must be auto or an integer from {low} to {high:,}, found {describe(value)}")

    return checked


WorkerCount = Annotated[Auto | int, BeforeValidator(_auto_or_integer(1, 1_000))]
ThreadCount = Annotated[Auto | int, BeforeValidator(_auto_or_integer(1, 1_024))]
SharedCount = Annotated[Auto | int, BeforeValidator(_auto_or_integer(1, MAX_PER_GPU))]
GpuCount = Annotated[
    Auto | int,
    BeforeValidator(_auto_or_integer(0, 1)),
    BeforeValidator(one_gpu_at_most("`workers` and `trials_per_gpu` say")),
]


class Limits(Section):
    """Limits of one trial and of the whole sweep; a process above a limit is stopped."""

    trial_minutes: float | None = Field(None, gt=0, description="Minutes that one trial may take.")
    disk_gb: float | None = Field(None, gt=0, description="Disk that the sweep's folder may take, in 1e9 bytes.")
    states_gb: float | None = Field(
        None,
        ge=0,
        description="Room for the saved states of trials that wait, in memory and on disk together, in 1e9 bytes; a "
        "trial without one is trained again from its first step if its turn comes. Left out: 10, and on disk at most "
        "a tenth of what is free.",
    )
    states: Literal["auto", "memory", "disk"] = Field(
        "auto",
        description="Where these states lie. auto: in memory up to a quarter of what is available, then on disk; "
        "memory: up to half of it; disk: on disk alone. On clusters always on disk.",
    )


class Profile(Section):
    """A YAML of ``sweeps/`` as it was written; ``settled`` replaces each ``auto`` by a number."""

    launcher: str = Field("local", description="Where workers run.")
    workers: WorkerCount = Field(
        "auto",
        description="How many trials run at a time; auto, on this machine: one for each core, or for each place on a "
        "GPU, if memory holds them.",
    )
    gpus_per_trial: GpuCount = Field("auto", description="0 or 1; auto: 1 where the machine has a GPU.")
    trials_per_gpu: SharedCount = Field(
        "auto", description="How many trials share a GPU; auto: measured on this machine, else as `workers` needs."
    )
    threads_per_worker: ThreadCount = Field(
        "auto", description="CPU threads of a trial; auto: cores / workers, at least 1."
    )
    memory_gb: float | None = Field(
        None, gt=0, description="Main memory of one worker and its trial, in 1e9 bytes; a trial above it is stopped."
    )
    keep_best: int = Field(1, ge=1, le=1_000, description="How many of the best trials keep their weights.")
    retries: int = Field(2, ge=0, le=10, description="How often a trial that was killed or stuck is retried.")
    stall_minutes: float = Field(15.0, gt=0, description="A trial without progress for so long is retried.")
    shared: Shared | None = Field(
        None, description="Other users of a new results folder: group reads and writes it, world reads it too."
    )
    limits: Limits = Field(Limits(), description="What a trial and the sweep may use.")

    @property
    def shell_lines(self) -> tuple[str, ...]:
        """Lines of shell code that it would run; they must come from a trusted author."""
        return ()

    def gpus_on(self, machine: Machine) -> int:
        """Return the number of GPUs of a trial on a machine: 0 or 1."""
        return number(self.gpus_per_trial, min(len(machine.gpus), 1))

    def settled(
        self, machine: Machine, trials: int, workers: int | None = None, trial_gb: float = 0.0
    ) -> SettledProfile:
        """Return this profile with a number for each ``auto``, as far as that is possible without measuring.

        Args:
            machine: The machine of the workers.
            trials: Number of trials left; there are never more workers.
            workers: Replaces the profile's own number.
            trial_gb: Expected main memory of a worker and its trial, in 1e9 bytes; 0 if unknown.

        Raises:
            SpecError: It asks for a GPU, or for more workers, than the machine has room for.
        """
        asked = self.workers if workers is None else workers
        gpus = self.gpus_on(machine)
        if gpus:
            self._refuse_without_place(machine, asked, "workers" if workers is None else "--workers")
        fitting = self._on_gpus(machine) if gpus else min(most for most, _ in self._on_cores(machine, trials, trial_gb))
        count = max(1, min(number(asked, fitting), trials))
        threads = number(self.threads_per_worker, max(1, machine.cores // count))
        shared = number(self.trials_per_gpu, -(-count // len(machine.gpus)) if gpus else 1)
        return SettledProfile(self, count, gpus, shared, threads)

    def notes(self, settled: SettledProfile, machine: Machine) -> list[str]:
        """Return warnings about allowed numbers that may be a mistake."""
        found, count, threads = [], settled.workers, settled.threads_per_worker
        workers = _counted(count, "worker")
        is_fed_by_few_cores = settled.gpus_per_trial == 1 and threads == 1
        if count * threads > machine.cores and not is_fed_by_few_cores:
            each = _counted(threads, "thread") + (" each" if count > 1 else "")
            found.append(f"{workers} with {each} share {_counted(machine.cores, 'core')} and slow each other down")
        if self.memory_gb is not None and count * self.memory_gb > machine.memory_gb:
            total = f"{count * self.memory_gb:g} of {machine.memory_gb:.1f} GB"
            found.append(f"{workers} with memory_gb: {self.memory_gb:g} may take {total} of memory")
        return found

    def reason(self, machine: Machine, trials: int, trial_gb: float = 0.0) -> str:
        """Return the reason for the number of workers that ``settled`` chooses on a CPU; empty if it does not choose.

        Args:
            machine: The machine of the workers.
            trials: Number of trials left.
            trial_gb: Expected main memory of a worker and its trial, in 1e9 bytes; 0 if unknown.
        """
        if self.launcher != "local" or self.workers != "auto" or self.gpus_on(machine):
            return ""
        bounds = [(trials, "no more trials are left"), *self._on_cores(machine, trials, trial_gb)]
        return min(bounds, key=lambda bound: bound[0])[1]

    def _on_gpus(self, machine: Machine) -> int:
        """Return the number of workers that fit on the machine's GPUs and into its memory; may be 0."""
        count = len(machine.gpus) * number(self.trials_per_gpu, 1)
        return count if self.memory_gb is None else min(count, int(machine.memory_gb / self.memory_gb))

    def _on_cores(self, machine: Machine, trials: int, trial_gb: float) -> Iterator[tuple[int, str]]:
        """Yield the upper bounds of the number of workers on a machine's cores, each with its reason."""
        if self.threads_per_worker == "auto":
            yield machine.cores, f"one for each of {_counted(machine.cores, 'core')}"
            most = min(MOST_WORKERS, max(MAX_CHOSEN, trials // TRIALS_EACH))
            yield most, f"more than {MAX_CHOSEN} only where each has {TRIALS_EACH} trials, and {MOST_WORKERS} at most"
        else:
            of_each = f"with threads_per_worker: {self.threads_per_worker}"
            yield machine.cores // self.threads_per_worker, f"{_counted(machine.cores, 'core')} {of_each}"
        if each := self.memory_gb or trial_gb:
            key = "memory_gb" if self.memory_gb else "about"
            yield int(machine.memory_gb / each), f"{machine.memory_gb:.1f} GB of memory, {key} {each:.2g} GB for each"

    def _refuse_without_place(self, machine: Machine, asked: Auto | int, key: str) -> None:
        """Refuse a profile that asks for more GPUs than the machine has."""
        if not machine.gpus:
            message = "1 is asked for, and no GPU was found on this machine (nvidia-smi, CUDA_VISIBLE_DEVICES)"
            raise SpecError.of("gpus_per_trial", message, "auto takes one where there is one, 0 takes none")
        shared = number(self.trials_per_gpu, MAX_PER_GPU)
        places = len(machine.gpus) * shared
        if asked == "auto" or asked <= places:
            return
        found = f"{_counted(len(machine.gpus), 'GPU')} with trials_per_gpu: {shared}"
        needed = -(-asked // len(machine.gpus))
        fix = f"trials_per_gpu: {needed} shares them" if needed <= MAX_PER_GPU else f"at most {places} can run"
        message = f"{asked} are asked for, and {found} have place for {places}"
        raise SpecError.of(key, message, f"{fix}; gpus_per_trial: 0 uses none")


@dataclass(frozen=True)
class SettledProfile:
    """A launch profile with a number for each ``auto``, by which a run's workers are started.

    Attributes:
        asked: The profile as it was written, for everything else.
        workers: Number of simultaneous trials, 1 or more.
        gpus_per_trial: 0 or 1.
        trials_per_gpu: Number of trials that share a GPU, 1 or more.
        threads_per_worker: CPU threads of a trial, 1 or more.
    """

    asked: Profile
    workers: int
    gpus_per_trial: int
    trials_per_gpu: int
    threads_per_worker: int

    def __str__(self) -> str:
        """Describe how it divides the machine: ``2 workers with 1 thread each``."""
        if self.gpus_per_trial:
            return f"{_counted(self.trials_per_gpu, 'trial')} at a time on each GPU"
        each = " each" if self.workers > 1 else ""
        return f"{_counted(self.workers, 'worker')} with {_counted(self.threads_per_worker, 'thread')}{each}"

    def notes(self, machine: Machine) -> list[str]:
        """Return warnings about allowed numbers that may be a mistake."""
        return self.asked.notes(self, machine)

    def record(self) -> dict[str, Any]:
        """Return the profile's keys with the numbers, for a run's file; ``of_run`` reads them."""
        return {**self.asked.model_dump(), **{name: getattr(self, name) for name in NUMBERS}}


NUMBERS = ("workers", "gpus_per_trial", "trials_per_gpu", "threads_per_worker")
"""Keys that may be ``auto``, and that have a number in a settled profile."""


def load(path: Path | None) -> Profile:
    """Read a launch profile; without a path, return the defaults, which run everything on this machine.

    A key without a value counts as left out.

    Raises:
        SpecError: With every problem, each with file, line and the nearest fix.
    """
    if path is None:
        return Profile()
    source = read(path)
    kind = _kind(source.values.get("launcher"))
    given = {key: value for key, value in source.values.items() if value is not None or key not in kind.model_fields}
    problems = list(_unknown_launcher(source))
    try:
        profile = kind.model_validate(given)
    except ValidationError as error:
        raise SpecError([*problems, *_problems(source, kind, error)]) from None
    if problems:
        raise SpecError(problems)
    return profile


def of_run(values: Mapping[str, Any]) -> SettledProfile:
    """Rebuild the profile of a run from its file.

    Earlier versions left ``auto`` in the file of a run that was killed before its workers had begun, or that ran on a
    Ray cluster. It counts as the smallest number.

    Raises:
        FolderError: The file holds values that no profile can have.
    """
    try:
        known = {key: value for key, value in values.items() if key not in GONE}
        asked = _kind(values.get("launcher")).model_validate(known)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise FolderError(f"the run's profile: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return SettledProfile(
        asked,
        number(asked.workers, 1),
        number(asked.gpus_per_trial, 0),
        number(asked.trials_per_gpu, 1),
        number(asked.threads_per_worker, 1),
    )


def _kind(launcher: Any) -> type[Profile]:
    """Return the class with a launcher's keys; ``Profile`` for an unknown launcher."""
    kind: type[Profile] = PROFILES.load(launcher) if launcher in PROFILES.names else Profile
    return kind


def _unknown_launcher(source: YamlSource) -> Iterator[Problem]:
    launcher = source.values.get("launcher")
    if isinstance(launcher, str) and launcher not in PROFILES.names:
        message = f"no launcher is called {launcher!r}; there are {', '.join(PROFILES.names)}"
        yield Problem(source.where("launcher"), message, did_you_mean(launcher, PROFILES.names))


def _problems(source: YamlSource, kind: type[Profile], error: ValidationError) -> Iterator[Problem]:
    for path, key in unknown_keys(error):
        if path == (key,) and key in GONE:
            yield Problem(source.where(*path), GONE[key], "")
            continue
        known = list((kind if len(path) == 1 else Limits).model_fields)
        hint = f"it stands in limits, {example(Limits)}" if key in Limits.model_fields else did_you_mean(key, known)
        elsewhere = f"it goes with launcher: {' or '.join(others)}" if (others := _with_key(key)) else ""
        yield Problem(source.where(*path), f"no such key; there are {', '.join(known)}", elsewhere or hint)
    for path, message, hint in findings(error, source.values):
        yield Problem(source.where(*path), message, example(Limits) if path == ("limits",) else hint)


def _with_key(key: str) -> list[str]:
    """Return the launchers whose profiles have a key."""
    return [name for name in PROFILES.names if key in PROFILES.load(name).model_fields]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
