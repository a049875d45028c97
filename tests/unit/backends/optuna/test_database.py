"""A database that is not there, or not at once: what is said, and for how long it is tried again."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable

import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError

from finesweep.backends.optuna import database
from finesweep.errors import LaunchError, MissingExtra
from finesweep.launch.storage_url import DatabaseAway


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_missing_extra_is_named_with_its_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"pip install 'finesweep\[postgres\]'"):
        database.check("postgresql://127.0.0.1/db")


def test_a_server_that_cannot_be_reached_is_one_clear_message():
    port = closed_port()
    with pytest.raises(LaunchError, match=rf"^the database 127\.0\.0\.1:{port}/db: .*Connection refused$"):
        database.check(f"postgresql://anna@127.0.0.1:{port}/db")


class Server:
    """Fails with one error for some seconds, or for ever."""

    def __init__(self, error: Exception, away: float = float("inf")) -> None:
        self.error, self.back = error, time.monotonic() + away
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if time.monotonic() < self.back:
            # As Optuna passes on what happened.
            raise StorageInternalError("An exception is raised during the commit.") from self.error
        return "done"


@pytest.fixture
def sleeping(clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time pass only while somebody sleeps."""
    monkeypatch.setattr(time, "sleep", clock)


def tables(patience: float = 60.0) -> database._PatientStorage:
    made = object.__new__(database._PatientStorage)
    made.place, made.patience, made._gave_up = "host/db", patience, False
    return made


REFUSED = sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("connection refused\nIs it running?"))
WRONG = sqlalchemy.exc.ProgrammingError("SELECT secret", {}, Exception("permission denied for table studies"))


@pytest.mark.usefixtures("sleeping")
def test_what_a_restarted_server_did_not_do_is_done_again():
    server = Server(REFUSED, away=20.0)
    assert tables().persist(server) == "done"
    assert 5 < server.asked < 20


@pytest.mark.usefixtures("sleeping")
def test_patience_ends_and_is_not_asked_for_a_second_time():
    """A trial's further reports must not wait a minute each."""
    made, server, began = tables(), Server(REFUSED), time.monotonic()
    with pytest.raises(DatabaseAway, match=r"^the database host/db: connection refused$"):
        made.persist(server)
    assert 50 < time.monotonic() - began <= 60
    gave_up, asked = time.monotonic(), server.asked
    with pytest.raises(DatabaseAway, match="connection refused"):
        made.persist(server)
    assert (time.monotonic(), server.asked) == (gave_up, asked + 1)


@pytest.mark.usefixtures("sleeping")
def test_patience_is_back_when_the_server_is():
    made = tables()
    with pytest.raises(DatabaseAway, match="refused"):
        made.persist(Server(REFUSED))
    made.persist(lambda: None)
    assert made.persist(Server(REFUSED, away=10)) == "done"


@pytest.mark.usefixtures("sleeping")
def test_what_waiting_cannot_cure_is_said_at_once_and_without_the_statement():
    server = Server(WRONG)
    with pytest.raises(DatabaseAway, match="permission denied for table studies") as caught:
        tables().persist(server)
    assert server.asked == 1
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("sleeping")
def test_the_sweeps_lock_is_not_held_while_waiting():
    """A worker that waits for a database must not keep the others from claiming and recording."""
    source, began = database.DatabaseSource("postgresql://host/db", "study"), time.monotonic()
    source._tables = tables()
    held = []

    def action() -> None:
        held.append(source._tables.patience)
        if time.monotonic() - began < 20:
            raise DatabaseAway("away")

    source.persist(action)
    assert set(held) == {0.0}
    assert source._tables.patience == database.PATIENCE_SECONDS


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (REFUSED, True),
        (sqlalchemy.exc.InterfaceError("", {}, Exception("the connection is closed")), True),
        (sqlalchemy.exc.TimeoutError("no connection"), True),
        (WRONG, False),
        (sqlalchemy.exc.DataError("", {}, Exception("too long")), False),
        (ValueError("no JSON"), False),
    ],
)
def test_what_may_pass_is_the_servers_and_not_what_was_asked(error, may_pass):
    assert database._may_pass(error) is may_pass


def test_a_transaction_that_the_server_has_ended_is_begun_again():
    class Ended(Exception):
        sqlstate = "25P03"

    assert database._may_pass(sqlalchemy.exc.InternalError("", {}, Ended()))
