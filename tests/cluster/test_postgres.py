"""The study in a real PostgreSQL: the promises of the journal, a server that goes away, and what nobody may know."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from benchmarks import storage as benchmark
from made_records import manifest

from cluster import postgres_server
from cluster.postgres_server import PostgresServer
from conformance import test_backends as promises
from conformance.test_backends import RecordedWork, ended, make_spec, started
from e2e.conftest import Project
from finesweep.backends.optuna import database
from finesweep.backends.optuna.study import SharedStudy, name_among_others
from finesweep.errors import LaunchError
from finesweep.files.atomic import write_json
from finesweep.folder.sweep_folder import SweepFolder
from finesweep.launch.profile import Profile
from finesweep.launch.storage_url import DatabaseAway
from finesweep.trial import TrialState
from made_profiles import settled

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")]

warm = promises.warm


@pytest.fixture(scope="module")
def running() -> Iterator[PostgresServer]:
    if missing := postgres_server.missing():
        pytest.skip(missing)
    yield from postgres_server.running()


@pytest.fixture
def server(running: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> PostgresServer:
    """A server that runs, and whose password this process knows."""
    if not running.runs:
        running.start()
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return running


@pytest.fixture
def over_postgres(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> PostgresServer:
    """Every ``RecordedWork`` has its study in the database, and every reader finds it there."""
    begin = RecordedWork.__init__

    def beginning(work: RecordedWork, *arguments: Any, **named: Any) -> None:
        begin(work, *arguments, **named)
        work.profile = settled(Profile(storage=server.url), workers=2)
        if not work.sweep_folder.spec_file.exists():
            write_json(work.sweep_folder.spec_file, dataclasses.asdict(named_manifest()))

    monkeypatch.setattr(RecordedWork, "__init__", beginning)
    monkeypatch.setattr(promises, "_study", lambda folder, _: studied(folder, server))
    return server


def named_manifest() -> Any:
    return dataclasses.replace(manifest(), created=time.time())


@dataclasses.dataclass
class Studied:
    """What a study holds, of which no connection is left open."""

    trials: list[optuna.trial.FrozenTrial]


@contextlib.contextmanager
def stock(server: PostgresServer) -> Iterator[optuna.storages.RDBStorage]:
    """Open the database as any tool of Optuna's would."""
    address = server.url.replace("postgresql://", f"postgresql+psycopg://{postgres_server.USER}:{server.password}@")
    store = optuna.storages.RDBStorage(address)
    try:
        yield store
    finally:
        store.engine.dispose()


def studied(folder: Path, server: PostgresServer) -> Studied:
    """Read a sweep's study as any tool of Optuna's would."""
    with stock(server) as store:
        return Studied(optuna.load_study(study_name=name_among_others(SweepFolder(folder)), storage=store).trials)


PROMISES: dict[str, Callable[[Path], None]] = {
    **{
        f"parameters differ, {sampler}": lambda path, sampler=sampler: (
            promises.test_parameters_lie_in_the_space_and_differ_and_the_budget_is_met(path, "optuna", sampler)
        )
        for sampler in ("tpe", "random", "grid", "gp")
    },
    "parameters follow from the seed": lambda path: promises.test_a_trials_parameters_follow_from_seed_and_number(
        path, "optuna", "tpe"
    ),
    "weak trials are stopped": lambda path: promises.test_weak_trials_are_stopped_and_strong_ones_are_not(
        path, "optuna", "median"
    ),
    "trials wait for each other": lambda path: (
        promises.test_trials_wait_for_each_other_and_go_on_under_their_numbers_in_the_same_study(path, "optuna", "tpe")
    ),
    "a diverged trial is remembered": lambda path: promises.test_a_diverged_trial_stays_in_the_samplers_memory(
        path, "optuna"
    ),
    "an interrupted trial keeps its parameters": lambda path: (
        promises.test_an_interrupted_trial_runs_again_under_its_number_with_its_parameters(path, "optuna")
    ),
    "a killed search goes on": lambda path: (
        promises.test_a_killed_search_goes_on_with_the_same_parameters_and_without_zombies(path, "optuna")
    ),
    "sixteen share the budget": lambda path: promises.test_sixteen_racing_processes_share_the_budget_and_differ(
        path, "optuna", "random"
    ),
    "the last trial is run once": lambda path: promises.test_the_last_trial_is_raced_for_by_sixteen_and_run_once(
        path, "optuna"
    ),
    "random kills lose nothing": lambda path: (
        promises.test_searches_that_are_killed_at_random_leave_nothing_running_and_lose_nothing(path, "optuna")
    ),
    "a frozen search finds its trial given away": lambda path: (
        promises.test_a_frozen_search_that_wakes_up_finds_its_trial_given_away(path, "optuna")
    ),
    "a resumed trial repeats its reports": lambda path: (
        promises.test_a_resumed_trial_repeats_its_reports_and_is_not_pruned_for_them(path, "optuna", "asha")
    ),
}
"""What tests/conformance shows of the journal, of each of its kinds one, besides damage to a file."""


@pytest.mark.parametrize("promise", PROMISES)
def test_the_promises_of_the_journal_hold(tmp_path: Path, over_postgres: PostgresServer, promise: str):
    PROMISES[promise](tmp_path)
    assert not list(tmp_path.rglob("study.journal"))
    assert connections(over_postgres) == 0


def connections(server: PostgresServer) -> int:
    """Count the connections that sweeps have; the server needs a moment to see that one is gone."""
    for _ in range(50):
        [(count,)] = server.query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'finesweep'")
        if count == 0:
            break
        time.sleep(0.1)
    return count


def by_rate(trial: int, params: Any) -> list[float]:
    return [params["learning_rate"] * 1000 + 1]


def assert_in_step(folder: Path, spec: Any, trials: int) -> None:
    records = SweepFolder(folder).records()
    assert [(record.trial, record.state) for record in records] == [(i, TrialState.COMPLETE) for i in range(trials)]
    assert promises.in_step(folder, spec)


def test_no_connection_is_open_while_a_worker_forks(tmp_path: Path, over_postgres: PostgresServer):
    """Processes that share one read each other's answers."""
    counted = []

    class Counted(RecordedWork):
        def isolated(self, claim: Any, body: Any, attend: Any = None) -> None:
            counted.append(connections(over_postgres))
            super().isolated(claim, body, attend)

    Counted(tmp_path / "s", make_spec(trials=4, sampler="random"), by_rate).search()
    assert counted == [0] * 4


@pytest.mark.parametrize("harm", ["deleted", "falsified"])
def test_harm_to_the_study_costs_no_trial(tmp_path: Path, over_postgres: PostgresServer, harm: str):
    folder, spec = tmp_path / "s", make_spec(trials=8, sampler="random")

    def body(trial: int, params: Any) -> list[float]:
        if trial == 4:
            harm_study(over_postgres, name_among_others(SweepFolder(folder)), harm)
        return by_rate(trial, params)

    RecordedWork(folder, spec, body).search()
    spec = make_spec(trials=10, sampler="random")
    records = RecordedWork(folder, spec, by_rate, run=2).search()
    assert {record.attempt for record in records} == {1}
    assert_in_step(folder, spec, 10)


def harm_study(server: PostgresServer, name: str, how: str) -> None:
    of_study = f"trial_id IN (SELECT trial_id FROM trials JOIN studies USING (study_id) WHERE study_name = '{name}')"
    if how == "deleted":
        with stock(server) as store:
            optuna.delete_study(study_name=name, storage=store)
    elif how == "falsified":
        server.query(f"UPDATE trial_values SET value = 77 WHERE {of_study}")
    else:
        server.query(f"UPDATE trial_params SET distribution_json = 'no JSON' WHERE {of_study}")


@pytest.mark.parametrize(
    ("harm", "why"), [("falsified", "contradicts the record of trial 0"), ("garbage", "JSONDecodeError: .*")]
)
def test_a_study_that_cannot_be_used_is_set_aside_under_another_name(
    tmp_path: Path, over_postgres: PostgresServer, harm: str, why: str
):
    folder, spec = tmp_path / "s", make_spec(trials=2, sampler="random")
    RecordedWork(folder, spec, by_rate).search()
    name = name_among_others(SweepFolder(folder))
    for aside in ("corrupt", "corrupt.2"):
        harm_study(over_postgres, name, harm)
        work = RecordedWork(folder, spec, by_rate)
        work.search()
        assert re.search(rf"{why}\); set aside as {name}\.{aside} and", work.sweep_folder.notes[0])
        assert_in_step(folder, spec, 2)


def test_one_database_holds_sweeps_of_one_name_and_a_moved_folder_finds_its_own(
    tmp_path: Path, over_postgres: PostgresServer
):
    folders, spec = [tmp_path / "a" / "same", tmp_path / "b" / "same"], make_spec(trials=3, sampler="random")
    for folder in folders:
        RecordedWork(folder, spec, by_rate).search()
    names = [name_among_others(SweepFolder(folder)) for folder in folders]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"sst2-[0-9a-f]{16}", name) for name in names)
    moved = tmp_path / "moved"
    folders[0].rename(moved)
    RecordedWork(moved, make_spec(trials=5, sampler="random"), by_rate, run=2).search()
    assert len(studied(moved, over_postgres).trials) == 5
    assert len(studied(folders[1], over_postgres).trials) == 3


def test_a_sweep_goes_from_its_folder_to_a_database_and_back(tmp_path: Path, server: PostgresServer):
    """The study is made of the records wherever it is."""
    folder, undisturbed = tmp_path / "s", tmp_path / "u"
    for run, (storage, trials) in enumerate([(None, 3), (server.url, 6), (None, 9), (server.url, 12)], start=1):
        spec = make_spec(trials=trials, sampler="random")
        work = RecordedWork(folder, spec, by_rate, run)
        work.profile = settled(Profile(storage=storage))
        if run == 1:
            write_json(work.sweep_folder.spec_file, dataclasses.asdict(named_manifest()))
        before = (folder / "study.journal").read_bytes() if storage and run > 1 else None
        records = work.search()
        if storage is None:
            assert promises.in_step(folder, spec)
        else:
            assert (folder / "study.journal").read_bytes() == before
            assert [trial.user_attrs["number"] for trial in studied(folder, server).trials] == list(range(trials))
    alone = RecordedWork(undisturbed, spec, by_rate).search()
    assert [record.params for record in records] == [record.params for record in alone]


def test_a_server_that_is_restarted_costs_no_trial(tmp_path: Path, over_postgres: PostgresServer):
    """It ends as in a crash, in the middle of what two workers tell it."""
    folder, spec = tmp_path / "s", make_spec(trials=40, sampler="random")
    processes = started(2, RecordedWork(folder, spec, promises.pausing).search)
    promises.wait_for(folder / "trials" / "0005.json")
    for _ in range(3):
        over_postgres.stop()
        time.sleep(1.0)
        over_postgres.start()
        time.sleep(0.5)
    assert ended(processes) == [0, 0]
    assert {record.attempt for record in SweepFolder(folder).records()} == {1}
    assert_in_step(folder, spec, 40)


def test_a_trial_ends_with_its_record_while_the_server_is_away(
    tmp_path: Path, over_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Its reports and its end cannot be told; the next trial cannot begin, and says why; a later run goes on."""
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(database, "REPORT_SECONDS", 0.2)
    folder, spec = tmp_path / "s", make_spec(trials=6, sampler="random", pruner="median")

    def body(trial: int, params: Any) -> Iterator[float]:
        yield 3.0
        if trial == 3:
            over_postgres.stop()
        yield 2.0
        yield 1.0

    with pytest.raises(DatabaseAway, match=r"the database 127\.0\.0\.1:\d+/studies: .*refused"):
        RecordedWork(folder, spec, body).search()
    records = SweepFolder(folder).records()
    assert [(record.trial, record.state.name) for record in records] == [(i, "COMPLETE") for i in range(4)]
    assert len(records[3].evaluations) == 3
    said = capfd.readouterr().out
    assert "the evaluation after 200 examples stops no trial" in said
    assert "the study learns of this trial's end from its record" in said
    over_postgres.start()
    RecordedWork(folder, spec, lambda *_: [1.5], run=2).search()
    assert_in_step(folder, spec, 6)


def test_a_server_that_is_away_at_the_end_does_no_harm(
    tmp_path: Path, over_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(database, "REPORT_SECONDS", 0.2)
    folder, spec = tmp_path / "s", make_spec(trials=2, sampler="random")

    def body(trial: int, params: Any) -> list[float]:
        if trial == 1:
            over_postgres.stop()
        return by_rate(trial, params)

    work = RecordedWork(folder, spec, body)
    assert [record.state for record in work.search()] == [TrialState.COMPLETE] * 2
    assert "brought in step with the records when it is used again" in work.sweep_folder.notes[-1]
    over_postgres.start()
    RecordedWork(folder, spec, by_rate, run=2).search()
    assert_in_step(folder, spec, 2)


def test_a_frozen_process_in_the_middle_of_a_change_is_not_waited_for_for_ever(
    tmp_path: Path, over_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    """It holds the study's row; the server ends its transaction."""
    shortly = re.sub(r"timeout = \d+", "timeout = 1000", database._SESSION)
    monkeypatch.setattr(database, "_SESSION", shortly)
    folder, spec = tmp_path / "s", make_spec(trials=3, sampler="random")
    RecordedWork(folder, make_spec(trials=1, sampler="random"), by_rate).search()
    holder = database._connected(over_postgres.url)
    holder.execute("SELECT * FROM studies FOR UPDATE")
    try:
        RecordedWork(folder, spec, by_rate, run=2).search()
    finally:
        holder.close()
    assert_in_step(folder, spec, 3)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://127.0.0.1:{free}/studies", "Connection refused"),
        ("postgresql://127.0.0.1:{port}/elsewhere", 'database "elsewhere" does not exist'),
        (
            "postgresql://nobody@127.0.0.1:{port}/studies",
            "password authentication failed.*PGUSER.*PGPASSWORD or ~/.pgpass",
        ),
    ],
)
def test_what_is_wrong_with_a_database_is_said_before_anything_is_trained(
    server: PostgresServer, url: str, message: str
):
    url = url.format(port=server.port, free=postgres_server.free_port())
    with pytest.raises(LaunchError, match=rf"the database 127\.0\.0\.1:\d+/.*{message}") as caught:
        database.check(url)
    assert server.password not in str(caught.value)


def test_a_server_that_does_not_answer_is_given_up_after_some_seconds(server: PostgresServer):
    """Its process is frozen: the system takes the connection, and nobody speaks."""
    pid = int((server.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(60.0, os.kill, (pid, signal.SIGCONT))
    timer.start()
    try:
        began = time.monotonic()
        with pytest.raises(LaunchError, match="timeout"):
            database.check(f"{server.url}?connect_timeout=2")
        assert time.monotonic() - began < 20
    finally:
        timer.cancel()
        os.kill(pid, signal.SIGCONT)


def test_tables_are_made_by_many_at_once(server: PostgresServer):
    """Stock: all but one die of `relation already exists`."""
    server.query("CREATE DATABASE empty", database="postgres")
    url = server.url.replace("/studies", "/empty")
    assert ended(started(8, lambda: database.check(url))) == [0] * 8
    assert server.query("SELECT count(*) FROM studies", database="empty") == [(0,)]


def test_nothing_that_is_kept_knows_the_password(tmp_path: Path, over_postgres: PostgresServer):
    import pickle

    RecordedWork(tmp_path / "s", make_spec(trials=2, sampler="random"), by_rate).search()
    shared = SharedStudy(SweepFolder(tmp_path / "s"), make_spec(), lambda _: None, over_postgres.url)
    store = shared.source.open()
    kept = pickle.dumps(store._backend.url) + repr(vars(store._backend)).encode()
    store.close()
    assert over_postgres.password.encode() not in kept
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and has_password(file, over_postgres)]


def has_password(file: Path, server: PostgresServer) -> bool:
    return server.password.encode() in file.read_bytes()


@pytest.mark.parametrize("database_or_file", ["database", "file"])
def test_forty_trials_of_four_workers_are_all_there(tmp_path: Path, server: PostgresServer, database_or_file: str):
    """The benchmark, in small; docs/storage.md has it with 64 workers and 5,000 trials."""
    measured = benchmark.measure(4, 40, server.url if database_or_file == "database" else None, tmp_path / "untrained")
    assert measured.lost == []


@pytest.mark.slow
def test_a_sweep_with_a_database_has_a_leaderboard_a_winner_and_no_journal(project: Project, server: PostgresServer):
    project.write("db.yaml", f"workers: 2\nthreads_per_worker: 1\nstorage: {server.url}\n")
    project.sweep("run", "spec.yaml", "--on", "db.yaml")
    folder = project.results()
    assert (folder / "winner" / "config.json").exists()
    assert not (folder / "study.journal").exists()
    assert [trial.state.name for trial in studied(folder, server).trials] == ["COMPLETE"] * 3
    assert not [file for file in project.path.rglob("*") if file.is_file() and has_password(file, server)]
    assert json.loads((folder / "runs" / "0001.json").read_text())["profile"]["storage"] == server.url
    assert connections(server) == 0


def test_a_sweep_whose_database_is_away_ends_before_its_data_is_read(project: Project, server: PostgresServer):
    away = f"postgresql://127.0.0.1:{postgres_server.free_port()}/studies"
    project.write("db.yaml", f"storage: {away}\n")
    _, errors = project.sweep("run", "spec.yaml", "--on", "db.yaml", code=3)
    assert re.search(r"error: the database 127\.0\.0\.1:\d+/studies: .*Connection refused", errors)
    assert not project.results().exists()
