"""Real sweeps through the command line, on a tiny model that is made on the spot."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import tiny
from finesweep.folder import next_attempt
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.results.board import read_board
from finesweep.results.leaderboard import to_json
from finesweep.trial import TrialState
from shared import made_once

SCRATCH_MODEL = (
    "{config: bert, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, "
    "intermediate_size: 64, max_position_embeddings: 32, vocab_size: 500}"
)
SPEC = f"""\
model: {SCRATCH_MODEL}
data: {{train: train.csv, validation: validation.csv, max_length: 24}}
budget: {{trials: 3}}
search: {{pruner: none, sampler: tpe}}
patience: none
space:
  learning_rate: {{low: 5e-4, high: 5e-3, log: true}}
  num_train_epochs: {{low: 2, high: 3}}
  per_device_train_batch_size: {{choices: [16, 32]}}
"""


def quick_first(**cases: Any) -> list[Any]:
    """Return cases by name, all but the first of them slow: each is one more way to where the first one leads."""
    return [
        pytest.param(case, id=name, marks=[pytest.mark.slow] if place else [])
        for place, (name, case) in enumerate(cases.items())
    ]


@dataclass(frozen=True)
class Project:
    """A user's folder: data, a spec, and the results of `sweep`."""

    path: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list, compare=False, repr=False)

    def write(self, name: str, text: str) -> Path:
        (self.path / name).write_text(text, encoding="utf-8")
        return self.path / name

    def start(self, *arguments: str, ignored: Sequence[int] = (), **options: Any) -> subprocess.Popen[str]:
        """Start `sweep`, with some signals ignored as those are that a background shell or nohup starts."""
        if arguments[0] == "run" and "--on" not in arguments:
            arguments = (*arguments, "--on", "one_thread.yaml")
        environment = {**os.environ, "COLUMNS": "160", **options.pop("env", {})}

        def at_birth() -> None:
            # The tests themselves may have been started by such a shell, and would prove nothing.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)

        process = subprocess.Popen(
            [sys.executable, "-m", "finesweep", *arguments],
            cwd=self.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            preexec_fn=at_birth,
            **options,
        )
        self.started.append(process)
        return process

    def sweep(self, *arguments: str, code: int = 0, timeout: float = 240, **options: Any) -> tuple[str, str]:
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=timeout)
        assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}\n{self._worker_logs()}"
        assert "Traceback" not in out + err
        return out, err

    def _worker_logs(self) -> str:
        return "\n".join(log.read_text()[-3000:] for log in self.path.glob("results/*/logs/worker-*.log"))

    def results(self, name: str = "spec") -> Path:
        return self.path / "results" / name

    def leaderboard(self, name: str = "spec") -> list[dict[str, Any]]:
        """Return the rows of the trials; those of the references come after them."""
        rows = json.loads((self.results(name) / "leaderboard.json").read_text())
        states = [row["state"] == "REFERENCE" for row in rows]
        assert states == sorted(states)
        return [row for row in rows if row["state"] != "REFERENCE"]

    def references(self, name: str = "spec") -> list[dict[str, Any]]:
        rows = json.loads((self.results(name) / "leaderboard.json").read_text())
        return [row for row in rows if row["state"] == "REFERENCE"]

    def records(self, name: str = "spec") -> list[dict[str, Any]]:
        return [json.loads(file.read_text()) for file in sorted((self.results(name) / "trials").glob("*.json"))]

    def ledger(self, name: str = "spec") -> dict[str, bytes]:
        """Return the bytes of every finished record: what no fault may change."""
        files = sorted((self.results(name) / "trials").glob("*.json"))
        return {file.name: data for file in files if json.loads(data := file.read_bytes())["state"] != "INTERRUPTED"}

    def numbers(self, name: str = "spec") -> list[dict[str, Any]]:
        """Return what must be equal in two reads of the same records."""
        keys = ("trial", "attempt", "state", "params", "objective")
        return [{key: record[key] for key in keys} for record in self.records(name)]

    def processes(self) -> list[int]:
        """Return the pids of finesweep's processes that were started in this folder."""
        processes = (item for item in Path("/proc").iterdir() if item.name.isdigit())
        return [int(process.name) for process in processes if _runs_finesweep_in(self.path, process)]

    def workers(self) -> list[int]:
        """Return the pids of the workers; their forks, which run trials, have the same command line."""
        return [pid for pid in self.processes() if _is_worker(pid) and not _is_worker(_parent(pid))]

    def trial_processes(self) -> list[int]:
        """Return the pids of the forks that run a trial."""
        return [pid for pid in self.processes() if _is_worker(_parent(pid))]

    def progress(self, trial: int) -> dict[str, Any]:
        """Return how far a trial is, nothing if it does not run."""
        try:
            values: dict[str, Any] = json.loads((self.results() / f"progress/{trial:04d}.json").read_text())
        except FileNotFoundError:
            return {}
        return values

    def runs(self, trial: int, step: int = 0) -> bool:
        """Say whether a trial has begun and has done so many steps."""
        return self.progress(trial).get("step", -1) >= step

    def holder(self, trial: int) -> int:
        """Return the pid of the worker that claimed a trial last."""
        claims = sorted((self.results() / "claims").glob(f"{trial:04d}.*"), key=lambda file: int(file.suffix[1:]))
        pid: int = json.loads(claims[-1].read_text().splitlines()[0])["pid"]
        return pid

    def process(self, trial: int) -> int:
        """Return the pid of the fork that runs a trial."""
        (pid,) = (pid for pid in self.trial_processes() if _parent(pid) == self.holder(trial))
        return pid

    def manifest(self, name: str = "spec") -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.results(name) / "spec.json").read_text())
        return values


def _is_worker(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"finesweep" in words and b"worker" in words


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _runs_finesweep_in(folder: Path, process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        return b"finesweep" in words and (process / "cwd").readlink() == folder
    except OSError:
        return False


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Project]:
    """Make a user's folder with 400 training and 120 validation rows and a spec."""

    return lambda spec=SPEC: filled(tmp_path_factory.mktemp("project"), spec)


def filled(folder: Path, spec: str = SPEC) -> Project:
    """Write a user's data and spec into a folder."""
    project = Project(folder)
    tiny.write_csv(folder / "train.csv", tiny.review_rows(400, seed=1))
    tiny.write_csv(folder / "validation.csv", tiny.review_rows(120, seed=2))
    project.write("spec.yaml", spec)
    # Two tests at a time with two threads each would wait for each other most of the time.
    project.write("one_thread.yaml", "threads_per_worker: 1\n")
    return project


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Iterator[Project]:
    """Yield a fresh project; nothing that a failed test started outlives it."""
    project = make_project()
    yield project
    _end_all(project)


def _end_all(project: Project) -> None:
    for pid in project.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in project.started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Wait until a condition holds, or fail with what was waited for."""

    def wait(condition: Callable[[], Any], what: str, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
            time.sleep(0.05)

    return wait


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One whole sweep that several tests look at; they must leave it as it is."""

    def sweep(folder: Path) -> None:
        filled(folder).sweep("run", "spec.yaml", "--workers", "1", umask=0)

    return Project(made_once(tmp_path_factory, "finished", sweep))


@pytest.fixture(scope="session")
def finished_at_random(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same of a random search, whose trials must be the same wherever and however they run."""

    def sweep(folder: Path) -> None:
        filled(folder).sweep("run", "spec.yaml", "--set", "search.sampler=random", "--workers", "1")

    return Project(made_once(tmp_path_factory, "finished_at_random", sweep))


@pytest.fixture
def copied(finished: Project, tmp_path: Path) -> Iterator[Project]:
    """A project with a finished sweep of three trials, of which a test may damage what it likes."""
    project = Project(shutil.copytree(finished.path, tmp_path / "project"))
    weights = next((project.results() / "checkpoints").iterdir()) / "model.safetensors"
    (project.results() / "winner/model.safetensors").unlink()
    os.link(weights, project.results() / "winner/model.safetensors")  # as the sweep leaves it; copying separates them
    yield project
    left = project.processes()
    _end_all(project)
    assert left == []


@pytest.fixture(scope="session")
def provoke() -> Callable[..., dict[str, str]]:
    """Describe faults, each a mapping with the keys of ``faults/sitecustomize.py``, as an environment to start with."""

    def environment(*faults: Mapping[str, Any]) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(Path(__file__).parent / "faults"), os.environ.get("PYTHONPATH")]))
        return {"PYTHONPATH": path, "FINESWEEP_FAULTS": json.dumps(faults)}

    return environment


@pytest.fixture(scope="session")
def check_invariants() -> Callable[..., None]:
    """Check what must hold after every fault, once nothing runs any more.

    Args of the function: the project, and the ledger (``Project.ledger``) that was there before the fault.
    """

    def check(project: Project, before: Mapping[str, bytes] | None = None, name: str = "spec") -> None:
        folder = SweepFolder(project.results(name))
        records = folder.records()
        after = project.ledger(name)
        assert {file: after.get(file) for file in before or {}} == (before or {}), "a result was lost or changed"
        assert [f"{record.trial:04d}.json" for record in records] == [
            file.name for file in sorted((project.results(name) / "trials").glob("*.json"))
        ], "a record is unreadable"
        _check_params(folder)
        _check_rows(folder)
        assert (project.results(name) / "leaderboard.json").read_text() == to_json(read_board(folder, records=records))
        _check_winner(project, name)
        assert project.processes() == []
        leftovers = [file for file in project.results(name).rglob("*") if re.fullmatch(r"\..*\d.*|.*\.tmp", file.name)]
        assert leftovers == []
        locks = [project.path / f"results/.{name}.lock", *(project.results(name) / "claims").iterdir()]
        assert [lock.name for lock in locks if lock.exists() and _is_locked(lock)] == []

    return check


def _check_params(folder: SweepFolder) -> None:
    """Fail if two attempts at a trial had other parameters, or a trial without a result is still held."""
    for record in folder.records():
        assert all(params == record.params for params in folder.claims.params(record.trial)), record.trial
    assert [
        trial for trial, attempt in next_attempt.open_claims(folder) if folder.claims.is_alive(trial, attempt)
    ] == []


def _check_rows(folder: SweepFolder) -> None:
    """Fail if a completed trial keeps no rows, or if their mean is not the metric in its record."""
    for record in folder.records():
        if record.state is TrialState.COMPLETE:
            scores = folder.read_row_scores(record)
            assert scores is not None, record.trial
            arrays = scores.arrays()
            assert "eval_loss" in arrays
            # The rows have single precision.
            assert {name: values.mean() for name, values in arrays.items()} == pytest.approx(
                {name: record.metrics[name] for name in arrays}, rel=1e-5, abs=1e-6
            )


def _check_winner(project: Project, name: str) -> None:
    """Fail if the exported model, loaded by transformers alone, is not what its trial's record says."""
    folder = project.results(name) / "winner"
    if not folder.exists():
        return
    evidence = json.loads((folder / "evidence.json").read_text())
    number = evidence["trial"]
    if evidence["seed"] is not None:
        name = f"{name}/confirm"
        repeats = json.loads((project.results(name) / "spec.json").read_text())["repeats"]
        number = repeats.index({"trial": number, "seed": evidence["seed"]})
    (record,) = (record for record in project.records(name) if record["trial"] == number)
    assert (record["state"], record["objective"]) == ("COMPLETE", evidence["ranked"])
    assert _loss(folder, project.path / "validation.csv") == pytest.approx(record["metrics"]["eval_loss"], rel=1e-5)


def _loss(model: Path, file: Path) -> float:
    """Return a model's mean loss over the rows of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        classifier = AutoModelForSequenceClassification.from_pretrained(model).eval()
        tokenizer = AutoTokenizer.from_pretrained(model)
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        inputs = tokenizer([row["text"] for row in rows], truncation=True, padding=True, return_tensors="pt")
        labels = torch.tensor([classifier.config.label2id[row["label"]] for row in rows])
        with torch.no_grad():
            return float(classifier(**inputs, labels=labels).loss)


def _is_locked(file: Path) -> bool:
    with file.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
