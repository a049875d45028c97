"""The process that is connected to Ray: what it is told, what it says, and that its silence has an end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from finesweep.errors import LaunchError
from finesweep.folder.manifest import Run
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.launch import deadlines
from finesweep.launch.ray import connection as connection_module
from finesweep.launch.ray import connection_process, launcher
from finesweep.launch.ray.connection import RayConnection
from finesweep.launch.ray.launcher import RayHandle, RayLauncher
from finesweep.launch.ray.node_worker import NodeWorker, look
from finesweep.launch.ray.nodes import Amounts, RayNode
from finesweep.launch.ray.profile import RayProfile
from finesweep.spec.sections import BudgetSpec, StopSpec
from made_profiles import settled

RUN = Run(1, BudgetSpec(), StopSpec(), {}, {}, "here", 1, 0.0, token="t0k")
NODES = [RayNode("a", "node-a", Amounts(4.0))]
ASKED = {"folder": "/somewhere", "run": 1, "token": "t0k", "model": None, "need": {"cpus": 1.0}}
LISTED = '{"nodes": [{"id": "a", "host": "node-a", "has": {"cpus": 4.0}}]}'


@pytest.fixture
def stand_in_process(tmp_path: Path, monkeypatch):
    """Have a shell script stand in for the connected process; it is told what ours says."""

    def stand_in(*lines: str) -> Path:
        program = tmp_path / "stand_in_process"
        program.write_text(
            "\n".join(["#!/bin/sh", f"exec 3>> {tmp_path}/told", "read asked", "echo $asked >&3", *lines])
        )
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return tmp_path / "told"

    return stand_in


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sweep_folder(tmp_path: Path) -> SweepFolder:
    return make_folders(tmp_path / "sweep")


def says(*events: str) -> list[str]:
    return [f"echo '{event}'" for event in events]


def until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_connected_process_says_what_nodes_there_are(stand_in_process, tmp_path):
    told = stand_in_process(*says(LISTED, '{"complaints": []}'), "cat > /dev/null")
    connection = RayConnection("auto", tmp_path / "ray.log")
    assert connection.connect(ASKED) == NODES
    connection.close()
    assert '"address": "auto", "folder": "/somewhere", "run": 1, "token": "t0k"' in told.read_text()


def test_nodes_that_do_not_see_the_folder_are_all_named(stand_in_process, tmp_path):
    stand_in_process(*says(LISTED, '{"complaints": ["node a: no folder", "node b: no model"]}'), "cat > /dev/null")
    connection = RayConnection("auto", tmp_path / "ray.log")
    with pytest.raises(LaunchError, match=r"^node a: no folder\nnode b: no model$"):
        connection.connect(ASKED)
    assert connection._process.poll() is not None


def test_a_refusal_is_told_in_rays_own_words(stand_in_process, tmp_path):
    (tmp_path / "ray.log").write_text("of an earlier run\n")
    stamp = "[2026-11-22 22:29:49,136 W 3856 3856] gcs_client.cc:210: "
    stand_in_process(f"echo 'RuntimeError: Version mismatch' >&2; echo '{stamp}InvalidAuthToken' >&2; exit 1")
    connection = RayConnection("auto", tmp_path / "ray.log")
    with pytest.raises(LaunchError, match=r"^Ray at auto: InvalidAuthToken$"):
        connection.connect()


def test_a_process_that_ends_without_a_word_is_told_as_that(stand_in_process, tmp_path):
    (tmp_path / "ray.log").write_text("of an earlier run\n")
    stand_in_process("exit 1")
    connection = RayConnection("auto", tmp_path / "ray.log")
    with pytest.raises(LaunchError, match=r"^Ray at auto: no answer$"):
        connection.connect()


def test_silence_has_an_end(stand_in_process, tmp_path, monkeypatch):
    monkeypatch.setattr(connection_module, "CONNECT_SECONDS", 2)
    stand_in_process("echo trying >&2; exec sleep 600")
    connection = RayConnection("auto", tmp_path / "ray.log")
    with pytest.raises(LaunchError, match=r"^Ray at auto did not answer within 2 s: trying$"):
        connection.connect()
    assert not psutil.pid_exists(connection._process.pid)


def test_nobody_at_the_address_is_found_out_before_ray_is_asked(stand_in_process, tmp_path):
    told = stand_in_process()
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(LaunchError, match=rf"^Ray at {address}: Connection refused; is the cluster running there\?$"):
        RayConnection(address, tmp_path / "ray.log")
    assert not told.exists()


def test_a_connection_that_cannot_be_started_is_told(tmp_path, monkeypatch):
    with pytest.raises(LaunchError, match=r"the process that talks to Ray could not be started: .*No such file"):
        RayConnection("auto", tmp_path / "gone" / "ray.log")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(LaunchError, match=r"could not be started: .*nowhere"):
        RayConnection("auto", tmp_path / "ray.log")


def test_auto_is_what_the_environment_says(stand_in_process, tmp_path, monkeypatch):
    stand_in_process()
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    message = r"RAY_ADDRESS is http://head:8265: sweep run needs the head's host:port; a dashboard is for sweep submit"
    with pytest.raises(LaunchError, match=message):
        RayConnection("auto", tmp_path / "ray.log")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{taken.getsockname()[1]}")
    with pytest.raises(LaunchError, match=r"^Ray at 127\.0\.0\.1:\d+: Connection refused"):
        RayConnection("auto", tmp_path / "ray.log")


def test_the_nodes_are_asked_for_once(stand_in_process, monkeypatch):
    told = stand_in_process(*says(LISTED), "cat > /dev/null")
    connection_module.nodes_of.cache_clear()
    assert list(connection_module.nodes_of("auto")) == list(connection_module.nodes_of("auto")) == NODES
    connection_module.nodes_of.cache_clear()
    assert len(told.read_text().splitlines()) == 1


def launched(
    stand_in_process: Any, sweep_folder: SweepFolder, *lines: str, single_worker: bool = False, **keys: Any
) -> RayHandle:
    stand_in_process(*says(LISTED, '{"complaints": []}'), *lines)
    profile = settled(RayProfile(**keys), threads=2)
    return RayLauncher().start(sweep_folder, RUN, profile, None, single_worker=single_worker)


def test_a_worker_is_asked_for_with_what_it_needs(stand_in_process, sweep_folder, tmp_path):
    handle = launched(stand_in_process, sweep_folder, "read work; echo $work >&3", "cat > /dev/null")
    until(lambda: len((tmp_path / "told").read_text().splitlines()) == 2)
    said = (tmp_path / "told").read_text().splitlines()[1]
    assert '"do": "start", "id": 1' in said
    assert f'["-P", "-m", "finesweep", "worker", "{sweep_folder.path}", "--run", "1", "--token", "t0k"]' in said
    assert f'"log": "{sweep_folder.path}/logs/worker-0001-1.log", "threads": 2, "gpu": false, "joins": false' in said
    assert '"need": {"cpus": 2.0, "gpus": 0.0, "memory_gb": 0.0, "resources": {}}' in said
    assert (handle.pid, handle.poll()) == (None, None)


def test_a_worker_that_runs_its_trials_elsewhere_takes_nothing_and_joins_the_cluster(
    stand_in_process, sweep_folder, tmp_path
):
    launched(stand_in_process, sweep_folder, "read work; echo $work >&3", "cat > /dev/null", single_worker=True)
    until(lambda: len((tmp_path / "told").read_text().splitlines()) == 2)
    said = (tmp_path / "told").read_text().splitlines()[1]
    assert '"threads": null, "gpu": false, "joins": true' in said
    assert '"need": {"cpus": 0.0, "gpus": 0.0' in said


def test_the_end_of_a_worker_and_what_ray_says_of_it_are_passed_on(stand_in_process, sweep_folder):
    ended = '{"id": 1, "ended": 3, "why": "no such file"}'
    handle = launched(
        stand_in_process, sweep_folder, "read work", *says('{"id": 1, "pending": "waits"}'), "read go", *says(ended)
    )
    until(lambda: (handle.poll(), "Ray: waits\n" in log(sweep_folder))[1])
    assert handle.poll() is None
    handle.stop()
    until(lambda: handle.poll() is not None)
    assert handle.poll() == 3
    assert log(sweep_folder) == "Ray: waits\nRay: no such file\n"
    assert sweep_folder.notes == ["logs/worker-0001-1.log: waits", "logs/worker-0001-1.log: no such file"]


def log(sweep_folder: SweepFolder) -> str:
    file = sweep_folder.worker_log(1, 0)
    return file.read_text() if file.exists() else ""


def test_without_the_connection_workers_are_lost_and_the_next_one_connects_anew(stand_in_process, sweep_folder):
    stand_in_process(*says(LISTED, '{"complaints": []}'), "read work; exit 1")
    launcher = RayLauncher()
    profile = settled(RayProfile())
    handle = launcher.start(sweep_folder, RUN, profile, None)
    until(lambda: handle.poll() is not None)
    assert handle.poll() == -signal.SIGKILL
    handle.stop()
    handle.kill()
    told = stand_in_process(*says(LISTED, '{"complaints": []}'), "read work; cat > /dev/null")
    assert launcher.start(sweep_folder, RUN, profile, None).poll() is None
    assert len(told.read_text().splitlines()) == 2


def test_a_worker_that_no_node_could_take_is_not_asked_for(stand_in_process, sweep_folder):
    with pytest.raises(
        LaunchError, match=r"no node of the Ray cluster could take a worker: it asks for CPU: 2, a: 1; "
    ):
        launched(stand_in_process, sweep_folder, "cat > /dev/null", resources={"a": 1.0})


class Recorder:
    """Stands in for the workers on a cluster, and notes what they are told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.has_work = True

    def obey(self, request: Any) -> None:
        self.told.append(request)

    def stop_all(self) -> None:
        self.told.append("stop")

    def look(self) -> None:
        self.has_work = self.has_work and "stop" not in self.told


def test_requests_are_read_by_line_however_they_come_and_the_end_of_them_stops_all():
    reading, writing = os.pipe()
    for part in (b'{"a": 1}\n{"b"', b": 2}\n"):
        os.write(writing, part)
    os.close(writing)
    workers: Any = Recorder()
    connection_process.serve(workers, reading)
    os.close(reading)
    assert workers.told == [{"a": 1}, {"b": 2}, "stop"]


def test_workers_that_do_not_stop_are_waited_for_no_longer_than_they_have(monkeypatch):
    monkeypatch.setattr(deadlines, "WORKER_SECONDS", 0.2)
    reading, writing = os.pipe()
    os.close(writing)
    workers: Any = Recorder()
    monkeypatch.setattr(workers, "look", lambda: None)
    began = time.monotonic()
    connection_process.serve(workers, reading)
    os.close(reading)
    assert 0.2 <= time.monotonic() - began < 30


@pytest.fixture
def node_worker() -> Iterator[NodeWorker]:
    found = NodeWorker()
    yield found
    found.kill()


def work(folder: Path, script: str, **keys: Any) -> dict[str, Any]:
    return {
        "arguments": ["-c", script],
        "log": str(folder / "w.log"),
        "threads": 3,
        "gpu": False,
        "address": None,
        **keys,
    }


def test_on_its_node_a_worker_has_its_threads_no_gpu_and_a_parent(node_worker, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    shown = "import os, sys; e = os.environ; print(e['OMP_NUM_THREADS'], [e['CUDA_VISIBLE_DEVICES']], sys.argv[1:])"
    assert node_worker.run(work(tmp_path, shown + "; sys.exit(7)")) == 7
    assert NodeWorker().run(work(tmp_path, shown, gpu=True, threads=1)) == 0
    parent = ["--parent", str(os.getpid())]
    assert (tmp_path / "w.log").read_text() == f"3 [''] {parent}\n1 ['5'] {parent}\n"


def test_no_credentials_travel_to_the_nodes(stand_in_process, sweep_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    launched(stand_in_process, sweep_folder, "read work; echo $work >&3", "cat > /dev/null")
    until(lambda: len((tmp_path / "told").read_text().splitlines()) == 2)
    assert "s3cret" not in (tmp_path / "told").read_text()


def test_a_worker_that_joins_the_cluster_is_told_where_it_is(node_worker, tmp_path):
    node_worker.run(work(tmp_path, "import os; print(os.environ['RAY_ADDRESS'])", address="head:6379"))
    assert (tmp_path / "w.log").read_text() == "head:6379\n"


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_worker_that_is_ended_before_it_was_started_is_not_started(node_worker, tmp_path, how):
    getattr(node_worker, how)()
    assert node_worker.run(work(tmp_path, "print('runs')")) == 128 + signal.SIGTERM
    assert not (tmp_path / "w.log").exists()


def test_killing_a_worker_kills_the_trial_that_has_outlived_it(node_worker, tmp_path):
    forks = "import os, time, sys; pid = os.fork(); pid and (print(pid, flush=True), os._exit(0)); time.sleep(600)"
    assert node_worker.run(work(tmp_path, forks)) == 0
    trial = psutil.Process(int((tmp_path / "w.log").read_text()))
    assert trial.is_running()
    node_worker.kill()
    node_worker.stop()
    until(lambda: not trial.is_running() or trial.status() == psutil.STATUS_ZOMBIE)


def test_a_node_with_another_version_of_finesweep_says_so(tmp_path):
    assert look(str(tmp_path), 1, "", None, "0.0") == "finesweep 0.1.0 is installed there, 0.0 here"


def test_a_node_without_the_folder_or_the_model_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("finesweep.folder.shared_folder.VISIBLE_SECONDS", 0.0)
    folder = make_folders(tmp_path / "sweep")
    folder.write_run(RUN)
    assert look(str(folder.path), 1, "t0k", None, "0.1.0") is None
    assert look(str(folder.path), 1, "t0k", str(tmp_path), "0.1.0") is None
    assert "has another token" in (look(str(folder.path), 1, "other", None, "0.1.0") or "")
    assert "there is no such folder" in (look(str(tmp_path / "gone"), 1, "t0k", None, "0.1.0") or "")
    assert "the model must lie on a file system" in (look(str(folder.path), 1, "t0k", "/gone", "0.1.0") or "")


@pytest.mark.parametrize(
    ("address", "is_job", "chosen"),
    [
        ("auto", True, "head:1"),
        ("auto", False, "auto"),
        ("other:2", True, "other:2"),  # Ray has told the job of another cluster on the same machine
        ("other:2", False, "other:2"),
    ],
)
def test_a_job_of_rays_joins_the_cluster_that_it_was_told_of_unless_the_profile_names_one(
    monkeypatch, address, is_job, chosen
):
    monkeypatch.setenv("RAY_ADDRESS", "head:1")
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    if is_job:
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert launcher._chosen(address) == chosen
