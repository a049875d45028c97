"""Chooses how many trials share a GPU: lists the options, measures them, and picks the best."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from finesweep.calibration.measurement import Load, Measurement, Misfit
from finesweep.errors import SweepError
from finesweep.host.machine import Machine
from finesweep.launch import Profile, SettledProfile
from finesweep.launch.profile import MOST_WORKERS, number
from finesweep.trial import Params

MOST_PER_GPU = 8
GAIN = 1.1
"""Minimum factor by which one more trial on a GPU must raise the total speed."""

PROBE_SECONDS = 0.3
MEASURED_SECONDS = 0.5
MOST_STEPS = 100_000
SHARE = 0.1
"""Maximum share of a sweep's time for measuring."""

PATIENCE = 3.0
"""Timeout of a measurement, as a multiple of the first one's duration."""


@dataclass(frozen=True)
class Option:
    """A way to share the GPUs.

    Attributes:
        workers: Number of simultaneous trials.
        threads: CPU threads of each.
        per_gpu: Number of trials that share a GPU.
    """

    workers: int
    threads: int
    per_gpu: int


@dataclass(frozen=True)
class Speed:
    """Result for an option.

    Attributes:
        option: The option.
        examples_per_second: Speed of all trials on one GPU together; None if the option is impossible.
        reason: Why it is impossible.
    """

    option: Option
    examples_per_second: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Calibration:
    """A run's question about its machine, and the result.

    Attributes:
        run: Number of the run.
        host: The machine's name.
        machine: Its resources.
        options: The options.
        load: Hyperparameters to train with.
        examples: Estimated training examples of the whole sweep.
        trials: Number of trials with these examples.
        is_done: Whether measuring has ended.
        speeds: The results.
        remark: Why there is no result; else None.
    """

    run: int
    host: str
    machine: Machine
    options: tuple[Option, ...]
    load: Params
    examples: float
    trials: int
    is_done: bool = False
    speeds: tuple[Speed, ...] = ()
    remark: str | None = None


Measure = Callable[[Load, int, int, float], Measurement | Misfit]
"""Measures a load with a number of threads in a number of processes, within a number of seconds."""


def options(asked: Profile, machine: Machine, trials: int) -> tuple[Option, ...]:
    """Return the options on this machine; fewer than two if measuring cannot matter.

    One trial for each GPU, then two, and so on, as long as each has a core to feed it.

    Args:
        asked: The launch profile as it was written.
        machine: The machine of the workers.
        trials: Number of trials left.
    """
    if asked.workers != "auto" or asked.trials_per_gpu != "auto" or not asked.gpus_on(machine):
        return ()
    most = min(trials, MOST_WORKERS if asked.memory_gb is None else int(machine.memory_gb / asked.memory_gb))
    found = []
    for per_gpu in range(1, MOST_PER_GPU + 1):
        workers = len(machine.gpus) * per_gpu
        each = number(asked.threads_per_worker, max(1, machine.cores // workers))
        if per_gpu == 1:
            found.append(Option(min(workers, trials), each, per_gpu))
        elif workers <= machine.cores:
            found.append(Option(workers, each, per_gpu))
    return tuple(option for option in found if option.workers <= min(most, MOST_WORKERS))


def chosen(speeds: Sequence[Speed], among: Sequence[Option]) -> Option | None:
    """Return the best option by the results, None without results; each further trial must pay off."""
    known = {speed.option: speed.examples_per_second for speed in speeds if speed.examples_per_second is not None}
    found = sorted((option for option in among if option in known), key=lambda option: option.workers)
    if not found:
        return None
    best = found[0]
    for option in found[1:]:
        if option.per_gpu != best.per_gpu + 1 or known[option] < GAIN * known[best]:
            break
        best = option
    return best


def applied(profile: SettledProfile, option: Option) -> SettledProfile:
    """Return a profile with an option's numbers."""
    return dataclasses.replace(
        profile, workers=option.workers, threads_per_worker=option.threads, trials_per_gpu=option.per_gpu
    )


def against(speeds: Sequence[Speed], option: Option) -> str:
    """Describe the result of an option, and those of the others: ``410 examples/s, against 300 with 1``."""
    known = {speed.option: speed.examples_per_second for speed in speeds if speed.examples_per_second is not None}
    others = ", ".join(f"{value:,.0f} with {one.per_gpu}" for one, value in known.items() if one != option)
    return f"{known[option]:,.0f} examples/s{f', against {others}' if others else ''}"


def carried_out(asked: Calibration, measure: Measure, memory_gb: float) -> Calibration:
    """Measure the options of a run.

    Args:
        asked: The run's question.
        measure: Measures one option.
        memory_gb: Main memory of the worker that measures, in 1e9 bytes.

    Raises:
        TrialInterrupted: It was asked to stop.
    """
    began = time.monotonic()
    try:
        probe = measure(_load(asked, PROBE_SECONDS, sizes=True), 1, 1, PATIENCE * 100)
    except SweepError as error:
        return dataclasses.replace(asked, is_done=True, remark=str(error))
    if isinstance(probe, Misfit):
        return dataclasses.replace(asked, is_done=True, remark=probe.reason)
    took = time.monotonic() - began
    each = took + MEASURED_SECONDS
    seconds = (asked.examples / probe.examples_per_second + asked.trials * probe.fixed_seconds) / max(
        option.workers for option in asked.options
    )
    if each * (len(asked.options) + 2) > SHARE * seconds:
        return dataclasses.replace(asked, is_done=True, remark=f"the sweep is short ({seconds:.0f} s)")
    bench = _Measured(asked, measure, memory_gb + probe.own_memory_mb / 1000, PATIENCE * each)
    speeds = bench.best_again(list(bench.each()))
    remark = None if chosen(speeds, asked.options) else speeds[0].reason
    return dataclasses.replace(asked, is_done=True, speeds=speeds, remark=remark)


def _load(asked: Calibration, seconds: float, *, sizes: bool) -> Load:
    return Load(asked.load, steps=MOST_STEPS, seconds=seconds, evaluates=False, sizes=sizes)


@dataclass(frozen=True)
class _Measured:
    """Measures options one after the other.

    Attributes:
        asked: The run's question.
        measure: Measures one option.
        each_gb: Main memory of one worker and its trial, in 1e9 bytes.
        within: Timeout of an option's measurement, in seconds.
    """

    asked: Calibration
    measure: Measure
    each_gb: float
    within: float

    def each(self) -> Iterator[Speed]:
        """Yield the result of one option after the other, until a further one cannot be better."""
        best = 0.0
        for option in self.asked.options:
            speed = self._speed(option)
            yield speed
            found = speed.examples_per_second
            if best and (found is None or found < GAIN * best):
                return
            best = max(best, found or 0.0)

    def best_again(self, speeds: Sequence[Speed]) -> tuple[Speed, ...]:
        """Measure the two best options once more and keep the better result: a disturbance only lowers a speed."""
        fit = sorted((speed for speed in speeds if speed.examples_per_second), key=_examples, reverse=True)
        again = {speed.option: self._speed(speed.option) for speed in fit[:2]} if len(fit) > 1 else {}
        return tuple(max(speed, again.get(speed.option, speed), key=_examples) for speed in speeds)

    def _speed(self, option: Option) -> Speed:
        need = option.workers * self.each_gb
        if option.workers > 1 and need > self.asked.machine.memory_gb:
            return Speed(option, None, f"{option.workers} workers would take {need:.1f} GB of memory")
        load = _load(self.asked, MEASURED_SECONDS, sizes=False)
        try:
            found = self.measure(load, option.threads, option.per_gpu, self.within)
        except SweepError as error:
            return Speed(option, None, str(error))
        if isinstance(found, Misfit):
            return Speed(option, None, found.reason)
        return Speed(option, found.examples_per_second)


def _examples(speed: Speed) -> float:
    return speed.examples_per_second or 0.0
