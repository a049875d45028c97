"""Chooses how many trials share a GPU: the options, what is measured of them, and which is best."""

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
"""By how much one more trial on a GPU must raise what all of them do together."""

PROBE_SECONDS = 0.3
MEASURED_SECONDS = 0.5
MOST_STEPS = 100_000
SHARE = 0.1
"""Share of a sweep that may be spent on finding out how to run it."""

PATIENCE = 3.0
"""How much longer than the first measurement another one may take."""


@dataclass(frozen=True)
class Option:
    """A way to share GPUs out.

    Attributes:
        workers: How many trials run at a time.
        threads: CPU threads of each.
        per_gpu: How many of them share a GPU.
    """

    workers: int
    threads: int
    per_gpu: int


@dataclass(frozen=True)
class Speed:
    """What was found of an option.

    Attributes:
        option: The option.
        examples_per_second: Of all trials on one GPU together; None where it is no option.
        reason: Why it is none.
    """

    option: Option
    examples_per_second: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Calibration:
    """What one run wants to know of its machine, and what was found.

    Attributes:
        run: Number of the run.
        host: The machine's name.
        machine: What it has.
        options: What there is to choose between.
        load: Hyperparameters that are trained.
        examples: Training examples of the whole sweep, as far as they can be foreseen.
        trials: How many trials they are.
        is_done: Whether the worker has finished with it.
        speeds: What it has found.
        remark: Why nothing was found; else None.
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
"""Measures a load with so many threads in so many processes, within so many seconds."""


def options(asked: Profile, machine: Machine, trials: int) -> tuple[Option, ...]:
    """Return what there is to choose between on this machine; fewer than two where measuring cannot matter.

    One trial for each GPU, and two, and so on, as long as each has a core to feed it.

    Args:
        asked: The launch profile as it was written.
        machine: Where the workers will run.
        trials: How many trials are left.
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
    """Return the best option by what was found, None where nothing was; each further trial must be worth it.

    Args:
        speeds: What was found.
        among: What may be chosen now.
    """
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
    """Return a profile that runs as many trials at a time as an option says."""
    return dataclasses.replace(
        profile, workers=option.workers, threads_per_worker=option.threads, trials_per_gpu=option.per_gpu
    )


def against(speeds: Sequence[Speed], option: Option) -> str:
    """Say what was found of an option, and of the others: ``410 examples/s, against 300 with 1``."""
    known = {speed.option: speed.examples_per_second for speed in speeds if speed.examples_per_second is not None}
    others = ", ".join(f"{value:,.0f} with {one.per_gpu}" for one, value in known.items() if one != option)
    return f"{known[option]:,.0f} examples/s{f', against {others}' if others else ''}"


def carried_out(asked: Calibration, measure: Measure, memory_gb: float) -> Calibration:
    """Measure what a run wants to know.

    Args:
        asked: What it wants to know.
        measure: Measures one option.
        memory_gb: Main memory of the worker that measures, in 1e9 bytes.

    Raises:
        TrialInterrupted: It was told to stop.
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
        asked: What the run wants to know.
        measure: Measures one option.
        each_gb: Main memory of one worker and its trial, in 1e9 bytes.
        within: Seconds that an option may take to be measured.
    """

    asked: Calibration
    measure: Measure
    each_gb: float
    within: float

    def each(self) -> Iterator[Speed]:
        """Yield what is found of one option after the other, until the rest of them is not worth a look."""
        best = 0.0
        for option in self.asked.options:
            speed = self._speed(option)
            yield speed
            found = speed.examples_per_second
            if best and (found is None or found < GAIN * best):
                return
            best = max(best, found or 0.0)

    def best_again(self, speeds: Sequence[Speed]) -> tuple[Speed, ...]:
        """Measure the two best once more and keep the better result: what disturbs a measurement only lowers it."""
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
