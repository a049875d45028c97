"""Breaks trials from inside, as the variable FINESWEEP_FAULTS says; does nothing where it is not set.

Python imports this module when it starts, if its folder is on PYTHONPATH. The variable holds a JSON list of faults,
each with the keys of ``Fault``. They hit the processes of trials only: everything else runs as it is shipped.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "FINESWEEP_FAULTS"
TARGET = "finesweep.worker.attempt"
"""Imports all that is broken here; imported by workers, and by the process that proves a winner."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong where.

    Attributes:
        where: ``start``, ``model`` (its forward pass in training), ``loader``, ``metric``, ``weights`` (before they are
            written, to ``kill`` with half of them there), ``staging`` (before the record is written), ``record``
            (when it is written beside its place), ``recorded`` (the next trial is claimed next), ``saving`` and
            ``state`` (before and after an interrupted trial's state is written).
        do: What happens there.
        trial: Which trial, None for every one.
        attempt: Which attempt, None for every one.
        step: How many passes go well before.
        text: Of the exception; ``{trial}`` is replaced. For ``fill``: the file that takes all space that is left.
        most: For ``oom``: the largest batch that fits. For ``swell``: megabytes that are taken.
    """

    where: str
    do: str
    trial: int | None = None
    attempt: int | None = None
    step: int = 0
    text: str = "provoked"
    most: int = 16


_faults: list[Fault] = []
_passes: dict[str, int] = {}
_running: list[tuple[int, int]] = []
_hoard: list[bytearray] = []


def _due(where: str) -> Fault | None:
    """Count a pass of a place, and return the fault that is due there."""
    if not _running:
        return None
    trial, attempt = _running[-1]
    seen = _passes[where] = _passes.get(where, 0) + 1
    for fault in _faults:
        its_own = fault.trial in (None, trial) and fault.attempt in (None, attempt)
        if fault.where == where and its_own and seen > fault.step:
            return fault
    return None


def _strike(where: str, **facts: Any) -> None:
    if (fault := _due(where)) is not None:
        os.write(1, f"provoked: {fault}\n".encode())  # into the trial's log
        _DEEDS[fault.do](fault, **facts)


def _raise(fault: Fault, **_: Any) -> None:
    raise ValueError(fault.text.format(trial=_running[-1][0]))


def _out_of_gpu_memory(fault: Fault, inputs: Any = None, **_: Any) -> None:
    import torch

    if len(inputs["input_ids"]) > fault.most:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def _out_of_memory(fault: Fault, **_: Any) -> None:
    raise MemoryError


def _not_a_number(fault: Fault, output: Any = None, **_: Any) -> None:
    if output is not None:
        output.loss = output.loss * float("nan")


def _prune(fault: Fault, **_: Any) -> None:
    from finesweep.trial import TrialPruned

    raise TrialPruned(fault.text)


def _fill(fault: Fault, **_: Any) -> None:
    with Path(fault.text).open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))


def _swell(fault: Fault, **_: Any) -> None:
    _hoard.append(bytearray(os.urandom(1_000_000)) * fault.most)
    time.sleep(3600)


def _ends_by(function: Callable[..., Any], *arguments: Any) -> Callable[..., None]:
    def deed(*_: Any, **__: Any) -> None:
        function(*arguments)

    return deed


_DEEDS: dict[str, Callable[..., None]] = {
    "raise": _raise,
    "kill": _ends_by(signal.raise_signal, signal.SIGKILL),
    "segv": _ends_by(ctypes.string_at, 0),
    "abort": _ends_by(os.abort),
    "exit": _ends_by(os._exit, 3),
    "hang": _ends_by(time.sleep, 3600),
    "oom": _out_of_gpu_memory,
    "memory": _out_of_memory,
    "nan": _not_a_number,
    "prune": _prune,
    "fill": _fill,
    "swell": _swell,
}


def _break(attempt: ModuleType) -> None:
    """Put the faults in place; called once ``finesweep.worker.attempt`` has been imported."""
    from finesweep.folder import sweep_folder
    from finesweep.results import kept_weights
    from finesweep.training import fine_tuning

    _break_attempts(attempt.Attempt)
    _break_training(fine_tuning)
    _break_weights(kept_weights)
    _break_records(sweep_folder)


def _break_attempts(kind: Any) -> None:
    carry_out = kind.carry_out

    @functools.wraps(carry_out)
    def carried_out(self: Any, report: Any) -> Any:
        _running.append((self.claim.trial, self.claim.attempt))
        _strike("start")
        return carry_out(self, report)

    kind.carry_out = carried_out


def _break_training(training: ModuleType) -> None:
    build, save_state = training.build_trainer, training.FineTuning.save_state

    @functools.wraps(build)
    def built(context: Any, scratch: Path, **overrides: Any) -> Any:
        trainer = build(context, scratch, **overrides)
        collate, score = trainer.data_collator, trainer.compute_metrics
        trainer.data_collator = lambda rows: _after("loader", collate, rows)
        trainer.compute_metrics = lambda prediction: _after("metric", score, prediction)
        trainer.model.register_forward_hook(_after_forward, with_kwargs=True)
        return trainer

    def saved(self: Any, folder: Path) -> None:
        _strike("saving")
        save_state(self, folder)
        _strike("state")

    training.build_trainer, training.FineTuning.save_state = built, saved


def _after(where: str, function: Callable[[Any], Any], argument: Any) -> Any:
    _strike(where)
    return function(argument)


def _after_forward(model: Any, _: Any, inputs: Any, output: Any) -> None:
    if model.training:
        _strike("model", inputs=inputs, output=output)


def _break_weights(contenders: ModuleType) -> None:
    save = contenders.save

    def saved(folder: Path, trainer: Any) -> None:
        fault = _due("weights")
        if fault is not None and fault.do == "kill":
            folder.mkdir()
            whole = Path(f"{folder}.whole")
            save(whole, trainer)
            data = (whole / "model.safetensors").read_bytes()
            (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
            for file in [*whole.iterdir(), whole]:
                file.unlink() if file.is_file() else file.rmdir()
        if fault is not None:
            _DEEDS[fault.do](fault)
        save(folder, trainer)

    contenders.save = saved


def _break_records(sweep_folder: ModuleType) -> None:
    staged_json, record = sweep_folder.staged_json, sweep_folder.SweepFolder.record

    @contextlib.contextmanager
    def staged(file: Path, values: Any) -> Iterator[Path]:
        if file.parent.name == "trials":
            _strike("staging")
        with staged_json(file, values) as temporary:
            if file.parent.name == "trials":
                _strike("record")
            yield temporary

    def recorded(self: Any, *written: Any) -> None:
        record(self, *written)
        _strike("recorded")

    sweep_folder.staged_json, sweep_folder.SweepFolder.record = staged, recorded


class _Finder(importlib.abc.MetaPathFinder):
    """Lets a module be imported as ever, and then breaks it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != TARGET:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            _break(module)

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec


def _import_hidden() -> None:
    """Import the sitecustomize that this one hides, if there is one."""
    own = Path(__file__).parent
    others = [folder for folder in sys.path if Path(folder or ".").resolve() != own.resolve()]
    hidden = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if hidden is not None and hidden.loader is not None:
        hidden.loader.exec_module(importlib.util.module_from_spec(hidden))


_import_hidden()
if VARIABLE in os.environ:
    _faults.extend(Fault(**entry) for entry in json.loads(os.environ[VARIABLE]))
    sys.meta_path.insert(0, _Finder())
