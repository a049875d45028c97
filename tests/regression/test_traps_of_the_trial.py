"""What the stock search gets wrong about one trial: what it reports, and what it inherits from the one before."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from lab import ROWS, Lab

from finesweep.backends.optuna.backend import OptunaBackend
from finesweep.folder.manifest import Run
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.launch.profile import Profile
from finesweep.results import kept_weights
from finesweep.spec.sections import BudgetSpec, StopSpec
from finesweep.spec.trial_length import TrialLength
from finesweep.spec.trial_settings import TrialSettings
from finesweep.training.callback import TrialWatch
from finesweep.training.fine_tuning import build_trainer, training_arguments
from finesweep.trial import Direction
from finesweep.worker.worker import Worker
from made_profiles import settled


@dataclasses.dataclass
class InlineWorker(Worker):
    """A worker whose trials run in its own process, which makes it quicker and anything that leaks leak."""

    def isolated(self, claim, body) -> None:
        body()


PLAIN = {"train_sampling_strategy": "random", "bf16": False}
"""Shuffled without grouping, in single precision on every machine."""


def search(lab: Lab, folder: Path, plan, **changes) -> Worker:
    """Run planned trials through `hyperparameter_search`; the weights of all of them are kept."""
    shutil.copytree(lab.sweep_folder.path, folder)
    budget = lab.spec.budget.model_copy(update={"trials": len(plan)})
    spec = lab.spec.model_copy(update={"budget": budget, **changes})
    manifest = dataclasses.replace(lab.manifest, planned=plan)
    profile = settled(Profile(keep_best=len(plan)))
    worker = InlineWorker(
        SweepFolder(folder), manifest, Run(1, BudgetSpec(), StopSpec(), {}, {}, "here", 1, 0.0), spec, profile
    )
    OptunaBackend().search(worker)
    return worker


def _evaluated_again(lab: Lab, folder: Path) -> dict[str, float]:
    model = dataclasses.replace(lab.manifest.model, path=str(folder), from_scratch=False)
    context = dataclasses.replace(lab.context({}), manifest=dataclasses.replace(lab.manifest, model=model))
    return build_trainer(context, lab.scratch).evaluate()


def test_t04_a_trial_is_worth_its_best_evaluation_and_ships_its_weights(contrary, tmp_path):
    """Stock takes the last evaluation, and keeps no weights at all."""
    watch, reports = TrialWatch(Direction.MINIMIZE), []
    context = contrary.context({"num_train_epochs": 3, "learning_rate": 5e-3, **PLAIN})
    trainer = contrary.trainer_of(context, watch, reports)
    losses = [evaluation.metrics["eval_loss"] for evaluation in watch.evaluations]
    assert losses[-1] > losses[0] + 0.1, "training on opposite labels makes every evaluation worse"
    assert watch.best == watch.evaluations[losses.index(min(losses))] != watch.evaluations[-1]
    assert [report.best for report in reports] == [min(losses[: n + 1]) for n in range(3)]
    kept_weights.save(tmp_path / "saved", trainer)
    # The same sums in the same precision; batches are padded alike.
    assert _evaluated_again(contrary, tmp_path / "saved")["eval_loss"] == pytest.approx(min(losses), rel=1e-5)


def test_t05_the_objective_is_the_named_metric_and_not_the_sum_of_all(swept):
    """Stock minimises the sum of accuracy and macro-F1."""
    for record in swept.records():
        accuracies = [evaluation["metrics"]["eval_accuracy"] for evaluation in record["evaluations"]]
        assert [evaluation["objective"] for evaluation in record["evaluations"]] == accuracies
        assert record["objective"] == max(accuracies)


def test_t05_a_study_has_that_metric_with_its_direction(swept):
    import optuna

    from finesweep.backends.optuna.study import SweepStudy, TrialStorage

    folder = SweepFolder(swept.results)
    spec = folder.manifest().spec_for(folder.runs()[0])
    study = SweepStudy(folder, spec, lambda evaluation: evaluation.examples)
    assert study.made(TrialStorage(99)).direction is optuna.study.StudyDirection.MAXIMIZE
    told = {trial.number: trial.value for trial in study.others(99)}
    assert told == {record["trial"]: record["objective"] for record in swept.records()}


CONDITIONAL = {
    "learning_rate": {"choices": [1e-3, 2e-3]},
    "optim": {"choices": ["adamw_torch", "sgd"]},
    "adam_beta1": {"choices": [0.5], "when": {"optim": "adamw_torch"}},
    "label_smoothing_factor": {"choices": [0.5], "when": {"optim": "adamw_torch"}},
    "model.hidden_dropout_prob": {"choices": [0.4], "when": {"optim": "adamw_torch"}},
}
FIRST = {
    "learning_rate": 2e-3,
    "optim": "adamw_torch",
    "adam_beta1": 0.5,
    "label_smoothing_factor": 0.5,
    "model.hidden_dropout_prob": 0.4,
}
SECOND = {"learning_rate": 1e-3, "optim": "sgd"}


# The backend fixes planned parameters with a sampler that Optuna calls experimental, and knows so.
@pytest.mark.filterwarnings("ignore:PartialFixedSampler:optuna.exceptions.ExperimentalWarning")
def test_t08_nothing_of_one_trial_is_left_in_the_next(lab, tmp_path):
    """Stock sets every parameter on one shared object; those that a later trial lacks stay as they were."""
    space = (
        type(lab.spec)
        .model_validate({**lab.spec.model_dump(), "base": Path(), "space": CONDITIONAL}, strict=False)
        .space
    )
    changes = {"space": space, "fixed": {"num_train_epochs": 1}}
    after = search(lab, tmp_path / "after", [FIRST, SECOND], **changes)
    alone = search(lab, tmp_path / "alone", [SECOND], **changes)
    assert [record.params for record in after.sweep_folder.records()] == [FIRST, SECOND]
    second, only = after.sweep_folder.checkpoint(1), alone.sweep_folder.checkpoint(0)
    for file in ("config.json", kept_weights.ARGUMENTS):
        assert json.loads((second / file).read_text()) == json.loads((only / file).read_text())
    assert (second / "model.safetensors").read_bytes() == (only / "model.safetensors").read_bytes()
    arguments = json.loads((second / kept_weights.ARGUMENTS).read_text())
    assert (arguments["adam_beta1"], arguments["label_smoothing_factor"]) == (0.9, 0.0)


OTHER_PARAMETERS = [
    {"learning_rate": 5e-3},
    {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 2},
    {"model.hidden_dropout_prob": 0.4, "label_smoothing_factor": 0.2},
]


@pytest.mark.parametrize("params", OTHER_PARAMETERS, ids=str)
def test_t09_every_trial_starts_from_the_same_weights(lab, params):
    """Stock makes the model before it applies the trial's seed, so that a seed counts one trial late."""
    start = lab.build({}).model.state_dict()
    torch.rand(7)  # what ran before in this process must not matter
    other = lab.build(params).model.state_dict()
    for name, weights in start.items():
        assert torch.equal(other[name], weights), name


def test_t09_the_sweeps_seed_takes_effect_in_the_first_trial(lab):
    search_of = lab.spec.search.model_copy
    weights = [
        lab.build({}, search=search_of(update={"seed": seed})).model.classifier.weight.detach() for seed in (0, 1, 0)
    ]
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


def _order(lab, params, **changes):
    """Return the training rows, as tokens, in the order in which a trial of three epochs saw them."""
    trainer, seen = lab.build({"num_train_epochs": 3, **params}, **changes), []

    def look(_, __, inputs):
        rows = zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True)
        seen.extend(tuple(tokens[mask].tolist()) for tokens, mask in rows)

    trainer.model.register_forward_pre_hook(look, with_kwargs=True)
    trainer.train()
    return seen


def test_t09_every_trial_sees_the_rows_in_the_same_order(lab):
    """Where they are shuffled plainly; grouped by length, this holds for trials of one effective batch."""
    order = _order(lab, PLAIN)
    assert len(order) == 3 * ROWS
    assert order[:ROWS] != order[ROWS : 2 * ROWS] != order[2 * ROWS :]
    for params in OTHER_PARAMETERS:
        assert _order(lab, {**PLAIN, **params}) == order, params
    assert _order(lab, PLAIN, search=lab.spec.search.model_copy(update={"seed": 1})) != order


@pytest.mark.parametrize("per_epoch", [1, 2, 3])
def test_t12_trials_report_at_equal_examples_whatever_their_batch(lab, per_epoch):
    """Stock reports at optimizer steps: a pruner compares epoch 4 of one trial with epoch 1 of another."""
    evaluation = lab.spec.evaluation.model_copy(update={"per_epoch": per_epoch})
    seen = []
    for batch in (8, 20, 32):
        reports = []
        lab.train({"num_train_epochs": 2, "per_device_train_batch_size": batch}, reports, evaluation=evaluation)
        seen.append([report.evaluation.examples for report in reports])
    assert seen[0] == seen[1] == seen[2]
    assert seen[0] == [192 * n // per_epoch for n in range(1, 2 * per_epoch + 1)]


@pytest.mark.parametrize(("name", "value"), [("warmup_steps", 0.06), ("num_train_epochs", 2.5)])
def test_t07_a_value_is_not_cast_to_the_type_of_the_default(lab, name, value):
    """Stock turns `warmup_steps: 0.06` into 0, and 2.5 epochs into 2 where the default is an integer."""
    settings = TrialSettings.of(lab.spec, {name: value}, 32)
    assert getattr(training_arguments(settings, 32, 0, lab.scratch), name) == value


def test_t07_a_share_of_warm_up_steps_warms_up(lab):
    context = lab.context({"warmup_steps": 0.5, "num_train_epochs": 1, "logging_steps": 1, "learning_rate": 1e-3})
    trainer = lab.trainer_of(context, TrialWatch(Direction.MINIMIZE))
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert rates.index(max(rates)) == pytest.approx(len(rates) / 2, abs=1)


def test_t18_t20_every_trial_has_a_process_of_its_own_that_is_not_the_workers(swept):
    """Stock trains all trials in one process: what one leaves in memory, the next one has."""
    pid_in_name = re.compile(r"events\.out\.tfevents\.\d+\..*\.(\d+)$")
    events = [file.name for file in (swept.results / "tensorboard").rglob("events.*")]
    trials = {int(pid_in_name.match(name)[1]) for name in events}
    claims = (swept.results / "claims").glob("[0-9]*")
    workers = {json.loads(file.read_text().splitlines()[0])["pid"] for file in claims}
    assert len(trials) == len(events) == 3
    assert len(workers) <= 3
    assert trials.isdisjoint(workers)


def test_t14_trials_in_processes_of_their_own_draw_other_parameters(swept):
    """Stock seeds the sampler in every process alike, and every process draws the same."""
    assert len({record["params"]["learning_rate"] for record in swept.records()}) == 3


@pytest.mark.parametrize(
    ("params", "fixed"),
    [
        ({"num_train_epochs": 1}, {}),
        ({"num_train_epochs": 0.5, "per_device_train_batch_size": 20}, {}),
        ({"num_train_epochs": 1.3, "per_device_train_batch_size": 20}, {"gradient_accumulation_steps": 3}),
        ({"per_device_train_batch_size": 20}, {"max_steps": 13}),
        ({"num_train_epochs": 1, "per_device_train_batch_size": 50}, {"dataloader_drop_last": True}),
    ],
)
def test_trial_is_as_long_as_foreseen(lab, params, fixed):
    context = lab.context(params, fixed={**lab.spec.fixed, **fixed})
    watch = TrialWatch(context.spec.direction)
    lab.trainer_of(context, watch)
    foreseen = TrialLength.of(context.spec.merged(context.params), context.manifest.data.rows["train"])
    assert (watch.total_steps, watch.examples) == (foreseen.total_steps, foreseen.total_examples)
