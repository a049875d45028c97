"""What the callback writes into a trial's watch, and what it asks the Trainer for; no model is trained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_records
import pytest

from finesweep.folder.sweep_folder import SweepFolder
from finesweep.training.divergence import DivergenceGuard
from finesweep.trial import Direction, Evaluation, Report, TrialDiverged
from made_specs import made_spec

pytestmark = pytest.mark.torch

ROWS, BATCH, STEPS_PER_EPOCH, EPOCHS = 80, 8, 10, 2
NAN = float("nan")


class Trial:
    """A trial of 20 steps, two epochs long, with nothing behind the callback but a model of one number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        import torch
        import transformers

        from finesweep.training.callback import EvaluationCheck, TrialCallback, TrialContext, TrialWatch

        spec = made_spec(**{"search": {"pruner": "none"}, "patience": "none", **settings})
        manifest = made_records.manifest(data={"rows": {"train": ROWS, "validation": 20}})
        self.context = TrialContext(SweepFolder(Path("none")), manifest, spec, {})
        self.model = torch.nn.Linear(1, 1, bias=False)
        self.watch = TrialWatch(Direction.MINIMIZE)
        self.guard = DivergenceGuard(naive_loss=0.7)
        check = EvaluationCheck(self.watch, self.guard, ["eval_loss", "eval_accuracy"], "eval_loss")
        self.reports: list[Report] = []
        self.looks: list[int] = []
        self.callback = TrialCallback(
            self.context,
            self.watch,
            check,
            self.reports.append,
            lambda w: self.looks.append(w.step),
            lambda: None,
        )
        self.arguments = SimpleNamespace(train_batch_size=BATCH, gradient_accumulation_steps=1)
        self.state = transformers.TrainerState(max_steps=STEPS_PER_EPOCH * EPOCHS)
        self.control = transformers.TrainerControl()

    def begin(self) -> None:
        batches = range(STEPS_PER_EPOCH)
        self.callback.on_train_begin(self.arguments, self.state, self.control, train_dataloader=batches)

    def step(self, number: int) -> tuple[bool, bool]:
        """Do a step; return whether its logs and an evaluation are asked for."""
        self.control.should_log = self.control.should_evaluate = False
        self.state.global_step, self.state.epoch = number, number / STEPS_PER_EPOCH
        self.callback.on_step_end(self.arguments, self.state, self.control)
        return self.control.should_log, self.control.should_evaluate

    def log(self, loss: float, **logs: float) -> None:
        values = {"loss": loss, "learning_rate": 1e-3, "grad_norm": 1.0, **logs}
        self.callback.on_log(self.arguments, self.state, self.control, values)

    def evaluate(self, loss: float, accuracy: float = 0.5) -> None:
        metrics = {"eval_loss": loss, "eval_accuracy": accuracy}
        self.callback.on_evaluate(self.arguments, self.state, self.control, metrics, model=self.model)


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Trial:
    made = Trial(monkeypatch)
    made.begin()
    return made


def test_evaluations_are_asked_for_at_equal_numbers_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(monkeypatch, evaluation={"per_epoch": 2})
    trial.begin()
    assert trial.watch.total_steps == 20
    asked = [number for number in range(1, 21) if trial.step(number) == (True, True)]
    assert asked == [5, 10, 15, 20]
    assert (trial.watch.step, trial.watch.examples) == (20, 160)


def test_a_trial_that_begins_asks_for_no_evaluation(trial: Trial) -> None:
    assert not trial.control.should_evaluate


@pytest.mark.parametrize(("step", "evaluated", "asked"), [(10, (), True), (10, (10,), False), (11, (10,), False)])
def test_an_evaluation_that_was_cut_short_is_asked_for_first(
    monkeypatch: pytest.MonkeyPatch, step: int, evaluated: tuple[int, ...], asked: bool
) -> None:
    trial = Trial(monkeypatch)
    trial.watch.step = step
    for number in evaluated:
        trial.watch.add(Evaluation(number, 1.0, ROWS, {"eval_loss": 0.5}, 0.5))
    trial.begin()
    assert trial.control.should_evaluate is asked


def test_the_best_evaluation_and_its_weights_are_kept(trial: Trial) -> None:
    for step, loss, weight in ((10, 0.5, 1.0), (20, 0.6, 2.0)):
        trial.model.weight.data.fill_(weight)
        trial.step(step)
        trial.evaluate(loss)
    assert [(one.step, one.epoch, one.examples, one.objective) for one in trial.watch.evaluations] == [
        (10, 1.0, 80, 0.5),
        (20, 2.0, 160, 0.6),
    ]
    assert trial.watch.best == trial.watch.evaluations[0]
    assert float(trial.watch.weights["weight"]) == 1.0, "a copy, not the weights that training changes"
    assert [(report.best, report.last) for report in trial.reports] == [(0.5, False), (0.5, True)]


def test_an_objective_that_is_not_finite_is_recorded_and_ends_the_trial(trial: Trial) -> None:
    trial.step(10)
    trial.log(0.7, learning_rate=2e-3)
    with pytest.raises(TrialDiverged, match="evaluation loss is nan at step 10") as caught:
        trial.evaluate(NAN)
    divergence = caught.value.divergence
    assert (divergence.step, divergence.learning_rate, divergence.last_finite_loss) == (10, 2e-3, 0.7)
    (evaluation,) = trial.watch.evaluations
    assert evaluation.metrics == {"eval_loss": None, "eval_accuracy": 0.5}
    assert trial.watch.best is None
    assert trial.reports == [], "no pruner sees it"


@pytest.mark.parametrize(
    ("logs", "reason"),
    [
        ({"loss": NAN}, "training loss is nan at step 3"),
        ({"loss": 99.0}, r"training loss exploded to 99 \(limit 14\) at step 3"),
        ({"loss": 0.7, "grad_norm": NAN}, "gradient norm is nan at step 3"),
    ],
)
def test_a_lost_interval_ends_the_trial_at_its_learning_rate(trial: Trial, logs: dict[str, float], reason: str) -> None:
    trial.step(2)
    trial.log(0.7)
    trial.step(3)
    with pytest.raises(TrialDiverged, match=reason) as caught:
        trial.log(**{"learning_rate": 5e-4, **logs})
    assert caught.value.divergence.learning_rate == 5e-4
    assert trial.watch.loss == 0.7, "the last one that was sound"


def test_logs_without_a_training_loss_are_not_judged(trial: Trial) -> None:
    trial.callback.on_log(trial.arguments, trial.state, trial.control, {"eval_loss": NAN})
    assert trial.watch.loss is None


def test_patience_ends_training_and_is_reported_as_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(monkeypatch, patience=1, evaluation={"per_epoch": 2})
    trial.begin()
    for step, loss in ((5, 0.5), (10, 0.6)):
        trial.step(step)
        trial.evaluate(loss)
    assert trial.control.should_training_stop
    assert trial.watch.ended_early == "no gain in 1 evaluation"
    assert [report.last for report in trial.reports] == [False, True]
    trial.callback.after_step()
    assert trial.looks == [], "it ends by itself, so it is not interrupted"


@pytest.mark.parametrize("patience", [1, "auto"])
def test_an_evaluation_at_a_rung_and_at_the_end_of_an_epoch_counts_as_the_whole_epoch(
    monkeypatch: pytest.MonkeyPatch, patience: Any
) -> None:
    """A third of six epochs is 158 of 480 examples, within the last batch of epoch 2."""
    trial = Trial(
        monkeypatch,
        patience=patience,
        search={"pruner": "halving"},
        pruning={"rungs": ["33%"]},
        fixed={"num_train_epochs": 6},
    )
    trial.state.max_steps = 6 * STEPS_PER_EPOCH
    trial.begin()
    for step, loss in ((10, 0.5), (20, 0.6)):
        trial.step(step)
        trial.evaluate(loss)
    assert [one.examples for one in trial.watch.evaluations] == [80, 158], "trials are compared at the rung"
    assert trial.control.should_training_stop


def test_training_may_be_stopped_after_each_step_but_the_last_and_in_evaluations(trial: Trial) -> None:
    for step in (0, 19, 20):
        trial.watch.step = step
        trial.callback.after_step()
    assert trial.looks == [0, 19]
    trial.callback.on_prediction_step(trial.arguments, trial.state, trial.control)
    assert trial.looks == [0, 19, 20]


def test_a_saved_state_is_taken_over_by_the_watch(trial: Trial) -> None:
    seen = (Evaluation(5, 0.5, 40, {"eval_loss": 0.6}, 0.6), Evaluation(10, 1.0, 80, {"eval_loss": 0.5}, 0.5))
    state: Any = SimpleNamespace(
        step=12,
        examples=96,
        loss=0.4,
        learning_rate=1e-4,
        evaluations=seen,
        best={},
        trainer=SimpleNamespace(weights={"weight": 1.0}),
    )
    trial.watch.resume(state)
    assert (trial.watch.step, trial.watch.examples, trial.watch.best) == (12, 96, seen[1])
    assert trial.watch.weights == {"weight": 1.0}, "the best weights are those of the model"
