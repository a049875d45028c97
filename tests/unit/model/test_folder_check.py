import json
import os
import pickle
import re
from pathlib import Path

import pytest

import tiny
from finesweep.model.folder_check import ModelFolder, foreign_code, inspect, known_model_types, positions


@pytest.fixture
def folder(tmp_path):
    return tiny.write_model_files(tmp_path / "model")


def rewrite(file: Path, **changes):
    values = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))


def messages(folder):
    return [fault.message for fault in inspect(folder).faults]


def test_a_good_folder_has_no_faults(folder):
    found = inspect(folder)
    assert found.faults == []
    assert found.notes == []
    assert found.config["model_type"] == "bert"
    assert found.max_tokens == 64


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "added_tokens.json", "chat_template.jinja", "merges.txt", "1_x/a.json"]
)
def test_pipe_under_any_name_is_a_fault_and_not_waited_for(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert messages(folder) == [f"{name}: this is a pipe; only regular files are read"]
    assert [fault.message for fault in foreign_code(folder, trusted=True)] == messages(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 2**40}, r"config.json: hidden_size: 1099511627776 is outside 1 .. 262144"),
        ({"hidden_size": -16}, r"config.json: hidden_size: -16 is outside"),
        ({"hidden_size": "16"}, r"config.json: hidden_size: expected an integer, found text '16'"),
        ({"hidden_size": True}, r"config.json: hidden_size: expected an integer, found boolean"),
        ({"num_hidden_layers": 0}, r"num_hidden_layers: 0 is outside"),
        ({"max_position_embeddings": 1}, r"max_position_embeddings: 1 is outside 8"),
        ({"model_type": ...}, "config.json has no model_type"),
        ({"model_type": ["bert"]}, "config.json has no model_type"),
        ({"model_type": "brt"}, "transformers knows no model_type 'brt'"),
        ({"model_type": "evil", "auto_map": {"AutoConfig": "x.Y"}}, "the model comes with code of its own"),
        ({"quantization_config": {"bits": 4}}, "a quantized model cannot be trained"),
        ({"transformers_weights": "../outside.safetensors"}, "transformers_weights is not supported"),
        ({"trust_remote_code": True}, "trust_remote_code is not allowed"),
        ({"text_config": {"deep": [{"trust_remote_code": True}]}}, "trust_remote_code is not allowed"),
        ({"attn_implementation": "evil-org/evil-kernel"}, r"attn_implementation is 'evil-org/evil-kernel'"),
        ({"_attn_implementation": "evil-org/evil-kernel"}, r"_attn_implementation is 'evil-org/evil-kernel'"),
        ({"_attn_implementation_internal": "flash_attention_2"}, "allowed are eager and sdpa"),
        ({"attn_implementation": {"text": "evil/kernel"}}, "attn_implementation is 'evil/kernel'"),
        ({"text_config": {"attn_implementation": "evil/kernel"}}, "attn_implementation is 'evil/kernel'"),
        ({"vocab_size": 19}, "the tokenizer has 20 tokens, the model only 19"),
        ({"vocab_size": 21}, "vocab_size is 21, the weights have 20 rows"),
        ({"hidden_size": 8}, "hidden_size is 8, the weights are 4 wide"),
    ],
)
def test_faults_in_the_config(folder, changes, message):
    rewrite(folder / "config.json", **changes)
    assert re.search(message, "\n".join(messages(folder)))


@pytest.mark.parametrize("value", ["eager", "sdpa", None])
def test_built_in_attention_is_fine(folder, value):
    rewrite(folder / "config.json", attn_implementation=value)
    assert messages(folder) == []


OWN_CODE = {"AutoConfig": "config_x.XConfig", "AutoModelForSequenceClassification": "model_x.XClassifier"}


@pytest.mark.parametrize("model_type", ["bert", "x"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_its_own_is_refused_with_the_flag_that_allows_it(folder, file, model_type):
    rewrite(folder / "config.json", model_type=model_type, **({} if file == "config.json" else {"auto_map": OWN_CODE}))
    rewrite(folder / file, auto_map={"AutoTokenizer": [None, "tokens_x.XTokenizer"], **OWN_CODE})
    faults = [fault for fault in inspect(folder).faults if file in fault.message]
    assert [fault.message for fault in faults] == [
        f"{file}: the model comes with code of its own (auto_map), which is not run unless you say so"
    ]
    assert faults[0].hint.startswith("read the code, then give --trust-remote-code")


def own_code(folder: Path, **references: object) -> Path:
    rewrite(folder / "config.json", model_type="x", auto_map={**OWN_CODE, **references})
    for name in ("config_x.py", "model_x.py", "layers_x.py"):
        (folder / name).write_text("raise SystemExit('nobody runs this')")
    return folder


def test_code_that_is_trusted_belongs_to_the_model(folder):
    found = inspect(own_code(folder), trusted=True)
    assert found.faults == []
    assert found.notes == ["Runs code that comes with the model: config_x.py, layers_x.py, model_x.py."]
    before = found.digest()
    (folder / "layers_x.py").write_text("pass")
    assert inspect(folder, trusted=True).digest() != before


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("someone/else--model_x.X", "auto_map names code of another repository, 'someone/else--model_x.X'"),
        ("../model_x.X", r"auto_map names '../model_x.X'; expected FILE.CLASS"),
        ("/tmp/model_x.X", r"auto_map names '/tmp/model_x.X'; expected FILE.CLASS"),
        ("os.system.X", r"auto_map names 'os.system.X'; expected FILE.CLASS"),
        ("model_x.X\n", r"expected FILE.CLASS"),
        (7, r"auto_map names 7; expected FILE.CLASS"),
        ("gone_x.X", "gone_x.py, which config.json names, is not in the folder"),
        ({"deeper": ["gone_x.X"]}, "gone_x.py, which config.json names, is not in the folder"),
    ],
)
def test_code_from_elsewhere_is_refused_whoever_trusts_it(folder, reference, message):
    own_code(folder, AutoModel=reference)
    found = [fault.message for fault in inspect(folder, trusted=True).faults]
    assert len(found) == 1
    assert re.search(message, found[0])


def test_code_without_a_classification_head_is_refused(folder):
    own_code(folder, AutoModelForSequenceClassification=None)
    rewrite(folder / "config.json", auto_map={"AutoConfig": "config_x.XConfig"})
    found = [fault.message for fault in inspect(folder, trusted=True).faults]
    assert found == ["config.json: auto_map names no AutoModelForSequenceClassification"]


@pytest.mark.parametrize("key", ["trust_remote_code", "attn_implementation"])
def test_trust_does_not_reach_what_a_config_says_about_itself(folder, key):
    own_code(folder)
    rewrite(folder / "config.json", **{key: "evil/kernel"})
    assert len(inspect(folder, trusted=True).faults) == 1


def test_a_folder_that_is_about_to_be_loaded_is_looked_at_for_code_alone(folder):
    (folder / "model.safetensors").unlink()
    assert foreign_code(folder, trusted=False) == []
    own_code(folder)
    assert len(foreign_code(folder, trusted=False)) == 1
    assert foreign_code(folder, trusted=True) == []


def test_every_fault_at_once(folder):
    rewrite(folder / "config.json", hidden_size="16", model_type="brt")
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "tokenizer.json").unlink()
    found = messages(folder)
    assert len(found) == 4
    assert {text.split()[0] for text in found} == {"config.json:", "weights", "no"}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"", "config.json cannot be read as JSON"),
        ("config.json", b"{", "config.json cannot be read as JSON"),
        ("config.json", b"[1]", "config.json holds list"),
        ("config.json", b'"\xff"', "config.json cannot be read as JSON"),
        ("config.json", b"[" * 100_000, "config.json cannot be read as JSON"),
        ("tokenizer.json", b"{", "tokenizer.json cannot be read as JSON"),
        ("tokenizer.json", b"{}", "the tokenizer's vocabulary is empty"),
        ("tokenizer_config.json", b"{", "tokenizer_config.json cannot be read as JSON"),
        ("model.safetensors", b"1234", "weights file damaged: model.safetensors has 4 bytes"),
    ],
)
def test_damaged_files(folder, file, content, message):
    (folder / file).write_bytes(content)
    assert re.search(message, "\n".join(messages(folder)))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "no config.json in the folder"),
        ("model.safetensors", "no weights in the folder"),
        ("tokenizer.json", "no tokenizer in the folder"),
    ],
)
def test_missing_files(folder, file, message):
    (folder / file).unlink()
    assert len(messages(folder)) == 1
    assert messages(folder)[0].startswith(message)


def test_an_adapter_is_no_model(folder):
    (folder / "adapter_config.json").write_text("{}")
    assert messages(folder) == ["this is an adapter (LoRA), no whole model"]


def test_a_pickle_is_refused_and_not_opened(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "PWNED",))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    assert messages(folder) == ["the weights are in pytorch_model.bin, which can hold code; only safetensors are read"]
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(
    ("files", "vocabulary"),
    [
        ({"vocab.txt": "a\nb\nc\n"}, 3),
        ({"vocab.txt": "a\r\nb"}, 2),
        ({"vocab.json": '{"a": 0, "b": 24}', "merges.txt": "#"}, 25),
        ({"spiece.model": "binary"}, None),
        ({"sentencepiece.bpe.model": "binary"}, None),
        ({"tokenizer.json": '{"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}'}, 2),
        ({"tokenizer.json": '{"model": {"vocab": {"a": 3}}, "added_tokens": [{"id": 30}, 7]}'}, 31),
    ],
)
def test_kinds_of_tokenizers(folder, files, vocabulary):
    (folder / "tokenizer.json").unlink()
    for name, text in files.items():
        (folder / name).write_text(text, newline="")
    expected = [] if vocabulary is None or vocabulary <= 20 else [f"the tokenizer has {vocabulary} tokens"]
    assert [message[:27] for message in messages(folder)] == [text[:27] for text in expected]


@pytest.mark.parametrize("files", [("vocab.json",), ("merges.txt",), ("tokenizer_config.json",)])
def test_half_a_tokenizer_is_none(folder, files):
    (folder / "tokenizer.json").unlink()
    for name in files:
        (folder / name).write_text("{}")
    assert messages(folder) == ["no tokenizer in the folder; expected tokenizer.json"]


def test_an_empty_vocabulary_is_named(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("")
    assert messages(folder) == ["the tokenizer's vocabulary is empty"]


def test_a_missing_padding_token_is_noted(folder):
    (folder / "tokenizer_config.json").write_text("{}")
    assert inspect(folder).notes == []
    rewrite(folder / "config.json", eos_token_id=2)
    assert inspect(folder).notes == ["The tokenizer has no padding token; its end-of-text token is used."]
    (folder / "special_tokens_map.json").write_text('{"pad_token": "[PAD]"}')
    assert inspect(folder).notes == []


@pytest.mark.parametrize(
    ("config", "tokenizer", "tokens"),
    [
        ({"max_position_embeddings": 512}, {}, 512),
        ({"max_position_embeddings": 512}, {"model_max_length": 128}, 128),
        ({"max_position_embeddings": 512}, {"model_max_length": 1000000000000000019884624838656}, 512),
        ({"max_position_embeddings": 512}, {"model_max_length": "long"}, 512),
        ({"n_positions": 1024}, {"model_max_length": 1e30}, 1024),
        ({}, {}, 512),
        ({}, {"model_max_length": 100.0}, 100),
        ({"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1}, {}, 512),
        ({"max_position_embeddings": 514, "model_type": "xlm-roberta"}, {}, 512),
        ({"max_position_embeddings": 40, "model_type": "camembert", "pad_token_id": 0}, {}, 39),
        ({"max_position_embeddings": "512"}, {}, 512),
    ],
)
def test_longest_input(config, tokenizer, tokens):
    assert ModelFolder(Path(), config=config, tokenizer=tokenizer).max_tokens == tokens


def test_a_config_without_positions_has_none():
    assert positions({"hidden_size": 8}) is None


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_digest_covers_every_file_that_is_used(folder, file):
    before = inspect(folder).digest()
    (folder / "README.md").write_text("no part of the model")
    assert inspect(folder).digest() == before
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-1] + (b"\x01" if file.endswith("safetensors") else b" }"))
    assert inspect(folder).digest() != before


def test_digest_depends_on_names_not_on_the_place(folder, tmp_path):
    assert inspect(folder).digest() == inspect(folder.rename(tmp_path / "moved")).digest()


def test_model_types_come_without_importing_the_library():
    assert {"bert", "distilbert", "roberta"} <= known_model_types()


def test_length_that_a_winner_was_trained_with_is_no_limit_of_its_model(tmp_path: Path) -> None:
    folder = tiny.write_model_files(tmp_path / "winner")
    (folder / "tokenizer_config.json").write_text('{"pad_token": "t0", "model_max_length": 24}')
    assert inspect(folder).max_tokens == 24
    (folder / "evidence.json").write_text("{}")
    assert inspect(folder).max_tokens == 64
