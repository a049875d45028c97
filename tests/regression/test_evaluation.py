"""No training setting reaches an evaluation: it sees every row once, as a plain loop over the rows does."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from finesweep.spec.training_arguments import TRAINING_FIELDS
from finesweep.training.batching import TokenRows
from finesweep.training.callback import TrialWatch
from finesweep.training.evaluation import predictions
from finesweep.training.fine_tuning import build_trainer
from finesweep.trial import Direction, TrialInterrupted

ODD = {
    "learning_rate": 5e-3,
    "num_train_epochs": 0.01,
    "per_device_train_batch_size": 50,
    "gradient_accumulation_steps": 7,
    "weight_decay": 0.3,
    "warmup_steps": 900,
    "lr_scheduler_type": "cosine",
    "optim": "sgd",
    "adam_beta1": 0.1,
    "adam_beta2": 0.5,
    "adam_epsilon": 0.1,
    "max_grad_norm": 0.0,
    "label_smoothing_factor": 0.9,
    "neftune_noise_alpha": 1000.0,
    "train_sampling_strategy": "sequential",
    "max_steps": 2,
    "per_device_eval_batch_size": 7,
    "logging_steps": 1,
    "dataloader_num_workers": 1,
    "dataloader_drop_last": True,
    "bf16": False,
    "fp16": False,
    "tf32": False,
    "gradient_checkpointing": True,
    "torch_compile": True,
    "use_cpu": True,
}
TOGETHER = {"dataloader_drop_last": True, "neftune_noise_alpha": 1000.0, "label_smoothing_factor": 0.9}


def plain_scores(model, rows):
    """Return loss and accuracy from one forward pass for each row, alone."""
    losses, hits = [], []
    model.eval()
    with torch.no_grad():
        for row in rows:
            inputs = {name: torch.tensor([row[name]]) for name in ("input_ids", "attention_mask")}
            logits = model(**inputs).logits[0].double()
            losses.append(float(torch.logsumexp(logits, 0) - logits[row["labels"]]))
            hits.append(int(logits.argmax()) == row["labels"])
    return sum(losses) / len(losses), sum(hits) / len(hits)


def assert_evaluates_plainly(lab, params):
    context = lab.context({"max_steps": 2, "logging_steps": 1, "per_device_train_batch_size": 8, **params})
    trainer = lab.trainer_of(context, TrialWatch(Direction.MINIMIZE))
    found = trainer.evaluate()
    loss, accuracy = plain_scores(trainer.model, lab.build({}).eval_dataset)
    # A batch is padded, and sums are rounded otherwise: single precision has seven digits.
    assert found["eval_loss"] == pytest.approx(loss, rel=1e-5)
    assert found["eval_accuracy"] == accuracy


def test_every_training_setting_has_an_odd_value_here():
    assert ODD.keys() == TRAINING_FIELDS.keys()


@pytest.mark.parametrize("batch", [1, 7, 65_536])
def test_evaluation_in_batches_of_any_size_sees_every_row_once(lab, batch):
    assert_evaluates_plainly(lab, {**TOGETHER, "per_device_eval_batch_size": batch})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", [name for name in ODD if name != "torch_compile"])
def test_evaluation_is_that_of_a_plain_loop_whatever_is_set(lab, name):
    extra = {"num_train_epochs": {"max_steps": -1}}.get(name, {})
    assert_evaluates_plainly(lab, {**extra, name: ODD[name]})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_model_is_evaluated_plainly_and_trains_with_dropout_after(lab):
    context = lab.context({"max_steps": 2, "per_device_train_batch_size": 8})
    trainer = build_trainer(context, lab.scratch, torch_compile=True, torch_compile_backend="eager")
    modes = []
    trainer.model.classifier.register_forward_pre_hook(lambda head, _: modes.append(head.training))
    trainer.evaluate()
    trainer.train()
    found = trainer.evaluate()
    assert modes == [False, True, True, False]
    assert found["eval_loss"] == pytest.approx(plain_scores(trainer.model, trainer.eval_dataset)[0], rel=1e-5)


class Counting(torch.nn.Module):
    """Answers with the first token, and notes in which mode and how wide it was asked."""

    def __init__(self):
        super().__init__()
        self.device, self.asked = torch.device("cpu"), []

    def forward(self, input_ids, **others):
        self.asked.append((self.training, others.keys(), len(input_ids)))
        return SimpleNamespace(logits=input_ids[:, :1].float(), states=(input_ids, input_ids))


def test_model_is_asked_without_labels_and_left_in_its_mode(lab):
    trainer = lab.build({})
    rows = TokenRows(trainer.eval_dataset.select(range(11)))
    for training in (True, False):
        model = Counting().train(training)
        logits, labels = predictions(model, rows, trainer.data_collator, 4, lambda: None)
        assert model.training is training
        assert [asked[0] for asked in model.asked] == [False] * 3
        assert [asked[2] for asked in model.asked] == [4, 4, 3]
        assert all("labels" not in asked[1] for asked in model.asked)
        assert len(logits) == len(labels) == 11
        assert sorted(labels) == sorted(trainer.eval_dataset.select(range(11))["labels"])


def test_interrupted_evaluation_leaves_the_mode_as_it_was(lab):
    def stop():
        raise TrialInterrupted("stopped")

    trainer, model = lab.build({}), Counting()
    with pytest.raises(TrialInterrupted, match="stopped"):
        predictions(model, TokenRows(trainer.eval_dataset), trainer.data_collator, 4, stop)
    assert model.training


def test_loss_of_many_rows_is_their_mean_in_double_precision(lab):
    task = lab.context({}).task
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9_001, 3)).astype(np.float32) * 50, rng.integers(0, 3, 9_001)
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits).double(), torch.tensor(labels))
    assert task.loss(logits, labels) == pytest.approx(float(expected), rel=1e-12)
