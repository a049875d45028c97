"""Which model a search space begins with: by language, by machine, by what is in the cache, or as asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from finesweep.errors import SpecError
from finesweep.host.machine import Machine
from finesweep.model.from_scratch import train_tokenizer
from finesweep.model.text_length import estimated_tokens
from finesweep.propose import starting_values
from finesweep.propose.starting_model import is_english, pick

CPU = Machine(cores=2, gpus=(), memory_gb=8.0)
GPU = Machine(cores=8, gpus=("0",), memory_gb=64.0)
ENGLISH = ["the soup was cold and the waiter knew it"] * 5 + ["naïve, but charming"]
CHINESE = ["这部电影真的非常好看", "演员的表演也很到位"]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


def cache(folder: Path, name: str) -> None:
    """Put a model into the cache as a download does."""
    repository = folder / f"models--{name.replace('/', '--')}"
    snapshot = tiny.write_model_files(repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(snapshot.name)
    train_tokenizer(["the soup was cold"] * 20, 60).save(str(snapshot / "tokenizer.json"))


@pytest.mark.parametrize(
    ("texts", "machine", "name"),
    [
        (ENGLISH, CPU, "sentence-transformers/all-MiniLM-L6-v2"),
        (ENGLISH, GPU, "google-bert/bert-base-uncased"),
        (CHINESE, CPU, "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"),
        (CHINESE, GPU, "FacebookAI/xlm-roberta-base"),
        ([], CPU, "sentence-transformers/all-MiniLM-L6-v2"),
    ],
)
def test_language_and_machine_decide(texts: list[str], machine: Machine, name: str) -> None:
    found = pick(None, texts, machine)
    assert (found.base.name, found.count, found.is_here) == (name, estimated_tokens, False)


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("the café was closed, so we went home. " + "We ordered a pizza from the place around the corner. " * 2, True),
        ("der Kellner wußte, daß die Suppe kalt war, und brachte uns für die Mühe noch ein Brötchen", False),
        ("Это очень хороший фильм", False),
        ("12345 !!!", True),
    ],
)
def test_letters_beyond_a_to_z_tell_another_language(text: str, english: bool) -> None:
    assert is_english([text]) == english


def test_a_model_in_the_cache_counts_with_its_own_tokenizer(empty_cache: Path) -> None:
    cache(empty_cache, starting_values.ENGLISH["CPU"].name)
    found = pick(None, ENGLISH, CPU)
    assert found.is_here
    assert found.counts_exactly
    assert found.count(["the soup was cold"]) == 6
    assert found.base.download_gb is None


def test_offline_a_model_that_is_there_is_proposed(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    cache(empty_cache, "google-bert/bert-base-uncased")
    assert pick(None, ENGLISH, CPU).base.name == "sentence-transformers/all-MiniLM-L6-v2"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "put it into its cache first" not in pick(None, ENGLISH, CPU).why
    found = pick(None, ENGLISH, CPU)
    assert found.base.name == "google-bert/bert-base-uncased"
    assert "offline; sentence-transformers/all-MiniLM-L6-v2 is better for texts in English, on a CPU" in found.why


def test_offline_without_any_model_says_what_to_do_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "this machine is offline, so put it into its cache first" in pick(None, CHINESE, GPU).why


@pytest.mark.torch
def test_a_folder_that_was_asked_for_is_taken(tmp_path: Path) -> None:
    folder = tiny.write_model_files(tmp_path / "model", max_position_embeddings=40)
    found = pick(str(folder), CHINESE, CPU)
    assert (found.is_local, found.max_tokens, found.counts_exactly) == (True, 40, True)
    assert found.base.layers < 1


def test_a_model_that_reads_bytes_counts_bytes(tmp_path: Path) -> None:
    folder = tiny.write_model_files(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    assert pick(str(folder), ENGLISH, CPU).count(["naïve"]) == 7


def test_a_hub_id_that_was_asked_for_is_taken_unseen() -> None:
    found = pick("someone/some-model", CHINESE, CPU)
    assert (found.base.name, found.is_local, found.is_here) == ("someone/some-model", False, False)


def test_a_folder_that_is_no_models_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(SpecError, match=r"no config\.json in the folder"):
        pick(str(tmp_path / "model"), ENGLISH, CPU)
    with pytest.raises(SpecError, match=r"--model .*missing: no such folder"):
        pick(str(tmp_path / "missing"), ENGLISH, CPU)


@pytest.mark.parametrize("name", ["a/b/c", "a b", "../../etc", "x" * 300])
def test_a_name_that_is_neither_folder_nor_id_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # two folders above the current one there may be an etc
    with pytest.raises(SpecError, match=r"--model: no folder, and no id of the Hub|no such folder"):
        pick(name, ENGLISH, CPU)
