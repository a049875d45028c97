"""A trial whose batches were too large for the device trains on half of them, two for each, to the same end."""

from __future__ import annotations

import dataclasses

import pytest
from lab import Lab, tuning_of

from finesweep.training.callback import TrialWatch

NO_DROPOUT = {"model.hidden_dropout_prob": 0.0, "model.attention_probs_dropout_prob": 0.0}
PARAMS = {"num_train_epochs": 2, "per_device_train_batch_size": 32, "per_device_eval_batch_size": 16, **NO_DROPOUT}


def trained(lab: Lab, divisor: int, **params) -> tuple[TrialWatch, list[float]]:
    """Train a trial, with every step's loss."""
    context = lab.context({**PARAMS, "logging_steps": 1, **params}, evaluation=lab.spec.evaluation)
    watch = TrialWatch(context.spec.direction)
    tuning = tuning_of(dataclasses.replace(context, batch_divisor=divisor), watch)
    tuning.train()
    assert tuning.trainer.args.per_device_train_batch_size == context.params["per_device_train_batch_size"] // divisor
    return watch, [entry["loss"] for entry in tuning.trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(("divisor", "accumulation"), [(2, 1), (2, 4), (32, 1)])
def test_it_takes_the_same_steps_to_the_same_losses(lab, divisor, accumulation):
    whole, losses = trained(lab, 1, gradient_accumulation_steps=accumulation)
    divided, divided_losses = trained(lab, divisor, gradient_accumulation_steps=accumulation)
    assert divided.step == whole.step == len(losses)
    assert [e.examples for e in divided.evaluations] == [e.examples for e in whole.evaluations]
    # The same sums, added up in another order in single precision; each step's error moves the next one's weights.
    assert divided_losses == pytest.approx(losses, rel=1e-3)
    assert divided.best.objective == pytest.approx(whole.best.objective, rel=1e-3)


@pytest.mark.parametrize("params", [{"gradient_accumulation_steps": 5}, {"per_device_train_batch_size": 28}])
def test_the_last_step_of_an_epoch_has_the_rows_that_are_left(lab, params):
    """Windows of 160 and 32 rows; and seven of 28, of which the last has 24."""
    whole, losses = trained(lab, 1, **params)
    divided, divided_losses = trained(lab, 2, **params)
    assert [e.step for e in divided.evaluations] == [e.step for e in whole.evaluations]
    assert [e.examples for e in divided.evaluations] == [192, 384]
    # A mean over 14 rows and one over 10 count the same in their step, so that its loss differs in the third digit.
    assert divided_losses == pytest.approx(losses, rel=1e-2)
