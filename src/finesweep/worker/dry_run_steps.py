"""Takes two rows through every step of a sweep: makes the model, trains, evaluates, saves, reloads and asks it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from finesweep.errors import SweepError
from finesweep.files import write_json
from finesweep.files.parquet import read_frame
from finesweep.folder import Manifest, SweepFolder
from finesweep.host.temporary_folders import temporary_folder
from finesweep.model.folder_check import SIZES
from finesweep.model.pretrained import empty_model, load_config
from finesweep.results.kept_weights import save
from finesweep.spec import ScratchModelSpec, SweepSpec
from finesweep.training.callback import TrialContext
from finesweep.training.rehearsal import take_through
from finesweep.trial import Params
from finesweep.worker.prove_winner import Exported, asked_as_users_will

MOST_WEIGHTS = 400_000_000
"""Number of weights above which only the shapes of a model are made and no rows are taken through it."""

MOST_WEIGHTS_AGAIN = 20_000_000
"""Number of weights up to which rows are taken through every end of a searched setting, and the model is saved."""

FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, OSError),
    *(RuntimeError, StrictDataclassError, SweepError, TypeError, ValueError),
)
"""Exceptions of a model that does not fit its settings, its tokenizer or the rows."""

_BYTES = 4
_LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Failure:
    """One failure of a configuration.

    Attributes:
        number: Number of the configuration.
        message: What fails.
        hint: The nearest fix, or an empty string.
        setting: The field of the model's config that causes it, if there is one.
    """

    number: int
    message: str
    hint: str = ""
    setting: str | None = None


def try_model(folder: Path, asked: str, answer: str) -> None:
    """Try each requested configuration, and write the failures.

    Args:
        folder: Holds the prepared sweep in ``sweep``, and the request.
        asked: Name of the file with ``params`` (of each configuration), ``settings`` and ``memory_gb``.
        answer: Name of the file to write: ``number`` (the configuration that is being tried) and ``faults``.
    """
    wanted = json.loads((folder / asked).read_text(encoding="utf-8"))
    sweep_folder = SweepFolder(folder / "sweep")
    manifest = sweep_folder.manifest()
    attempt = _DryRun(sweep_folder, manifest, manifest.spec, wanted["memory_gb"])
    faults: list[Failure] = []
    for number, params in enumerate(wanted["params"]):
        # Written before each try: if the process is killed, the number shows with which configuration.
        write_json(folder / answer, {"number": number, "faults": [vars(fault) for fault in faults]})
        fault = attempt.fault(number, params)
        if fault is not None and fault.message not in {known.message for known in faults}:
            faults.append(fault if number else attempt.blamed(fault, params, wanted["settings"]))
    write_json(folder / answer, {"number": 0, "faults": [vars(fault) for fault in faults]})


@dataclass(frozen=True)
class _DryRun:
    """Tries configurations of one sweep.

    Attributes:
        sweep_folder: A folder with a few rows of it.
        manifest: The sweep's manifest.
        spec: Its spec.
        memory_gb: Memory of the machine that trains, in units of 1e9 bytes; None if that is another machine.
    """

    sweep_folder: SweepFolder
    manifest: Manifest
    spec: SweepSpec
    memory_gb: float | None

    def fault(self, number: int, params: Params) -> Failure | None:
        """Return the failure of a configuration, None if there is none."""
        try:
            weights = self._weights(params)
        except FAULTS as error:
            return Failure(number, f"it cannot be made: {_said(error)}")
        needed = weights * _BYTES / 1e9
        if self.memory_gb is not None and needed > self.memory_gb:
            message = f"its {weights:,} weights take {needed:,.0f} GB, and this machine has {self.memory_gb:,.0f} GB"
            return Failure(number, message, "take a smaller model")
        if weights > (MOST_WEIGHTS_AGAIN if number else MOST_WEIGHTS):
            return None
        try:
            self._take_through(params, is_saved=weights <= MOST_WEIGHTS_AGAIN)
        except FAULTS as error:
            return Failure(number, f"two rows cannot be taken through it: {_said(error)}")
        return None

    def blamed(self, fault: Failure, params: Params, settings: list[str]) -> Failure:
        """Return a failure with the setting that causes it: the first one whose default prevents it."""
        for name in [name for name in settings if name not in SIZES]:
            default = self._default(name)
            if default is not ... and self.fault(fault.number, {**params, f"model.{name}": default}) is None:
                return dataclasses.replace(fault, setting=name)
        return fault

    def _default(self, name: str) -> Any:
        """Return a field's default; an ellipsis if it is unknown."""
        with contextlib.suppress(*FAULTS):
            config = load_config(self.manifest.model.folder)
            return getattr(type(config)() if self.manifest.model.from_scratch else config, name)
        return ...

    def _context(self, params: Params) -> TrialContext:
        return TrialContext(self.sweep_folder, self.manifest, self.spec, params)

    def _weights(self, params: Params) -> int:
        """Count the weights of the model without allocating them."""
        context = self._context(params)
        head = context.task.head(self.manifest.data.labels)
        config = load_config(self.manifest.model.folder, **{**head, **context.settings.model})
        if isinstance(self.spec.model, ScratchModelSpec) and hasattr(config, "vocab_size"):
            config.vocab_size = self.spec.model.vocab_size  # this tokenizer was trained on a few texts only
        return sum(parameter.numel() for parameter in empty_model(config, context.task.model_class).parameters())

    def _take_through(self, params: Params, *, is_saved: bool) -> None:
        with temporary_folder() as scratch:
            trainer = take_through(self.sweep_folder, self.manifest, self.spec, params, trains=True)
            if is_saved:
                folder = Path(scratch) / "winner"
                save(folder, trainer)
                self._prove(folder, params, trainer.evaluate()["eval_loss"])

    def _prove(self, folder: Path, params: Params, loss: float) -> None:
        """Load a saved model and evaluate it like a winner."""
        context = self._context(params)
        settings = {**context.settings.named(), "use_cpu": True}
        exported = Exported.load(folder, context.task, settings, trusted=False)
        found = context.task.recompute_metrics(
            *exported.answers(read_frame(self.sweep_folder.data / "validation.parquet"))
        )
        asked_as_users_will(self.sweep_folder, folder, exported, trusted=False)
        if not math.isclose(found["eval_loss"], loss, rel_tol=1e-3, abs_tol=1e-5):
            raise SweepError(f"saved and loaded again, it has a loss of {found['eval_loss']:.6g} instead of {loss:.6g}")


def _said(error: BaseException) -> str:
    """Return an error's message on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines)
    name = "" if isinstance(error, SweepError) else type(error).__name__
    return ": ".join(filter(None, (name, text[:_LONGEST_MESSAGE])))
