"""What the benchmark on a GPU computes; nothing trains."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from benchmarks import gpu
from benchmarks.throughput import STEADY
from made_outcomes import outcome


def plan(**changes: object) -> dict[str, object]:
    """Return what `sweep plan --json` says of two trials on a GPU."""
    reading = {"batch": 16, "measurement": {"examples_per_second": 400.0}, "misfit": None}
    return {"per_gpu": 2, "threads": 4, "note": "2 workers: 400 examples/s", "readings": [reading], **changes}


def test_without_a_gpu_one_line_says_so_and_the_exit_code_is_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "gpu_name", lambda: None)
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path / "GPU.md")])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SystemExit, match="2"):
        gpu.main()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("no GPU: ")
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_fills_the_gpu_leaves_room_for_half_a_batch_and_not_for_a_whole_one():
    left = 100 - gpu.to_fill(100, 60, 40)
    assert 40 < left < 60
    with pytest.raises(ValueError, match="no more memory than half"):
        gpu.to_fill(100, 40, 40)
    with pytest.raises(ValueError, match="too full"):
        gpu.to_fill(50, 60, 40)


def test_the_least_free_memory_is_noted_while_a_block_runs():
    free = 100
    memory = gpu.Memory(lambda: free)
    with memory.watched():
        free = 30
        time.sleep(5 * gpu.LOOK_SECONDS)
        free = 90
    assert memory.least == 30
    free = 80
    with memory.watched():
        pass
    assert memory.least == 80, "each block begins anew"


def test_a_part_without_time_is_named_and_not_begun():
    clock = gpu.Clock(time.monotonic() + gpu.LEAST_SECONDS / 2)
    assert clock.left("S") is None
    assert clock.skipped == ["no time was left for: S"]
    late = gpu.Clock(time.monotonic() + 3 * gpu.LEAST_SECONDS)
    assert late.left("S") == pytest.approx(3 * gpu.LEAST_SECONDS, abs=1)
    assert late.skipped == []


def test_a_sweep_gets_the_number_of_trials_that_was_measured(tmp_path):
    file = tmp_path / "profile.yaml"
    arm = gpu.sharing(plan(), file)
    assert arm.options[-2:] == ("--on", str(file))
    assert json.loads(file.read_text()) == {"launcher": "local", "trials_per_gpu": 2}
    assert gpu.sharing({"note": "nothing"}, file) == STEADY
    assert gpu.sharing(plan(per_gpu=0), file) == STEADY


def test_a_measurement_that_failed_stands_in_its_table_with_the_reason():
    assert gpu.sharing_table(plan()).rows == [["2", "4", "400", "2 workers: 400 examples/s"]]
    assert gpu.sharing_table({"note": "nothing: killed"}).rows == [["-", "-", "-", "nothing: killed"]]


def test_the_precision_is_that_of_the_records():
    records = [{"effective": {"bf16": True, "tf32": True}}, {"effective": {"bf16": True, "tf32": True}}]
    assert gpu.precision_table(records).rows == [["True", "-", "True"]]
    assert gpu.precision_table([]).rows == []


def test_a_halved_batch_is_shown_with_its_parts():
    whole = {"state": "COMPLETE", "attempt": 1, "batch_divisor": 1, "effective": {"per_device_train_batch_size": 128}}
    half = {"per_device_train_batch_size": 64, "gradient_accumulation_steps": 2}
    assert gpu.ended([whole]) == ["COMPLETE", "1", "128"]
    assert gpu.ended([{**whole, "attempt": 2, "batch_divisor": 2, "effective": half}]) == ["COMPLETE", "2", "2 x 64"]
    assert gpu.ended([]) == ["no record", "-", "-"]


def test_tokens_per_second_stand_beside_both_ways_of_the_stock_call():
    ours, stock = outcome("finesweep"), outcome(trials=outcome().trials[:1])
    found = gpu.goals(10.0, {"finesweep": ours, "S": stock, "S+bf16": outcome(failure="no bf16")})
    assert [goal.against for goal in found] == ["S"]
    assert found[0].found is not None
    assert found[0].found.median == pytest.approx((1_600 / 80) / (600 / 30))
    arms = [STEADY, gpu.ARMS["S"], gpu.STOCK_BF16]
    table = gpu.speed_table(10.0, arms, {"finesweep": outcome("finesweep", start_seconds=4.0), "S": stock})
    assert [row[:3] for row in table.rows] == [
        ["finesweep", "2", "200"],
        ["S: stock call, well written", "1", "200"],
    ]
    assert table.rows[0][4:6] == ["4.00", "-"]


def test_the_stock_call_with_bf16_says_that_a_machine_without_gpu_is_meant(monkeypatch):
    made = gpu.Workload("x", "a.csv", "b.csv", 2, "model", 128, 3, {}, {"weight_decay": 0.1})
    monkeypatch.setattr(gpu, "gpu_name", lambda: "a GPU")
    assert gpu.with_bf16(made).fixed == {"weight_decay": 0.1, "bf16": True}
    monkeypatch.setattr(gpu, "gpu_name", lambda: None)
    assert gpu.with_bf16(made).fixed == {"weight_decay": 0.1, "bf16": True, "use_cpu": True}


def test_records_are_those_of_the_sweep_in_the_folder(tmp_path: Path):
    trials = tmp_path / "results" / "sweep" / "trials"
    trials.mkdir(parents=True)
    for number in (1, 0):
        (trials / f"{number:04d}.json").write_text(json.dumps({"trial": number}), encoding="utf-8")
    assert [record["trial"] for record in gpu.records_of(tmp_path)] == [0, 1]
