"""Compares the leaderboard of a handful of odd trials, byte for byte, with the files in ``odd_trials/``."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from made_records import COMPLETE, DIVERGED, FAILED, INTERRUPTED, PRUNED, WAITING, manifest, record, run
from rich.console import Console

from finesweep.folder.manifest import Manifest
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.references import Reference, write_references
from finesweep.results import leaderboard
from finesweep.results.board import read_board
from finesweep.results.winner import EVIDENCE, Evidence
from finesweep.trial import Divergence, Evaluation, TrialRecord

EXPECTED = Path(__file__).parent / "odd_trials"
WIDTHS = (400, 160, 120, 100, 80, 60, 40, 24)


def odd_manifest() -> Manifest:
    """A sweep whose labels, choices and parameter names need escaping."""
    space = {
        "learning_rate": {"low": 1e-5, "high": 5e-4, "log": True},
        "lr_scheduler_type": {"choices": ["linear", "cosine"]},
        "model._odd_name": {"choices": ["=1+1", "a|b"]},
        "weight_decay": {"low": 0.0, "high": 0.1},
    }
    data = {"labels": ["neg|ative", "=pos", "<b>", "a;b"]}
    return dataclasses.replace(manifest(pruner="halving", spec={"space": space}, data=data), version="0.1.0")


def scores(loss: float | None, accuracy: float | None, **others: float | None) -> dict[str, float | None]:
    return {"eval_loss": loss, "eval_accuracy": accuracy, "eval_naive_loss": 0.6931, "eval_macro_f1": 0.7, **others}


def odd_records() -> list[TrialRecord]:
    """At least one trial of each state; some parameters and metrics belong to one trial only."""
    steep = Divergence("gradient norm is infinite", 1_205, math.inf, math.nan)
    early = Divergence("training loss | is NaN", 120, 3.456e-4, 0.69314718)
    at_rung = Evaluation(step=19, epoch=0.5, examples=3_460, metrics=scores(0.6, 0.5), objective=0.6)
    shared: dict[str, Any] = {"learning_rate": 3.2109876543e-5, "lr_scheduler_type": "cosine"}
    dangerous = '=HYPERLINK("http://x";1) | a\n<script> \x1b[31mred\x1b[0m *bold* \udcff'
    return [
        record(0, 0.5, metrics=scores(0.5, 0.875), params={**shared, "model._odd_name": "=1+1"}, examples=20_760),
        record(1, 0.4, metrics=scores(0.4, 0.9, eval_top_3=0.99), params={**shared, "bf16": True, "seed": None}),
        record(2, math.nan, metrics=scores(math.nan, None), params=shared, best_epoch=math.nan),
        record(3, 0.8387, PRUNED, reason="halving: 0.8387 after 600 examples", params={**shared, "weight_decay": 0.01}),
        record(4, None, DIVERGED, reason=early.reason, divergence=early, params={"learning_rate": math.inf}),
        record(5, None, DIVERGED, divergence=steep, examples_per_second=math.inf, peak_memory_mb=None),
        record(6, 0.7, INTERRUPTED, reason="out of GPU memory", batch_divisor=2, resumed_step=1_234),
        record(7, None, FAILED, reason=dangerous, log="logs/a|b_.log", params={"lr_scheduler_type": "+a|b"}),
        record(8, 0.6, WAITING, reason="waits after 3,460 examples", evaluations=(at_rung,)),
        record(9, 0.45, attempt=3, faults=("killed by SIGKILL", "=1"), resumed_step=19, evaluations=(at_rung,)),
        record(10, 1.23456e9, audit="weak | at a rung", seconds=2.5, earlier_seconds=7_200.0, evaluated_rows=872),
        record(
            11, 0.4, COMPLETE, reason="ended early: no better for 3 epochs", best_epoch=1.23456, best_step=1_000_000
        ),
    ]


@pytest.fixture
def odd_folder(tmp_path: Path) -> SweepFolder:
    """A folder with the winner's evidence, and a reference with an odd name."""
    (tmp_path / "winner").mkdir()
    evidence = Evidence(1, "eval_loss", 0.4, {"eval_loss": 0.4}, {"eval_loss": 0.45, "eval_=f1": 0.5}, {})
    (tmp_path / "winner" / EVIDENCE).write_text(json.dumps(dataclasses.asdict(evidence)))
    folder = SweepFolder(tmp_path)
    odd = Reference("=1 | <b>", {"eval_loss": 0.45, "eval_accuracy": 0.75}, seconds=1.5, rows=100)
    write_references(folder, [Reference("majority class", {"eval_loss": 0.69}, 0.1, 100), odd])
    return folder


@pytest.mark.parametrize("suffix", [".md", ".csv", ".json"])
def test_leaderboard_of_odd_trials_has_the_expected_bytes(odd_folder: SweepFolder, suffix: str) -> None:
    leaderboard.write(read_board(odd_folder, odd_manifest(), odd_records(), [run()]))
    written = odd_folder.leaderboard.with_suffix(suffix).read_bytes()
    assert written.decode() == (EXPECTED / f"leaderboard{suffix}").read_bytes().decode()


def test_table_of_odd_trials_has_the_expected_lines(odd_folder: SweepFolder) -> None:
    table = leaderboard.console_table(read_board(odd_folder, odd_manifest(), odd_records(), [run()]), limit=4)
    stream = io.StringIO()
    for width in WIDTHS:
        stream.write(f"--- {width} ---\n")
        Console(file=stream, width=width, _environ={}).print(table)
    assert stream.getvalue() == (EXPECTED / "terminal.txt").read_bytes().decode()
