"""The benchmarks run, every arm ends with a winner that loads, and what they measure holds."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import benchmarks.__main__ as command
import pytest
from benchmarks import divergence, fixed_cost, gpu, throughput, whole_sweeps
from benchmarks.arms import ARMS
from benchmarks.report import as_text, results
from benchmarks.workload import Size, Source

MOST = 0.5
"""A trial in a process of its own may cost half of what it costs the stock call without one."""

SPACE = {
    "learning_rate": {"low": 1e-4, "high": 3e-3, "log": True},
    "num_train_epochs": {"low": 2, "high": 3},
    "per_device_train_batch_size": {"choices": [32, 64]},
}
TINY = Size("small", 200, 80, 3, SPACE, 32)


@pytest.fixture
def rows(tmp_path: Path) -> Source:
    """Write a CSV of another shape: other columns, labels that are texts, rows with holes."""
    file = tmp_path / "rows.csv"
    lines = [f"{n},it is {'fine' if n % 3 else 'bad'} and {n % 7},{'yes' if n % 3 else 'no'}" for n in range(400)]
    file.write_text("\n".join(["id,said,verdict", *lines, "400,,yes", "401,x,"]) + "\n", encoding="utf-8")
    return Source.parse(f"mine={file}", "said", "verdict")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trial_has_at_most_half_the_fixed_cost_of_the_stock_call(capsys):
    """Measured in turns, on the medians; once more where something else took the machine away from one of them."""
    names = ("finesweep", "stock")
    costs = fixed_cost.measure(rounds=2, trials=3, names=names)
    if fixed_cost.ratio(costs) > MOST:
        costs = fixed_cost.measure(rounds=4, trials=3, names=names)
    with capsys.disabled():
        print("\n" + as_text(fixed_cost.table("fixed cost", costs)))  # noqa: T201
    assert fixed_cost.ratio(costs) <= MOST


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_arm_carries_out_a_sweep_and_ships_a_winner_that_loads(rows, tmp_path, monkeypatch):
    """With one thread each; the test of tokens per second finds out which number is fastest."""
    monkeypatch.setattr(whole_sweeps, "fastest", lambda keys, *_: ({key: ARMS[key].on(1) for key in keys}, []))
    arms = ("finesweep", "S", "T", "R", "O")
    figures = whole_sweeps.measure([rows], TINY, 1.0, 1, arms, tmp_path / "scratch")
    assert figures.notes == []
    # A peer that runs with one thread has a 1 behind its name.
    outcomes = {key.removesuffix("1"): found[0] for key, found in figures.raw["mine"]["outcomes"].items()}
    assert set(outcomes) == set(arms)
    for key, outcome in outcomes.items():
        assert outcome["winner_loss"] < 1.0, key
        assert len(outcome["trials"]) == TINY.trials, key
        assert outcome["reached"], key
        assert all(trial["ended"] > trial["began"] > 0 for trial in outcome["trials"]), key
        # Between half an epoch and three.
        assert TINY.trials * 100 <= sum(trial["examples"] for trial in outcome["trials"]) <= TINY.trials * 600, key
        # Judged in single precision; the arm's own evaluations may have had less.
        assert min(loss for _, loss in outcome["reached"]) <= 1.05 * outcome["winner_loss"], key
    assert {goal.measure for goal in figures.goals} == {"M1", "M2", "M5", "M8"}
    assert {part.name for part in (tmp_path / "scratch" / "mine").iterdir() if part.is_dir()} == {"model"}
    assert "| M5 |" in results({}, {"sweeps": figures}, {})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tokens_per_second_of_a_peer_stand_beside_finesweeps(rows, tmp_path, monkeypatch):
    """Of one peer, with its own number of threads and with one."""
    monkeypatch.setattr(throughput, "GOALS", {"S": 2.0})
    figures = throughput.measure([rows], TINY, 1.0, 1, tmp_path / "scratch")
    assert figures.notes == []
    assert all(goal.found is not None and goal.found.median > 0 for goal in figures.goals)
    assert [goal.against for goal in figures.goals] == ["S"]
    threads, rates = figures.tables
    assert [len(table.rows) for table in (threads, rates)] == [2, 2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_after_a_divergence_the_stock_call_trains_on_and_finesweep_does_not(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(divergence, "TRIALS", 2)
    figures = divergence.measure(rows, TINY, tmp_path / "scratch")
    assert figures.notes == []
    (goal,) = figures.goals
    assert goal.found is not None
    # Noticed at the next of the logs, which come every ten steps; 13 steps an epoch are 65 in all.
    assert goal.found.high < 0.2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_benchmark_of_a_gpu_runs_on_the_cpu_at_a_tiny_size(tmp_path, monkeypatch):
    """Two commands of finesweep and two of the stock call; nothing can be filled, so no batch is halved."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # in name, so that the sweep is measured for it
    figures = gpu.measure(gpu.TINY, tmp_path, 500.0)
    assert figures.notes == ["there is no GPU to fill, so no batch is halved"]
    assert [goal.against for goal in figures.goals] == ["S", "S+bf16"]
    sharing, precision, speeds, halving = (table.rows for table in figures.tables)
    assert int(sharing[0][0]) >= 1
    assert len(precision) == 1
    assert [row[:2] for row in speeds] == [
        ["finesweep", "2"],
        ["S: stock call, well written", "1"],
        ["S with bf16: true", "1"],
    ]
    assert all(float(cell.replace(",", "")) > 0 for row in speeds for cell in row[2:])
    assert [row[3:] for row in halving] == [["COMPLETE", "1", str(gpu.TINY.batch)]]


def test_a_measure_that_fails_is_reported_and_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--data", "nothing"])
    why = command.attempt("divergence", argparse.Namespace(full=False, scale=1.0), tmp_path / "figures.json")
    assert isinstance(why, str)
    assert why.startswith("exit code 2: ")
    assert "nothing: neither NAME=FILE.csv nor one of questions" in why
    command.write(tmp_path / "RESULTS.md", {"machine": "a"}, {}, {"divergence": why}, ["throughput"])
    assert "**divergence failed:** exit code 2" in (tmp_path / "RESULTS.md").read_text()
    assert json.loads((tmp_path / "RESULTS.json").read_text())["failed"] == {"divergence": why}


def test_a_measure_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "PATIENCE", 0.0)
    monkeypatch.setattr(command, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    found = command.attempt("divergence", argparse.Namespace(full=False, scale=1.0), tmp_path / "figures.json")
    assert found == "ended after 0 s"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--data", "x=missing.csv"], "missing.csv"),
        (["--model", "nowhere"], "nowhere: no folder with a model's config.json"),
        (["--max-length", "600"], "--max-length 600: must be from 8 to 512"),
        (["--only", "fixed_cost", "other_seeds"], "--only other_seeds: needs a pretrained model"),
    ],
)
def test_what_cannot_be_used_is_named_before_anything_runs(words, why, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    with pytest.raises(SystemExit, match="2"):
        command.asked()
    assert why in capsys.readouterr().err
