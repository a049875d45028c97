"""The numbers that `sweep init` proposes follow from rows, classes, lengths, model and machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.host.machine import Machine
from finesweep.propose.starting_values import (
    ENGLISH,
    FEWEST_ROWS,
    HOURS,
    LENGTHS,
    BaseModel,
    ProposalFacts,
    of_config,
    propose,
)

CPU = Machine(cores=2, gpus=(), memory_gb=8.0)
GPU = Machine(cores=8, gpus=("0",), memory_gb=64.0)
SMALL, LARGE = ENGLISH["CPU"], ENGLISH["GPU"]
FACTS = ProposalFacts(rows=3_000, classes=2, lengths=[20] * 10, max_tokens=512, machine=CPU, model=SMALL)


def width(facts: ProposalFacts) -> float:
    low, high = map(float, propose(facts).learning_rate)
    return high / low


def test_a_smaller_model_and_more_classes_get_a_wider_range_of_learning_rates() -> None:
    assert width(FACTS) > width(replace(FACTS, model=LARGE))
    assert width(replace(FACTS, classes=77)) > width(FACTS)
    assert width(replace(FACTS, classes=None)) == width(FACTS)


def test_fewer_rows_get_more_epochs_and_smaller_batches() -> None:
    few, many = propose(replace(FACTS, rows=500)), propose(replace(FACTS, rows=80_000))
    assert few.epochs[1] > many.epochs[1]
    assert max(few.batches) < max(many.batches)


def test_a_large_model_on_few_cores_gets_fewer_trials_then_fewer_rows() -> None:
    asked = replace(FACTS, rows=60_000, lengths=[100] * 10, model=LARGE)
    found = propose(asked)
    assert found.trials < propose(FACTS).trials
    assert found.max_train_rows is not None
    assert FEWEST_ROWS <= found.max_train_rows < 60_000
    assert found.all_hours > 10 * found.hours
    on_a_gpu = propose(replace(asked, machine=GPU))
    assert (on_a_gpu.trials, on_a_gpu.max_train_rows) == (20, None)


@pytest.mark.parametrize(
    ("lengths", "max_tokens", "expected"),
    [
        ([10] * 99 + [4_000], 512, 32),
        ([10] * 90 + [100] * 10, 512, 128),
        ([5_000], 512, 512),
        ([5_000], 50, 50),
        ([], 512, 32),
    ],
)
def test_nearly_all_texts_fit_into_the_length(lengths: list[int], max_tokens: int, expected: int) -> None:
    assert propose(replace(FACTS, lengths=lengths, max_tokens=max_tokens)).max_length == expected


@given(
    rows=st.integers(2, 10_000_000),
    classes=st.none() | st.integers(2, 1_000),
    length=st.integers(2, 5_000),
    layers=st.floats(0.01, 400),
    cores=st.integers(1, 256),
    gpus=st.integers(0, 8),
)
def test_every_proposal_is_one_that_can_be_run(rows, classes, length, layers, cores, gpus):
    machine = Machine(cores, tuple(map(str, range(gpus))), 16.0)
    model = BaseModel("model", layers, 1.0)
    found = propose(ProposalFacts(rows, classes, [length], 512, machine, model))
    trained = found.max_train_rows or rows
    assert 10 <= found.trials <= 20
    assert found.max_length in LENGTHS
    assert float(found.learning_rate[0]) < float(found.learning_rate[1]) <= 1e-3
    assert found.max_train_rows is None or FEWEST_ROWS <= found.max_train_rows < rows
    assert found.budget_hours >= found.hours, "the budget ends a sweep that takes as long as was estimated"
    limit = HOURS["GPU" if gpus else "CPU"]
    assert found.hours <= limit * 1.1 or trained <= FEWEST_ROWS
    assert min(found.batches) <= max(rows, 2)


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        ({"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072, "vocab_size": 30_522}, 85),
        ({"dim": 768, "n_layers": 6, "hidden_dim": 3072, "vocab_size": 30_522}, 42.5),
        ({"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}, 10.6),
        ({"hidden_size": "wide", "num_hidden_layers": -1}, 85),
        ({}, 85),
    ],
)
def test_a_models_size_is_read_from_its_config(config: dict[str, object], layers: float) -> None:
    assert of_config("model", config).layers == pytest.approx(layers, rel=0.01)
