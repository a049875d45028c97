"""A private PostgreSQL server: on a free port of this machine alone, with a random password, and gone afterwards."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

INSTALL = "apt-get install postgresql"
USER, DATABASE = "sweeper", "studies"


def programs() -> Path | None:
    """Return the folder of the newest server programs, None where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    on_path = shutil.which("initdb")
    return found[-1] if found else Path(on_path).parent if on_path else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class PostgresServer:
    """A server in a folder of its own.

    Attributes:
        folder: Where its data and its log lie.
        port: Where it listens, on the loopback device.
        password: Of its one user.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def url(self) -> str:
        """What a profile says."""
        return f"postgresql://127.0.0.1:{self.port}/{DATABASE}"

    @property
    def environment(self) -> dict[str, str]:
        """Where libpq looks for who connects."""
        return {"PGUSER": USER, "PGPASSWORD": self.password}

    def make(self) -> None:
        """Make the data folder, the user and the database."""
        secret = self.folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if os.geteuid() == 0:
            for path in (self.folder, secret):
                shutil.chown(path, "postgres", "postgres")
        self._run("initdb", "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--no-sync")
        self.start()
        self.query(f"CREATE DATABASE {DATABASE}", database="postgres")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self._run("pg_ctl", "-l", str(self.folder / "server.log"), "-o", settings, "-w", "-t", "60", "start")

    def stop(self, mode: str = "immediate") -> None:
        """End it as a crash does, and wait until it is gone."""
        self._run("pg_ctl", "-m", mode, "-w", "stop")

    @property
    def runs(self) -> bool:
        """Whether it has not been stopped."""
        return (self.folder / "data" / "postmaster.pid").exists()

    def query(self, statement: str, *, database: str = DATABASE) -> list[tuple]:
        """Have it carry out a statement; return its rows."""
        import psycopg

        address = f"postgresql://127.0.0.1:{self.port}/{database}"
        with psycopg.connect(address, user=USER, password=self.password, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        folder = programs()
        assert folder is not None
        # A server refuses to run as root.
        who = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        command = [str(folder / program), "-D", str(self.folder / "data"), *arguments]
        with (self.folder / "output").open("ab") as output:
            subprocess.run(
                command, check=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder, **who
            )


def missing() -> str | None:
    """Say what a server needs and this machine does not have, None if there is nothing."""
    if programs() is None:
        return f"PostgreSQL is not installed: {INSTALL}"
    if os.geteuid() == 0 and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        return f"there is no user postgres for the server to run as: {INSTALL}"
    return None


def running() -> Iterator[PostgresServer]:
    """Yield a server that runs; it and its folder are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="finesweep-postgres-") as folder:
        server = PostgresServer(Path(folder))
        try:
            server.make()
            yield server
        finally:
            if server.runs:
                server.stop()
