"""A model gets exactly the tensors of its files, under whatever names, in single precision; the rest is reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from finesweep.errors import SweepError

pytestmark = pytest.mark.torch

HEAD = "AutoModelForSequenceClassification"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A BERT of four numbers a token, each of whose tensors differs from every other."""
    import torch
    from safetensors.torch import load_file, save_file

    tiny.write_model_files(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    source = torch.Generator().manual_seed(0)
    save_file({name: torch.randn(one.shape, generator=source) for name, one in load_file(file).items()}, file)
    return tmp_path / "model"


def rewritten(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Change the tensors of the file; return those it had."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    before = load_file(file)
    save_file(change(dict(before)), file)
    return before


def loaded(folder: Path, **options: Any) -> Any:
    from finesweep.model.pretrained import load_config, load_model
    from finesweep.model.weights import read_weights

    return load_model(read_weights(folder), load_config(folder, num_labels=3), HEAD, **options)


def renamed(name: Callable[[str], str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {name(old): tensor for old, tensor in tensors.items()}


NAMES: dict[str, Callable[[str], str]] = {
    "as they are": str,
    "with the prefix of a classifier": lambda name: f"bert.{name}",
    "of a compiled model": lambda name: f"_orig_mod.bert.{name}",
    "of a distributed model": lambda name: f"module.bert.{name}",
    "of a module of a user": lambda name: f"model.bert.{name}",
    "of a distributed, compiled encoder": lambda name: f"module._orig_mod.{name}",
    "of layers that were wrapped": lambda name: name.replace("layer.0.", "layer.0._fsdp_wrapped_module."),
}


@pytest.mark.parametrize("names", NAMES)
def test_each_tensor_goes_to_its_place_by_any_name(folder: Path, names: str) -> None:
    import torch

    tensors = rewritten(folder, renamed(NAMES[names]))
    found = loaded(folder)
    state = found.model.state_dict()
    assert [name for name, tensor in tensors.items() if not torch.equal(state[f"bert.{name}"], tensor)] == []
    assert found.new == found.missing == {"classifier.weight", "classifier.bias"}
    assert (found.mismatched, found.unexpected) == ({}, set())


def test_names_that_would_collide_without_prefixes_stay(folder: Path) -> None:
    rewritten(folder, lambda tensors: {**tensors, "_orig_mod.pooler.dense.bias": tensors["pooler.dense.bias"] + 1})
    assert loaded(folder).unexpected == {"_orig_mod.pooler.dense.bias"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_model_is_in_single_precision_whatever_the_file_has(folder: Path, dtype: str) -> None:
    import torch

    kind = getattr(torch, dtype)
    rewritten(folder, lambda tensors: {name: tensor.to(kind) for name, tensor in tensors.items()})
    tensors = rewritten(folder, lambda tensors: tensors)
    model = loaded(folder).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    name = "encoder.layer.0.output.dense.weight"
    assert torch.equal(model.get_parameter(f"bert.{name}"), tensors[name].float())


@pytest.mark.parametrize("only_names", [False, True])
def test_missing_wrong_and_superfluous_tensors_are_told_apart(folder: Path, only_names: bool) -> None:
    import torch

    def change(tensors: dict[str, Any]) -> dict[str, Any]:
        del tensors["encoder.layer.0.output.dense.bias"]
        tensors["encoder.layer.0.attention.self.query.weight"] = torch.ones(4, 5)
        return {**tensors, "cls.predictions.bias": torch.ones(3)}

    rewritten(folder, change)
    found = loaded(folder, only_names=only_names)
    assert found.missing == {"bert.encoder.layer.0.output.dense.bias", "classifier.weight", "classifier.bias"}
    assert found.mismatched == {"bert.encoder.layer.0.attention.self.query.weight": ((4, 5), (4, 4))}
    assert found.unexpected == {"cls.predictions.bias"}
    assert found.new == found.missing | found.mismatched.keys()
    assert found.model.classifier.weight.is_meta is only_names


def test_look_at_the_names_alone_finds_what_is_used(folder: Path) -> None:
    tensors = rewritten(folder, lambda tensors: {**tensors, "other": tensors["pooler.dense.bias"] + 0})
    found = loaded(folder, only_names=True)
    assert found.used == tensors.keys()
    assert {parameter.is_meta for parameter in found.model.parameters()} == {True}


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_parameter_that_is_to_be_new_is_not_loaded(folder: Path, prefix: str) -> None:
    import torch

    tensors = rewritten(folder, renamed(lambda name: prefix + name))
    found = loaded(folder, without=["bert.pooler.dense.weight"])
    assert "bert.pooler.dense.weight" in found.missing
    assert not torch.equal(found.model.bert.pooler.dense.weight, tensors["pooler.dense.weight"])
    assert torch.equal(found.model.bert.pooler.dense.bias, tensors["pooler.dense.bias"])


def test_library_speaks_as_before_also_after_a_load_that_fails(folder: Path) -> None:
    from transformers.utils import logging

    from finesweep.model.pretrained import load_config, load_model
    from finesweep.model.weights import read_weights

    before = logging.get_verbosity()
    logging.set_verbosity(logging.INFO)
    bars = logging.is_progress_bar_enabled()
    loaded(folder)
    weights, config = read_weights(folder), load_config(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_model(weights, config, HEAD)
    found = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(before)
    assert found == (logging.INFO, bars)


def test_rows_of_a_head_are_put_into_another_order(folder: Path) -> None:
    from finesweep.model.pretrained import put_rows

    model = loaded(folder).model
    weight, bias = model.classifier.weight.tolist(), model.classifier.bias.tolist()
    put_rows(model, ["classifier.weight", "classifier.bias"], [2, 0, 1])
    assert model.classifier.weight.tolist() == [weight[2], weight[0], weight[1]]
    assert model.classifier.bias.tolist() == [bias[2], bias[0], bias[1]]
    assert model.classifier.weight.requires_grad


@pytest.mark.parametrize("rows", [[0, 1], [0, 1, 1], [1, 2, 3], [0, 1, 2, 3], [-1, 0, 1], []], ids=str)
def test_order_that_loses_a_row_is_refused(folder: Path, rows: list[int]) -> None:
    from finesweep.model.pretrained import put_rows

    model = loaded(folder).model
    before = model.classifier.weight.tolist()
    with pytest.raises(SweepError, match=r"the 3 rows of classifier.weight cannot be put into the order"):
        put_rows(model, ["classifier.weight"], rows)
    assert model.classifier.weight.tolist() == before


def test_tokenizers_padding_goes_into_each_part_of_a_config() -> None:
    import transformers

    from finesweep.model.pretrained import settle_padding

    class Tokenizer:
        pad_token_id: int | None = 7

    text = transformers.T5Config(pad_token_id=3, decoder_start_token_id=None)
    settle_padding(text, Tokenizer())
    assert (text.pad_token_id, text.decoder_start_token_id) == (7, 7)
    started = transformers.T5Config(pad_token_id=3, decoder_start_token_id=0)
    settle_padding(started, Tokenizer())
    assert started.decoder_start_token_id == 0, "0 is a token too"
    without = Tokenizer()
    without.pad_token_id = None
    plain = transformers.BertConfig(pad_token_id=5)
    settle_padding(plain, without)
    assert plain.pad_token_id == 5


def test_tokenizer_without_padding_pads_with_its_end_of_text(folder: Path) -> None:
    from finesweep.model.pretrained import load_tokenizer

    assert load_tokenizer(folder).pad_token == "[PAD]"
    file = folder / "tokenizer_config.json"
    values = json.loads(file.read_text())
    del values["pad_token"]
    file.write_text(json.dumps({**values, "eos_token": "t4"}))
    assert load_tokenizer(folder).pad_token_id == 4


def test_code_in_the_folder_is_refused_before_it_is_loaded(folder: Path) -> None:
    from finesweep.model.pretrained import load_config, load_tokenizer

    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "auto_map": {"AutoConfig": "own.Config"}}))
    (folder / "own.py").write_text("raise SystemExit('it ran')\n")
    for load in (load_config, load_tokenizer):
        with pytest.raises(SweepError, match=r"code"):
            load(folder)
