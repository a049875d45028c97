"""Connects to Ray: a small private cluster on this machine, or an existing one."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finesweep.errors import LaunchError, lines_of
from finesweep.files import owned_folder
from finesweep.host.machine import Machine
from finesweep.host.python_process import FOR_TRAINING, LIBRARY, SAFE_IMPORTS, UNLESS_SET
from finesweep.launch import SettledProfile

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The command and the worker handle Ctrl-C and signals themselves.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Reports other than evaluations have no objective.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # A search resumes from the records, never from Ray's own checkpoints.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
}
"""Settings of the process that searches."""

ACTORS = {
    # A stopped trial needs more than two seconds to end its step. Otherwise Ray would fail the next one in its place.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""Settings of the processes in which trials run."""

PRIVATE = {
    **SAFE_IMPORTS,
    # In spite of its name: listen on the loopback interface only.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    # The monitor would kill trials if the machine is nearly full, whatever process fills it. `memory_gb` limits a
    # trial.
    "RAY_memory_monitor_refresh_ms": "0",
}
"""Settings of a private cluster."""

STORE_BYTES = 100_000_000
"""Shared memory of a private cluster in bytes; a trial gets some hundred bytes and returns some thousand."""

_TOKEN, _RAYS_OWN = "token", "r"

_LONGEST_SOCKET = (
    f"/{owned_folder.PREFIX}12345678/{_RAYS_OWN}/session_2026-11-29_09-12-22_245839_4194304/sockets/plasma_store"
)
LONGEST_FOLDER = 103 - len(_LONGEST_SOCKET)
"""Maximum length of the temporary folder's path, in characters; macOS allows 103 for a socket's path, Linux 107."""

_TAKEN_ALONG = (*FOR_TRAINING, *UNLESS_SET)
"""Settings of this process that the actors of a foreign cluster lack."""


@contextlib.contextmanager
def connected(profile: SettledProfile) -> Iterator[Path | None]:
    """Connect to Ray while the block runs, unless this process is connected already.

    Yields:
        The current folder, if actors can work in it too; None if they stay in their own.

    Raises:
        LaunchError: Ray could not be started, or the cluster could not be joined.
    """
    address = os.environ.get("RAY_ADDRESS") if profile.asked.launcher != "local" else None
    with _set({**QUIET, **ACTORS}):
        if _is_connected():
            yield None
        elif address is None:
            with _private(profile):
                yield Path.cwd()
        else:
            with _joined(address):
                yield None


def _is_connected() -> bool:
    # Ray reads its settings when it is imported. So it must not be imported here yet.
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


@contextlib.contextmanager
def _private(profile: SettledProfile) -> Iterator[None]:
    """Run a cluster that only this user can reach, and that leaves nothing behind.

    Ray opens its own temporary folder to all users. So it gets one inside another folder, to which they have no access.
    """
    owned_folder.remove_abandoned()
    with owned_folder.owned_folder(_short_folder()) as folder:
        token = folder / _TOKEN
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32), encoding="ascii")
        # A token in the environment is for a cluster of the user, and would override the one in the file.
        environment = {**PRIVATE, "RAY_AUTH_TOKEN_PATH": str(token), "RAY_AUTH_TOKEN": None}
        with _set(environment), _begun("this machine", _own(profile, folder / _RAYS_OWN), folder):
            yield


def _own(profile: SettledProfile, folder: Path) -> dict[str, Any]:
    """Return the resources of a private cluster: those of the profile, not those that Ray counts.

    Ray counts the machine's cores, even if a container or a batch job has fewer.
    """
    return {
        "address": "local",
        "num_cpus": profile.workers * profile.threads_per_worker,
        "num_gpus": len(Machine.probe().gpus) if profile.gpus_per_trial == 1 else 0,
        "object_store_memory": STORE_BYTES,
        "include_dashboard": False,
        "_temp_dir": str(folder),
    }


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
    ours = {name: os.environ[name] for name in _TAKEN_ALONG if name in os.environ}
    settings = {"address": address, "runtime_env": {"env_vars": {**ACTORS, **SAFE_IMPORTS, **ours}}}
    with _begun(f"the cluster at {address}", settings, LIBRARY):
        yield


@contextlib.contextmanager
def _begun(where: str, settings: Mapping[str, Any], current: Path | str) -> Iterator[None]:
    """Be connected while the block runs.

    Args:
        where: Name of the cluster in messages.
        settings: Arguments of ``ray.init``.
        current: The current folder meanwhile: Ray puts it first on the import path of all its workers.
    """
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with contextlib.chdir(current):
            ray.init(log_to_driver=False, logging_level="ERROR", **settings)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise LaunchError(f"Ray on {where}: {lines_of(error)[0]}") from error
    try:
        # Ray has taken over the signals: it would end the process without a request to the trials.
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _set(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set or unset environment variables while the block runs, for this process and those that it starts."""
    before = {name: os.environ.get(name) for name in values}
    _put(values)
    try:
        yield
    finally:
        _put(before)


def _put(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _short_folder() -> Path:
    usual = tempfile.gettempdir()
    return Path(usual) if len(usual) <= LONGEST_FOLDER else owned_folder.SHORT
