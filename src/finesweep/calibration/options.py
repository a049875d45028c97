"""Owns how many trials run at a time where nobody says so: what may be chosen, what is measured, what is chosen."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from finesweep.calibration.measurement import Load, Measurement, Misfit
from finesweep.errors import SweepError
from finesweep.host.machine import Machine
from finesweep.launch.profile import MAX_CHOSEN, Profile, SettledProfile, number
from finesweep.trial import Params

MOST_WORKERS = 32
TRIALS_EACH = 4
"""More than ``MAX_CHOSEN`` workers are considered only where each has so many trials: the sampler shall see some
ends before it proposes."""

MOST_PER_GPU = 8
GAIN = 1.1
"""By how much one more trial on a GPU must raise what all of them do together."""

TIE = 0.95
"""Who comes as near to the best is as good; then fewer workers are better, since the sampler sees more."""

HOPELESS = 0.8
"""Where fewer workers do less than this share of the best, still fewer are not tried."""

PROBE_SECONDS = 0.3
MEASURED_SECONDS = 0.5
MOST_STEPS = 100_000
SHARE = 0.1
"""Share of a sweep that may be spent on finding out how to run it."""

LEAST_SHARE = 0.8
"""For how much of the time a single-threaded process must have run; with less, others are in the way, and what is
measured says more of them than of this machine."""

BUSY = "the machine is busy with other things"

PATIENCE = 3.0
"""How much longer than the first measurement another one may take."""


@dataclass(frozen=True)
class Option:
    """A way to share a machine out.

    Attributes:
        workers: How many trials run at a time.
        threads: CPU threads of each.
        per_gpu: How many of them share a GPU, 0 without GPUs.
    """

    workers: int
    threads: int
    per_gpu: int = 0

    @property
    def processes(self) -> int:
        """How many processes are measured at the same time: all of them, or those of one GPU."""
        return self.per_gpu or self.workers


@dataclass(frozen=True)
class Speed:
    """What was found of an option.

    Attributes:
        option: The option.
        examples_per_second: Of all trials together, or of those on one GPU; None where it is no option.
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

    Args:
        asked: The launch profile as it was written.
        machine: Where the workers will run.
        trials: How many trials are left.
    """
    if asked.workers != "auto":
        return ()
    found = _on_gpus(asked, machine, trials) if asked.gpus_on(machine) else _on_cores(asked, machine)
    most = MOST_WORKERS if asked.gpus_on(machine) else min(MOST_WORKERS, max(MAX_CHOSEN, trials // TRIALS_EACH))
    if asked.memory_gb is not None:
        most = min(most, int(machine.memory_gb / asked.memory_gb))
    return tuple(option for option in found if option.workers <= min(trials, most))


def _on_cores(asked: Profile, machine: Machine) -> Iterator[Option]:
    """Yield one worker for each core, and half as many with twice the threads, and so on."""
    if asked.threads_per_worker == "auto":
        workers = machine.cores
        while workers:
            yield Option(workers, machine.cores // workers)
            workers //= 2


def _on_gpus(asked: Profile, machine: Machine, trials: int) -> Iterator[Option]:
    """Yield one trial for each GPU, and two, and so on, as long as each has a core to feed it."""
    if asked.trials_per_gpu == "auto":
        for per_gpu in range(1, MOST_PER_GPU + 1):
            workers = len(machine.gpus) * per_gpu
            if per_gpu == 1 or workers <= machine.cores:
                each = number(asked.threads_per_worker, max(1, machine.cores // workers))
                yield Option(min(workers, trials) if per_gpu == 1 else workers, each, per_gpu)


def chosen(speeds: Sequence[Speed], among: Sequence[Option]) -> Option | None:
    """Return the best option by what was found, None where nothing was.

    On cores it is the one with the most examples per second, or the one with the fewest workers that comes near to
    it. On a GPU one more trial must be worth it each time.

    Args:
        speeds: What was found.
        among: What may be chosen now.
    """
    known = {speed.option: speed.examples_per_second for speed in speeds if speed.examples_per_second is not None}
    found = sorted((option for option in among if option in known), key=lambda option: option.workers)
    if not found:
        return None
    if found[0].per_gpu:
        return _last_worth_it(found, known)
    best = max(known[option] for option in found)
    return next(option for option in found if known[option] >= TIE * best)


def _last_worth_it(found: Sequence[Option], known: dict[Option, float]) -> Option:
    """Return the last option that gains enough on the one before it; there is no way past one that does not."""
    best = found[0]
    for option in found[1:]:
        if option.per_gpu != best.per_gpu + 1 or known[option] < GAIN * known[best]:
            break
        best = option
    return best


def applied(profile: SettledProfile, option: Option) -> SettledProfile:
    """Return a profile that runs as many trials at a time as an option says."""
    per_gpu = option.per_gpu or profile.trials_per_gpu
    return dataclasses.replace(
        profile, workers=option.workers, threads_per_worker=option.threads, trials_per_gpu=per_gpu
    )


def in_words(speeds: Sequence[Speed], option: Option) -> str:
    """Say what was chosen and why: ``2 workers with 1 thread each: 410 examples/s, against 300 with 1 x 2``."""
    known = {speed.option: speed.examples_per_second for speed in speeds if speed.examples_per_second is not None}
    others = ", ".join(f"{value:,.0f} with {_short(one)}" for one, value in known.items() if one != option)
    return f"{_long(option)}: {known[option]:,.0f} examples/s{f', against {others}' if others else ''}"


def named(profile: SettledProfile) -> str:
    """Say how a profile shares the machine out."""
    per_gpu = profile.trials_per_gpu if profile.gpus_per_trial else 0
    return _long(Option(profile.workers, profile.threads_per_worker, per_gpu))


def _long(option: Option) -> str:
    if option.per_gpu:
        return f"{option.per_gpu} {'trial' if option.per_gpu == 1 else 'trials'} at a time on each GPU"
    threads = f"{option.threads} {'thread' if option.threads == 1 else 'threads'}"
    return f"1 worker with {threads}" if option.workers == 1 else f"{option.workers} workers with {threads} each"


def _short(option: Option) -> str:
    return str(option.per_gpu) if option.per_gpu else f"{option.workers} x {option.threads}"


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
    speeds = () if _is_disturbed(asked, 1, probe) else bench.best_again(list(bench.each()))
    if not speeds or any(speed.reason == BUSY for speed in speeds):
        return dataclasses.replace(asked, is_done=True, remark=BUSY)
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
        on_gpu = any(option.per_gpu for option in self.asked.options)
        for option in sorted(self.asked.options, key=lambda option: option.workers if on_gpu else -option.workers):
            speed = self._speed(option)
            yield speed
            found = speed.examples_per_second
            if best and (found is None or found < (GAIN if on_gpu else HOPELESS) * best):
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
            found = self.measure(load, option.threads, option.processes, self.within)
        except SweepError as error:
            return Speed(option, None, str(error))
        if isinstance(found, Misfit):
            return Speed(option, None, found.reason)
        if _is_disturbed(self.asked, option.threads, found):
            return Speed(option, None, BUSY)
        return Speed(option, found.examples_per_second)


def _is_disturbed(asked: Calibration, threads: int, found: Measurement) -> bool:
    """Say whether other processes were in the way; only of one thread on a core of its own is it known."""
    is_on_gpu = any(option.per_gpu for option in asked.options)
    return threads == 1 and not is_on_gpu and found.share < LEAST_SHARE


def _examples(speed: Speed) -> float:
    return speed.examples_per_second or 0.0
