"""Python files in the current folder, or beside a spec, that bear the names of modules: none is ever imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import tiny
from finesweep.cli import command_line
from security.planted_modules import every_name, loaded_before_main, plant, write_watch

SPEC = """\
model: {config: bert, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 300}
data: {train: train.csv, validation: validation.csv, max_length: 16}
budget: {trials: 1}
search: {pruner: none}
fixed: {per_device_train_batch_size: 32, num_train_epochs: 1}
space: {learning_rate: {low: 5e-4, high: 5e-3, log: true}}
"""
SLURM = "launcher: slurm\nworkers: 2\nmemory_gb: 4\nminutes: 10\n"
RAY = "launcher: ray\nworkers: 1\nthreads_per_worker: 1\ngpus_per_trial: 0\ndashboard: http://127.0.0.1:1\n"
SCRIPT = "from finesweep.__main__ import main\n\nmain()\n"
MODULE = ("-m", "finesweep")


@dataclass(frozen=True)
class Trap:
    """A current folder and a spec's folder in which every module's name is taken."""

    path: Path
    walked: set[str] = field(default_factory=set)

    @property
    def here(self) -> Path:
        return self.path / "here"

    @property
    def spec(self) -> str:
        return "../there/spec.yaml"

    @property
    def witness(self) -> Path:
        return self.path / "WITNESS"

    def sweep(self, *arguments: str, by: Sequence[str] | None = None, code: int = 0) -> str:
        """Run `sweep` here; fail if a planted module was imported, or could have been."""
        self.walked.add(arguments[0])
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
        watched = os.pathsep.join(filter(None, [str(self.path / "watch"), os.environ.get("PYTHONPATH")]))
        environment |= {"PYTHONPATH": watched, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
        command = [sys.executable, *(by or [str(self.path / "bin" / "sweep")]), *arguments]
        done = subprocess.run(
            command, cwd=self.here, env=environment, capture_output=True, text=True, check=False, timeout=400
        )
        said = done.stdout + done.stderr
        assert not self.witness.exists(), self.witness.read_text()
        assert done.returncode == code, said + "".join(log.read_text() for log in self.here.rglob("worker-*.log"))
        return said


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Trap:
    path = tmp_path_factory.mktemp("trap")
    trap, there = Trap(path), path / "there"
    # `python -m finesweep` would import a folder `finesweep` before its first line could keep that out.
    (path / "probed").mkdir()
    early = {"finesweep", *loaded_before_main(path / "probed")}
    plant(trap.here, trap.witness, every_name() - early)
    plant(there, trap.witness, every_name())
    write_watch(path / "watch", trap.witness, [trap.here, there], early)
    (path / "bin").mkdir()
    (path / "bin" / "sweep").write_text(SCRIPT)
    tiny.write_csv(there / "train.csv", tiny.review_rows(64, seed=1))
    tiny.write_csv(there / "validation.csv", tiny.review_rows(20, seed=2))
    (there / "spec.yaml").write_text(SPEC)
    for name, text in {"slurm": SLURM, "ray": RAY, "one": "workers: 1\nthreads_per_worker: 1\n"}.items():
        (trap.here / f"{name}.yaml").write_text(text)
    return trap


def test_the_trap_snaps_where_nothing_keeps_it_shut(trap: Trap) -> None:
    command = [sys.executable, "-c", "import colorsys"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    watched = {**environment, "PYTHONPATH": str(trap.path / "watch")}
    subprocess.run(command, cwd=trap.here, env=watched, check=True)
    said = trap.witness.read_text()
    trap.witness.unlink()
    assert "colorsys was imported by" in said
    assert "colorsys would be taken from" in said


@pytest.mark.parametrize("by", [None, MODULE], ids=["script", "module"])
def test_a_command_imports_nothing_from_the_current_folder(trap: Trap, by: Sequence[str] | None) -> None:
    assert '"$schema"' in trap.sweep("schema", by=by)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["optuna", "ray"])
def test_no_command_imports_from_the_current_or_the_specs_folder(trap: Trap, backend: str) -> None:
    """Workers, rehearsal, trials, proof of the winner, Ray's daemons and actors; then all other commands."""
    by = MODULE if backend == "ray" else None
    named = ("--set", f"search.backend={backend}", "--name", backend)
    assert "winner" in trap.sweep("run", trap.spec, *named, "--on", "one.yaml", by=by)
    if backend == "ray":
        return
    trap.sweep("confirm", f"results/{backend}", "--top", "1", "--seeds", "2", "--on", "one.yaml")
    for reader in ("status", "leaderboard", "report", "doctor"):
        trap.sweep(reader, f"results/{backend}", by=MODULE)
    assert "no job of this sweep is known" in trap.sweep("cancel", f"results/{backend}", by=MODULE)
    assert "Everything fits." in trap.sweep("plan", trap.spec, "--on", "one.yaml")
    assert "No problems found." in trap.sweep("validate", trap.spec, by=MODULE)
    trap.sweep("init", "../there/train.csv", "--output", "../there/new.yaml")
    script = trap.sweep("submit", trap.spec, "--on", "slurm.yaml", "--name", "s", "--dry-run", by=MODULE)
    assert f"{sys.executable} -P -m finesweep worker" in script
    trap.sweep("schema")
    job = trap.sweep("submit", trap.spec, "--on", "ray.yaml", "--name", "r", "--dry-run", by=MODULE)
    assert "python3 -P -m finesweep supervise" in job
    trap.sweep("export-study", f"results/{backend}", "study.journal", by=MODULE)
    assert {command.__name__.replace("_", "-") for command in command_line.COMMANDS} <= trap.walked
