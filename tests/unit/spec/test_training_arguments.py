"""What a training argument accepts (rows P2 to P17 of the faults)."""

import math

import pytest

from finesweep.spec.training_arguments import OWNED, REPLACED, TRAINING_FIELDS, describe


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        pytest.param("num_train_epochs", 0.1, "", id="P2-a-tenth"),
        pytest.param("num_train_epochs", 2.7, "", id="P2-no-integer"),
        pytest.param("num_train_epochs", 0, "0 must be above 0", id="P3-zero"),
        pytest.param("num_train_epochs", -1, "-1 must be above 0", id="P3-negative"),
        pytest.param("bf16", "False", "expected true or false, found text 'False'", id="P5-text"),
        pytest.param("bf16", 1, "expected true or false, found integer 1", id="P5-integer"),
        pytest.param("bf16", False, "", id="P5-right"),
        pytest.param("warmup_steps", 0.5, "", id="P6-share"),
        pytest.param("warmup_steps", 500, "", id="P6-steps"),
        pytest.param("learning_rate", -1e-3, "-0.001 must be above 0", id="P8-negative"),
        pytest.param("learning_rate", math.nan, "nan is not a finite number", id="P8-nan"),
        pytest.param("learning_rate", math.inf, "inf is not a finite number", id="P9-inf"),
        pytest.param("learning_rate", 1e9, "1e+09 must be at most 10", id="P9-huge"),
        pytest.param("learning_rate", "1e-5", "expected a number, found text '1e-5'", id="text"),
        pytest.param("learning_rate", None, "expected a number, found nothing", id="null"),
        pytest.param("per_device_train_batch_size", 0, "0 must be at least 1", id="P11-zero"),
        pytest.param("per_device_train_batch_size", -1, "-1 must be at least 1", id="P11-negative"),
        pytest.param("per_device_train_batch_size", True, "expected an integer, found boolean True", id="P11-true"),
        pytest.param("per_device_train_batch_size", 4.0, "expected an integer, found number 4.0", id="P11-float"),
        pytest.param("per_device_train_batch_size", "4", "expected an integer, found text '4'", id="P11-text"),
        pytest.param("per_device_train_batch_size", 10**9, "1e+09 must be at most 65536", id="P12"),
        pytest.param("weight_decay", -1, "-1 must be at least 0", id="P14-decay"),
        pytest.param("warmup_steps", -0.1, "-0.1 must be at least 0", id="P14-warmup"),
        pytest.param("lr_scheduler_type", "linearr", "'linearr' is none of linear, cosine", id="P15-scheduler"),
        pytest.param("optim", "adamww", "'adamww' is none of adamw_torch", id="P15-optimizer"),
        pytest.param("lr_scheduler_type", False, "expected text, found boolean False", id="Y5"),
        pytest.param("neftune_noise_alpha", None, "", id="off"),
        pytest.param("max_grad_norm", None, "expected a number, found nothing", id="not-null-but-0"),
        pytest.param("learning_rate", [1e-5], "expected a number, found list [1e-05]", id="list"),
    ],
)
def test_a_value_is_held_against_type_and_range(name: str, value: object, problem: str) -> None:
    found = TRAINING_FIELDS[name].problem(value)
    assert found.startswith(problem)
    assert bool(found) is bool(problem)


@pytest.mark.parametrize("name", [n for n, f in TRAINING_FIELDS.items() if f.default is not None and n != "max_steps"])
def test_every_default_is_a_legal_value(name: str) -> None:
    assert TRAINING_FIELDS[name].problem(TRAINING_FIELDS[name].default) == ""


def test_a_name_stands_in_one_table_only() -> None:
    assert not TRAINING_FIELDS.keys() & REPLACED.keys()
    assert not TRAINING_FIELDS.keys() & OWNED.keys()
    assert not REPLACED.keys() & OWNED.keys()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a", "text 'a'"),
        (True, "boolean True"),
        (3, "integer 3"),
        (1e-5, "number 1e-05"),
        (None, "nothing"),
        ({"a": 1}, "mapping {'a': 1}"),
        ("x" * 100, "text '" + "x" * 36 + "..."),
    ],
)
def test_a_value_is_described_by_type_and_content(value: object, words: str) -> None:
    assert describe(value) == words
