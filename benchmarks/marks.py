"""Times the steps and evaluations of a trial, in the same way in every contender."""

from __future__ import annotations

import functools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from transformers.trainer_callback import CallbackHandler


@dataclass
class Stopwatch:
    """Adds up the time that this process spends in training steps and in evaluations."""

    seconds: float = 0.0
    cpu: float = 0.0
    _began: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """Begin a stretch."""
        self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End the stretch."""
        self.seconds += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]

    def install(self) -> None:
        """Wrap what a Trainer calls around each step and each evaluation, in every Trainer of this process."""
        begin, end = CallbackHandler.on_step_begin, CallbackHandler.on_step_end
        evaluation_loop = transformers.Trainer.evaluation_loop

        def on_step_begin(handler: Any, *arguments: Any) -> Any:
            control = begin(handler, *arguments)
            self.start()
            return control

        def on_step_end(handler: Any, *arguments: Any) -> Any:
            self.stop()
            return end(handler, *arguments)

        @functools.wraps(evaluation_loop)
        def evaluating(*arguments: Any, **named: Any) -> Any:
            self.start()
            try:
                return evaluation_loop(*arguments, **named)
            finally:
                self.stop()

        CallbackHandler.on_step_begin, CallbackHandler.on_step_end = on_step_begin, on_step_end
        transformers.Trainer.evaluation_loop = evaluating


class Marks(transformers.TrainerCallback):  # type: ignore[misc]
    """Notes when each trial began and how long its steps took, in whatever process it runs; for Ray's actors."""

    _watch: Stopwatch | None = None
    """The one clock of this process."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)
        self.began = self.before = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin, and watch this process from now on."""
        if Marks._watch is None:
            Marks._watch = Stopwatch()
            Marks._watch.install()
        # The monotonic clock is one for all processes of a machine.
        self.began, self.before = time.monotonic(), Marks._watch.seconds

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write a line."""
        assert Marks._watch is not None
        line = {"began": self.began, "steps": Marks._watch.seconds - self.before}
        with Path(self.file).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
