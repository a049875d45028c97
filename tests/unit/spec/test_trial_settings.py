"""Splitting a trial's settings by whom they concern, and dividing its batches where memory runs out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.spec.sections import SweepSpec
from finesweep.spec.trial_settings import TrialSettings, can_halve

TRAIN, EVALUATE, ACCUMULATE = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
)


def settings_of(params, divisor: int = 1, **fixed) -> TrialSettings:
    spec = SweepSpec.model_construct(fixed=fixed)
    return TrialSettings.of(spec, {"data.max_length": 32, **params}, 512, divisor)


def test_without_a_divisor_nothing_is_added_to_what_was_set():
    assert settings_of({"learning_rate": 1e-3}, model__dropout=0).named() == {
        "learning_rate": 1e-3,
        "model__dropout": 0,
        "data.max_length": 32,
    }


def test_the_settings_that_are_shown_are_the_ones_in_force():
    named = settings_of({TRAIN: 32, ACCUMULATE: 3}, 2, **{EVALUATE: 20}).named()
    assert (named[TRAIN], named[ACCUMULATE], named[EVALUATE]) == (16, 6, 10)


def test_what_was_not_set_is_divided_from_its_default():
    named = settings_of({}, 4).named()
    assert (named[TRAIN], named[ACCUMULATE], named[EVALUATE]) == (2, 4, 16)


def test_an_evaluation_takes_one_row_at_a_time_at_least():
    assert settings_of({TRAIN: 8, EVALUATE: 3}, 4).training_value(EVALUATE) == 1


@pytest.mark.parametrize(("batch", "divisor", "can"), [(32, 1, True), (32, 32, False), (6, 2, False), (1, 1, False)])
def test_a_batch_is_halved_as_long_as_it_is_even(batch, divisor, can):
    assert can_halve(settings_of({TRAIN: batch}, divisor)) is can


@given(st.integers(1, 65_536), st.integers(1, 65_536), st.integers(1, 65_536))
def test_however_often_it_is_halved_as_many_rows_make_up_a_step(batch, accumulation, evaluation):
    values, divisor = {TRAIN: batch, ACCUMULATE: accumulation, EVALUATE: evaluation}, 1
    while can_halve(settings := settings_of(values, divisor)):
        divisor *= 2
        half = settings_of(values, divisor)
        assert 2 * half.training_value(TRAIN) == settings.training_value(TRAIN)
        assert half.training_value(TRAIN) * half.training_value(ACCUMULATE) == batch * accumulation
        assert 1 <= half.training_value(EVALUATE) <= settings.training_value(EVALUATE)
    assert batch // divisor % 2 == 1
