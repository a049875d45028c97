"""A pretrained model loads whole or is refused, whatever architecture it has and whatever its tensors are called."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.core_model_loading import revert_weight_conversion
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

import tiny
from finesweep.errors import SweepError
from finesweep.folder.sweep_folder import make_folders
from finesweep.model.folder_check import TOKENIZERS_WITHOUT_FILES
from finesweep.model.load_check import dropped_faults, encoder_faults, head_of
from finesweep.model.pretrained import Loaded, load_model, load_tokenizer
from finesweep.model.weights import Tensor, WeightFiles
from finesweep.spec.reader import draft
from finesweep.sweep.preflight import Checked, check
from finesweep.tasks.text_classification import TextClassification
from finesweep.training.tokens import tokenized
from finesweep.training.trial_model import build_model

SPEC = """\
model: {name: ./model}
data: {train: train.csv, validation: validation.csv}
space: {learning_rate: {low: 1e-5, high: 5e-5}}
"""
Change = Callable[[dict[str, torch.Tensor], dict[str, Any]], None]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for split, rows in (("train", 40), ("validation", 20)):
        named = [(text, ("bad", "good")[label]) for text, label in tiny.review_rows(rows, seed=rows)]
        tiny.write_csv(tmp_path / f"{split}.csv", named)
    return tmp_path


def checked(project: Path, spec: str = SPEC) -> Checked:
    (project / "spec.yaml").write_text(spec)
    return check(draft(project / "spec.yaml").finished())


def rewrite(folder: Path, change: Change) -> None:
    """Change the tensors and the config of a model's folder."""
    weights, config = folder / "model.safetensors", folder / "config.json"
    tensors, values = load_file(weights), json.loads(config.read_text())
    change(tensors, values)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights, metadata={"format": "pt"})
    config.write_text(json.dumps(values))


def renamed(name: Callable[[str], str]) -> Change:
    def change(tensors: dict[str, torch.Tensor], _: object) -> None:
        items = list(tensors.items())
        tensors.clear()
        tensors.update({name(old): tensor for old, tensor in items})

    return change


def without(*parts: str) -> Change:
    def change(tensors: dict[str, torch.Tensor], _: object) -> None:
        for name in [name for name in tensors if any(part in name for part in parts)]:
            del tensors[name]

    return change


def config_with(**fields: object) -> Change:
    return lambda _, config: config.update(fields)


def with_value(value: float) -> Change:
    def change(tensors: dict[str, torch.Tensor], _: object) -> None:
        tensors["encoder.layer.1.output.dense.weight"][3, 2] = value

    return change


def legacy(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


REFUSED: Mapping[str, tuple[Change, str]] = {
    "a tensor is missing": (
        without("layer.1.output.dense.weight"),
        r"1 of the 39 tensors of its encoder are not in its weights: bert\.encoder\.layer\.1\.output\.dense\.weight",
    ),
    "a layer is missing": (config_with(num_hidden_layers=3), r"16 of the 55 tensors of its encoder are not in its"),
    "another inner size": (
        config_with(intermediate_size=128),
        r"6 of the 39 .* shape in its weights: \S+intermediate\.dense\.weight is 64x32, config\.json makes it 128x32",
    ),
    "other positions": (config_with(max_position_embeddings=600), r"position_embeddings\.weight is 512x32, config"),
    "a layer is dropped": (
        config_with(num_hidden_layers=1),
        r"config\.json has no place for 16 tensors of its weights, which would be left out: encoder\.layer\.1",
    ),
    "a bias is dropped": (
        lambda tensors, _: tensors.update({"embeddings.word_embeddings.bias": torch.zeros(32)}),
        r"config\.json has no place for 1 tensor of its weights, which would be left out: embeddings\.word_emb",
    ),
    "NaN": (with_value(float("nan")), r"1 of the 39 tensors of its weights hold NaN or infinity: encoder\.layer\.1"),
    "quantized": (
        lambda tensors, _: tensors.update({k: v.char() for k, v in tensors.items() if "query" in k}),
        r"4 of the 39 tensors of its weights are of type I8: encoder\.layer\.0",
    ),
    "infinity": (with_value(float("-inf")), r"hold NaN or infinity"),
    "an adapter": (
        renamed(lambda name: f"base_model.model.{name}".replace("query.", "query.base_layer.")),
        r"these are the weights of an adapter \(PEFT\): call merge_and_unload",
    ),
    "a model around it": (renamed(lambda name: f"backbone.{name}"), r"all their names begin with 'backbone'"),
    "no model": (config_with(num_attention_heads=5), r"no model can be made of it: .*hidden size"),
}
ACCEPTED: Mapping[str, Change] = {
    "as it is": lambda *_: None,
    "no pooler": without("pooler"),
    "old names": renamed(legacy),
    "with the prefix": renamed(lambda name: f"bert.{name}"),
    "old names with the prefix": renamed(lambda name: f"bert.{legacy(name)}"),
    "compiled": renamed(lambda name: f"_orig_mod.{name}"),
    "compiled inside": renamed(lambda name: name.replace("layer.0.", "layer.0._orig_mod.")),
    "of DDP": renamed(lambda name: f"module.{name}"),
    "of DDP, compiled": renamed(lambda name: f"module._orig_mod.bert.{name}"),
    "of Lightning": renamed(lambda name: f"model.bert.{name}"),
    "with other heads": lambda tensors, _: tensors.update(
        {"cls.predictions.bias": torch.full((9,), float("nan")), "lm_head.layers.0.weight": torch.zeros(3)}
    ),
    "with an old buffer": lambda tensors, _: tensors.update({"embeddings.position_ids": torch.arange(512)[None]}),
    "in half precision": lambda tensors, _: tensors.update({k: v.half() for k, v in tensors.items()}),
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_model(tmp_path_factory.mktemp("models") / "model", layers=2)


def copy_of(encoder: Path, project: Path) -> Path:
    folder = project / "model"
    folder.mkdir()
    for file in encoder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_does_not_load_whole_is_refused(encoder: Path, project: Path, case: str) -> None:
    change, message = REFUSED[case]
    rewrite(copy_of(encoder, project), change)
    with pytest.raises(ValueError, match=r"spec\.yaml:1 model\.name: \./model: .*" + f"(?:{message})"):
        checked(project)


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_model_that_loads_whole_is_taken_whatever_its_tensors_are_called(
    encoder: Path, project: Path, case: str
) -> None:
    rewrite(copy_of(encoder, project), ACCEPTED[case])
    loading = checked(project).loading
    assert loading is not None
    head, pooler = ([f"{layer}.{part}" for part in ("weight", "bias")] for layer in ("classifier", "bert.pooler.dense"))
    assert sorted(loading.new) == sorted([*head, *(pooler if case == "no pooler" else ())])
    both = "them: the head (classifier) and the pooler (bert.pooler.dense)"
    assert loading.notes == [
        f"New, since the checkpoint lacks {both if case == 'no pooler' else 'it: the head (classifier)'}."
    ]


def test_shards_are_loaded_together(project: Path) -> None:
    folder = tiny.tiny_classifier(project / "model", ("good", "bad"))
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    found = checked(project)
    assert found.loading is not None
    assert (tuple(found.loading.new), tuple(found.loading.rows or ())) == ((), (1, 0))
    model = build_model(found.manifest(), TextClassification(), {}, load_tokenizer(folder))
    for name, tensor in whole.bert.state_dict().items():
        assert torch.equal(tensor, model.bert.state_dict()[name])
    index = folder / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"]
    lost = names["bert.encoder.layer.0.output.dense.weight"]
    index.write_text(json.dumps({"weight_map": {name: file for name, file in names.items() if file != lost}}))
    with pytest.raises(ValueError, match=r"of the 23 tensors of its encoder are not in its weights"):
        checked(project)


def test_a_trial_refuses_weights_that_are_no_longer_what_was_checked(encoder: Path, project: Path) -> None:
    folder = copy_of(encoder, project)
    manifest = checked(project).manifest()
    task, tokenizer = TextClassification(), load_tokenizer(folder)
    build_model(manifest, task, {}, tokenizer)
    with_fewer = build_model(manifest, task, {"num_hidden_layers": 1}, tokenizer)
    assert len(with_fewer.bert.encoder.layer) == 1
    rewrite(folder, without("pooler"))
    with pytest.raises(SweepError, match=r"now they are not: bert\.pooler\.dense\.bias, bert\.pooler\.dense\.weight"):
        build_model(manifest, task, {}, tokenizer)
    rewrite(folder, without("layer.1.output.dense.weight"))
    with pytest.raises(SweepError, match=r"1 of the 39 tensors of its encoder are not in its weights"):
        build_model(manifest, task, {}, tokenizer)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("space: {model.num_hidden_layers: {choices: [1, 2]}}", ""),
        ("fixed: {model.hidden_dropout_prob: 0.3}", ""),
        ("fixed: {model.is_decoder: true}", r"model\.is_decoder: cannot be set"),
    ],
)
def test_settings_that_leave_the_weights_whole_are_taken(
    encoder: Path, project: Path, setting: str, message: str
) -> None:
    copy_of(encoder, project)
    spec = SPEC.replace("space: {", setting[:-1] + ", ") if setting.startswith("space") else f"{SPEC}{setting}\n"
    if not message:
        assert checked(project, spec).loading is not None
    else:
        with pytest.raises(ValueError, match=message):
            checked(project, spec)


def test_a_setting_that_adds_tensors_is_refused_at_its_line(project: Path) -> None:
    tiny.tiny_model(project / "model", model_type="albert")
    with pytest.raises(ValueError, match=r"spec\.yaml:4 fixed\.model\.\w+: .*"):
        checked(project, f"{SPEC}fixed: {{model.num_hidden_groups: 2}}\n")


LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer", "encoder_layers", "decoder_layers")
SAVED_AS = ("AutoModel", "AutoModelForMaskedLM", "AutoModelForPreTraining", "AutoModelForSequenceClassification")
OFTEN = ("albert", "bert", "distilbert", "roberta", "t5", "xlnet")
WITHOUT_DEFAULTS = {"cohere_compass_text", "esm", "hunyuan_v1_dense", "hunyuan_v1_moe", "jamba", "ministral"}
WITHOUT_DEFAULTS |= {"nemotron"}
"""Types whose config lacks a value that its code needs."""

WITH_A_LIBRARY = {"layoutlmv2"}
"""Types whose code needs a library that is not installed."""


def small_config(kind: str) -> Any:
    config = transformers.CONFIG_MAPPING[kind]()
    for name in LAYERS:
        if type(getattr(config, name, None)) is int and kind != "funnel":  # whose layers follow from its blocks
            setattr(config, name, 2)
    for name in ("layer_types", "mlp_layer_types"):
        if isinstance(getattr(config, name, None), list):
            setattr(config, name, getattr(config, name)[:2])
    config.num_labels, config.architectures = 3, []
    return config


def named(tensors: Mapping[str, torch.Tensor]) -> WeightFiles:
    """Return what the headers of files with these tensors would say."""
    return WeightFiles((), {name: Tensor(Path(), "F32", tuple(tensor.shape), 0, 0) for name, tensor in tensors.items()})


def saved_and_loaded(kind: str, saved_as: str) -> Iterable[Loaded]:
    """Yield what is loaded of a model that was saved as another class has it, where there is such a class."""
    config = small_config(kind)
    if type(config) not in getattr(transformers, saved_as)._model_mapping:
        return
    with torch.device("meta"):
        model = getattr(transformers, saved_as).from_config(copy.deepcopy(config))
    tied = model.all_tied_weights_keys or {}
    state = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    yield load_model(
        named(revert_weight_conversion(model, state)), config, "AutoModelForSequenceClassification", only_names=True
    )


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind in OFTEN else pytest.mark.slow)
        for kind in sorted(set(CLASSIFIERS) - WITHOUT_DEFAULTS - WITH_A_LIBRARY)
    ],
)
def test_no_architecture_is_refused_for_how_the_library_saves_it(kind: str) -> None:
    # A bare Perceiver knows no texts: it lacks their embeddings.
    for saved_as in SAVED_AS if kind != "perceiver" else SAVED_AS[1:]:
        for loaded in saved_and_loaded(kind, saved_as):
            output = () if kind != "perceiver" else ("perceiver.decoder.decoder.final_layer.weight",)
            faults = [*encoder_faults(loaded, head_of(loaded.model, output)), *dropped_faults(loaded)]
            assert not faults, (saved_as, faults)
            if saved_as == "AutoModelForSequenceClassification":
                assert not loaded.new
                assert not loaded.unexpected


def test_the_tokenizers_without_files_are_those_of_the_library() -> None:
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    entries = [entry for entry in TOKENIZER_MAPPING_NAMES.values() if entry]
    names = {name for entry in entries for name in ([entry] if isinstance(entry, str) else entry) if name}
    bare = set()
    for name in names - {"RagTokenizer", "DiaTokenizer"}:  # of two models, and of sounds
        try:
            bare |= {name} if not getattr(transformers, name).vocab_files_names else set()
        except ImportError:
            continue  # its class needs a library of its own
    assert bare == set(TOKENIZERS_WITHOUT_FILES)


def pads_with(folder: Path, token: str) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "pad_token": token}))


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_padding_ids_that_differ_are_told_and_the_tokenizer_s_is_used(project: Path, model_type: str) -> None:
    folder = tiny.tiny_model(project / "model", model_type=model_type)
    pads_with(folder, "[UNK]")
    found = checked(project)
    assert "The model's config pads with token 0, its tokenizer with 1; 1 is used by both." in found.notes
    model = build_model(found.manifest(), TextClassification(), {}, load_tokenizer(folder)).eval()
    assert model.config.pad_token_id == 1
    tokens = load_tokenizer(folder)(["a plot", "the plot is moving and warm"], padding=True, return_tensors="pt")
    alone = load_tokenizer(folder)(["a plot"], return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(model(**tokens).logits[:1], model(**alone).logits)


def test_a_padding_id_that_positions_are_counted_from_is_refused_where_it_differs(project: Path) -> None:
    pads_with(tiny.tiny_model(project / "model", model_type="roberta"), "[UNK]")
    message = r"its tokenizer pads with token 1, but the model counts positions from its own padding id 0 \(tokenizer"
    with pytest.raises(ValueError, match=message):
        checked(project)


def test_a_padding_id_beyond_the_vocabulary_in_the_config_is_replaced(encoder: Path, project: Path) -> None:
    rewrite(copy_of(encoder, project), config_with(pad_token_id=9_999))
    assert "The model's config pads with token 9999, its tokenizer with 0; 0 is used by both." in checked(project).notes


def test_a_tokenizer_of_bytes_needs_no_files_and_its_cuts_are_counted(project: Path) -> None:
    folder = project / "model"
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}
    transformers.AutoModel.from_config(
        transformers.T5Config(vocab_size=384, decoder_start_token_id=0, **sizes)
    ).save_pretrained(folder)
    transformers.ByT5Tokenizer().save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    for file in ("added_tokens.json", "special_tokens_map.json"):
        (folder / file).unlink(missing_ok=True)
    found = checked(project, SPEC.replace("validation.csv}", "validation.csv, max_length: 32}"))
    sweep_folder = make_folders(project / "results")
    for split, frame in found.data.frames.items():
        frame.to_parquet(sweep_folder.data / f"{split}.parquet")
    manifest = found.manifest()
    rows = tokenized(sweep_folder, manifest, 32)["train"]
    longer = sum(len(text.encode()) + 1 > 32 for text in found.data.frames["train"]["text"])
    assert longer > 0
    assert json.loads((sweep_folder.tokens(32) / "counts.json").read_text())["train"]["cut"] == longer
    model = build_model(manifest, TextClassification(), {}, load_tokenizer(folder))
    batch = load_tokenizer(folder).pad({"input_ids": rows["input_ids"][:4]}, return_tensors="pt")
    assert model(**batch).logits.shape == (4, 2)
