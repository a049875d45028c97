"""Takes two rows through every step of a sweep: making the model, training it, evaluating, saving and asking it."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import math
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from finesweep.atomic import write_json
from finesweep.contenders import save
from finesweep.errors import SweepError
from finesweep.manifest import Manifest
from finesweep.model_folder import SIZES
from finesweep.parquet_file import read_frame
from finesweep.pretrained import empty_model, load_config
from finesweep.rehearsal import take_through
from finesweep.run_dir import RunDir
from finesweep.scratch import scratch_folder
from finesweep.spec import ScratchModelSpec, SweepSpec
from finesweep.trial import Params
from finesweep.verification import SCORES, Exported, asked_as_users_will
from finesweep.watching import TrialContext

MOST_WEIGHTS = 400_000_000
"""Weights of the largest model that rows are taken through; of a larger one only the shapes are made."""

MOST_WEIGHTS_AGAIN = 20_000_000
"""Weights of the largest model that rows are taken through for every end of a searched setting, and that is saved."""

FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, OSError),
    *(RuntimeError, StrictDataclassError, SweepError, TypeError, ValueError),
)
"""What a model raises that does not fit its settings, its tokenizer or the rows."""

_BYTES = 4
_LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Fault:
    """One thing that fails.

    Attributes:
        number: Which of the configurations it fails with.
        message: What fails.
        hint: The nearest fix, or an empty string.
        setting: The field of the model's config without which it works, if there is one.
    """

    number: int
    message: str
    hint: str = ""
    setting: str | None = None


def try_model(folder: Path, asked: str, answer: str) -> None:
    """Try each configuration that is asked for, and write what fails.

    Args:
        folder: Holds the prepared sweep in ``sweep``, and what is asked.
        asked: Name of the file with ``params`` (of each configuration), ``settings`` and ``memory_gb``.
        answer: Name of the file to write: ``number`` (the configuration that is being tried) and ``faults``.
    """
    wanted = json.loads((folder / asked).read_text(encoding="utf-8"))
    run_dir = RunDir(folder / "sweep")
    manifest = run_dir.manifest()
    attempt = _Attempt(run_dir, manifest, manifest.spec_for(), wanted["memory_gb"])
    faults: list[Fault] = []
    for number, params in enumerate(wanted["params"]):
        write_json(folder / answer, {"number": number, "faults": [vars(fault) for fault in faults]})
        fault = attempt.fault(number, params)
        if fault is not None and fault.message not in {known.message for known in faults}:
            faults.append(fault if number else attempt.blamed(fault, params, wanted["settings"]))
    write_json(folder / answer, {"number": 0, "faults": [vars(fault) for fault in faults]})


@dataclass(frozen=True)
class _Attempt:
    """Tries configurations of one sweep.

    Attributes:
        run_dir: A folder with a few rows of it.
        manifest: What it is.
        spec: Its spec.
        memory_gb: Memory of the machine that trains, in units of 1e9 bytes; None if that is another machine.
    """

    run_dir: RunDir
    manifest: Manifest
    spec: SweepSpec
    memory_gb: float | None

    def fault(self, number: int, params: Params) -> Fault | None:
        """Return what fails with a configuration, None if nothing does."""
        try:
            weights = self._weights(params)
        except FAULTS as error:
            return Fault(number, f"it cannot be made: {_said(error)}")
        needed = weights * _BYTES / 1e9
        if self.memory_gb is not None and needed > self.memory_gb:
            message = f"its {weights:,} weights take {needed:,.0f} GB, and this machine has {self.memory_gb:,.0f} GB"
            return Fault(number, message, "take a smaller model")
        if weights > (MOST_WEIGHTS_AGAIN if number else MOST_WEIGHTS):
            return None
        try:
            self._take_through(params, is_saved=weights <= MOST_WEIGHTS_AGAIN)
        except FAULTS as error:
            return Fault(number, f"two rows cannot be taken through it: {_said(error)}")
        return None

    def blamed(self, fault: Fault, params: Params, settings: list[str]) -> Fault:
        """Return a fault with the first setting without which it does not occur; sizes are what they have to be."""
        for name in [name for name in settings if name not in SIZES]:
            default = self._default(name)
            if default is not ... and self.fault(fault.number, {**params, f"model.{name}": default}) is None:
                return dataclasses.replace(fault, setting=name)
        return fault

    def _default(self, name: str) -> Any:
        """Return what a field is where a spec does not set it; an ellipsis if that cannot be told."""
        with contextlib.suppress(*FAULTS):
            config = load_config(Path(self.manifest.model["path"]))
            return getattr(type(config)() if self.manifest.model["from_scratch"] else config, name)
        return ...

    def _context(self, params: Params, scratch: Path) -> TrialContext:
        return TrialContext(self.run_dir, self.manifest, self.spec, params, None, scratch)

    def _weights(self, params: Params) -> int:
        """Count the weights of the model without making them."""
        context = self._context(params, Path())
        head = context.task.head(self.manifest.data["labels"])
        config = load_config(Path(self.manifest.model["path"]), **{**head, **context.settings.model})
        if isinstance(self.spec.model, ScratchModelSpec) and hasattr(config, "vocab_size"):
            config.vocab_size = self.spec.model.vocab_size  # its tokenizer has not seen all texts yet
        return sum(parameter.numel() for parameter in empty_model(config).parameters())

    def _take_through(self, params: Params, *, is_saved: bool) -> None:
        with scratch_folder() as scratch:
            trainer = take_through(self.run_dir, self.manifest, self.spec, params, trains=True)
            if is_saved:
                folder = Path(scratch) / "winner"
                save(folder, trainer)
                self._prove(folder, params, trainer.evaluate()["eval_loss"])

    def _prove(self, folder: Path, params: Params, loss: float) -> None:
        """Load a saved model and evaluate it as a winner is."""
        context = self._context(params, folder)
        settings = {**context.settings.named(), "use_cpu": True}
        exported = Exported.load(folder, settings, trusted=False)
        found = SCORES[self.spec.task](*exported.answers(read_frame(self.run_dir.data / "validation.parquet")))
        asked_as_users_will(self.run_dir, folder, context.task.pipeline, exported, trusted=False)
        if not math.isclose(found["eval_loss"], loss, rel_tol=1e-3, abs_tol=1e-5):
            raise SweepError(f"saved and loaded again, it has a loss of {found['eval_loss']:.6g} instead of {loss:.6g}")


def _said(error: BaseException) -> str:
    """Return what an error says in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines)
    name = "" if isinstance(error, SweepError) else type(error).__name__
    return ": ".join(filter(None, (name, text[:_LONGEST_MESSAGE])))


def end_with_parent() -> None:
    """Have this process end when the command does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
