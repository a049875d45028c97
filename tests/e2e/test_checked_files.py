"""What is trained on is what was checked: tokens and rows are made again, a changed model or a lost record is said."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import tiny
from e2e.conftest import SCRATCH_MODEL, SPEC
from e2e.test_damage import flip

SAME = ("run", "spec.yaml", "--workers", "1")
LONG = ("--set", "space.num_train_epochs.low=200", "--set", "space.num_train_epochs.high=200")


@pytest.fixture
def of_a_folder(make_project) -> Any:
    """A project whose model is a folder beside the spec."""
    project = make_project(SPEC.replace(SCRATCH_MODEL, "./model"))
    tiny.tiny_model(project.path / "model")
    return project


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "checked.json")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_rows_tokens_and_a_model_that_were_changed_are_made_again(copied):
    """``sweep submit --dry-run`` prepares all that trials need, and trains nothing."""
    copied.write("slurm.yaml", "launcher: slurm\npartition: any\nminutes: 60\n")
    data = copied.results() / "data"
    prepared = contents(data), contents(copied.results() / "model")
    flip(data / "train.parquet")
    flip(next((data / "tokens-24").rglob("*.arrow")))
    flip(copied.results() / "model/tokenizer.json")
    copied.sweep("submit", "spec.yaml", "--on", "slurm.yaml", "--dry-run", "--set", "budget.trials=4")
    assert (contents(data), contents(copied.results() / "model")) == prepared


@pytest.mark.slow
def test_tokens_alone_are_made_again_by_the_worker_that_opens_them(copied, check_invariants):
    data = copied.results() / "data"
    prepared = contents(data)
    flip(next((data / "tokens-24").rglob("*.arrow")))
    before = copied.ledger()
    copied.sweep(*SAME, "--set", "budget.trials=4")
    assert contents(data) == prepared
    assert [record["state"] for record in copied.records()] == ["COMPLETE"] * 4
    check_invariants(copied, before)


@pytest.mark.slow
def test_what_changes_while_a_sweep_runs_ends_it_by_name_and_between_runs_is_refused(of_a_folder, until):
    project, changed = of_a_folder, "model/model.safetensors"
    process = project.start(*SAME, "--set", "space.num_train_epochs.high=60", "--set", "space.num_train_epochs.low=60")
    until(lambda: project.runs(0, step=1), "trial 0 runs")
    flip(project.path / changed)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 2, out + err
    assert f"{changed}: it was changed or removed while the sweep ran" in err
    assert [record["state"] for record in project.records()] == ["COMPLETE", "INTERRUPTED"]
    _, err = project.sweep(*SAME, *LONG, code=2)
    assert "model.content" in err
    assert changed in err


@pytest.mark.slow
def test_a_deleted_folder_of_records_is_said(copied):
    shutil.rmtree(copied.results() / "trials")
    _, err = copied.sweep(*SAME, code=2)
    assert "0000.json, 0001.json, 0002.json are gone" in err
