"""`validate` and `run` refuse what fails on two rows in the same words, and leave nothing behind."""

from __future__ import annotations

import json

import pytest

import tiny

SPEC = """\
model: ./model
data: {train: train.csv, validation: validation.csv, max_length: 24}
space:
  learning_rate: {low: 5e-4, high: 5e-3, log: true}
"""


@pytest.mark.slow
def test_validate_and_run_refuse_the_same_model_with_its_line(project):
    folder = tiny.tiny_model(project.path / "model")
    project.write("spec.yaml", SPEC)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "initializer_range": 1e29}))
    said = [project.sweep(command, "spec.yaml", code=2)[1] for command in ("validate", "run")]
    assert said[0] == said[1]
    assert "spec.yaml:1 model: ./model: two rows cannot be taken through it: the untrained model's loss" in said[0]
    assert not project.results().exists()
