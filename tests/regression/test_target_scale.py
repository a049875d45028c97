"""Targets of a regression are standardised in training, and everything that is seen is in the data's units."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from finesweep.errors import SweepError
from finesweep.folder.model_facts import Loading
from finesweep.results import kept_weights
from finesweep.tasks.text_regression import TextRegression
from finesweep.training.callback import TrialWatch
from finesweep.training.rehearsal import rehearse
from finesweep.training.target_scale import TargetScale
from finesweep.trial import Direction
from finesweep.worker.prove_winner import Exported

LEARNING = {"num_train_epochs": 4, "learning_rate": 5e-3}


class Model(nn.Module):
    """A head of some shape on an encoder whose own layers must stay as they are."""

    base_model_prefix = "encoder"

    def __init__(self, head, gives=lambda logits: logits):
        super().__init__()
        self.encoder, self.head, self.gives = nn.Linear(4, 4), head, gives

    def forward(self, inputs):
        return SimpleNamespace(logits=self.gives(self.head(self.encoder(inputs))))


HEADS = {
    "plain": nn.Linear(4, 1),
    "nested": nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)),
    "without bias": nn.Linear(4, 1, bias=False),
}


def _prices(lab):
    import pandas as pd

    return pd.read_parquet(lab.sweep_folder.data / "validation.parquet")["label"].to_numpy()


def test_prices_near_250_000_are_learned_and_reported_in_their_units(prices, tmp_path):
    watch = TrialWatch(Direction.MINIMIZE)
    context = prices.context({"logging_steps": 1, **LEARNING})
    trainer = prices.trainer_of(context, watch)
    variance = float(np.var(_prices(prices)))
    metrics = watch.result.metrics
    assert metrics["eval_loss"] == metrics["eval_mse"] < 0.6 * variance
    assert metrics["eval_mae"] < 50_000
    assert 0.1 * variance < watch.loss < 2 * variance, "the training loss too"
    assert 240_000 < watch.settled["data.target_mean"] < 260_000

    kept_weights.save(tmp_path / "saved", trainer)
    exported = Exported.load(tmp_path / "saved", TextRegression(), {"data.max_length": 24}, trusted=False)
    import pandas as pd

    scores = TextRegression().recompute_metrics(
        *exported.answers(pd.read_parquet(prices.sweep_folder.data / "validation.parquet"))
    )
    assert scores == pytest.approx(metrics, rel=1e-4)


def test_without_it_the_same_trial_stays_near_0(prices):
    data = prices.spec.data.model_copy(update={"standardize": False})
    watch = prices.train(LEARNING, data=data)
    assert watch.result.metrics["eval_loss"] > 0.9 * float(np.mean(_prices(prices) ** 2))
    assert "data.target_mean" not in watch.settled


def test_classes_are_not_standardised(lab):
    assert lab.build({}).target_scale is None


@pytest.mark.parametrize("name", HEADS)
def test_folded_head_answers_in_the_units_of_the_data_and_is_restored(name):
    model, targets = Model(HEADS[name]), np.array([90.0, 110.0, 130.0])
    scale = TargetScale.of(targets, model)
    expected = (0.0, np.sqrt(np.mean(targets**2))) if name == "without bias" else (110.0, targets.std())
    assert (scale.mean, scale.scale) == pytest.approx(expected)
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    plain = model(inputs).logits
    with scale.folded(model):
        torch.testing.assert_close(model(inputs).logits, plain * scale.scale + scale.mean)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    scale.check(model, {"inputs": inputs})


def test_head_that_is_unfolded_answers_as_before_once_it_is_folded():
    model, scale = Model(nn.Linear(4, 1)), TargetScale(110.0, 16.0)
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    before = model(inputs).logits
    scale.unfold(model)
    with scale.folded(model):
        torch.testing.assert_close(model(inputs).logits, before)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Model(nn.Identity()), "has no last layer with one output"),
        (Model(nn.Linear(4, 2)), "has no last layer with one output"),
        (Model(nn.Linear(4, 1), torch.tanh), "computes more with what its last layer gives"),
    ],
)
def test_head_that_takes_no_scale_is_refused(model, message):
    with pytest.raises(SweepError, match=rf"Model {message}.*`data: {{standardize: false}}`"):
        TargetScale.of(np.array([90.0, 110.0]), model).check(model, {"inputs": torch.ones(1, 4)})


def test_equal_targets_are_only_shifted():
    scale = TargetScale.of(np.array([7.0, 7.0]), Model(nn.Linear(4, 1)))
    assert scale == TargetScale(7.0, 1.0)


def test_rehearsal_of_a_regression_agrees_with_a_plain_forward_pass(prices):
    rehearse(prices.sweep_folder, prices.manifest, prices.spec)


def test_kept_head_of_a_regression_begins_with_what_it_has_learned(prices, tmp_path):
    watch = TrialWatch(Direction.MINIMIZE)
    kept_weights.save(tmp_path / "saved", prices.trainer_of(prices.context(LEARNING), watch))
    loading = Loading(output=[], rows=[0], new=[], notes=[])
    saved = {"path": str(tmp_path / "saved"), "from_scratch": False, "loading": loading}
    facts = dataclasses.replace(prices.manifest.model, **saved)
    again = dataclasses.replace(prices, manifest=dataclasses.replace(prices.manifest, model=facts))
    assert again.build({}).evaluate()["eval_loss"] == pytest.approx(watch.result.metrics["eval_loss"], rel=1e-4)


def test_explosion_of_a_regression_is_judged_by_the_variance(prices):
    from finesweep.training.fine_tuning import _guard

    context = prices.context({})
    guard = _guard(context, prices.build({}))
    train = json.loads(json.dumps(prices.build({}).train_dataset.column("labels").tolist()))
    assert guard.naive_loss == pytest.approx(float(np.var(train)), rel=1e-6)
