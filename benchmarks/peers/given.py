"""What every peer is given, and the diary in which all of them note when an evaluation came to what.

A peer is a script as its users would write it: ``python -m benchmarks.peers.NAME WORKLOAD.json FOLDER``. It reads two
CSVs, searches, and leaves ``winner.txt`` in the folder, which names the model that it would ship.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import transformers
from benchmarks.workload import Workload

_TRIALS = itertools.count()


def given() -> tuple[Workload, Path]:
    """Return the workload and the folder that the command line names."""
    folder = Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return Workload.read(Path(sys.argv[1])), folder


def suggested(workload: Workload, trial: Any) -> dict[str, Any]:
    """Draw a trial's parameters, as ``hp_space`` does for Optuna."""
    found = {}
    for name, axis in workload.space.items():
        if "choices" in axis:
            found[name] = trial.suggest_categorical(name, axis["choices"])
        elif isinstance(axis["low"], int):
            found[name] = trial.suggest_int(name, axis["low"], axis["high"])
        else:
            found[name] = trial.suggest_float(name, axis["low"], axis["high"], log=axis.get("log", False))
    return found


def ship(folder: Path, winner: Path) -> None:
    """Say where the winner's model lies."""
    (folder / "winner.txt").write_text(str(winner), encoding="utf-8")


class Diary(transformers.TrainerCallback):  # type: ignore[misc]
    """Writes a line for each trial's begin, evaluations and end, with the time; costs a trial nothing else."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.file, self.rows, self.trial = str(folder / "diary.jsonl"), rows, ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note that a trial begins."""
        self.trial = f"{os.getpid()}-{next(_TRIALS)}"
        self._note("begin", args, state, None)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Note what an evaluation came to."""
        self._note("evaluation", args, state, metrics["eval_loss"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note that a trial has ended; one that is stopped from outside may never come here."""
        self._note("end", args, state, None)

    def _note(self, event: str, args: Any, state: Any, loss: float | None) -> None:
        line = {
            "event": event,
            "time": time.time(),
            "trial": self.trial,
            "examples": self._examples(args, state.global_step),
            "eval_loss": loss,
        }
        with open(self.file, "a", encoding="utf-8") as stream:  # noqa: PTH123 - a path pickles, a stream does not
            stream.write(json.dumps(line) + "\n")

    def _examples(self, args: Any, step: int) -> int:
        batch = args.train_batch_size * args.gradient_accumulation_steps
        epochs, steps = divmod(step, -(-self.rows // batch))
        return int(epochs * self.rows + min(self.rows, steps * batch))
