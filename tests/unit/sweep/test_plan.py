from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finesweep.errors import LaunchError
from finesweep.sweep import plan


def test_a_plan_that_cannot_measure_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = ["sh", "-c", "echo the model is broken >&2; exit 1"]
    monkeypatch.setattr(plan, "run_command", lambda *_: failing)
    sweep: Any = SimpleNamespace(sweep_folder=None, run=None, profile=SimpleNamespace(gpus_per_trial=0))
    with (
        plan._MeasuringProcess(sweep, tmp_path) as process,
        pytest.raises(LaunchError, match="nothing could be measured: the model is broken") as caught,
    ):
        process.measurement()
    assert caught.value.exit_code == 3
