"""Estimates a sweep's time, memory and disk from its measurements and its amount of work."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from finesweep.calibration import BATCH, BatchMeasurement, Measurement, PlanMeasurement
from finesweep.folder.disk import STATE_COPIES
from finesweep.forecast import Span, expected_examples
from finesweep.forecast.work import evaluated_rows, in_full
from finesweep.launch import Profile
from finesweep.pruning import cohorts
from finesweep.spec import SweepSpec
from finesweep.sweep.states_in_memory import planned_states
from finesweep.trial import Params

SPEED = (0.85, 1.0, 1.25)
"""Factors on the measured time for a whole sweep: low, likely and high."""

TRIAL_SECONDS = 0.2
"""Seconds of a trial beside model, Trainer, steps and evaluations: its fork, the proposal, the copy of its weights."""

TAKEN_UP = 0.2
"""How often an average trial is promoted after it has waited, and then needs a new process. Simulated: 0.18 to 0.25
(20 or 30 trials in random order, three rungs, a reduction factor of 2 or 3)."""

COMMAND_MB = 100.0
"""Approximate memory of the command itself, without its workers."""

RECORD_BYTES = 60_000
"""Approximate size of log, scalars, record and claim of one trial."""


@dataclass(frozen=True)
class PlanInputs:
    """What is known of a sweep before anything is measured.

    Attributes:
        spec: The spec.
        profile: The launch profile.
        rows: Number of rows by split.
        trials: The budget.
        prepared_bytes: Size of rows, tokens and a model made from scratch.
        free_bytes: Free space on the disk of the results.
        memory_gb: The machine's main memory, in 1e9 bytes.
        check_seconds: Duration of checking and preparing.
        planned: Parameters of the first trials, which no sampler proposes; None to take them from the spec.
        states_memory_bytes: Memory that states of waiting trials may take.
    """

    spec: SweepSpec
    profile: Profile
    rows: dict[str, int]
    trials: int
    prepared_bytes: float
    free_bytes: float
    memory_gb: float
    check_seconds: float
    planned: Sequence[Params] | None = None
    states_memory_bytes: float = 0.0

    def examples(self, spec: SweepSpec, *, pruned: bool) -> Span:
        """Estimate the training examples of the sweep by a spec."""
        return expected_examples(spec, self.rows["train"], self.trials, pruned, self.planned)

    def evaluated(self, spec: SweepSpec, *, pruned: bool) -> Span:
        """Estimate the validation rows that the sweep evaluates by a spec."""
        return evaluated_rows(spec, self.rows["train"], self.rows["validation"], self.trials, pruned, self.planned)


@dataclass(frozen=True)
class Memory:
    """Main memory, in 1e9 bytes.

    Attributes:
        trial_gb: Peak resident memory of a trial's process, including what it shares with its worker.
        worker_gb: A worker and its trial together.
        total_gb: All workers and the command.
        gpu_gb: GPU memory that a trial reserves, 0 without a GPU.
    """

    trial_gb: float
    worker_gb: float
    total_gb: float
    gpu_gb: float


@dataclass(frozen=True)
class Disk:
    """Peak disk space of the sweep's folder, in 1e9 bytes.

    Attributes:
        data_gb: Rows, tokens, and the model if it is made from scratch.
        weights_gb: Kept weights of search and confirmation, those that are being written, and the winner.
        states_gb: States of trials that wait or were interrupted.
        logs_gb: Logs, scalars, records and claims.
        total_gb: The sum.
        states_limit_gb: Most that states of waiting trials may take on disk; None if no trial waits.
        states_memory_gb: Most that they may take in memory first.
    """

    data_gb: float
    weights_gb: float
    states_gb: float
    logs_gb: float
    total_gb: float
    states_limit_gb: float | None = None
    states_memory_gb: float = 0.0


@dataclass(frozen=True)
class ConfirmationCost:
    """Most that a confirmation takes, beside the budget of the search.

    Attributes:
        trainings: Number of trainings, if as many trials are tied as may be and none is out before its last seed.
        examples: Training examples of these, as those of trials that nothing prunes.
        hours: Wall clock; None if no batch size fits.
    """

    trainings: int
    examples: Span
    hours: Span | None


@dataclass(frozen=True)
class Estimate:
    """Expected costs of a sweep.

    Attributes:
        name: The sweep's name.
        trials: Trials of the budget.
        workers: Number of simultaneous trials.
        threads: CPU threads of each.
        per_gpu: Number of trials that share a GPU, 0 without one.
        note: Reason for the number of workers.
        launcher: Where they will run; everything was measured on this machine.
        pruner: The spec's pruner.
        factor: With ``halving``, 1 in this many trials is promoted at a rung; None with other pruners.
        budget_hours: The budget in hours, None for no limit.
        hours: Wall clock of the whole command without that limit.
        hours_unpruned: The same without pruning.
        examples: Training examples.
        examples_unpruned: The same without pruning.
        memory: Main memory; None if no batch size fits.
        disk: Peak disk space; None if no batch size fits.
        readings: The measurements, by batch size.
        problems: What does not fit, each with the nearest fix.
        busy_share: Share of the cores' time that other processes used during the measurement, None if unknown. On an
            idle machine the sweep takes less time by this share.
        confirmation: What ``confirm`` takes besides; None without it.
    """

    name: str
    trials: int
    workers: int
    threads: int
    per_gpu: int
    note: str
    launcher: str
    pruner: str
    factor: int | None
    budget_hours: float | None
    hours: Span | None
    hours_unpruned: Span | None
    examples: Span
    examples_unpruned: Span
    memory: Memory | None
    disk: Disk | None
    readings: tuple[BatchMeasurement, ...]
    problems: tuple[str, ...]
    busy_share: float | None
    confirmation: ConfirmationCost | None = None


def estimated(inputs: PlanInputs, found: PlanMeasurement) -> Estimate:
    """Estimate the costs of a sweep."""
    examples, unpruned = (inputs.examples(inputs.spec, pruned=pruned) for pruned in (True, False))
    fitting = {one.batch: one.measurement for one in found.each if one.measurement is not None}
    memory = _memory(found, list(fitting.values())) if fitting else None
    disk = _disk(inputs, found, next(iter(fitting.values()))) if fitting else None
    time = _Time(inputs, found, fitting) if fitting else None
    return Estimate(
        name=inputs.spec.name,
        trials=inputs.trials,
        workers=found.workers,
        threads=found.threads,
        per_gpu=found.per_gpu,
        note=found.note,
        launcher=inputs.profile.launcher,
        pruner=inputs.spec.search.pruner,
        factor=inputs.spec.factor if inputs.spec.search.pruner == "halving" else None,
        budget_hours=inputs.spec.budget.hours,
        hours=time.hours(examples, pruned=True) if time else None,
        hours_unpruned=time.hours(unpruned, pruned=False) if time else None,
        examples=examples,
        examples_unpruned=unpruned,
        memory=memory,
        disk=disk,
        readings=found.each,
        problems=tuple(_problems(inputs, found, memory, disk)),
        busy_share=_busy_share(found, list(fitting.values())),
        confirmation=_confirmation(inputs, found, fitting) if inputs.spec.confirm else None,
    )


def _confirmation(inputs: PlanInputs, found: PlanMeasurement, fitting: dict[int, Measurement]) -> ConfirmationCost:
    spec, candidates, count = in_full(inputs.spec), _candidates(inputs), _trainings(inputs)
    examples = inputs.examples(spec, pruned=False).times(count / inputs.trials)
    if not fitting:
        return ConfirmationCost(count, examples, None)
    rows = inputs.evaluated(spec, pruned=False)
    own = dataclasses.replace(inputs, trials=count, check_seconds=0.0)
    # After the first seeds a round is one training for each candidate, so more workers would have nothing to do.
    fewer = dataclasses.replace(found, workers=min(found.workers, candidates))
    time = _Time(own, fewer, fitting)
    return ConfirmationCost(count, examples, time.hours_of(examples, rows.times(count / inputs.trials), pruned=False))


def _candidates(inputs: PlanInputs) -> int:
    """Return the most trials that are confirmed; 0 without a confirmation."""
    spec = inputs.spec
    if spec.confirm is None:
        return 0
    with_default = spec.search.baseline and spec.search.sampler != "grid"
    return min(spec.confirm.top + with_default, inputs.trials)


def _trainings(inputs: PlanInputs) -> int:
    """Return the most trainings of the confirmation; 0 without one."""
    confirm = inputs.spec.confirm
    return 0 if confirm is None else _candidates(inputs) * confirm.seeds


def _busy_share(found: PlanMeasurement, fitting: Sequence[Measurement]) -> float | None:
    """Return the share of time used by other processes; None with several threads or a GPU, which wait anyway."""
    is_known = fitting and found.threads == 1 and not found.per_gpu
    return 1 - min(one.share for one in fitting) if is_known else None


@dataclass(frozen=True)
class _Time:
    """Computes the duration of the work at the measured speed."""

    inputs: PlanInputs
    found: PlanMeasurement
    fitting: dict[int, Measurement]

    def hours(self, examples: Span, *, pruned: bool) -> Span:
        """Return the hours of the whole command."""
        return self.hours_of(examples, self.inputs.evaluated(self.inputs.spec, pruned=pruned), pruned=pruned)

    def hours_of(self, examples: Span, rows: Span, *, pruned: bool) -> Span:
        """Return the hours of the whole command, from its training examples and evaluated validation rows."""
        pairs = zip(*map(dataclasses.astuple, (examples, rows)), SPEED, _TAILS, strict=True)
        return Span(*(self._seconds(*pair, pruned=pruned) / 3600 for pair in pairs))

    def _seconds(self, examples: float, rows: float, pace: float, tail: float, *, pruned: bool) -> float:
        """Return the seconds of the whole command.

        Args:
            examples: Training examples of all trials.
            rows: Evaluated validation rows.
            pace: Factor on the measured time.
            tail: Share of a trial's time in which the last trials run and other workers have nothing left to do.
            pruned: Whether the pruner ends trials.
        """
        inputs, workers = self.inputs, self.found.workers
        waits = pruned and inputs.spec.search.pruner == "halving"
        begun = inputs.trials * (1.0 + TAKEN_UP * waits)
        fixed = begun * (self._mean(lambda one: one.fixed_seconds) + TRIAL_SECONDS) / workers
        trained = examples * self._per(lambda one: one.examples_per_second)
        evaluated = rows * self._per(lambda one: one.rows_per_second or math.inf)
        idle = (trained + evaluated + fixed) * workers / inputs.trials * tail * (1 - 1 / workers)
        again = sum(inputs.rows.get(split, 0) for split in ("validation", "test"))
        ends = inputs.check_seconds + 2 * self.found.warm_seconds
        once = again * self._per(lambda one: (one.rows_per_second or math.inf) / one.processes) / self._scale()
        return ends + pace * (trained + evaluated + fixed + idle + once)

    def _scale(self) -> float:
        """Return how many copies of the measured processes run at a time: one for each GPU, or one."""
        return self.found.workers / max(one.processes for one in self.fitting.values())

    def _per(self, speed: Callable[[Measurement], float]) -> float:
        """Return the seconds per unit with all workers, averaged over the batch sizes."""
        return self._mean(lambda one: 1 / speed(one)) / self._scale()

    def _mean(self, value: Callable[[Measurement], float]) -> float:
        """Return a mean over the batch sizes; each end of a range has half the weight of its middle."""
        items = [value(one) for _, one in sorted(self.fitting.items())]
        parameter = self.inputs.spec.space.get(BATCH)
        if parameter is None or parameter.choices is not None or len(items) < 3:
            return sum(items) / len(items)
        return (items[0] + 2 * items[1] + items[2]) / 4


_TAILS = (0.0, 0.5, 1.0)


def _memory(found: PlanMeasurement, fitting: Sequence[Measurement]) -> Memory:
    worker = (found.worker_mb + max(one.own_memory_mb for one in fitting)) / 1000
    return Memory(
        trial_gb=max(one.memory_mb for one in fitting) / 1000,
        worker_gb=worker,
        total_gb=found.workers * worker + COMMAND_MB / 1000,
        gpu_gb=max(one.gpu_memory_mb for one in fitting) / 1000,
    )


def _disk(inputs: PlanInputs, found: PlanMeasurement, one: Measurement) -> Disk:
    weights, trainings = one.weights_mb / 1000, _trainings(inputs)
    data = inputs.prepared_bytes / 1e9
    # The confirmation keeps the best seed of each trial, beside all that the search has kept.
    kept = weights * (min(_kept(inputs) + found.workers, inputs.trials) + _candidates(inputs) + 1)
    each, running = weights * STATE_COPIES, min(found.workers, inputs.trials)
    waiting = max(map(len, cohorts(inputs.trials))) if inputs.spec.search.pruner == "halving" else None
    of = planned_states(each, waiting, running, inputs.profile.limits, inputs.free_bytes, inputs.states_memory_bytes)
    states = max(of.disk_gb, each * min(found.workers, trainings))
    logs = (inputs.trials + trainings) * RECORD_BYTES / 1e9
    return Disk(data, kept, states, logs, data + kept + states + logs, of.limit_gb, of.memory_gb)


def _kept(inputs: PlanInputs) -> int:
    """Return the most trials of the search that keep their weights.

    With ``prefer: cheapest-tied`` a trial keeps them unless enough better ones cost no more. So there may be
    ``keep_best`` of each cost, and trials that end early may each have another one.
    """
    spec = inputs.spec
    if spec.prefer == "best":
        return inputs.profile.keep_best
    costs = inputs.trials if spec.patience != "none" else _costs(spec)
    return int(min(inputs.profile.keep_best * costs, inputs.trials))


def _costs(spec: SweepSpec) -> float:
    """Return how many different costs trials have that nothing ends early; infinity if they have any."""
    searched = spec.space.keys() | spec.fixed.keys()
    batches = (BATCH, "gradient_accumulation_steps") if "max_steps" in searched else ()
    costly = ("num_train_epochs", "max_steps", *batches)
    axes = [axis for name, axis in spec.space.items() if name in costly or name.startswith("model.")]
    return math.prod(axis.size() if axis.countable else math.inf for axis in axes)


def _problems(inputs: PlanInputs, found: PlanMeasurement, memory: Memory | None, disk: Disk | None) -> Iterator[str]:
    """Yield what does not fit, each with the nearest fix."""
    yield from _too_large(found, inputs.profile)
    if memory is not None:
        yield from _too_much_memory(inputs, found, memory)
    if disk is not None:
        yield from _too_much_disk(inputs, disk)


def _too_large(found: PlanMeasurement, profile: Profile) -> Iterator[str]:
    """Yield the batch sizes that do not fit, or exceed ``memory_gb``."""
    limit = math.inf if profile.memory_gb is None else profile.memory_gb * 1000
    fits = [one.batch for one in found.each if one.measurement and one.measurement.memory_mb <= limit]
    for one in found.each:
        smaller = max((batch for batch in fits if batch < one.batch), default=None)
        if one.misfit is not None:
            yield f"{BATCH}: {one.batch} does not fit: {one.misfit} ({_instead(one.batch, smaller)})"
        elif one.measurement is not None and one.measurement.memory_mb > limit:
            took = one.measurement.memory_mb / 1000
            fix = f"memory_gb: {math.ceil(took * 11) / 10:g} would do"
            instead = f", or {_instead(one.batch, smaller)}" if smaller else ""
            more = f"takes {took:.2f} GB, more than memory_gb: {profile.memory_gb:g}"
            yield f"{BATCH}: {one.batch} {more} ({fix}{instead})"


def _instead(batch: int, smaller: int | None) -> str:
    if smaller is None:
        return "a smaller batch, a shorter data.max_length or a smaller model may"
    if batch % smaller:
        return f"{smaller} fits"
    return f"{smaller} fits, and with gradient_accumulation_steps: {batch // smaller} it is the same batch"


def _too_much_memory(inputs: PlanInputs, found: PlanMeasurement, memory: Memory) -> Iterator[str]:
    if memory.total_gb > inputs.memory_gb and found.workers > 1:
        fits = max(1, int((inputs.memory_gb - COMMAND_MB / 1000) / memory.worker_gb))
        yield (
            f"{found.workers} workers take {memory.total_gb:.1f} GB of memory, and the machine has "
            f"{inputs.memory_gb:.1f} (workers: {fits} fit)"
        )


def _too_much_disk(inputs: PlanInputs, disk: Disk) -> Iterator[str]:
    limit = inputs.profile.limits.disk_gb
    need = f"{disk.total_gb:.3g} GB"
    if limit is not None and disk.total_gb > limit:
        fix = f"limits: {{disk_gb: {math.ceil(disk.total_gb * 11) / 10:g}}} would do"
        fewer = ", or a smaller keep_best" if inputs.profile.keep_best > 1 else ""
        fewer += ", or prefer: best" if _kept(inputs) > inputs.profile.keep_best else ""
        fewer += ", or a smaller limits.states_gb" if disk.states_limit_gb else ""
        yield f"the folder takes {need} at its peak, more than limits.disk_gb: {limit:g} ({fix}{fewer})"
    if disk.total_gb * 1e9 > inputs.free_bytes:
        yield f"the folder takes {need} at its peak, and {inputs.free_bytes / 1e9:.3g} GB are free (make room)"
