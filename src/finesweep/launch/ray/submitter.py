"""Submits a whole sweep to a Ray cluster, as one job that runs ``sweep supervise`` there."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from finesweep.errors import FolderError, LaunchError
from finesweep.folder import Run, SweepFolder
from finesweep.host.python_process import SAFE_IMPORTS
from finesweep.launch import deadlines
from finesweep.launch.commands import run_command
from finesweep.launch.profile import Profile
from finesweep.launch.profile import of_run as profile_of
from finesweep.launch.protocol import Job, JobState, Order, Submission
from finesweep.launch.ray.dashboard import Dashboard, NoSuchJob
from finesweep.launch.ray.profile import DASHBOARD_VARIABLE, RayProfile

LAUNCHER = "ray"
ROLE = "sweep"
POLL_SECONDS = 0.5
TAIL_LINES = 20
OPEN = "Note: the dashboard asks for no token, so it runs what any user sends. Set RAY_AUTH_MODE=token on all nodes."
STATES: Mapping[str, JobState] = {
    "PENDING": "queued",
    "RUNNING": "running",
    "SUCCEEDED": "finished",
    "FAILED": "dead",
    "STOPPED": "dead",
}


class RaySubmitter:
    """Submits sweeps through the dashboard of a Ray cluster."""

    watched: ClassVar[bool] = True

    def check(self, profile: Profile) -> None:
        """Check that the profile names a dashboard, and that it answers; see ``Submitter``."""
        _dashboard(profile).version()

    def submit(self, order: Order, *, dry_run: bool) -> Submission:
        """Submit a job that supervises the run; see ``Submitter``."""
        profile = RayProfile.of(order.profile.asked)
        dashboard, job = _dashboard(profile), _job_id(order)
        entrypoint = _entrypoint(profile.python, order)
        if dry_run:
            said = f"Nothing was submitted. {dashboard.url} would get this job, {job}:"
            return Submission({}, [said, f"  {entrypoint}"])
        run = {"run": str(order.run.number), "token": order.run.token}
        metadata = {"sweep": order.name, "folder": str(order.sweep_folder.path), **run}
        dashboard.submit(job, entrypoint, _environment(), metadata)
        lines = _lines(dashboard.url, job, order)
        return Submission({ROLE: job}, [*lines, OPEN] if dashboard.is_open else lines)

    def jobs(self, sweep_folder: SweepFolder, run: Run, given: Profile | None = None) -> Sequence[Job]:
        """Return the state of a run's job as the dashboard reports it; see ``Submitter``."""
        return [_job(_named(run, given), role, job, run) for role, job in sweep_folder.jobs(run.number).items()]

    def cancel(self, sweep_folder: SweepFolder, run: Run, given: Profile | None = None) -> Sequence[str]:
        """Stop a run's job, and wait until its trials have saved their state; see ``Submitter``."""
        return [_stopped(_named(run, given), job, run) for job in sweep_folder.jobs(run.number).values()]


def _dashboard(profile: Profile) -> Dashboard:
    url = RayProfile.of(profile).jobs_url
    if url is None:
        raise LaunchError(
            f"found no address of Ray's dashboard: write `dashboard: http://host:8265` into the profile, "
            f"or set {DASHBOARD_VARIABLE}"
        )
    return Dashboard(url)


def _named(run: Run, given: Profile | None) -> Dashboard:
    """Return the dashboard that the user names, by a profile or in the environment.

    A run's file can name a foreign dashboard, because the folder can come from another person. That address is shown,
    but nothing is sent to it.

    Raises:
        LaunchError: No dashboard is named at all.
        FolderError: Only the folder names one.
    """
    if given is not None and given.launcher == LAUNCHER:
        return _dashboard(given)
    recorded, here = RayProfile.of(profile_of(run.profile).asked).dashboard, RayProfile()
    if recorded is None or _same(recorded, here.jobs_url or ""):
        return _dashboard(here)
    raise FolderError(
        f"this folder says that its job is at {recorded}; another user may have written that, so nothing is sent "
        f"there; if that is your cluster, name it with --on PROFILE.yaml or {DASHBOARD_VARIABLE}={recorded}"
    )


def _same(url: str, other: str) -> bool:
    return url.rstrip("/").lower() == other.rstrip("/").lower()


def _entrypoint(python: str, order: Order) -> str:
    """Return the job's shell command: its output goes to the sweep's folder; on failure Ray gets the last lines."""
    log = shlex.quote(str(order.sweep_folder.path / "logs" / f"job-{order.run.number:04d}.log"))
    command = shlex.join(run_command("supervise", order.sweep_folder, order.run, python))
    return f"{command} >> {log} 2>&1 || {{ code=$?; tail -n {TAIL_LINES} {log}; exit $code; }}"


def _job_id(order: Order) -> str:
    return f"finesweep-{order.name}-{order.run.number}-{secrets.token_hex(3)}"


def _environment() -> dict[str, str]:
    return {**SAFE_IMPORTS, "RAY_JOB_STOP_WAIT_TIME_S": str(deadlines.RAY_JOB_SECONDS)}


def _lines(url: str, job: str, order: Order) -> list[str]:
    folder = shlex.quote(str(order.sweep_folder.path))
    on = "" if order.file is None else f" --on {shlex.quote(str(order.file))}"
    return [
        f"Submitted to {url} as {job}.",
        f"  sweep status {folder}{on}  how far it is",
        f"  sweep cancel {folder}{on}  end it; the same sweep submit continues from there",
        f"  sweep leaderboard {folder}  the trials so far",
        f"  {order.sweep_folder.path / 'logs'}  what workers and trials print",
    ]


def _found(dashboard: Dashboard, job: str, run: Run) -> Mapping[str, Any]:
    """Return a run's job from the dashboard; a folder from another person cannot name foreign jobs.

    Raises:
        NoSuchJob: The run has no such job there.
    """
    found = dashboard.job(job)
    # Without this check a folder could name any job of the cluster, and `sweep cancel` would end it.
    if (found.get("metadata") or {}).get("token") != run.token:
        raise NoSuchJob(f"{job} is another sweep's")
    return found


def _job(dashboard: Dashboard, role: str, job: str, run: Run) -> Job:
    try:
        found = _found(dashboard, job, run)
    except NoSuchJob:
        why = "the cluster knows no such job of this run: it was deleted, or the cluster is another one"
        return Job(job, role, "unknown", why)
    status = str(found.get("status"))
    is_plain = status in ("PENDING", "RUNNING", "SUCCEEDED")
    detail = "" if is_plain else f"{status}: {found.get('message') or ''}".rstrip(": ")
    return Job(job, role, STATES.get(status, "unknown"), detail)


def _stopped(dashboard: Dashboard, job: str, run: Run) -> str:
    try:
        _found(dashboard, job, run)
        if not dashboard.stop(job):
            return f"{job} had ended already"
    except NoSuchJob:
        return f"{job} is not known to the cluster as a job of this run"
    # Ray answers before the job has ended, and trials save their state until then.
    deadline = time.monotonic() + deadlines.CANCEL_SECONDS
    while _job(dashboard, ROLE, job, run).state in ("queued", "running"):
        if time.monotonic() >= deadline:
            return f"{job} was asked to stop, and still runs"
        time.sleep(POLL_SECONDS)
    return f"{job} was stopped"
