"""How close a winner that was loaded again must come to what it was ranked by."""

from __future__ import annotations

import dataclasses
import socket
from typing import Any

import pytest
from made_records import record

from finesweep.winner import Evidence

FP32, BF16 = {"bf16": False, "fp16": False}, {"bf16": True, "fp16": False}
ON_GPU = {**BF16, "tf32": True}


def agrees(reloaded: float, there: dict[str, Any], here: dict[str, Any], host: str = "") -> bool:
    ranked = dataclasses.replace(record(0, 0.5), effective=there, host=host or socket.gethostname())
    return Evidence(0, "eval_loss", 0.5, {"eval_loss": reloaded}, {}, {}, here).agrees(ranked)


@pytest.mark.parametrize("ways", [FP32, BF16, ON_GPU])
def test_where_it_was_ranked_it_agrees_to_four_digits(ways):
    assert agrees(0.50004, ways, ways)
    assert not agrees(0.5001, ways, ways)


@pytest.mark.parametrize(
    ("there", "here", "host"),
    [(ON_GPU, FP32, ""), (ON_GPU, ON_GPU, "elsewhere"), (FP32, ON_GPU, "")],
)
def test_rounded_otherwise_it_may_differ_by_a_hundredth(there, here, host):
    assert agrees(0.504, there, here, host)
    assert not agrees(0.506, there, here, host)


@pytest.mark.parametrize("trained", [FP32, BF16])
def test_single_precision_is_the_same_everywhere_whatever_it_was_trained_in(trained):
    assert agrees(0.50004, trained, FP32, "elsewhere")
    assert not agrees(0.5001, trained, FP32, "elsewhere")


def test_a_record_that_names_no_precision_had_single():
    assert not agrees(0.5001, {}, FP32)
