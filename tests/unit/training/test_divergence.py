"""The guard sees every way of diverging and no healthy trial."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.training.divergence import SCALED_STRIKES, DivergenceGuard

TWO_CLASSES = math.log(2)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_training_loss_that_is_not_finite_diverges_and_is_named(loss):
    assert DivergenceGuard(TWO_CLASSES).training(loss, 1.0) == f"training loss is {loss}"


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_an_evaluation_loss_that_is_not_finite_diverges_and_is_named(loss):
    assert DivergenceGuard(TWO_CLASSES).evaluation(loss) == f"evaluation loss is {loss}"


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_gradient_norm_that_is_not_finite_diverges(norm):
    assert DivergenceGuard(TWO_CLASSES).training(0.7, norm) == f"gradient norm is {norm}"


def test_an_exploded_finite_loss_diverges():
    guard = DivergenceGuard(TWO_CLASSES)
    assert guard.training(0.7, 1.0) is None
    assert "exploded to 50" in (guard.training(50.0, 1.0) or "")
    assert guard.last_finite_loss == 0.7


def test_a_large_loss_scale_is_no_explosion():
    guard = DivergenceGuard(naive_loss=1e6)
    assert guard.training(1.5e6, 1.0) is None
    assert guard.training(1.9e7, 1.0) is None
    assert guard.training(2.1e7, 1.0) is not None


def test_the_loss_scaler_may_overflow_now_and_then_but_not_for_ever():
    guard = DivergenceGuard(TWO_CLASSES, loss_scaling=True)
    for _ in range(SCALED_STRIKES - 1):
        assert guard.training(0.7, math.inf) is None
    assert guard.training(0.7, 1.0) is None
    verdicts = [guard.training(0.7, math.inf) for _ in range(SCALED_STRIKES)]
    assert verdicts == [None] * (SCALED_STRIKES - 1) + ["gradient norm is inf"]


@given(st.lists(st.floats(0, 10), min_size=1), st.integers(2, 1000))
def test_losses_of_healthy_training_never_diverge(losses, classes):
    """Ten nats is more than a classifier with the smallest K loses short of an explosion (20 ln 2 = 13.9)."""
    guard = DivergenceGuard(math.log(classes))
    assert all(guard.training(loss, 5.0) is None and guard.evaluation(loss) is None for loss in losses)


def test_gradients_that_are_not_measured_are_not_judged():
    assert DivergenceGuard(TWO_CLASSES).training(0.7, None) is None
