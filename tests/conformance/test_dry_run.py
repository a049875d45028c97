"""What two rows find before anything is spent: models, and ends of searched settings, that no trial could use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import architectures
import tiny
from finesweep.spec import reader
from finesweep.sweep import dry_run, preflight
from finesweep.sweep.prepare import Request, check, profile_of, write_prepared
from finesweep.worker import dry_run_steps

DATA = "data: {train: train.csv, validation: validation.csv, max_length: 24}\n"
SPACE = "space:\n  learning_rate: {low: 5e-4, high: 5e-3, log: true}\n"
BART = (
    "model: {config: bart, d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,\n"
    "  decoder_attention_heads: 2, encoder_ffn_dim: 16, decoder_ffn_dim: 16, max_position_embeddings: 64%s}\n"
)


@pytest.fixture
def folder(tmp_path):
    tiny.write_csv(tmp_path / "train.csv", tiny.review_rows(40, seed=1))
    tiny.write_csv(tmp_path / "validation.csv", tiny.review_rows(20, seed=2))
    return tmp_path


@pytest.fixture
def here(monkeypatch):
    """Try models in this process: another one would only take seconds to import the same."""

    def carried_out(folder, _):
        dry_run_steps.try_model(folder, dry_run.ASKED, dry_run.ANSWER)
        return dry_run._faults(folder)[1]

    monkeypatch.setattr(dry_run, "_carried_out", carried_out)


def problems(folder: Path, model: str, rest: str = SPACE, memory_gb: float | None = 8.0) -> list[str]:
    (folder / "spec.yaml").write_text(f"{model}{DATA}{rest}")
    checked = preflight.check(reader.draft(folder / "spec.yaml").finished())
    found = dry_run.problems(checked, write_prepared, memory_gb)
    return [str(problem).replace(f"{folder}/", "") for problem in found]


def test_a_model_whose_own_config_spoils_its_head_is_refused(folder):
    model = tiny.tiny_model(folder / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "initializer_range": 1e29}))
    [problem] = problems(folder, "model: ./model\n")
    assert problem.startswith("spec.yaml:1 model: ./model: two rows cannot be taken through it: the untrained model's")
    assert "its weights are far too large" in problem


def test_an_end_of_a_searched_setting_is_named_with_its_line(folder, here):
    """BART returns more than logits; a head count that does not fit is found, and one end that does is no problem."""
    [problem] = problems(folder, BART % "", SPACE + "  model.decoder_attention_heads: {choices: [2, 3]}\n")
    where = "spec.yaml:6 space.model.decoder_attention_heads.choices.1"
    assert problem.startswith(f"{where}: it cannot be made: ValueError: embed_dim must be divisible by num_heads")


def test_the_setting_without_which_it_works_is_blamed(folder, here):
    sizes = "hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 16"
    [problem] = problems(folder, f"model: {{config: bert, {sizes},\n  type_vocab_size: 0}}\n")
    assert problem.startswith(
        "spec.yaml:2 model.type_vocab_size: bert (from scratch): two rows cannot be taken through"
    )


def test_a_model_larger_than_the_memory_is_refused_before_it_is_made(folder, here):
    [problem] = problems(folder, "model: {config: bert, hidden_size: 12288, num_hidden_layers: 96}\n")
    assert "spec.yaml:1 model: bert (from scratch): its" in problem
    assert "GB, and this machine has 8 GB (take a smaller model)" in problem


@pytest.mark.parametrize("kind", ["gpt2", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("t5", "xlnet"))])
def test_models_that_need_padding_or_a_start_of_their_own_pass(folder, here, kind):
    """GPT-2 has no padding token and pads on the left; T5 starts from padding; XLNet's head reads the last token."""
    architectures.tiny_folder(kind, folder / "model")
    assert problems(folder, "model: ./model\n") == []


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_a_model_is_tried_wherever_its_trials_will_run(folder, here, launcher):
    """The memory of another machine is not known, and refuses no model."""
    architectures.tiny_folder("gpt2", folder / "model")
    (folder / "profile.yaml").write_text(f"launcher: {launcher}\n")
    (folder / "spec.yaml").write_text(f"model: ./model\n{DATA}{SPACE}")
    request = Request(folder / "spec.yaml", profile=folder / "profile.yaml", results=folder / "results")
    assert check(request, profile_of(request)).model.name == "./model"


def test_a_model_for_another_machine_may_be_larger_than_this_one(folder, here):
    large = "model: {config: bert, hidden_size: 12288, num_hidden_layers: 96}\n"
    assert problems(folder, large, memory_gb=None) == []
