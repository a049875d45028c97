"""What the stock Trainer gets wrong about losses: NaN shown as 0, smoothed, scaled, averaged away."""

from __future__ import annotations

import math

import pytest
import torch

from finesweep.errors import SweepError
from finesweep.results.ranking import ranked
from finesweep.training.rehearsal import rehearse
from finesweep.training.trainer import FineTuner
from finesweep.trial import Direction, TrialDiverged, TrialRecord, TrialState

EVENT = 13
"""Step at which a loss goes wrong: after the first logged interval of ten, in the middle of the second."""

NO_DROPOUT = {"model.hidden_dropout_prob": 0.0, "model.attention_probs_dropout_prob": 0.0}


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda loss: loss + math.nan, "training loss is nan", id="nan"),
        pytest.param(lambda loss: loss + math.inf, "training loss is inf", id="inf"),
        pytest.param(lambda loss: loss * math.nan, "training loss is nan", id="nan in the gradients too"),
        pytest.param(lambda loss: loss + 1e4, "training loss exploded to", id="exploded"),
    ],
)
def test_t01_a_loss_that_blows_up_ends_the_trial_within_one_logging_interval(lab, spoil, change, reason, max_grad_norm):
    """Stock logs a NaN as 0, the best loss there is, and trains to the last epoch."""
    spoil(lambda loss, trains, step: change(loss) if trains and step >= EVENT else loss)
    with pytest.raises(TrialDiverged, match=f"{reason}.* at step 20") as caught:
        lab.train({"num_train_epochs": 2, "max_grad_norm": max_grad_norm})
    divergence = caught.value.divergence
    assert EVENT <= divergence.step <= EVENT + 10
    assert 0 < divergence.learning_rate < 1e-3, "the rate at that step, which has decayed"
    assert divergence.last_finite_loss == pytest.approx(0.7, abs=0.2), "of the first ten steps, about ln 2"


def test_t01_a_single_nan_step_in_an_interval_is_seen(lab, spoil):
    spoil(lambda loss, trains, step: loss + math.nan if trains and step == EVENT else loss)
    with pytest.raises(TrialDiverged, match="training loss is nan at step 20"):
        lab.train({"num_train_epochs": 2})


def test_t01_gradients_that_blow_up_end_the_trial_while_the_loss_is_finite(lab, spoil):
    def change(loss, trains, step):
        if trains and step == 20:
            loss.register_hook(lambda gradient: gradient * math.nan)
        return loss

    spoil(change)
    with pytest.raises(TrialDiverged, match="gradient norm is nan at step 20"):
        lab.train({"num_train_epochs": 2})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_t01_bad_evaluation_batches_are_not_left_out_of_the_mean(lab, spoil, value):
    """Stock drops them: three of four batches may be NaN, and eval_loss is the fourth's."""
    spoil(lambda loss, trains, batch: loss + value if not trains and batch <= 3 else loss)
    reports = []
    with pytest.raises(TrialDiverged, match=f"evaluation loss is {value} at step 24"):
        lab.train({"num_train_epochs": 2, "per_device_eval_batch_size": 16}, reports)
    assert reports == []


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("metric", ["eval_loss", "eval_accuracy"])
def test_t02_no_infinite_objective_reaches_the_search_or_the_ranking(lab, spoil, monkeypatch, value, metric):
    """Optuna takes inf for a result, and -inf for the best one."""
    if metric == "eval_loss":
        spoil(lambda loss, trains, _: loss if trains else loss + value)
    else:
        task = type(lab.context({}).task)
        monkeypatch.setattr(task, "score", lambda *_: {"accuracy": value, "macro_f1": 0.5})
    objective = lab.spec.objective.model_copy(update={"metric": metric})
    reports = []
    with pytest.raises(TrialDiverged, match=r"is (-?inf|nan|not finite) at step 24"):
        lab.train({"num_train_epochs": 1}, reports, objective=objective)
    assert reports == []
    record = TrialRecord(0, 1, TrialState.COMPLETE, {}, 0.0, 1.0, "", "here", objective=value)
    assert ranked([record], Direction.MAXIMIZE) == []


def _first_loss(lab, **params):
    # Five rows of two classes are never balanced; where they are, smoothing does not change the first loss.
    return lab.train(
        {"max_steps": 1, "logging_steps": 1, "per_device_train_batch_size": 5, **NO_DROPOUT, **params}
    ).loss


def test_t10_label_smoothing_takes_effect_when_it_is_searched(lab):
    """Stock reads it when the Trainer is made, before it knows the trial's parameters."""
    plain, smoothed = (_first_loss(lab, label_smoothing_factor=factor) for factor in (0.0, 0.5))
    assert abs(plain - smoothed) > 1e-4


def test_t10_neftune_takes_effect_when_it_is_searched(lab):
    # Noise of strength 1,000 on embeddings of size 0.02 drowns them.
    quiet, noisy = (_first_loss(lab, neftune_noise_alpha=alpha) for alpha in (None, 1000.0))
    assert abs(quiet - noisy) > 1e-4


def test_t10_evaluation_losses_of_trials_with_other_smoothing_can_be_compared(lab):
    plain, smoothed = (lab.build({"label_smoothing_factor": factor}).evaluate()["eval_loss"] for factor in (0.0, 0.5))
    # The weights are those of the start in both; only the loss could differ.
    assert smoothed == pytest.approx(plain, rel=1e-6)


def test_t11_accumulation_changes_neither_the_loss_nor_the_step(lab):
    """Stock believes that these heads average over all accumulated rows: the loss is logged four times too large."""
    one_step = {"max_steps": 1, "logging_steps": 1, "optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0}
    one_step["bf16"] = False  # which rounds to three digits
    whole, parts = (
        lab.train({**one_step, **NO_DROPOUT, "per_device_train_batch_size": batch, "gradient_accumulation_steps": n})
        for batch, n in ((16, 1), (4, 4))
    )
    # Single precision, and batches that are padded to other lengths.
    assert parts.loss == pytest.approx(whole.loss, rel=1e-4)
    assert parts.examples == whole.examples == 16
    for name, weights in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], weights, rtol=1e-4, atol=1e-6)


def test_t11_the_rehearsal_refuses_a_loss_that_the_trainer_scales(lab, monkeypatch):
    """Stock multiplies eval_loss by the number of devices, for heads like these."""
    rehearse(lab.sweep_folder, lab.manifest, lab.spec)
    compute_loss = FineTuner.compute_loss

    def doubled(self, *args, **kwargs):
        loss = compute_loss(self, *args, **kwargs)
        return (2 * loss[0], *loss[1:]) if isinstance(loss, tuple) else 2 * loss

    monkeypatch.setattr(FineTuner, "compute_loss", doubled)
    with pytest.raises(SweepError, match=r"where a plain forward pass gives .*; training would be wrong"):
        rehearse(lab.sweep_folder, lab.manifest, lab.spec)
