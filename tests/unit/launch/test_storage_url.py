"""What the profile key ``storage`` may say; and that no message repeats a password, however it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesweep.errors import SpecError
from finesweep.launch import profile
from finesweep.launch.storage_url import SETTINGS, checked, place

SECRET = "hunter2-swordfish"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://db/sweeps", "db/sweeps"),
        ("postgresql://db.example.org:5432/sweeps", "db.example.org:5432/sweeps"),
        ("postgresql://sweeper@db.example.org/sweeps_2", "db.example.org/sweeps_2"),
        ("postgresql://[::1]:15432/optuna", "[::1]:15432/optuna"),
        ("postgresql://db/sweeps?sslmode=verify-full&sslrootcert=/etc/ca.pem&connect_timeout=3", "db/sweeps"),
    ],
)
def test_a_database_without_credentials_is_kept_as_it_is(url, shown):
    assert checked(url) == url
    assert place(url) == shown


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///study.db", "locks do not hold on network file systems.*only postgresql://host:port/database"),
        ("grpc://host:13000", "has no authentication"),
        ("mysql+pymysql://host/db", "MySQL is not supported"),
        ("redis://host:6379", "would unpickle what it finds there"),
        ("journal", "only postgresql://host:port/database is offered, or nothing"),
        ("", "only postgresql://host:port/database is offered"),
        ("file:///etc/passwd", "only postgresql://"),
        ("postgres://host/db", "must be written postgresql://host:port/database"),
        ("postgresql+psycopg://host/db", "must be written postgresql://"),
        ("postgresql:host/db", "only postgresql://"),
        ("postgresql://host", "must be postgresql://host:port/database"),
        ("postgresql:///db", "must be postgresql://host:port/database"),
        ("postgresql://host:0/db", "the port must be from 1 to 65,535"),
        ("postgresql://host:65536/db", "the port must be from 1 to 65,535"),
        ("postgresql://host/db?sslmode=maybe", "sslmode does not have one of its values"),
        ("postgresql://host/db?options=-c%20x=y", "after the `[?]` there may be, once each: sslmode"),
        ("postgresql://host/db?host=/tmp", "after the `[?]` there may be"),
        ("postgresql://host/db?sslmode=require&sslmode=disable", "once each"),
        ("postgresql://host/{db}", "must be postgresql://"),
        ("postgresql://host/a b; touch x", "must be postgresql://"),
        ("postgresql://$(id)/db", "must be postgresql://"),
        ("postgresql://host/db\n", "must be postgresql://"),
        ("postgresql://host/" + "d" * 1_000, "at most 1,000 characters"),
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(url, message):
    with pytest.raises(ValueError, match=message):
        checked(url)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://sweeper:{SECRET}@host/db",
        f"postgresql://:{SECRET}@host/db",
        f"postgresql://sweeper:{SECRET}%40x@host:5432/db",
        f"postgresql://sweeper:a@{SECRET}@host/db",
        f"postgresql://sweeper:/{SECRET}?@host/db",
        f"postgresql://host/db?password={SECRET}",
        f"postgresql://host/db?sslmode=require&sslpassword={SECRET}",
        f"postgresql://host/db?PASSWORD={SECRET}",
        "postgresql://host/db?passfile=/home/sweeper/.pgpass",
    ],
)
def test_a_password_is_refused_with_where_it_belongs(url):
    with pytest.raises(ValueError, match=r"PGUSER and PGPASSWORD or the file ~/\.pgpass") as caught:
        checked(url)
    assert SECRET not in str(caught.value)


@given(
    st.sampled_from(["postgresql", "postgres", "mysql", "sqlite", "redis", ""]),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_no_message_repeats_what_was_written(scheme, before, after):
    """Whatever is wrong with a URL, there may be a password somewhere in it."""
    url = f"{scheme}://{before}{SECRET}{after}"
    said = refusal(url)
    assert SECRET not in said
    # What is accepted is a host, a user or the name of a database, and has no place for a password.
    assert said or ":" not in url.removeprefix("postgresql://").rpartition("@")[0]


def refusal(url: str) -> str:
    try:
        assert checked(url) == url
    except ValueError as error:
        return str(error)
    return ""


def test_nothing_that_is_allowed_holds_a_secret_or_sets_anything_on_the_server():
    assert not {"password", "sslpassword", "passfile", "options", "service", "host", "user", "dbname"} & SETTINGS.keys()


def test_a_profile_says_file_and_line_and_not_the_password(tmp_path: Path):
    file = tmp_path / "p.yaml"
    file.write_text(f"launcher: local\nstorage: postgresql://sweeper:{SECRET}@host/db\n")
    with pytest.raises(SpecError, match=r"p\.yaml:2 storage: no password may stand here") as caught:
        profile.load(file)
    assert SECRET not in str(caught.value)


def test_a_profile_with_a_database_is_loaded(tmp_path: Path):
    file = tmp_path / "p.yaml"
    file.write_text("storage: postgresql://db.example.org/sweeps\n")
    assert profile.load(file).storage == "postgresql://db.example.org/sweeps"
    assert profile.load(None).storage is None
