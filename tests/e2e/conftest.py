"""Real sweeps through the command line, on a tiny model that is made on the spot."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tiny

SCRATCH_MODEL = (
    "{config: bert, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, "
    "intermediate_size: 64, max_position_embeddings: 32, vocab_size: 500}"
)
SPEC = f"""\
model: {SCRATCH_MODEL}
data: {{train: train.csv, validation: validation.csv, max_length: 24}}
budget: {{trials: 3}}
search: {{pruner: none}}
space:
  learning_rate: {{low: 5e-4, high: 5e-3, log: true}}
  num_train_epochs: {{low: 2, high: 3}}
  per_device_train_batch_size: {{choices: [16, 32]}}
"""


@dataclass(frozen=True)
class Project:
    """A user's folder: data, a spec, and the results of `sweep`."""

    path: Path

    def write(self, name: str, text: str) -> Path:
        (self.path / name).write_text(text, encoding="utf-8")
        return self.path / name

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        if arguments[0] == "run" and "--on" not in arguments:
            arguments = (*arguments, "--on", "one_thread.yaml")
        environment = {**os.environ, "COLUMNS": "160", **options.pop("env", {})}
        return subprocess.Popen(
            [sys.executable, "-m", "finesweep", *arguments],
            cwd=self.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            # Children of a background shell inherit an ignored SIGINT, and the tests would prove nothing.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            **options,
        )

    def sweep(self, *arguments: str, code: int = 0, timeout: float = 240, **options: Any) -> tuple[str, str]:
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=timeout)
        assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}\n{self._worker_logs()}"
        assert "Traceback" not in out + err
        return out, err

    def _worker_logs(self) -> str:
        return "\n".join(log.read_text()[-3000:] for log in self.path.glob("results/*/logs/worker.log"))

    def results(self, name: str = "spec") -> Path:
        return self.path / "results" / name

    def leaderboard(self, name: str = "spec") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads((self.results(name) / "leaderboard.json").read_text())
        return rows

    def records(self, name: str = "spec") -> list[dict[str, Any]]:
        return [json.loads(file.read_text()) for file in sorted((self.results(name) / "trials").glob("*.json"))]

    def numbers(self, name: str = "spec") -> list[dict[str, Any]]:
        """Return what must be equal in two reads of the same records."""
        keys = ("trial", "attempt", "state", "params", "objective")
        return [{key: record[key] for key in keys} for record in self.records(name)]

    def processes(self) -> list[int]:
        """Return the pids of finesweep's processes that were started in this folder."""
        processes = (item for item in Path("/proc").iterdir() if item.name.isdigit())
        return [int(process.name) for process in processes if _runs_finesweep_in(self.path, process)]

    def manifest(self, name: str = "spec") -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.results(name) / "spec.json").read_text())
        return values


def _runs_finesweep_in(folder: Path, process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        return b"finesweep" in words and (process / "cwd").readlink() == folder
    except OSError:
        return False


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Project]:
    """Make a user's folder with 400 training and 120 validation rows and a spec."""

    def make(spec: str = SPEC) -> Project:
        project = Project(tmp_path_factory.mktemp("project"))
        tiny.write_csv(project.path / "train.csv", tiny.review_rows(400, seed=1))
        tiny.write_csv(project.path / "validation.csv", tiny.review_rows(120, seed=2))
        project.write("spec.yaml", spec)
        # Two tests at a time with two threads each would wait for each other most of the time.
        project.write("one_thread.yaml", "threads_per_worker: 1\n")
        return project

    return make


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Iterator[Project]:
    """Yield a fresh project; nothing that a failed test started outlives it."""
    project = make_project()
    yield project
    for pid in project.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait until a condition holds, or fail with what was waited for."""

    def wait(condition: Callable[[], Any], what: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
            time.sleep(0.05)

    return wait


@pytest.fixture(scope="session")
def finished(make_project: Callable[..., Project]) -> Project:
    """One whole sweep that several tests look at; they must leave it as it is."""
    project = make_project()
    project.sweep("run", "spec.yaml")
    return project
