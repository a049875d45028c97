"""Sixteen trials, four workers, and something killed or frozen every second: the sweep ends as if nothing had been."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SEEDS = (20,)
TRIALS = 16
MOST_COMMANDS = 20
PROFILE = "{workers: 4, threads_per_worker: 1, retries: 10, stall_minutes: 2}\n"
ASKED = (
    *("run", "spec.yaml", "--on", "chaos.yaml", "--set", f"budget.trials={TRIALS}"),
    *("--set", "space.num_train_epochs={choices: [6, 10]}", "--set", "search.sampler=random"),
)
FAULTS = {
    "kill trial": 6,
    "terminate trial": 2,
    "freeze trial": 2,
    "kill worker": 3,
    "terminate worker": 1,
    "freeze worker": 2,
    "kill command": 1,
    "terminate command": 1,
    "kill everything": 1,
}
"""What happens, and how often at most; in an order that the seed decides."""

SIGNALS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "freeze": signal.SIGSTOP}


class Reader(threading.Thread):
    """Reads everything in a sweep's folder again and again, as anybody may at any moment."""

    def __init__(self, project: Any) -> None:
        super().__init__(daemon=True)
        self.project, self.done = project, threading.Event()
        self.files = 0
        self.results: dict[str, bytes] = {}
        self.found: list[str] = []

    def run(self) -> None:
        while not self.done.wait(0.2):
            for folder, folders, names in os.walk(self.project.results()):
                # What is still being built has a name that begins with a dot.
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    if name.endswith(".json"):
                        self.read(Path(folder, name))

    def read(self, file: Path) -> None:
        try:
            content = file.read_bytes()
            values = json.loads(content)
        except (FileNotFoundError, NotADirectoryError):
            return
        except ValueError as error:
            self.found.append(f"{file}: {error}")
            return
        self.files += 1
        if file.parent.name == "trials":
            self.compare(file.name, values, content)

    def compare(self, name: str, record: dict[str, Any], content: bytes) -> None:
        if self.results.get(name, content) != content:
            self.found.append(f"{name}: a result changed")
        if record["state"] != "INTERRUPTED":
            self.results[name] = content


class Listener(threading.Thread):
    """Takes what a command says, which would wait at a full pipe."""

    def __init__(self, command: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self.command, self.said = command, ""

    def run(self) -> None:
        self.said = "".join(self.command.communicate())


@dataclass
class Chaos:
    """Does harm to one sweep, at most as often as ``FAULTS`` says."""

    project: Any
    chance: random.Random
    plan: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    frozen: dict[int, float] = field(default_factory=dict)
    finished: int = -1

    def __post_init__(self) -> None:
        self.plan = [fault for fault, count in FAULTS.items() for _ in range(count)]
        self.chance.shuffle(self.plan)

    def go_on(self, command: subprocess.Popen[str]) -> None:
        """Do the next harm if there is something to harm, and thaw what has been frozen for its time."""
        for pid, until in list(self.frozen.items()):
            if time.monotonic() >= until:
                self.thaw(pid)
        if self.plan and self.is_time_for(self.plan[-1]):
            fault = self.plan.pop()
            kind, _, victim = fault.partition(" ")
            pids = self.victims(victim, command)
            self.done[fault] += bool(pids)
            for pid in pids:
                self.harm(pid, kind)

    def is_time_for(self, fault: str) -> bool:
        """Say whether somebody trains, and whether a trial has finished since all was new: else nothing ever does."""
        finished = len(self.project.ledger())
        if fault.endswith("trial") and fault != "kill everything":
            return bool(self.project.trial_processes())
        if finished <= self.finished:
            return False
        self.finished = finished
        return True

    def victims(self, victim: str, command: subprocess.Popen[str]) -> list[int]:
        if victim == "command":
            return [command.pid]
        if victim == "everything":
            return self.chance.sample(processes := self.project.processes(), len(processes))
        living = self.project.trial_processes() if victim == "trial" else self.project.workers()
        return [self.chance.choice(sorted(living))] if living else []

    def harm(self, pid: int, kind: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, SIGNALS[kind])
            if kind == "freeze":
                self.frozen[pid] = time.monotonic() + self.chance.uniform(0.5, 4)

    def thaw(self, pid: int) -> None:
        del self.frozen[pid]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def carry_out(project: Any, chaos: Chaos) -> list[int]:
    """Give the same command until all trials are done; return the exit codes."""
    codes: list[int] = []
    while len(project.ledger()) < TRIALS or codes[-1] != 0:
        assert len(codes) < MOST_COMMANDS
        command = project.start(*ASKED)
        listener = Listener(command)
        listener.start()
        while command.poll() is None:
            time.sleep(chaos.chance.uniform(0.05, 0.5))
            chaos.go_on(command)
        listener.join()
        codes.append(command.returncode)
        assert command.returncode in (0, -signal.SIGKILL, 128 + signal.SIGTERM), listener.said
        assert "Traceback" not in listener.said
        wait_for_the_orphans(project, chaos)
    return codes


def wait_for_the_orphans(project: Any, chaos: Chaos) -> None:
    """Wait until the workers have noticed that their command is gone."""
    for pid in list(chaos.frozen):
        chaos.thaw(pid)
    deadline = time.monotonic() + 120
    while project.processes():
        assert time.monotonic() < deadline, "somebody outlives the command"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_chaos(seed, project, check_invariants, capsys):
    project.write("chaos.yaml", PROFILE)
    chaos, reader, began = Chaos(project, random.Random(seed)), Reader(project), time.monotonic()
    reader.start()
    codes = carry_out(project, chaos)
    reader.done.set()
    reader.join()
    records = project.records()
    faults = Counter(len(record["faults"]) for record in records)
    with capsys.disabled():
        print(  # noqa: T201
            f"\nchaos, seed {seed}: {time.monotonic() - began:.0f} s, exit codes {codes}",
            f"harm done: {dict(sorted(chaos.done.items()))}",
            f"{sum(record['attempt'] for record in records)} attempts; trials by faults: {dict(faults)}",
            f"JSON files read meanwhile: {reader.files}",
            sep="\n",
        )
    assert reader.found == []
    assert [(record["trial"], record["state"]) for record in records] == [
        (trial, "COMPLETE") for trial in range(TRIALS)
    ]
    assert chaos.done.total() >= sum(FAULTS.values()) / 3, "there was little chaos"
    assert len({json.dumps(record["params"], sort_keys=True) for record in records}) == TRIALS
    check_invariants(project, reader.results)
