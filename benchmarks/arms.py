"""Starts each arm of a comparison on a workload and reads what it did: times, bytes, losses, the winner."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from benchmarks.workload import ROOT, Workload

from finesweep.host import timeline
from finesweep.host.python_process import THREAD_COUNTS

SUBSET = 1_000
"""Rows that finesweep evaluates on while a trial trains, unless told otherwise; with no more, all of them."""


TIMELINE = "timeline"
"""Folder in which finesweep's processes note their phases; see ``finesweep.host.timeline``."""


@dataclass(frozen=True)
class Arm:
    """One way to carry out a search.

    Attributes:
        key: Short name.
        title: For a person.
        script: Module that is the peer; None for finesweep.
        options: Words for its command line.
        threads: CPU threads of a process, None for whatever it does by itself.
    """

    key: str
    title: str
    script: str | None
    options: tuple[str, ...] = ()
    threads: int | None = None

    def on(self, threads: int | None) -> Arm:
        """Return the arm with another number of threads."""
        words = f"{threads} thread" + ("s" if threads != 1 else "")
        return dataclasses.replace(self, key=f"{self.key}{threads}", title=f"{self.title}, {words}", threads=threads)

    def command(self, workload: Path, folder: Path) -> list[str]:
        """Return how it is started.

        Args:
            workload: File of the workload.
            folder: Where it may write.
        """
        if self.script is not None:
            return [sys.executable, "-m", f"benchmarks.peers.{self.script}", str(workload), str(folder), *self.options]
        spec = folder / "sweep.yaml"
        spec.write_text(yaml.safe_dump(spec_of(Workload.read(workload)), sort_keys=False), encoding="utf-8")
        return [
            sys.executable,
            "-m",
            "finesweep",
            "run",
            str(spec),
            "--results",
            str(folder / "results"),
            *self.options,
        ]


RANDOM = tuple(f"--set={value}" for value in ("search.sampler=random", "search.pruner=none", "patience=none"))
OURS = Arm("finesweep", "finesweep", None)
ARMS = {
    arm.key: arm
    for arm in (
        OURS,
        Arm("T", "T: tutorial recipe", "tutorial"),
        Arm("S", "S: stock call, well written", "stock"),
        Arm("S+", "S+: S with rows grouped by length", "stock", ("--grouped",)),
        Arm("R", "R: stock call, Ray and ASHA", "stock_ray"),
        Arm("O", "O: plain Optuna loop", "plain_optuna"),
        Arm("random", "random, no pruning (run by finesweep)", None, RANDOM),
    )
}
"""All arms by key."""


def spec_of(workload: Workload) -> dict[str, Any]:
    """Return a workload as finesweep's YAML has it; whatever can be left out is left out."""
    return {
        "model": workload.model,
        "data": {"train": workload.train, "validation": workload.validation, "max_length": workload.max_length},
        "objective": {"metric": "eval_loss"},
        "budget": {"trials": workload.trials},
        "search": {"seed": workload.seed},
        "space": dict(workload.space),
        "fixed": dict(workload.fixed),
    }


@dataclass(frozen=True)
class Trial:
    """What one trial came to.

    Attributes:
        began: Unix time.
        ended: Unix time of the last thing that is known of it.
        examples: Training examples seen.
    """

    began: float
    ended: float
    examples: int


@dataclass(frozen=True)
class Outcome:
    """What came of one arm on one workload.

    Attributes:
        arm: Its key.
        seconds: Wall clock of the whole command.
        cpu_seconds: CPU of all its processes.
        bytes_written: Bytes written to files by all its processes.
        bytes_apart: Those of them that are states of waiting trials.
        peak_bytes: Largest size of all that it left in its folder at a time, without those states.
        peak_apart: The same of those states.
        trainer_pss: Memory of a process that trains in bytes, with the worker that it was forked from, what is shared
            counted once.
        command_rss: Resident memory of the process of the command itself.
        trials: Its trials.
        reached: (seconds since the start, eval_loss) of evaluations on all rows, in the order of time.
        winner_loss: eval_loss of the model that it shipped, judged afterwards; None if there is none that loads.
        winner_accuracy: Its accuracy.
        failure: Why it counts as failed, None if it does not.
        start_seconds: From the start of the command to the first step of its first trial; None if unknown.
        end_seconds: From the last step of its last trial to the end of the command; None if unknown.
    """

    arm: str
    seconds: float
    cpu_seconds: float
    bytes_written: int
    bytes_apart: int
    peak_bytes: int
    peak_apart: int
    trainer_pss: int
    command_rss: int
    trials: tuple[Trial, ...]
    reached: tuple[tuple[float, float], ...]
    winner_loss: float | None
    winner_accuracy: float | None
    failure: str | None
    start_seconds: float | None = None
    end_seconds: float | None = None

    @property
    def examples(self) -> int:
        """Training examples of all trials."""
        return sum(trial.examples for trial in self.trials)

    @property
    def training_seconds(self) -> float:
        """From the first trial's begin to the last one's end."""
        return max(trial.ended for trial in self.trials) - min(trial.began for trial in self.trials)

    @property
    def best(self) -> float:
        """The smallest eval_loss that it has seen on all rows, infinity if none."""
        return min((loss for _, loss in self.reached), default=float("inf"))

    def seconds_to(self, loss: float) -> float | None:
        """Return when an evaluation was no worse than a loss, in seconds since the start; None if none was."""
        return next((seconds for seconds, seen in self.reached if seen <= loss), None)


def carry_out(arm: Arm, workload: Workload, folder: Path, limit: float, *, judge: bool = True) -> Outcome:
    """Run an arm to its end, in processes of its own, offline, with caches of its own.

    Args:
        arm: The arm.
        workload: What it is given.
        folder: Where it may write; must not exist.
        limit: Seconds after which it is killed and counts as failed.
        judge: Whether its winner is evaluated.
    """
    folder.mkdir(parents=True)
    (folder / TIMELINE).mkdir()
    given = workload.write(folder.with_suffix(".workload.json"))
    meter, log = folder.with_suffix(".meter.json"), folder.with_suffix(".log")
    command = [sys.executable, "-m", "benchmarks.metered", "--out", str(meter), "--folder", str(folder)]
    command += ["--limit", str(limit), "--", *arm.command(given, folder)]
    seen: list[tuple[float, float]] = []
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(arm, folder), stdout=stream, stderr=stream)
        try:
            seen = list(_watched(process, folder, workload)) if arm.script is None else []
            process.wait()
        finally:
            process.terminate()
    if not meter.is_file():
        raise RuntimeError(f"{arm.title} could not be measured: {log.read_text()[-2000:]}")
    return _outcome(arm, workload, folder, json.loads(meter.read_text()), seen, judge)


def environment(arm: Arm, folder: Path) -> dict[str, str]:
    """Return an arm's environment: threads as it says, nothing from the network, caches in its folder."""
    found = {name: value for name, value in os.environ.items() if name not in THREAD_COUNTS}
    if arm.threads is not None:
        found.update(dict.fromkeys(THREAD_COUNTS, str(arm.threads)))
    if arm.script is None:
        found[timeline.VARIABLE] = str(folder / TIMELINE)
    found.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HOME=str(folder / "cache"), TOKENIZERS_PARALLELISM="0")
    return {**found, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))}


def _watched(process: subprocess.Popen[bytes], folder: Path, workload: Workload) -> Iterator[tuple[float, float]]:
    """Look at a sweep's folder until its command ends; yield (Unix time, eval_loss) of evaluations on all rows."""
    rows = workload.validation_rows
    versions: dict[Path, float] = {}
    losses: set[tuple[Any, float]] = set()
    while True:
        running = process.poll() is None
        for file in [*folder.glob("results/*/progress/*.json"), *folder.glob("results/*/trials/*.json")]:
            try:
                version = file.stat().st_mtime
                if versions.get(file) == version:
                    continue
                found = json.loads(file.read_text())
            except (OSError, ValueError):  # replaced at this moment
                continue
            versions[file] = version
            for loss in full_losses(found, rows):
                if (found["trial"], loss) not in losses:
                    losses.add((found["trial"], loss))
                    yield version, loss
        if not running:
            return
        time.sleep(0.25)


def full_losses(found: dict[str, Any], rows: int) -> list[float]:
    """Return what a record or a progress file says of evaluations on all of so many rows."""
    losses = [one["objective"] for one in found.get("evaluations", ())] if rows <= SUBSET else []
    if "state" in found and (rows <= SUBSET or found.get("evaluated_rows") in (None, rows)):
        losses.append(found["objective"])
    return [loss for loss in losses if loss is not None]


def _outcome(
    arm: Arm, workload: Workload, folder: Path, meter: dict[str, Any], seen: list[tuple[float, float]], judge: bool
) -> Outcome:
    trials, reached = (_trials_of_sweep(folder), seen) if arm.script is None else _diary(folder / "diary.jsonl")
    failure = None
    if meter["timed_out"]:
        failure = f"killed after {meter['seconds']:.0f} s"
    elif meter["code"]:
        failure = f"exit code {meter['code']}: {_last_words(folder.with_suffix('.log'))}"
    elif len(trials) < workload.trials and not ended_early(folder):
        failure = f"{len(trials)} of {workload.trials} trials"
    verdict = judged(arm, folder) if judge and failure is None else {}
    started = meter["began"] if arm.script is None else meter["started"]
    steps = steps_of_sweep(folder / TIMELINE) if arm.script is None else [time for one in trials for time in _ends(one)]
    return Outcome(
        arm=arm.key,
        seconds=meter["seconds"],
        cpu_seconds=meter["cpu_seconds"],
        bytes_written=meter["write_bytes"] or meter["wchar"],
        bytes_apart=meter["written_apart"],
        peak_bytes=meter["peak"],
        peak_apart=meter["peak_apart"],
        trainer_pss=meter["trainer_pss"],
        command_rss=meter["command_rss"],
        trials=tuple(trials),
        reached=tuple(sorted((when - meter["started"], loss) for when, loss in reached)),
        winner_loss=verdict.get("eval_loss"),
        winner_accuracy=verdict.get("accuracy"),
        failure=failure or verdict.get("failure"),
        start_seconds=min(steps) - started if steps else None,
        end_seconds=started + meter["seconds"] - max(steps) if steps else None,
    )


def ended_early(folder: Path) -> bool:
    """Return whether a sweep of finesweep has ended before its budget because little was expected of the rest."""
    return any(folder.glob("results/*/early_end.json"))


def steps_of_sweep(folder: Path) -> list[float]:
    """Return when trials of finesweep began and ended their steps, on the monotonic clock."""
    notes = timeline.read(folder)
    return [note.ended for note in notes if note.name in (timeline.BEGIN_TRAINING, timeline.TRAIN_ON)]


def _ends(trial: Trial) -> tuple[float, float]:
    return trial.began, trial.ended


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").replace("\r", "\n").strip().splitlines()
    return " ".join(lines[-3:])[-300:]


def _trials_of_sweep(folder: Path) -> list[Trial]:
    records = [json.loads(file.read_text()) for file in sorted(folder.glob("results/*/trials/*.json"))]
    return [Trial(one["started"], one["started"] + one["seconds"], one["examples"]) for one in records]


def _diary(file: Path) -> tuple[list[Trial], list[tuple[float, float]]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    by_trial: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_trial.setdefault(line["trial"], []).append(line)
    trials = [
        Trial(
            min(line["time"] for line in found),
            max(line["time"] for line in found),
            max(line["examples"] for line in found),
        )
        for found in by_trial.values()
    ]
    return trials, [(line["time"], line["eval_loss"]) for line in lines if line["event"] == "evaluation"]


def judged(arm: Arm, folder: Path) -> dict[str, Any]:
    """Evaluate the winner of an arm; return ``eval_loss`` and ``accuracy``, or ``failure``."""
    winner = winner_of(arm, folder)
    if winner is None:
        return {"failure": "no winner"}
    words: Sequence[str] = ("-m", "benchmarks.judge", str(folder.with_suffix(".workload.json")), str(winner))
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        return {"failure": f"the winner does not load: {run.stderr.strip().splitlines()[-1][:200]}"}
    verdict: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return verdict


def winner_of(arm: Arm, folder: Path) -> Path | None:
    """Return the folder of the model that an arm ships."""
    if arm.script is None:
        return next(iter(folder.glob("results/*/winner")), None)
    named = folder / "winner.txt"
    return Path(named.read_text()) if named.is_file() else None
