"""Owns watching a trial's training from inside: its divergence, its evaluations, its best weights."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import transformers

from finesweep.folder.manifest import Manifest
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.pruning.early_stopping import out_of_patience
from finesweep.pruning.evaluation_schedule import Schedule
from finesweep.pruning.rules import rung_fractions
from finesweep.registry import TASKS
from finesweep.spec.sections import SweepSpec
from finesweep.spec.trial_settings import TrialSettings
from finesweep.tasks.task import Task
from finesweep.training.divergence import DivergenceGuard
from finesweep.training.saved_state import Weights
from finesweep.training.trainer import FineTuner, copy_to_cpu
from finesweep.trial import Direction, Divergence, Evaluation, Params, TrialDiverged, Value

Report = Callable[[Evaluation, float, bool], None]
"""Told of every evaluation, the best objective so far, and whether training ends here; may raise ``TrialPruned``."""


@dataclass(frozen=True)
class TrialContext:
    """What training one trial needs to know.

    Attributes:
        sweep_folder: The sweep's folder.
        manifest: What was prepared.
        spec: The sweep's spec.
        params: The trial's parameters.
        scalars: Folder for TensorBoard; None for none.
        scratch: Folder that the Trainer may call its output; nothing of the trial's results is written to it.
        batch_divisor: What the batch per device is divided by, and the accumulation multiplied by.
    """

    sweep_folder: SweepFolder
    manifest: Manifest
    spec: SweepSpec
    params: Params
    scalars: Path | None
    scratch: Path
    batch_divisor: int = 1

    @property
    def task(self) -> Task:
        """The task, by its name."""
        task: Task = TASKS.load(self.spec.task)()
        return task

    @property
    def settings(self) -> TrialSettings:
        """The trial's settings by whom they concern."""
        return TrialSettings.of(self.spec, self.params, self.manifest.model["max_tokens"], self.batch_divisor)


@dataclass
class TrialWatch:
    """What has been seen of a trial so far; filled while it trains, read however it ends.

    Attributes:
        direction: The objective's direction.
        step: Optimizer steps done.
        total_steps: Optimizer steps planned.
        examples: Training examples seen.
        loss: Last logged training loss.
        learning_rate: Last logged learning rate.
        evaluations: All evaluations in order.
        best: The best of them.
        weights: The weights at that evaluation, on the CPU.
        ended_early: Why training ended before its planned end, if it did.
        rows: Validation rows of these evaluations.
        ranked: The evaluation of the best weights on all validation rows, once training has ended.
        audit: On what grounds it would have been pruned, were it not to be finished all the same.
        settled: Training arguments that its spec may have left open, as they are in force.
    """

    direction: Direction
    step: int = 0
    total_steps: int = 0
    examples: int = 0
    loss: float | None = None
    learning_rate: float | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    weights: Weights = field(default_factory=dict, repr=False)
    ended_early: str | None = None
    rows: int = 0
    ranked: Evaluation | None = None
    audit: str | None = None
    settled: Mapping[str, Value] = field(default_factory=dict)

    def add(self, evaluation: Evaluation) -> bool:
        """Take in an evaluation; return whether it is the best so far."""
        self.evaluations.append(evaluation)
        if evaluation.objective is None:
            return False
        if not self.direction.better(evaluation.objective, self.best.objective if self.best else None):
            return False
        self.best = evaluation
        return True

    @property
    def result(self) -> Evaluation | None:
        """The evaluation that the trial stands with: that on all rows, else the best so far."""
        return self.ranked or self.best


class TrialCallback(transformers.TrainerCallback):  # type: ignore[misc]
    """Watches training from inside: ends it on divergence, reports evaluations, keeps the best weights."""

    def __init__(
        self,
        context: TrialContext,
        trainer: FineTuner,
        watch: TrialWatch,
        guard: DivergenceGuard,
        report: Report,
        on_step: Callable[[TrialWatch], None],
    ) -> None:
        self.context, self.trainer, self.watch, self.guard = context, trainer, watch, guard
        self.report, self.on_step = report, on_step
        self.schedule: Schedule | None = None
        self.validation = trainer.eval_dataset
        self.is_ranking = False
        trainer.eval_dataset = _some_rows(self.validation, context.spec)
        watch.rows = len(trainer.eval_dataset)
        trainer.after_step = self.after_step

    @property
    def evaluation_due(self) -> bool:
        """Whether the evaluation that belongs to the last step is still to be done."""
        step, seen = self.watch.step, self.watch.evaluations
        if not step or self.schedule is None or self.schedule.rung(step) is None:
            return False
        return not seen or seen[-1].step < step

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Lay out the evaluations, now that the number of steps is known; make up for one that was cut short."""
        batches = len(kwargs["train_dataloader"])
        self.schedule = Schedule(
            rows=self.context.manifest.data["rows"]["train"],
            batch=args.train_batch_size * args.gradient_accumulation_steps,
            steps_per_epoch=max(1, math.ceil(batches / args.gradient_accumulation_steps)),
            total_steps=state.max_steps,
            per_epoch=self.context.spec.evaluation.per_epoch,
            rungs=rung_fractions(self.context.spec),
        )
        self.watch.total_steps = state.max_steps
        self.trainer.recall()
        self.on_step(self.watch)
        if self.evaluation_due:
            self.trainer.evaluate()
            self.after_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count, and ask for an evaluation where one is due; touches no device."""
        assert self.schedule is not None
        self.watch.step = state.global_step
        self.watch.examples = self.schedule.examples(state.global_step)
        if self.schedule.rung(state.global_step) is not None:
            # The interval's training loss is judged before its weights are evaluated.
            control.should_log = control.should_evaluate = True

    def after_step(self) -> None:
        """Let training be stopped, once the step is logged and evaluated; at its end there is nothing to stop."""
        if self.watch.step < self.watch.total_steps and not self.watch.ended_early:
            self.on_step(self.watch)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let a long evaluation be stopped too."""
        self.on_step(self.watch)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **kwargs: Any) -> None:
        """Judge the interval's training loss and gradient norm."""
        if "loss" not in logs:
            return
        reason = self.guard.training(logs["loss"], logs.get("grad_norm"))
        self.watch.learning_rate = logs["learning_rate"]
        if reason:
            self._diverge(reason, state.global_step)
        self.watch.loss = logs["loss"]

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any], **kwargs: Any) -> None:
        """Record the evaluation, keep its weights if it is the best, and report the best so far."""
        if self.is_ranking:
            return
        evaluation = self._evaluation(state, metrics)
        is_best = self.watch.add(evaluation)
        self._judge(evaluation, metrics["eval_loss"], state.global_step)
        if is_best:
            self.watch.weights = copy_to_cpu(kwargs["model"])
        best = self.watch.best
        assert best is not None
        assert best.objective is not None
        last = state.global_step >= state.max_steps
        rows = self.context.manifest.data["rows"]["train"]
        if not last and (why := out_of_patience(self.context.spec, rows, best, evaluation)):
            self.watch.ended_early = why
            control.should_training_stop = last = True
        self.report(evaluation, best.objective, last)

    def rank(self) -> None:
        """Evaluate the best weights, which the model has by now, on all validation rows.

        Raises:
            TrialDiverged: On some of them they are of no use.
            TrialInterrupted: The sweep was told to stop.
        """
        best = self.watch.best
        assert best is not None
        self.is_ranking = True
        metrics = self.trainer.evaluate(self.validation)
        finite = self._finite(metrics)
        ranked = dataclasses.replace(best, metrics=finite, objective=finite[self.context.spec.objective.metric])
        self._judge(ranked, metrics["eval_loss"], best.step)
        self.watch.ranked, self.watch.rows = ranked, len(self.validation)

    def _judge(self, evaluation: Evaluation, loss: float, step: int) -> None:
        if reason := self.guard.evaluation(loss):
            self._diverge(reason, step)
        if evaluation.objective is None:
            self._diverge(f"{self.context.spec.objective.metric} is not finite", step)

    def _evaluation(self, state: Any, metrics: Mapping[str, Any]) -> Evaluation:
        assert self.schedule is not None
        finite = self._finite(metrics)
        return Evaluation(
            step=state.global_step,
            epoch=round(float(state.epoch), 4),
            examples=self.schedule.rung(state.global_step) or self.schedule.examples(state.global_step),
            metrics=finite,
            objective=finite[self.context.spec.objective.metric],
        )

    def _finite(self, metrics: Mapping[str, Any]) -> dict[str, float | None]:
        names = self.context.task.metrics
        return {name: float(metrics[name]) if math.isfinite(metrics[name]) else None for name in names}

    def _diverge(self, reason: str, step: int) -> NoReturn:
        divergence = Divergence(f"{reason} at step {step}", step, self.watch.learning_rate, self.guard.last_finite_loss)
        raise TrialDiverged(divergence)


def _some_rows(rows: Any, spec: SweepSpec) -> Any:
    """Return what is evaluated while training: the same rows in every trial of a sweep."""
    if len(rows) <= spec.evaluation.rows:
        return rows
    return rows.select(sorted(random.Random(spec.search.seed).sample(range(len(rows)), spec.evaluation.rows)))
