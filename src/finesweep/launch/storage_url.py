"""Owns the name of a database that holds studies: what the profile key ``storage`` may say, and never a password."""

from __future__ import annotations

import re

from finesweep.errors import FolderError

FORM = "postgresql://host:port/database"

SETTINGS = {
    "sslmode": r"disable|allow|prefer|require|verify-ca|verify-full",
    "channel_binding": r"disable|prefer|require",
    "gssencmode": r"disable|prefer|require",
    "connect_timeout": r"[1-9][0-9]{0,2}",
    "sslrootcert": r"[\w./~-]{1,500}",
    "sslcert": r"[\w./~-]{1,500}",
    "sslkey": r"[\w./~-]{1,500}",
}
"""What may follow a ``?``, and the form of its value: how the connection is secured, and nothing that holds a
secret or sets anything on the server."""

_NOT_OFFERED = {
    "sqlite": "SQLite's locks do not hold on network file systems; without `storage` the study is a journal file, "
    "whose locks do",
    "grpc": "Optuna's gRPC proxy has no authentication, so anybody in the network could write the study",
    "mysql": "MySQL is not supported",
    "mariadb": "MariaDB is not supported",
    "redis": "Redis is not supported: Optuna would unpickle what it finds there",
}
"""Why something that Optuna could use is refused, by the start of its scheme."""

_MOST_CHARACTERS = 1_000
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,30})(://|$)", re.IGNORECASE | re.ASCII)
_REST = re.compile(
    r"(?:(?P<user>[\w.-]+)@)?(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"/(?P<database>\w[\w.-]*)(?:\?(?P<query>.+))?",
    re.IGNORECASE | re.ASCII,
)


class DatabaseAway(FolderError):
    """The database that holds the study cannot be reached, or does not do what it is asked.

    Records are written all the same; the study is brought in step with them once it is back.
    """


def checked(value: str) -> str:
    """Return a value of ``storage`` if it names a PostgreSQL database and no credentials.

    No message repeats what was found, since there may be a password in it, however it is written.

    Raises:
        ValueError: It names something else; the message says what is allowed.
    """
    found = _SCHEME.match(value)
    scheme = found[1].lower() if found else ""
    if found is None or scheme != "postgresql" or not found[2]:
        raise ValueError(_refusal(scheme))
    rest = value[found.end() :]
    if len(value) > _MOST_CHARACTERS:
        raise ValueError(f"at most {_MOST_CHARACTERS:,} characters are allowed")
    if _has_password(rest):
        raise ValueError(
            "no password may stand here; the environment variables PGUSER and PGPASSWORD or the file ~/.pgpass hold it"
        )
    if (match := _REST.fullmatch(rest)) is None:
        raise ValueError(
            f"must be {FORM} or postgresql://user@host/database, of letters, digits, `.`, `-` and `_`; "
            "what cannot be written so can be said by PGUSER"
        )
    if match["port"] and not 1 <= int(match["port"]) <= 65_535:
        raise ValueError("the port must be from 1 to 65,535")
    _check_settings(match["query"])
    return value


def place(url: str) -> str:
    """Return what messages call the database of a checked URL, as ``host:port/database``."""
    return url.removeprefix("postgresql://").partition("?")[0].rpartition("@")[2]


def _refusal(scheme: str) -> str:
    if scheme.startswith(("postgres", "psycopg")):
        return f"must be written {FORM}"
    reason = next((text for start, text in _NOT_OFFERED.items() if scheme.startswith(start)), None)
    allowed = f"only {FORM} is offered, or nothing, for a journal file in the sweep's folder"
    return f"{reason}; {allowed}" if reason else allowed


def _has_password(rest: str) -> bool:
    """Say whether there is a ``:`` before the last ``@``, or a setting that holds a secret."""
    query = rest.partition("?")[2]
    return ":" in rest.rpartition("@")[0] or "password" in query.lower() or "passfile" in query.lower()


def _check_settings(query: str | None) -> None:
    seen: set[str] = set()
    for setting in query.split("&") if query else ():
        name, _, value = setting.partition("=")
        if name not in SETTINGS or name in seen:
            raise ValueError(f"after the `?` there may be, once each: {', '.join(SETTINGS)}")
        if re.fullmatch(SETTINGS[name], value, re.ASCII) is None:
            raise ValueError(f"{name} does not have one of its values")
        seen.add(name)
