"""Measures the speed of training on this machine, in short-lived forks of a warm worker that leave nothing behind."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers

from finesweep import activity
from finesweep.calibration.measurement import Load, Measurement, Misfit
from finesweep.calibration.options import Calibration, carried_out
from finesweep.errors import SweepError
from finesweep.files import last_words, open_log
from finesweep.folder import Manifest, SweepFolder
from finesweep.host.process_memory import resident_gb
from finesweep.host.signals import end_with_parent
from finesweep.host.temporary_folders import temporary_folder
from finesweep.spec import SweepSpec
from finesweep.training.callback import TrialContext
from finesweep.training.fine_tuning import build_trainer
from finesweep.trial import TrialInterrupted

WARM_UP_STEPS = 2
"""Steps that are not measured: the first ones allocate memory and choose kernels."""

LEAST_STEPS = 3
POLL_SECONDS = 0.02
DEADLINE_SECONDS = 300.0
"""Timeout of a measurement in seconds; a step may be slow, and a process may hang."""

EVALUATION_SECONDS = 1.0
"""Approximate duration of the measured evaluation in seconds."""

FORWARD_SHARE = 3.0
"""Number of rows that are evaluated in about the time of training one."""


@dataclass
class Bench:
    """Trains briefly in forks of this process, which ``Worker.warm_up`` must have prepared.

    Attributes:
        sweep_folder: The sweep's folder; rows and tokens are read from it, nothing is written to it.
        manifest: The sweep's manifest.
        spec: The sweep's spec.
        most_gb: Maximum main memory of a process, in 1e9 bytes; a larger one is killed.
        stopping: Returns whether to end at once.
    """

    sweep_folder: SweepFolder
    manifest: Manifest
    spec: SweepSpec
    most_gb: float | None = None
    stopping: Callable[[], bool] = lambda: False

    def measure(
        self, load: Load, threads: int, processes: int = 1, within: float = DEADLINE_SECONDS
    ) -> Measurement | Misfit:
        """Train in several processes at the same time and return the measurement.

        Args:
            load: The training to measure.
            threads: CPU threads of each process.
            processes: Number of processes.
            within: Timeout in seconds.

        Raises:
            TrialInterrupted: It was asked to stop.
            SweepError: A process failed, as every trial would, or the timeout was reached.
        """
        with temporary_folder() as temporary:
            context = TrialContext(self.sweep_folder, self.manifest, self.spec, load.params)
            forks = _Forks(self, context, Path(temporary), load, threads, within)
            try:
                return forks.carry_out(processes)
            finally:
                forks.end()


QUIET_SECONDS = 15.0
"""Maximum seconds to wait until other workers, which would disturb the measurement, are ready and idle."""

_LOOK_SECONDS = 0.2
_IDLE_SHARE = 0.25


def calibrate(bench: Bench, asked: Calibration) -> Calibration:
    """Measure what a run needs to know about this machine, after its other workers have become idle.

    Raises:
        TrialInterrupted: It was asked to stop.
    """
    activity.tell("measuring how many trials at a time train fastest")
    # The other workers rehearse at first. On cores that they use, each option would look slower than it is.
    deadline = time.monotonic() + QUIET_SECONDS
    while not _is_quiet() and time.monotonic() < deadline and not bench.stopping():
        pass
    return carried_out(asked, bench.measure, psutil.Process().memory_info().rss / 1e9)


def _is_quiet() -> bool:
    """Return whether the other children of this worker's command are almost idle."""
    before = _busy_seconds()
    time.sleep(_LOOK_SECONDS)
    return _busy_seconds() - before < _IDLE_SHARE * _LOOK_SECONDS


def _busy_seconds() -> float:
    busy = 0.0
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(os.getppid()).children():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                busy += (times.user + times.system) if process.pid != os.getpid() else 0.0
    return busy


@dataclass
class _Fork:
    """One process that trains, and its messages so far."""

    process: Any
    receiver: multiprocessing.connection.Connection
    log: Path
    is_ready: bool = False
    answer: dict[str, Any] | None = None

    def listen(self) -> None:
        """Read the messages that it has sent so far."""
        try:
            while self.answer is None and self.receiver.poll():
                self._hear(self.receiver.recv_bytes())
        except (EOFError, OSError):
            self.process.join(timeout=1)

    def _hear(self, words: bytes) -> None:
        # The first message says that it is ready, the second one is its answer.
        if self.is_ready:
            self.answer = json.loads(words)
        self.is_ready = True

    def last_words(self) -> str:
        """Return the last line that it printed."""
        return last_words(self.log, self.process.exitcode)


@dataclass
class _Forks:
    """The processes of one measurement: they build, wait for each other, and train at the same time."""

    bench: Bench
    context: TrialContext
    scratch: Path
    load: Load
    threads: int
    within: float
    all: list[_Fork] = field(default_factory=list)
    _gate: list[int] = field(default_factory=lambda: list(os.pipe()))
    _killed_for: Misfit | None = None

    def carry_out(self, processes: int) -> Measurement | Misfit:
        """Start the processes, let them train at the same time, and wait for their results."""
        began = time.monotonic()
        for number in range(processes):
            self.all.append(self._started(number))
        while (found := self._found()) is None:
            self._look(began)
            multiprocessing.connection.wait([one.receiver for one in self.all if one.answer is None], POLL_SECONDS)
        return found

    def end(self) -> None:
        """Kill the processes that still run; none is left when this returns."""
        for one in self.all:
            one.process.kill()
            one.process.join()
            one.process.close()
            one.receiver.close()
        for descriptor in self._gate:
            os.close(descriptor)

    def _started(self, number: int) -> _Fork:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        log = self.scratch / f"{number}.log"
        process = multiprocessing.get_context("fork").Process(target=self._in_child, args=(sender, log, os.getpid()))
        process.start()
        sender.close()
        return _Fork(process, receiver, log)

    def _found(self) -> Measurement | Misfit | None:
        """Return the result once it is known."""
        for one in self.all:
            one.listen()
        if self._killed_for is not None:
            return self._killed_for
        if len(self._gate) > 1 and all(one.is_ready for one in self.all):
            os.close(self._gate.pop())
        for one in self.all:
            if one.answer is not None and "reason" in one.answer:
                return Misfit(**one.answer)
            if one.answer is None and not one.process.is_alive():
                return _ended(one)
        if any(one.answer is None for one in self.all):
            return None
        return Measurement.together([Measurement(**one.answer) for one in self.all if one.answer is not None])

    def _look(self, began: float) -> None:
        """Stop waiting if it was asked to stop, the timeout is reached, or a process takes too much memory."""
        if self.bench.stopping():
            raise TrialInterrupted("stopped while the speed of trials was measured")
        if time.monotonic() - began > self.within:
            raise SweepError(f"a few steps of training took longer than {self.within:.0f} s")
        most = self.bench.most_gb
        for one in self.all if most is not None else ():
            if (used := resident_gb(one.process.pid or 0)) > (most or 0.0):
                self._killed_for = Misfit(f"it took {used:.1f} GB of memory, and there are {most:.1f}")

    def _in_child(self, sender: multiprocessing.connection.Connection, log: Path, parent: int) -> None:
        # The gate opens when its writing end is closed everywhere. This process has inherited that end and must not
        # hold it open.
        os.close(self._gate[1])
        _be_mortal(log, self.within)
        torch.set_num_threads(self.threads)

        def pass_gate() -> None:
            sender.send_bytes(b"ready")
            os.read(self._gate[0], 1)  # nothing is ever written: it returns when all processes are ready

        try:
            said: Any = _measured(self.context, self.scratch, self.load, pass_gate, parent)
        except torch.OutOfMemoryError:
            said = Misfit("it needs more memory than the GPU has")
        except MemoryError:
            said = Misfit("it needs more memory than there is")
        sender.send_bytes(json.dumps(dataclasses.asdict(said)).encode())


def _be_mortal(log: Path, seconds: float) -> None:
    """Let signals end this process, and let it end with its worker, or by itself after some time."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.alarm(int(seconds) + 1)
    end_with_parent()
    if sys.platform == "linux":
        os.setsid()  # Linux shares busy cores out by session, and each worker is one
    descriptor = open_log(log)
    for stream in (1, 2):
        os.dup2(descriptor, stream)


def _ended(one: _Fork) -> Misfit:
    """Return the meaning of a process's end without a message."""
    one.process.join()
    if one.process.exitcode == -signal.SIGKILL or "can't allocate memory" in one.last_words():
        return Misfit("it needs more memory than there is")
    raise SweepError(f"training failed: {one.last_words()}")


class _Stopwatch(transformers.TrainerCallback):  # type: ignore[misc]
    """Times the steps from inside, and ends training when enough are done."""

    def __init__(self, trainer: Any, load: Load, parent: int) -> None:
        self.trainer, self.load, self.parent = trainer, load, parent
        self.first = self.start = self.end = self.ran = 0.0
        self.examples = 0
        self.tokens: list[Any] = []
        self._train_on, trainer.training_step = trainer.training_step, self._counted

    def _counted(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self.examples += len(inputs["input_ids"])
        self.tokens.append(inputs["attention_mask"].sum())  # its value is read later, since that waits for the GPU
        return self._train_on(model, inputs, *args, **kwargs)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record when the first step begins."""
        self.first = self.first or time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start measuring after the warm-up steps; end when enough are done."""
        if os.getppid() != self.parent:
            os._exit(1)  # the worker has died
        if state.global_step == WARM_UP_STEPS:
            self.start, self.examples, self.ran = _now(), 0, time.thread_time()
            self.tokens.clear()
            return
        done = state.global_step - WARM_UP_STEPS
        is_late = self.start and time.monotonic() - self.start >= self.load.seconds
        if done >= self.load.steps or (is_late and done >= min(LEAST_STEPS, self.load.steps)):
            self.end = _now()
            self.ran = time.thread_time() - self.ran
            control.should_training_stop = True


def _uses_gpu() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _now() -> float:
    """Return the time at which the GPU has finished all its work."""
    if _uses_gpu():
        torch.cuda.synchronize()
    return time.monotonic()


def _measured(
    context: TrialContext, scratch: Path, load: Load, pass_gate: Callable[[], None], parent: int
) -> Measurement:
    began = time.monotonic()
    trainer = build_trainer(context, scratch, max_steps=WARM_UP_STEPS + load.steps)
    watch = _Stopwatch(trainer, load, parent)
    trainer.add_callback(watch)
    built = time.monotonic()
    pass_gate()
    passed = time.monotonic()
    trainer.train()
    seconds = watch.end - watch.start
    speed = watch.examples / seconds
    tokens = float(sum(int(count) for count in watch.tokens))
    if load.sizes:
        _train_on_longest(trainer)
    resident, own = _memory_mb()
    return Measurement(
        examples_per_second=speed,
        tokens_per_second=tokens / seconds,
        rows_per_second=_evaluated(trainer, speed) if load.evaluates else None,
        fixed_seconds=(built - began) + (watch.first - passed),
        memory_mb=resident,
        own_memory_mb=own,
        gpu_memory_mb=torch.cuda.max_memory_reserved() / 1e6 if _uses_gpu() else 0.0,
        share=min(watch.ran / seconds, 1.0),
        weights_mb=sum(tensor.numel() * tensor.element_size() for tensor in trainer.model.state_dict().values()) / 1e6,
    )


def _train_on_longest(trainer: Any) -> None:
    """Take the longest rows through forward and backward pass: no batch needs more memory."""
    rows = trainer.train_dataset
    longest = rows.lengths.argsort()[-trainer.args.train_batch_size :]
    trainer.model.train()
    trainer.training_step(trainer.model, trainer.data_collator([rows[index] for index in longest]))


def _evaluated(trainer: Any, speed: float) -> float:
    """Return the evaluated rows per second, measured on rows spread evenly over the validation set."""
    rows = trainer.validation
    wanted = max(int(speed * FORWARD_SHARE * EVALUATION_SECONDS), trainer.args.eval_batch_size)
    chosen = rows.select(range(0, len(rows), max(1, len(rows) // wanted)))
    began = _now()
    trainer.scores(chosen)
    return len(chosen) / (_now() - began)


def _memory_mb() -> tuple[float, float]:
    """Return the peak memory of this process, and the part of it that is not shared with other processes."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    now = psutil.Process().memory_full_info()
    return peak / 1e6, max(now.uss + peak - now.rss, 0) / 1e6
