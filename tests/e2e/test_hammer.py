"""Sixteen processes on one folder, without training: no trial is lost, none is run twice, whoever is killed."""

from __future__ import annotations

import csv
import fcntl
import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
from made_records import manifest, record

from finesweep.folder import next_attempt
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.results import leaderboard
from finesweep.results.board import read_board
from finesweep.trial import TrialState

TRIALS = 1_000
PROCESSES = 16
KILLS = 40
FORK = multiprocessing.get_context("fork")


def body(path: Path, notes: Path, seed: int) -> None:
    """Claim and record trials that do nothing; now and then release one that is not recorded, or die by a kill."""
    folder, chance = SweepFolder(path), random.Random(seed)
    with (notes / "running").open("a+b") as running, (notes / f"done-{seed}").open("a") as done:
        while True:
            lease = next_attempt.claim(folder, run=1, trials=range(TRIALS))
            if lease is None:
                if all(map(folder.is_finished, range(TRIALS))):
                    return
                time.sleep(0.01)
                continue
            claim = lease.claim
            note_if_somebody_else_runs(claim.trial, running.fileno(), notes)
            luck = chance.random()
            if luck < 0.01:
                os.kill(os.getpid(), signal.SIGKILL)
            if luck > 0.02:
                state = TrialState.INTERRUPTED if luck > 0.99 else TrialState.COMPLETE
                ended = record(claim.trial, chance.random(), state, attempt=claim.attempt, faults=claim.faults, run=1)
                folder.record(ended)
                if state.finished:
                    done.write(f"{claim.trial} {claim.attempt} {ended.objective!r}\n")
                    done.flush()
            fcntl.lockf(running, fcntl.LOCK_UN, 1, claim.trial)
            lease.release()


def note_if_somebody_else_runs(trial: int, running: int, notes: Path) -> None:
    """Lock a trial's byte. Its holder opened the file before it claimed, so a kill frees the byte before the claim."""
    try:
        fcntl.lockf(running, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, trial)
    except OSError:
        (notes / f"twice-{trial}").touch()


def write_leaderboards(path: Path, notes: Path) -> None:
    folder = SweepFolder(path)
    while not (notes / "stop").exists():
        leaderboard.write(read_board(folder, manifest(), folder.records(), []))


@dataclass
class Reader:
    """Reads what lies in the folder, as anybody may at any moment."""

    folder: SweepFolder
    seen: set[int] = field(default_factory=set)
    sizes: list[int] = field(default_factory=list)

    def read(self) -> None:
        file = self.folder.leaderboard
        if not file.with_suffix(".csv").exists():  # it is the last of the three to be there for the first time
            return
        rows = json.loads(file.with_suffix(".json").read_text())
        trials = [row["trial"] for row in rows]
        assert len(trials) == len(set(trials))
        assert [row["rank"] for row in rows if row["rank"]] == list(range(1, sum(bool(r["rank"]) for r in rows) + 1))
        ranked = {row["trial"] for row in rows if row["rank"]}
        assert self.seen <= ranked, "a trial that had a result has none any more"
        self.seen = ranked
        self.sizes.append(len(ranked))
        with file.with_suffix(".csv").open(newline="") as stream:
            assert len({len(line) for line in csv.reader(stream)}) == 1
        assert file.with_suffix(".md").read_text().endswith("\n")


@dataclass
class Hammer:
    """The processes, of which some are killed and replaced until no trial is left."""

    start_one: Callable[[int], ForkProcess]
    chance: random.Random
    running: list[ForkProcess] = field(default_factory=list)
    started: int = 0
    killed: int = 0
    died: int = 0

    def replace_dead(self) -> bool:
        """Start another one for each that was killed; return whether any still runs."""
        for process in [process for process in self.running if not process.is_alive()]:
            self.running.remove(process)
            assert process.exitcode in (0, -signal.SIGKILL)
            if process.exitcode:
                self.died += 1
                self.start()
        return bool(self.running)

    def start(self) -> None:
        self.running.append(self.start_one(self.started))
        self.started += 1

    def kill_one(self) -> None:
        victim = self.chance.choice(self.running)
        victim.kill()  # which may have ended since, unlike os.kill of a number
        self.killed += 1


def hammered(folder: SweepFolder, notes: Path, reader: Reader) -> Hammer:
    def start_one(seed: int) -> ForkProcess:
        process = FORK.Process(target=body, args=(folder.path, notes, seed))
        process.start()
        return process

    hammer = Hammer(start_one, random.Random(16))
    for _ in range(PROCESSES):
        hammer.start()
    try:
        while hammer.replace_dead():
            if hammer.killed < KILLS:
                hammer.kill_one()
            reader.read()
            time.sleep(0.1)
    finally:
        for process in hammer.running:
            process.kill()
    return hammer


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "demo")


@pytest.mark.slow
def test_a_thousand_trials_by_sixteen_processes(folder, tmp_path, capsys):
    notes = tmp_path / "notes"
    notes.mkdir()
    writer = FORK.Process(target=write_leaderboards, args=(folder.path, notes))
    writer.start()
    began, reader = time.monotonic(), Reader(folder)
    try:
        hammer = hammered(folder, notes, reader)
        assert writer.is_alive(), "the leaderboard could not be written"
    finally:
        (notes / "stop").touch()
        writer.join()
    seconds = time.monotonic() - began

    records = folder.records()
    assert [one.trial for one in records] == list(range(TRIALS)), "lost, or more than the budget"
    assert {one.state for one in records} == {TrialState.COMPLETE}
    assert folder.claims.newest() == {one.trial: one.attempt for one in records}, "claimed again after its result"
    assert not list(notes.glob("twice-*")), "two processes held a trial at the same time"
    check_what_was_acknowledged(records, notes)
    leaderboard.write(read_board(folder, manifest(), records, []))
    reader.read()
    assert reader.sizes[-1] == TRIALS
    assert len(set(reader.sizes)) > 5, "the leaderboard was read while it grew"
    with capsys.disabled():
        print(  # noqa: T201
            f"\nhammer: {TRIALS} trials in {seconds:.1f} s, {hammer.started} processes, {hammer.died} of them killed, "
            f"{sum(one.attempt for one in records)} attempts, {len(reader.sizes)} leaderboards read"
        )


def check_what_was_acknowledged(records, notes):
    """Each result is acknowledged once at most; a process killed just before it could say so said nothing."""
    said = [line.split() for file in notes.glob("done-*") for line in file.read_text().splitlines()]
    assert max(Counter(trial for trial, _, _ in said).values()) == 1
    written = {str(one.trial): [str(one.attempt), repr(one.objective)] for one in records}
    assert all(written[trial] == rest for trial, *rest in said)
    assert len(said) >= TRIALS - KILLS
    assert any(one.faults for one in records)
