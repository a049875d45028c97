import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

import tiny
from finesweep.model.config_check import setting_defaults
from finesweep.model.folder_check import inspect
from finesweep.model.from_scratch import SPECIAL_TOKENS, make_scratch
from finesweep.model.source import resolve
from finesweep.spec.sections import DataSpec, ModelSpec, ScratchModelSpec, SweepSpec
from finesweep.spec.yaml_source import parse

TEXTS = [text for text, _ in tiny.review_rows(300, 1)]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SETTINGS = {
    "bert": {"intermediate_size": 32},
    "distilbert": {"hidden_dim": 32},
    "roberta": {"intermediate_size": 32},
    "electra": {"intermediate_size": 32, "embedding_size": 8},
    "albert": {"intermediate_size": 32, "embedding_size": 8},
}


def scratch(kind, **settings):
    extra = {**SMALL, **SETTINGS[kind], "max_position_embeddings": 40, **settings}
    return ScratchModelSpec(config=kind, vocab_size=300, **extra)


def spec_of(model, space=None, fixed=None):
    space = space or {"learning_rate": {"low": 1e-5, "high": 1e-4}}
    data = DataSpec(train="rows.csv")
    return SweepSpec(name="s", base=Path("/"), model=model, data=data, space=space, fixed=fixed or {})


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("pairs", [False, True])
def test_scratch_model_reads_texts_as_long_as_it_says(kind, pairs, tmp_path):
    model = scratch(kind)
    make_scratch(model, TEXTS, tmp_path, pairs=pairs)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path, num_labels=3)
    network = transformers.AutoModelForSequenceClassification.from_config(config)
    longest = resolve(model, base=tmp_path, source=parse("a: 1")).max_tokens
    assert tokenizer.model_max_length == longest
    second = [" ".join(TEXTS), "short"] if pairs else None
    batch = tokenizer([" ".join(TEXTS), "b"], second, truncation=True, padding=True, return_tensors="pt")
    assert batch["input_ids"].shape == (2, longest)
    assert network(**batch).logits.shape == (2, 3)
    typed = pairs and kind != "distilbert"
    assert ("token_type_ids" in batch) == typed
    assert not typed or batch["token_type_ids"].max() == 1


@pytest.mark.parametrize("kind", SETTINGS)
def test_auto_tokenizer_gives_back_the_trained_one(kind, tmp_path):
    make_scratch(scratch(kind), TEXTS, tmp_path, pairs=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("The MOVING plot") == ["the", "moving", "plot"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("plot")["input_ids"]) == ["[CLS]", "plot", "[SEP]"]
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3, 4]
    assert tokenizer.pad_token_id == transformers.AutoConfig.from_pretrained(tmp_path).pad_token_id == 0
    assert tokenizer.unk_token_id not in tokenizer(TEXTS[0])["input_ids"]


@pytest.mark.slow
def test_same_texts_give_the_same_files_in_any_process(tmp_path):
    # Far more characters than the alphabet keeps, and words, all equally rare: no tie may be broken at random.
    code = (
        "from pathlib import Path; from finesweep.model.from_scratch import make_scratch;"
        "from finesweep.spec.sections import ScratchModelSpec; import itertools, sys;"
        "texts = ['a plot ' + chr(0x400 + n) + chr(0x4e00 + n) for n in range(200)];"
        "texts += [''.join(word) for word in itertools.permutations('abcdef', 4)];"
        "spec = ScratchModelSpec(config='bert', vocab_size=200, hidden_size=16, num_attention_heads=2);"
        "make_scratch(spec, texts, Path(sys.argv[1]), pairs=False)"
    )
    files = []
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        env = {**os.environ, "PYTHONHASHSEED": number}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / number)], env=env, check=True)
        files.append({file.name: file.read_bytes() for file in (tmp_path / number).iterdir()})
    assert files[0] == files[1]
    assert set(files[0]) == {"config.json", "tokenizer.json", "tokenizer_config.json"}


def test_a_text_without_words_is_no_error(tmp_path):
    make_scratch(scratch("bert"), [" ", ""], tmp_path, pairs=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("word")["input_ids"] == [2, 1, 3]


def test_tiny_model_passes_the_checks_and_loads(tmp_path):
    folder = tiny.tiny_model(tmp_path / "model", positions=80)
    assert inspect(folder).faults == []
    resolved = resolve(ModelSpec(name=str(folder)), base=tmp_path, source=parse("model: m"))
    assert resolved.max_tokens == 80
    network = transformers.AutoModel.from_pretrained(folder)
    again = transformers.AutoModel.from_pretrained(tiny.tiny_model(tmp_path / "again", positions=80))
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_filled_cache_serves_model_and_data_set_offline(tmp_path):
    tiny.fill_hub_cache(tmp_path / "hub", rows={"train": 20, "validation": 6, "test": 4})
    code = (
        "import transformers, datasets\n"
        f"print(transformers.AutoModel.from_pretrained({tiny.MODEL_ID!r}).config.model_type)\n"
        "from finesweep.hub import snapshot\n"
        f"rows = datasets.load_dataset(str(snapshot({tiny.DATASET_ID!r}, kind='dataset', revision=None).path))\n"
        "print({split: rows[split].num_rows for split in rows}, rows['test'].unique('label'))\n"
        "print(rows['train'].features['label'].names)\n"
    )
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "bert",
        "{'train': 20, 'validation': 6, 'test': 4} [-1]",
        "['negative', 'positive']",
    ]


SCRATCH_FAULTS = [
    ("bertt", {}, r"bad.yaml:2 model.config: no model type .* 'bertt' \(did you mean bert\?\)"),
    ("clip", {}, "no model type for classification is called 'clip'"),
    ("bert", {"hiden_size": 16}, r"bad.yaml:3 model.hiden_size: .* no such field \(did you mean hidden_size\?\)"),
    ("bert", {"hidden_size": "16"}, r"expected an integer, found text '16' \(leave out the quotes\)"),
    ("bert", {"hidden_size": -16}, "-16 is outside 1 .. 262144"),
    ("bert", {"hidden_size": 2**40}, "1099511627776 is outside"),
    ("bert", {"hidden_size": 30, "num_attention_heads": 4}, "hidden_size 30 is no multiple of num_attention_heads 4"),
    ("distilbert", {"dim": 30, "n_heads": 4}, "hidden_size 30 is no multiple of num_attention_heads 4"),
    ("bert", {"hidden_dropout_prob": 1.5}, r"1.5 is outside 0 .. 1"),
    ("bert", {"hidden_act": "gelo"}, r"no activation is called 'gelo'.*did you mean gelu"),
    ("bert", {"initializer_range": 1}, r"expected a number, found integer 1 \(write 1.0\)"),
    ("bert", {"attn_implementation": "evil/kernel"}, "has no such field"),
    ("bert", {"auto_map": "x"}, "has no such field"),
    ("bert", {"num_labels": 3}, "has no such field"),
    ("bert", {"pad_token_id": 3}, "cannot be set"),
    ("bert", {"max_position_embeddings": 1}, "1 is outside 8"),
]


@pytest.mark.parametrize(("kind", "settings", "message"), SCRATCH_FAULTS)
def test_faults_in_scratch_settings(kind, settings, message):
    model = ScratchModelSpec(config=kind, **settings)
    lines = "".join(f"\n  {name}: {value!r}" for name, value in settings.items())
    source = parse(f"model:\n  config: {kind}{lines}\n", "bad.yaml")
    with pytest.raises(ValueError, match=message):
        setting_defaults(model, spec_of(model), source)


def test_every_fault_in_the_settings_at_once():
    model = ScratchModelSpec(config="bert", hiden_size=16, hidden_act="gelo")
    with pytest.raises(ValueError, match=r"(?s)hiden_size.*hidden_act.*hidden_dropout_prob.high"):
        setting_defaults(model, spec_of(model, {"model.hidden_dropout_prob": {"low": 0.0, "high": 2.0}}), parse("a: 1"))


def test_widths_and_heads_of_the_whole_space_must_fit():
    model = ScratchModelSpec(config="bert", num_attention_heads=4)
    good = spec_of(model, {"model.hidden_size": {"choices": [16, 32]}})
    assert setting_defaults(model, good, parse("a: 1")) == {"model.hidden_size": 768}
    with pytest.raises(ValueError, match="hidden_size 18 is no multiple of num_attention_heads 4"):
        setting_defaults(model, spec_of(model, {"model.hidden_size": {"choices": [16, 18]}}), parse("a: 1"))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    tiny.write_model_files(folder, hidden_dropout_prob=0.25, num_hidden_layers=2)
    return resolve(ModelSpec(name=str(folder)), base=folder.parent, source=parse("model: m"))


def test_defaults_are_the_pretrained_config_s(pretrained):
    model = ModelSpec(name="m")
    space = {"model.hidden_dropout_prob": {"low": 0, "high": 0.5}, "learning_rate": {"low": 1e-5, "high": 1e-4}}
    spec = spec_of(model, space, {"model.classifier_dropout": 0.1, "model.num_hidden_layers": 1})
    assert setting_defaults(pretrained, spec, parse("a: 1")) == {
        "model.hidden_dropout_prob": 0.25,
        "model.classifier_dropout": None,
        "model.num_hidden_layers": 2,
    }


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"model.droput": {"low": 0.0, "high": 0.5}}, "the config of bert has no such field"),
        ({"model.hidden_size": {"choices": [16, 32]}}, "it belongs to the model's weights"),
        ({"model.num_hidden_layers": {"low": 1, "high": 3}}, "3 is more than the 2 layers of the model"),
        ({"model.hidden_dropout_prob": {"choices": ["0.1"]}}, r"choices.0: expected an? .*number, found text '0.1'"),
        ({"model.hidden_dropout_prob": {"low": 0.0, "high": 1.5}}, r"high: 1.5 is outside 0 .. 1"),
        ({"model.hidden_act": {"low": 0, "high": 1}}, "expected text, found integer 0"),
    ],
)
def test_faults_in_settings_of_a_pretrained_model(pretrained, space, message):
    with pytest.raises(ValueError, match=message):
        setting_defaults(pretrained, spec_of(ModelSpec(name="m"), space), parse("a: 1"))
