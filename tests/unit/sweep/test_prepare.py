"""What a smoke run makes of a spec."""

from __future__ import annotations

from pathlib import Path

from finesweep.sweep.prepare import SMOKE_ROWS, Request, load

SPEC = """model: {config: bert}
data: {train: a.csv, test: b.csv, max_test_rows: 900}
space: {adam_beta1: {low: 0.8, high: 0.9}}
"""


def test_a_smoke_run_takes_few_rows_of_every_split(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(SPEC, encoding="utf-8")
    data = load(Request(tmp_path / "my.yaml", smoke=True, results=tmp_path)).spec.data
    assert (data.max_train_rows, data.max_eval_rows, data.max_test_rows) == (SMOKE_ROWS,) * 3
