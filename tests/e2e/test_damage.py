"""Files of a sweep that are cut off, overwritten or gone: named, set aside, made again, and the rest is used."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import quick_first

ONE = ("--workers", "1")
SAME = ("run", "spec.yaml", *ONE)


def best(project: Any) -> dict[str, Any]:
    row: dict[str, Any] = project.leaderboard()[0]
    return row


def flip(file: Path) -> None:
    """Turn one bit over, in place, in the middle of a file."""
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))


def cut(file: Path) -> None:
    """Take the last third of a file away."""
    os.truncate(file, file.stat().st_size * 2 // 3)


def overwrite(file: Path) -> None:
    """Replace a file by what is no text at all."""
    file.write_bytes(bytes(range(128, 256)) * 3)


def test_damaged_and_lost_records_are_trained_again(copied, check_invariants):
    """A damaged record is set aside; a lost one is said, and run again only when asked. A larger budget goes on."""
    before, params = copied.ledger(), [record["params"] for record in copied.records()]
    damaged, lost = (copied.results() / f"trials/{name}.json" for name in ("0001", "0002"))
    cut(damaged)
    content = damaged.read_bytes()
    lost.unlink()
    _, err = copied.sweep(*SAME, code=2)
    assert "0002.json are gone, though these trials have ended" in err
    out, _ = copied.sweep(*SAME, "--rerun-lost", "--set", "budget.trials=4")
    assert "trial 3 COMPLETE" in out
    for file in (damaged, lost):
        assert f"{file.name}.corrupt" in out + copied.sweep("status", "results/spec")[0]
    assert damaged.with_name("0001.json.corrupt").read_bytes() == content
    records = copied.records()
    assert [(record["trial"], record["state"]) for record in records] == [(trial, "COMPLETE") for trial in range(4)]
    assert [record["params"] for record in records[:3]] == params
    assert (records[1]["attempt"], records[1]["faults"]) == (2, [])
    check_invariants(copied, {"0000.json": before["0000.json"]})


def test_status_names_a_damaged_record(copied):
    overwrite(copied.results() / "trials/0002.json")
    out, _ = copied.sweep("status", "results/spec")
    assert "2 of 3 finished" in out
    assert "0002.json could not be read" in out
    assert "0002.json.corrupt" in out


@pytest.mark.slow
def test_a_record_that_is_damaged_while_the_sweep_runs_is_set_aside(project, until, check_invariants):
    process = project.start("run", "spec.yaml", "--workers", "2", "--set", "budget.trials=4")
    until(lambda: project.ledger(), "a trial has ended")
    first = next(iter(project.ledger()))
    overwrite(project.results() / "trials" / first)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert f"{first}.corrupt" in out
    assert [record["state"] for record in project.records()] == ["COMPLETE"] * 4
    check_invariants(project)


@pytest.mark.slow
def test_a_folder_of_an_earlier_version_goes_on_and_its_journal_is_left_alone(copied, check_invariants):
    """Its claims have no parameters, and its runs a profile with a key that is gone."""
    before = copied.ledger()
    for claim in (copied.results() / "claims").glob("0*"):
        claim.write_bytes(claim.read_bytes().partition(b"\n")[0] + b"\n")
    run = json.loads((copied.results() / "runs/0001.json").read_text())
    run["profile"]["storage"] = None
    (copied.results() / "runs/0001.json").write_text(json.dumps(run))
    (copied.results() / "study.journal").write_bytes(b"\x00\xff garbage\n")
    copied.sweep("status", "results/spec")
    out, _ = copied.sweep(*SAME, "--set", "budget.trials=4")
    assert "journal" not in out
    assert [record["state"] for record in copied.records()] == ["COMPLETE"] * 4
    assert (copied.results() / "study.journal").read_bytes() == b"\x00\xff garbage\n"
    check_invariants(copied, before)


@pytest.mark.slow
@pytest.mark.parametrize("damage", quick_first(flipped=flip, missing=Path.unlink))
def test_damaged_weights_of_the_best_are_trained_again(copied, check_invariants, damage):
    """The flipped byte hits the winner too, whose file is the same."""
    before, row = copied.ledger(), best(copied)
    trial, params = row["trial"], row["params"]
    damage(copied.results() / f"checkpoints/trial-{trial:04d}/model.safetensors")
    out, _ = copied.sweep(*SAME)
    assert f"trial {trial}: its kept weights" in out
    assert f"checkpoints/trial-{trial:04d}.corrupt" in out
    assert (copied.results() / f"checkpoints/trial-{trial:04d}.corrupt").is_dir()
    again = copied.records()[trial]
    assert (again["state"], again["attempt"], again["params"]) == ("COMPLETE", 2, params)
    assert again["objective"] == row["objective"], "the same parameters, seed and data"
    del before[f"{trial:04d}.json"]
    check_invariants(copied, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    quick_first(
        weights=lambda winner: shutil.copy(winner / "config.json", winner / "model.safetensors.new").rename(
            winner / "model.safetensors"
        ),
        tokenizer=lambda winner: (winner / "tokenizer.json").unlink(),
        evidence=lambda winner: overwrite(winner / "evidence.json"),
    ),
)
def test_a_damaged_winner_is_exported_again(copied, check_invariants, damage):
    winner, before = copied.results() / "winner", copied.ledger()
    for file in winner.iterdir():  # files of its own, so that the damage is the winner's alone
        file.write_bytes((data := file.read_bytes(), file.unlink())[0])
        assert file.read_bytes() == data
    damage(winner)
    copied.sweep(*SAME)
    assert copied.ledger() == before
    check_invariants(copied, before)


def test_what_a_sweep_is_cannot_be_made_again(copied):
    overwrite(copied.results() / "spec.json")
    _, err = copied.sweep(*SAME, code=2)
    assert "spec.json: cannot be read as JSON; start anew with --fresh" in err
    _, err = copied.sweep("status", "results/spec", code=2)
    assert "spec.json" in err


@pytest.mark.slow
def test_cut_claims_and_garbage_elsewhere_cost_no_result(copied, check_invariants):
    before = copied.ledger()
    for claim in (copied.results() / "claims").glob("0*"):
        cut(claim)
    for file in ("runs/0001.json", "claims/0000.1", "progress/0001.json", "leaderboard.json", "leaderboard.md"):
        overwrite(copied.results() / file)
    copied.sweep(*SAME, "--set", "budget.trials=4")
    assert [record["state"] for record in copied.records()] == ["COMPLETE"] * 4
    assert copied.ledger().keys() == {f"{trial:04d}.json" for trial in range(4)}
    (copied.results() / "progress/0001.json").unlink()
    check_invariants(copied, before)
