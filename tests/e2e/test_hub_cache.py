"""The flagship runs as it is shipped, from a filled Hub cache, without a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tiny

FLAGSHIP = Path(__file__).parents[2] / "search_spaces/bert.yaml"


@pytest.mark.slow
def test_the_flagship_runs_unchanged_from_a_filled_cache(make_project, tmp_path):
    project = make_project()
    shutil.copy(FLAGSHIP, project.path / "bert.yaml")
    cache = tmp_path / "hub"
    tiny.fill_hub_cache(cache, tiny.MODEL_ID, tiny.DATASET_ID)
    # Nothing listens on port 9: whatever asks the Hub all the same fails.
    offline = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    # This model knows nothing, so the sweep might end early.
    project.sweep("run", "bert.yaml", "--set", "stop.auto=false", env=offline)

    manifest = project.manifest("bert")
    assert manifest["model"]["revision"] == tiny.MODEL_COMMIT
    assert manifest["data"]["sources"]["train"]["revision"] == tiny.DATASET_COMMIT
    assert manifest["data"]["labels"] == ["negative", "positive"]
    rows = project.leaderboard("bert")
    assert len(rows) == 20
    for row in rows:
        assert 1e-5 <= row["params"]["learning_rate"] <= 5e-5
        assert row["params"]["num_train_epochs"] in (2, 3, 4, 5)
        assert row["params"]["per_device_train_batch_size"] in (8, 16, 32)
    config = json.loads((project.results("bert") / "winner/config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}


def test_an_empty_cache_without_a_network_says_what_to_do(make_project, tmp_path):
    project = make_project()
    shutil.copy(FLAGSHIP, project.path / "bert.yaml")
    offline = {"HF_HUB_CACHE": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1"}
    _, err = project.sweep("run", "bert.yaml", env=offline, code=2)
    assert "google-bert/bert-base-uncased" in err
    assert "stanfordnlp/sst2" in err
    assert "hf download" in err
    assert not (project.path / "results").exists() or not list((project.path / "results").glob("*"))
