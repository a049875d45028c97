"""Jobs for a Ray cluster: what its dashboard is asked, what it answers, and what is said when it does not."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from finesweep.errors import FolderError, LaunchError
from finesweep.folder.manifest import Run
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.launch import deadlines
from finesweep.launch.profile import Profile
from finesweep.launch.protocol import Job, Order
from finesweep.launch.ray import dashboard as ray_dashboard
from finesweep.launch.ray import submitter as submitter_module
from finesweep.launch.ray.dashboard import Dashboard
from finesweep.launch.ray.nodes import Amounts, RayNode
from finesweep.launch.ray.profile import RayProfile
from finesweep.launch.slurm.profile import SlurmProfile
from finesweep.registry import SUBMITTERS
from finesweep.spec.sections import BudgetSpec, StopSpec
from made_profiles import settled

TOKEN = "d34d"


@dataclass
class Stub:
    """A server on this machine that answers as it is told, and remembers what it was asked.

    Attributes:
        url: Its address.
        answers: Status and body of each answer by method and path; a list is answered in turn.
        asked: Method, path, token and body of each question.
    """

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None, Any]] = field(default_factory=list)

    def answer(self, method: str, path: str) -> tuple[int, str]:
        found = self.answers.get(f"{method} {path}", (404, "no such page"))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return found if isinstance(found, tuple) else (200, json.dumps(found))


@pytest.fixture
def stub() -> Iterator[Stub]:
    found = Stub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answered(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token = self.headers.get("Authorization")
            found.asked.append((self.command, self.path, token, json.loads(body) if body else None))
            status, text = found.answer(self.command, self.path)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", text)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = answered  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_token(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def order(folder: Path, stub: Stub, *, file: Path | None = None, **keys: Any) -> Order:
    profile = RayProfile(dashboard=stub.url, workers=2, **keys)
    numbers = settled(profile, workers=2)
    run = Run(3, BudgetSpec(), StopSpec(), numbers.record(), {}, "here", 1, 0.0, token="t0k")
    return Order(make_folders(folder), run, numbers, "my-sweep", False, file)


def submitter() -> Any:
    return SUBMITTERS.load("ray")()


def test_the_nodes_are_those_alive(stub):
    alive = {"node_id": "a", "node_ip": "10.0.0.1", "state": "ALIVE", "resources_total": {"CPU": 4.0, "memory": 2e9}}
    dead = {"node_id": "b", "node_ip": "10.0.0.2", "state": "DEAD", "resources_total": {}}
    stub.answers["GET /api/v0/nodes?limit=10000"] = {"data": {"result": {"result": [alive, dead]}}}
    assert Dashboard(stub.url).nodes() == [RayNode("a", "10.0.0.1", Amounts(4.0, 0.0, 2.0))]
    stub.answers["GET /api/v0/nodes?limit=10000"] = {"data": {"result": None}}
    with pytest.raises(LaunchError, match="does not say what nodes there are"):
        Dashboard(stub.url).nodes()


@pytest.mark.parametrize("source", ["variable", "file", "home"])
def test_the_token_comes_from_where_ray_keeps_it(stub, monkeypatch, tmp_path, source):
    stub.answers["GET /api/version"] = {"ray_version": "2.60.0"}
    if source == "variable":
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    elif source == "file":
        (tmp_path / "token").write_text(TOKEN + "\n")
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    else:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray/auth_token").write_text(TOKEN)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert Dashboard(stub.url).version() == "2.60.0"
    assert stub.asked == [("GET", "/api/version", f"Bearer {TOKEN}", None)]


def test_without_a_token_none_is_sent(stub, tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text(TOKEN)
    stub.answers["GET /api/version"] = {}
    assert Dashboard(stub.url).version() == "unknown"
    assert stub.asked[0][2] is None


def test_a_token_that_cannot_be_read_is_named_by_its_file(stub, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    with pytest.raises(LaunchError, match=r"/nowhere/token: the token for Ray cannot be read"):
        Dashboard(stub.url).version()


def test_a_redirection_is_not_followed_since_it_would_take_the_token_along(stub, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    stub.answers["GET /api/version"] = (302, f"{stub.url}/elsewhere")
    with pytest.raises(LaunchError, match=r"refused \(302\)"):
        Dashboard(stub.url).version()
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, "Unauthorized"), r"wants a token: set RAY_AUTH_TOKEN \(401: Unauthorized\)"),
        ((500, "Trace\nback \x1b[31m"), r"refused \(500\): Trace back \\x1b\[31m"),
        ((200, "<html>"), "is no dashboard of Ray"),
        ((200, "[]"), "is no dashboard of Ray"),
    ],
)
def test_a_refusal_is_told_in_the_dashboards_own_words(stub, answer, message):
    stub.answers["GET /api/version"] = answer
    with pytest.raises(LaunchError, match=message):
        submitter().check(RayProfile(dashboard=stub.url))


def test_nobody_at_the_address_is_told_with_the_address():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(LaunchError, match=rf"dashboard at http://127.0.0.1:{port} cannot be reached: .*refused"):
        Dashboard(f"http://127.0.0.1:{port}").version()


def test_a_dashboard_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(ray_dashboard, "ANSWER_SECONDS", 0.2)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        dashboard = Dashboard(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(LaunchError, match="cannot be reached: timed out"):
            dashboard.version()


def test_without_a_dashboard_the_key_and_the_variable_are_named():
    with pytest.raises(
        LaunchError, match=r"`dashboard: http://host:8265` into the profile, or set RAY_API_SERVER_ADDRESS"
    ):
        submitter().check(RayProfile())


def test_a_sweep_becomes_one_job(stub, tmp_path):
    stub.answers["POST /api/jobs/"] = {"submission_id": "x"}
    given = order(tmp_path / "sweep", stub, file=Path("my ray.yaml"))
    found = submitter().submit(given, dry_run=False)
    ((_, _, _, body),) = stub.asked
    assert found.jobs == {"sweep": body["submission_id"]}
    assert body["submission_id"].startswith("finesweep-my-sweep-3-")
    assert body["entrypoint"].startswith(f"python3 -P -m finesweep supervise {tmp_path}/sweep --run 3 --token t0k ")
    assert body["metadata"] == {"sweep": "my-sweep", "folder": f"{tmp_path}/sweep", "run": "3", "token": "t0k"}
    assert body["runtime_env"] == {"env_vars": {"PYTHONSAFEPATH": "1", "RAY_JOB_STOP_WAIT_TIME_S": "60"}}
    assert f"  sweep status {tmp_path}/sweep --on 'my ray.yaml'  how far it is" in found.lines


@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_dashboard_that_takes_jobs_from_anybody_is_remarked_on(stub, tmp_path, monkeypatch, token):
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    stub.answers["POST /api/jobs/"] = {}
    lines = submitter().submit(order(tmp_path / "sweep", stub), dry_run=False).lines
    assert any("asks for no token" in line for line in lines) is (token == "")


def test_two_submissions_have_two_names(stub, tmp_path):
    stub.answers["POST /api/jobs/"] = {}
    jobs = [submitter().submit(order(tmp_path / "sweep", stub), dry_run=False).jobs["sweep"] for _ in range(2)]
    assert jobs[0] != jobs[1]


def test_a_dry_run_shows_the_job_and_asks_nobody(stub, tmp_path):
    given = order(tmp_path / "sweep", stub)
    found = submitter().submit(given, dry_run=True)
    assert (found.jobs, stub.asked) == ({}, [])
    stub.answers["POST /api/jobs/"] = {}
    submitter().submit(given, dry_run=False)
    said, entrypoint = found.lines
    assert said.startswith(f"Nothing was submitted. {stub.url} would get this job, finesweep-my-sweep-3-")
    assert entrypoint == f"  {stub.asked[0][3]['entrypoint']}"


@pytest.mark.parametrize("name", ["a b; touch PWNED", "$(touch PWNED)", "`touch PWNED`", "a'; touch PWNED; '", 'a"b'])
def test_a_folder_of_any_name_stays_one_word_of_the_jobs_shell(stub, tmp_path, name):
    stub.answers["POST /api/jobs/"] = {}
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor word; do echo "<$word>"; done\nexit 7\n')
    python.chmod(0o755)
    folder = tmp_path / name
    submitter().submit(order(folder, stub, python=str(python)), dry_run=False)
    shell = subprocess.run(
        stub.asked[0][3]["entrypoint"], shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    said = "".join(
        f"<{word}>\n" for word in ("-P", "-m", "finesweep", "supervise", folder, "--run", "3", "--token", "t0k")
    )
    assert (shell.returncode, shell.stdout, shell.stderr) == (7, said, "")
    assert (folder / "logs/job-0003.log").read_text() == said
    assert not (tmp_path / "PWNED").exists()


def submitted(stub: Stub, folder: Path, *status: Any) -> tuple[SweepFolder, Run, RayProfile]:
    """Return a folder whose run is the job ``id``, which the dashboard has in each state in turn, and its profile."""
    given = order(folder, stub)
    given.sweep_folder.write_jobs(3, {"sweep": "id"})
    own = {"metadata": {"token": "t0k"}}
    stub.answers["GET /api/jobs/id"] = [{**own, **one} if isinstance(one, dict) else one for one in status]
    assert isinstance(given.profile.asked, RayProfile)
    return given.sweep_folder, given.run, given.profile.asked


UNKNOWN = "the cluster knows no such job of this run: it was deleted, or the cluster is another one"
NOT_OURS = ((404, "no"), {"status": "RUNNING", "metadata": {"token": "other"}}, {"status": "RUNNING", "metadata": None})


@pytest.mark.parametrize(
    ("said", "state", "detail"),
    [
        ({"status": "PENDING", "message": "soon"}, "queued", ""),
        ({"status": "RUNNING"}, "running", ""),
        ({"status": "SUCCEEDED"}, "finished", ""),
        ({"status": "FAILED", "message": "exit 3"}, "dead", "FAILED: exit 3"),
        ({"status": "STOPPED"}, "dead", "STOPPED"),
        ({"status": "NEW"}, "unknown", "NEW"),
        *[(said, "unknown", UNKNOWN) for said in NOT_OURS],
    ],
)
def test_the_dashboards_states_are_told_in_ours(stub, tmp_path, said, state, detail):
    assert submitter().jobs(*submitted(stub, tmp_path / "s", said)) == [Job("id", "sweep", state, detail)]


def test_without_a_job_nobody_is_asked(stub, tmp_path):
    given = order(tmp_path / "s", stub)
    assert submitter().jobs(given.sweep_folder, given.run) == []
    assert submitter().cancel(given.sweep_folder, given.run) == []
    assert stub.asked == []


def test_a_job_is_stopped_and_waited_for(stub, tmp_path, monkeypatch):
    monkeypatch.setattr(submitter_module, "POLL_SECONDS", 0.01)
    look, statuses = ("GET", "/api/jobs/id"), ("RUNNING", "RUNNING", "STOPPED")
    where = submitted(stub, tmp_path / "s", *({"status": status} for status in statuses))
    stub.answers["POST /api/jobs/id/stop"] = {"stopped": True}
    assert submitter().cancel(*where) == ["id was stopped"]
    assert [asked[:2] for asked in stub.asked] == [look, ("POST", "/api/jobs/id/stop"), look, look]


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ({"stopped": False}, "id had ended already"),
        ((404, "no"), "id is not known to the cluster as a job of this run"),
        ({"stopped": True}, "id was asked to stop, and still runs"),
    ],
)
def test_a_job_that_is_not_stopped_is_told(stub, tmp_path, monkeypatch, answer, line):
    monkeypatch.setattr(deadlines, "CANCEL_SECONDS", 0.0)
    stub.answers["POST /api/jobs/id/stop"] = answer
    assert submitter().cancel(*submitted(stub, tmp_path / "s", {"status": "RUNNING"})) == [line]


@pytest.mark.parametrize("said", NOT_OURS)
def test_a_job_that_is_not_the_runs_own_is_not_stopped(stub, tmp_path, said):
    """A folder may name any job of the user's."""
    line = "id is not known to the cluster as a job of this run"
    assert submitter().cancel(*submitted(stub, tmp_path / "s", said)) == [line]
    assert [asked[:2] for asked in stub.asked] == [("GET", "/api/jobs/id")]


def test_an_id_from_the_folder_is_one_part_of_the_address(stub, tmp_path):
    given = order(tmp_path / "s", stub)
    given.sweep_folder.write_jobs(3, {"sweep": "../../x?y"})
    submitter().jobs(given.sweep_folder, given.run, given.profile.asked)
    assert stub.asked[0][1] == "/api/jobs/..%2F..%2Fx%3Fy"


ASKS = ("jobs", "cancel")
OTHER = "http://127.0.0.1:1"


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("named", [None, OTHER, "http://127.0.0.1"])
def test_a_dashboard_that_only_a_folder_names_is_told_nothing(stub, tmp_path, monkeypatch, ask, named):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    if named is not None:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", named)
    sweep_folder, run, _ = submitted(stub, tmp_path / "s", {"status": "RUNNING"})
    message = rf"says that its job is at {stub.url}; .*--on PROFILE\.yaml or RAY_API_SERVER_ADDRESS={stub.url}$"
    for given in (None, Profile(), SlurmProfile()):
        with pytest.raises(FolderError, match=message):
            getattr(submitter(), ask)(sweep_folder, run, given)
    assert stub.asked == []


@pytest.mark.parametrize("by", ["profile", "environment"])
def test_a_dashboard_that_the_call_names_is_asked_with_the_token(stub, tmp_path, monkeypatch, by):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    sweep_folder, run, profile = submitted(stub, tmp_path / "s", {"status": "RUNNING"})
    if by == "environment":
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", stub.url + "/")
    assert submitter().jobs(sweep_folder, run, profile if by == "profile" else None) == [Job("id", "sweep", "running")]
    assert stub.asked == [("GET", "/api/jobs/id", f"Bearer {TOKEN}", None)]


def test_what_the_profile_names_is_asked_and_not_what_the_folder_names(stub, tmp_path):
    sweep_folder, run, profile = submitted(stub, tmp_path / "s", {"status": "RUNNING"})
    moved = dataclasses.replace(run, profile={**run.profile, "dashboard": OTHER})
    assert submitter().jobs(sweep_folder, moved, profile) == [Job("id", "sweep", "running")]
    with pytest.raises(LaunchError, match=f"dashboard at {OTHER} cannot be reached"):
        submitter().jobs(sweep_folder, run, profile.model_copy(update={"dashboard": OTHER}))
