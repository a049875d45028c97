import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from finesweep import hub
from finesweep.hub import HubError, snapshot

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL_FILES = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "modeling_evil.py": b"code",
    "onnx/config.json": b"{}",
}


class FakeHub(BaseHTTPRequestHandler):
    """Answers for one model, as the Hub does: what it is, which files it has, and their bytes."""

    error: tuple[int, str] | None = None
    body = b""
    requests: list[str]
    authorizations: list[str | None]

    def do_GET(self):
        self.requests.append(self.path)
        self.authorizations.append(self.headers.get("authorization"))
        if self.error is not None:
            self._send(self.error[0], b"{}", {"X-Error-Code": self.error[1]})
        elif self.body:
            self._send(200, self.body)
        elif "/resolve/" in self.path:
            self._send(200, MODEL_FILES[self.path.split(COMMIT + "/")[1]])
        elif "/tree/" in self.path:
            files = [{"type": "file", "path": name, "size": len(data)} for name, data in MODEL_FILES.items()]
            self._send(200, json.dumps([{**file, "oid": "0" * 40} for file in files]).encode())
        else:
            self._send(200, json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": []}).encode())

    def do_HEAD(self):
        self.do_GET()

    def _send(self, status, data, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def ask(monkeypatch, cache):
    def point(address):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )

    return point


@pytest.fixture
def fake_hub(ask):
    handler = type("Handler", (FakeHub,), {"requests": [], "authorizations": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    ask(f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def fill(cache: Path, kind="models", files=("config.json",), tree=None):
    repo = cache / f"{kind}--org--tiny"
    folder = repo / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_text("{}")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    if tree is not None:
        (repo / "trees").mkdir()
        listed = {"format_version": 1, "files": {name: {"size": 2, "blob_id": "0" * 40} for name in tree}}
        (repo / "trees" / f"{COMMIT}.json").write_text(json.dumps(listed))
    return folder


def test_download_takes_what_can_hold_no_code_and_names_the_commit(fake_hub, cache, capfd):
    found = snapshot("org/tiny", kind="model", revision=None)
    assert found.commit == COMMIT
    assert found.note == ""
    assert sorted(file.name for file in found.path.rglob("*")) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert capfd.readouterr() == ("", "")


def test_a_download_is_found_again_without_the_network(fake_hub, ask):
    first = snapshot("org/tiny", kind="model", revision=None)
    ask("http://127.0.0.1:9")
    again = snapshot("org/tiny", kind="model", revision=None)
    assert (again.path, again.commit) == (first.path, first.commit)
    assert "cannot be reached" in again.note


def test_refused_connection_names_what_to_do_offline(ask):
    ask("http://user:secret@127.0.0.1:9")
    with pytest.raises(HubError, match=r"127\.0\.0\.1:9 cannot be reached.*is not in the cache") as caught:
        snapshot("org/tiny", kind="model", revision="v1")
    assert "`hf download org/tiny --revision v1`" in caught.value.hint
    assert "secret" not in str(caught.value)


def test_hint_for_a_data_set_has_its_option(ask):
    ask("http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"hf download --repo-type dataset org/tiny`"):
        snapshot("org/tiny", kind="dataset", revision=None)


def test_503_falls_back_to_the_cache_with_a_note(fake_hub, cache):
    fake_hub.error = (503, "")
    with pytest.raises(HubError, match=r"HTTP status 503, and model org/tiny is not in the cache"):
        snapshot("org/tiny", kind="model", revision=None)
    folder = fill(cache)
    found = snapshot("org/tiny", kind="model", revision=None)
    assert found.path.samefile(folder)
    assert "HTTP status 503" in found.note
    assert COMMIT[:8] in found.note


def test_a_server_that_never_answers_is_given_up(ask, monkeypatch):
    monkeypatch.setattr(hub, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ask(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(HubError, match="does not answer, and model org/tiny is not in the cache"):
            snapshot("org/tiny", kind="model", revision=None)


def test_an_answer_that_trickles_is_given_up(ask, monkeypatch):
    monkeypatch.setattr(hub, "DEADLINE_SECONDS", 0.5)
    done = threading.Event()

    def trickle(server):
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not done.wait(0.1):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=trickle, args=(server,))
        thread.start()
        ask(f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(HubError, match="does not answer"):
            snapshot("org/tiny", kind="model", revision=None)
        # Far below the hundred seconds the answer would take, far above the half second it may take.
        assert time.monotonic() - start < 50
        done.set()
        thread.join()


def test_deadlines_stay_below_twenty_seconds():
    assert hub.ANSWER_SECONDS < hub.DEADLINE_SECONDS < 20


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        ((404, "RepoNotFound"), "has no model org/tiny, or it is private", "check the spelling"),
        ((403, "GatedRepo"), "model org/tiny is gated", "hf auth login"),
        ((404, "RevisionNotFound"), "model org/tiny has no revision 'v9'", "a branch, a tag or a commit"),
        ((401, ""), "refuses your token", "unset HF_TOKEN"),
    ],
)
def test_refusals_in_clear_words(fake_hub, error, message, hint):
    fake_hub.error = error
    with pytest.raises(HubError, match=message) as caught:
        snapshot("org/tiny", kind="model", revision="v9")
    assert hint in caught.value.hint


def test_a_portal_page_instead_of_the_hub(fake_hub):
    fake_hub.body = b"<html>please log in</html>"
    with pytest.raises(HubError, match="does not answer as a Hub does"):
        snapshot("org/tiny", kind="model", revision=None)


def test_a_token_is_sent_but_never_shown(fake_hub, monkeypatch, capfd):
    monkeypatch.setenv("HF_TOKEN", "hf_sEcReTsEcReT")
    fake_hub.error = (401, "")
    with pytest.raises(HubError, match="refuses your token") as caught:
        snapshot("org/tiny", kind="model", revision=None)
    assert fake_hub.authorizations == ["Bearer hf_sEcReTsEcReT"]
    assert "sEcReT" not in str(caught.value) + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "repo_id", ["a/b/c", "..", "-a/b", "a/b.git", "a--b", "a b", "a/", "/a", "a\nb", "a" * 200, ""]
)
def test_ids_that_are_none(repo_id):
    with pytest.raises(HubError, match="is no model id"):
        snapshot(repo_id, kind="model", revision=None)


@pytest.mark.parametrize("revision", ["../../etc/passwd", "/etc/passwd", "", "a b", "--flag"])
def test_revisions_that_are_none(revision):
    with pytest.raises(HubError, match="is no revision"):
        snapshot("org/tiny", kind="model", revision=revision)


@pytest.mark.parametrize("address", ["http://127.0.0.1:x", "nonsense", "ftp://example.org", "http://"])
def test_an_endpoint_that_is_none(address, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(HubError, match="HF_ENDPOINT is no address"):
        snapshot("org/tiny", kind="model", revision=None)


def test_offline_mode_uses_the_cache_and_asks_nobody(fake_hub, cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set, and model org/tiny is not in the cache"):
        snapshot("org/tiny", kind="model", revision=None)
    fill(cache)
    assert snapshot("org/tiny", kind="model", revision=COMMIT).commit == COMMIT
    assert fake_hub.requests == []


def test_rows_missing_from_the_cache_are_an_error(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fill(cache, "datasets", files=("a.parquet",), tree=("a.parquet", "b.parquet"))
    with pytest.raises(HubError, match="the copy of dataset org/tiny in the cache lacks files"):
        snapshot("org/tiny", kind="dataset", revision=None)


def test_model_files_missing_from_the_cache_are_left_to_the_checks_that_follow(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = fill(cache, files=("config.json",), tree=("config.json", "vocab.txt"))
    assert snapshot("org/tiny", kind="model", revision=None).path.samefile(folder)


def test_a_cache_that_cannot_be_written(fake_hub, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(HubError, match=r"cannot be stored in .*Not a directory"):
        snapshot("org/tiny", kind="model", revision=None)


def test_environment_variables_reach_it(tmp_path):
    fill(tmp_path / "hub")
    code = "from finesweep.hub import snapshot; print(snapshot('org/tiny', kind='model', revision=None).commit)"
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (COMMIT, "")
