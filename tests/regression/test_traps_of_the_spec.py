"""What the stock search lets through: names that do nothing, values that turn into others."""

from __future__ import annotations

from pathlib import Path

import pytest

from finesweep.errors import SpecError
from finesweep.spec import reader
from finesweep.spec.draft import LoadedSpec

TOP = "model: bert\ndata: {train: a.csv}\n"


def load(folder: Path, text: str) -> LoadedSpec:
    (folder / "f.yaml").write_text(TOP + text)
    return reader.draft(folder / "f.yaml").finished()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("learning_rat", r"no such training argument \(did you mean learning_rate\?\)"),
        ("warmup_ratio", r"use warmup_steps: a value below 1 is a share of all steps"),
        ("group_by_length", r"use train_sampling_strategy: group_by_length"),
        ("evaluation_strategy", r"use evaluation: \{per_epoch: 1\}"),
        ("logging_dir", r"scalars go to results/<name>/tensorboard/"),
    ],
)
def test_t06_a_name_that_would_do_nothing_is_refused(tmp_path, name, message):
    """Stock only warns, and then reports it among the winning parameters."""
    with pytest.raises(SpecError, match=rf"f\.yaml:4 space\.{name}: .*{message}"):
        load(tmp_path, f"space:\n  {name}: {{choices: [1, 2]}}\n")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('fp16: "false"', "fixed.fp16: expected true or false, found text 'false'"),
        ('learning_rate: "1e-5"', "fixed.learning_rate: expected a number, found text '1e-5'"),
        ("per_device_train_batch_size: 16.0", "fixed.per_device_train_batch_size: expected an integer, found number"),
        ("per_device_train_batch_size: true", "fixed.per_device_train_batch_size: expected an integer, found boolean"),
    ],
)
def test_t07_a_value_of_another_type_is_refused(tmp_path, setting, message):
    """Stock makes `fp16: "false"` true; the class keeps "1e-5" and 16.0 as they are."""
    with pytest.raises(SpecError, match=message):
        load(tmp_path, f"space: {{weight_decay: {{choices: [0.0, 0.1]}}}}\nfixed: {{{setting}}}\n")


@pytest.mark.parametrize("name", ["seed", "data_seed"])
def test_t09_a_seed_is_not_searched(tmp_path, name):
    """The default spaces of the stock search have it."""
    with pytest.raises(SpecError, match=f"space.{name}: .*a seed is not searched"):
        load(tmp_path, f"space: {{{name}: {{low: 1, high: 40}}}}\n")


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "1e-05", "0.1e-4", "1.0e-5"])
def test_t13_a_power_of_ten_is_a_number(tmp_path, text):
    """PyYAML reads `1e-5` as a text."""
    spec = load(tmp_path, f"space: {{learning_rate: {{low: {text}, high: 5e-5}}}}\n").spec
    assert spec.space["learning_rate"].low == pytest.approx(1e-5)


@pytest.mark.parametrize("word", ["no", "on", "off", "yes", "y"])
def test_t13_a_word_stays_a_word(tmp_path, word):
    """PyYAML reads them as booleans."""
    spec = load(tmp_path, f"space: {{model.hidden_act: {{choices: [{word}, gelu]}}}}\n").spec
    assert spec.space["model.hidden_act"].choices == (word, "gelu")


def test_t13_a_key_that_stands_there_twice_is_refused_with_both_lines(tmp_path):
    """PyYAML keeps the last one without a word."""
    twice = "space:\n  learning_rate: {choices: [1e-5]}\n  learning_rate: {choices: [1e-4]}\n"
    with pytest.raises(SpecError, match=r"f\.yaml:5.*learning_rate.*line 4"):
        load(tmp_path, twice)


@pytest.mark.parametrize("name", ["auto_find_batch_size", "enable_jit_checkpoint", "logging_nan_inf_filter"])
@pytest.mark.parametrize("section", ["space", "fixed"])
def test_t22_t25_an_argument_that_would_falsify_records_is_refused(tmp_path, name, section):
    """Stock trains with another batch size than it records, and records a trial that SIGTERM cut short as COMPLETE."""
    value = "{choices: [true, false]}" if section == "space" else "true"
    rest = "" if section == "space" else "space: {learning_rate: {choices: [1e-5]}}\n"
    with pytest.raises(SpecError, match=f"{section}.{name}: "):
        load(tmp_path, f"{rest}{section}: {{{name}: {value}}}\n")


@pytest.mark.parametrize("argument", ["hub_token: hf_x", "push_to_hub: true"])
def test_no_token_can_stand_in_a_spec(tmp_path, argument):
    """Stock writes it in clear into `training_args.bin` beside the weights."""
    with pytest.raises(SpecError, match="finesweep never uploads anything"):
        load(tmp_path, f"space: {{learning_rate: {{choices: [1e-5]}}}}\nfixed: {{{argument}}}\n")
