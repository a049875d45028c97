"""The length of a trial before it is trained: steps and examples as the Trainer counts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.spec.trial_length import TrialLength, Workload

TRAIN, ACCUMULATE = "per_device_train_batch_size", "gradient_accumulation_steps"


@pytest.mark.parametrize(
    ("values", "steps", "examples"),
    [
        ({}, 375, 3_000),
        ({"num_train_epochs": 0.5}, 63, 504),
        ({"num_train_epochs": 2.5, TRAIN: 16}, 158, 2_000 + 32 * 16),
        ({TRAIN: 16, ACCUMULATE: 3, "num_train_epochs": 1}, 21, 1_000),
        ({TRAIN: 2_000, "num_train_epochs": 2}, 2, 2_000),
        ({"max_steps": 100, TRAIN: 16, ACCUMULATE: 2, "num_train_epochs": 9}, 100, 3_128),
        ({TRAIN: 300, "dataloader_drop_last": True, "num_train_epochs": 2}, 6, 2_000),
    ],
)
def test_length_counts_the_short_last_batch(values, steps, examples):
    length = TrialLength.of(values, 1_000)
    assert (length.total_steps, length.total_examples) == (steps, examples)


@given(st.integers(1, 5_000), st.integers(1, 64), st.integers(1, 8), st.floats(0.1, 5))
def test_length_is_that_of_the_epochs_but_for_two_steps(rows, batch, accumulation, epochs):
    length = TrialLength.of({TRAIN: batch, ACCUMULATE: accumulation, "num_train_epochs": epochs}, rows)
    assert rows * epochs - 1e-6 <= length.total_examples < rows * epochs + 2 * batch * accumulation


def test_workload_has_the_batch_of_a_device_and_the_longest_input():
    values = {TRAIN: 16, ACCUMULATE: 2, "num_train_epochs": 1, "data.max_length": 64}
    assert Workload.of(values, 1_000) == Workload(1_000, 16, 64)
