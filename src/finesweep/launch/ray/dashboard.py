"""Asks a Ray cluster's dashboard for nodes and jobs, by the REST interface that Ray documents.

``ray job submit`` uses the same interface. This client needs no part of Ray on the submitting machine, and every
request has a timeout.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finesweep.errors import LaunchError, Unreadable, printable
from finesweep.files import read_text
from finesweep.launch.ray.nodes import Amounts, RayNode

_LONGEST_TOKEN = 10_000
ANSWER_SECONDS = 20.0
MOST_BYTES = 10_000_000
MOST_NODES = 10_000


class NoSuchJob(LaunchError):
    """The cluster does not know the job: it was deleted, or the cluster was restarted."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection, which would send the token elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Return nothing, so that the answer becomes an error."""


class Dashboard:
    """A cluster's dashboard.

    Args:
        url: ``http://host:port``.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def is_open(self) -> bool:
        """Whether it answers requests without a token; known after the first request."""
        return not _token()

    def version(self) -> str:
        """Return the version of Ray on the cluster.

        Raises:
            LaunchError: There is no dashboard, or it refuses.
        """
        return str(self._asked("GET", "/api/version").get("ray_version", "unknown"))

    def nodes(self) -> Sequence[RayNode]:
        """Return the nodes that are alive.

        Raises:
            LaunchError: There is no dashboard, or it refuses.
        """
        answer = self._asked("GET", f"/api/v0/nodes?limit={MOST_NODES}")
        try:
            alive = [node for node in answer["data"]["result"]["result"] if node["state"] == "ALIVE"]
            return [
                RayNode(node["node_id"], node["node_ip"], Amounts.of_ray(node["resources_total"])) for node in alive
            ]
        except (KeyError, TypeError, ValueError):
            raise LaunchError(f"Ray's dashboard at {self.url} does not say what nodes there are") from None

    def submit(self, job: str, entrypoint: str, environment: Mapping[str, str], metadata: Mapping[str, str]) -> None:
        """Submit a job to the cluster.

        Args:
            job: Its id.
            entrypoint: A shell command.
            environment: Variables of the job and of its child processes.
            metadata: Values that the dashboard shows.

        Raises:
            LaunchError: There is no dashboard, or it refuses.
        """
        values = {
            "submission_id": job,
            "entrypoint": entrypoint,
            "runtime_env": {"env_vars": dict(environment)},
            "metadata": dict(metadata),
        }
        self._asked("POST", "/api/jobs/", values)

    def job(self, job: str) -> Mapping[str, Any]:
        """Return a job's data: ``status``, ``message``.

        Raises:
            NoSuchJob: It is unknown.
            LaunchError: There is no dashboard, or it refuses.
        """
        return self._asked("GET", f"/api/jobs/{urllib.parse.quote(job, safe='')}")

    def stop(self, job: str) -> bool:
        """Stop a job; return whether it was still running.

        Raises:
            NoSuchJob: It is unknown.
            LaunchError: There is no dashboard, or it refuses.
        """
        return bool(self._asked("POST", f"/api/jobs/{urllib.parse.quote(job, safe='')}/stop").get("stopped"))

    def _asked(self, method: str, path: str, values: Any = None) -> dict[str, Any]:
        body = None if values is None else json.dumps(values).encode()
        request = urllib.request.Request(self.url + path, body, _headers(), method=method)
        try:
            # A redirection would take the token to an address that the user did not name.
            with urllib.request.build_opener(_Stay).open(request, timeout=ANSWER_SECONDS) as answer:
                found = json.loads(answer.read(MOST_BYTES))
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise LaunchError(f"Ray's dashboard at {self.url} cannot be reached: {_shown(reason)}") from None
        except ValueError:
            raise LaunchError(f"what answers at {self.url} is no dashboard of Ray") from None
        if not isinstance(found, dict):
            raise LaunchError(f"what answers at {self.url} is no dashboard of Ray")
        return found

    def _refused(self, error: urllib.error.HTTPError) -> LaunchError:
        with error:
            said = _shown(error.read(2_000).decode(errors="replace"))
        if error.code in (401, 403):
            return LaunchError(
                f"Ray's dashboard at {self.url} wants a token: set RAY_AUTH_TOKEN ({error.code}: {said})"
            )
        kind = NoSuchJob if error.code == 404 else LaunchError
        return kind(f"Ray's dashboard at {self.url} refused ({error.code}): {said}")


def _headers() -> dict[str, str]:
    token = _token()
    return {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}


def _token() -> str:
    """Return the cluster's token from the places where Ray looks for it; empty if there is none.

    Raises:
        LaunchError: The named file cannot be read.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    is_wanted = named is not None or os.environ.get("RAY_AUTH_MODE") == "token"
    if not is_wanted:
        return ""
    file = Path(named or Path.home() / ".ray" / "auth_token")
    try:
        return read_text(file, _LONGEST_TOKEN, encoding="ascii").strip()
    except Unreadable:
        raise LaunchError(f"{file}: the token for Ray cannot be read (RAY_AUTH_TOKEN_PATH)") from None


def _shown(reason: object) -> str:
    return printable(" ".join(str(reason).split()), 300)
