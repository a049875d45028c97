"""Defines the commands that run a spec, or check it: run, submit, validate, plan, cancel."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from finesweep.cli.app import (
    RESULTS,
    Folder,
    ItsCluster,
    Name,
    On,
    Overrides,
    RerunLost,
    Results,
    SpecFile,
    TrustRemoteCode,
    Workers,
)
from finesweep.errors import SpecError, printable
from finesweep.host.timeline import phase


def run(
    spec: SpecFile,
    overrides: Overrides = None,
    on: On = None,
    name: Name = None,
    results: Results = RESULTS,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an earlier sweep of this name aside.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Run everything once: 32 rows, 2 trials, 1 step.")] = False,
    workers: Workers = None,
    join: Annotated[bool, typer.Option("--join", help="Add workers to a running sweep of this name.")] = False,
    rerun_lost: RerunLost = False,
    profile_start: Annotated[
        bool, typer.Option("--profile-start", help="Show what takes time before the first step and after the last.")
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Search, rank, and export the winner.

    The same command again continues where it stopped.
    """
    if join and (fresh or smoke):
        other = "--fresh" if fresh else "--smoke"
        raise SpecError.of("sweep run", f"--join adds workers to a running sweep; it does not go with {other}")
    from finesweep.cli.start_profile import profiled
    from finesweep.host.signals import Signals
    from finesweep.sweep import prepare_process
    from finesweep.sweep.request import Request

    request = Request(
        spec,
        overrides or [],
        on,
        name,
        results,
        fresh,
        smoke,
        join,
        workers,
        rerun_lost=rerun_lost,
        trust_remote_code=trust_remote_code,
    )
    with profiled(wanted=profile_start):
        with Signals().counted() as signals, prepare_process.started(request, signals) as preparation:
            # These imports take about as long as the check of a small spec, which the process makes meanwhile.
            with phase("import the rest of the command"):
                from finesweep.cli.summary import conclude
                from finesweep.sweep.run import run as run_sweep

            outcome = run_sweep(preparation)
        with phase("print the result"):
            conclude(outcome)


def submit(
    spec: SpecFile,
    on: Annotated[Path, typer.Option("--on", metavar="PROFILE.yaml", help="The cluster.", show_default=False)],
    overrides: Overrides = None,
    name: Name = None,
    results: Results = RESULTS,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an earlier sweep of this name aside.")] = False,
    workers: Workers = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write and show the jobs without submitting.")] = False,
    allow_setup: Annotated[bool, typer.Option("--allow-setup", help="Run the profile's setup lines.")] = False,
    rerun_lost: RerunLost = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Hand a sweep over to a cluster.

    Everything is prepared here; the cluster's machines need no network. The same command again
    continues where it stopped.
    """
    from finesweep.cli.summary import Screen, announce, handed_over
    from finesweep.sweep.request import Request
    from finesweep.sweep.submit import submit as submit_sweep

    screen = Screen()
    request = Request(
        spec,
        overrides or [],
        on,
        name,
        results,
        fresh,
        workers=workers,
        rerun_lost=rerun_lost,
        trust_remote_code=trust_remote_code,
    )
    submitted = submit_sweep(
        request, dry_run=dry_run, allow_setup=allow_setup, announce=lambda checked: announce(screen, checked)
    )
    handed_over(screen, submitted)


def confirm(
    folder: Folder,
    top: Annotated[
        int | None, typer.Option(min=1, max=10, help="Most of the tied trials to train again.", show_default="3")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=2, max=20, help="Most seeds of each.", show_default="3")] = None,
    on: On = None,
    workers: Workers = None,
    allow_setup: Annotated[bool, typer.Option("--allow-setup", help="Run the profile's setup lines.")] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Train the tied trials and the untuned default again on fresh seeds.

    Tied trials are those that cannot be told from the first on the validation rows. The winner is the one with the best
    mean. The same command again continues where it stopped.
    """
    from finesweep.cli.summary import Screen, conclude, handed_over
    from finesweep.sweep.confirm import ConfirmRequest
    from finesweep.sweep.confirm import confirm as confirm_sweep
    from finesweep.sweep.run import RunResult

    request = ConfirmRequest(folder.absolute(), top, seeds, on, workers, trust_remote_code, allow_setup)
    outcome = confirm_sweep(request)
    if isinstance(outcome, RunResult):
        conclude(outcome)
    else:
        handed_over(Screen(), outcome)


def cancel(folder: Folder, on: ItsCluster = None) -> None:
    """End a sweep's jobs on a cluster.

    Running trials are saved. The same `sweep submit` continues from there.
    """
    from finesweep.launch import profile
    from finesweep.sweep.submit import cancel as cancel_jobs

    for line in cancel_jobs(folder.absolute(), profile.load(on)):
        typer.echo(printable(line, limit=1_000))


def validate(
    spec: SpecFile,
    overrides: Overrides = None,
    on: On = None,
    name: Name = None,
    results: Results = RESULTS,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Check the YAML, the data, the model and the profile.

    Two rows are taken through the model, with at most one training step. Nothing is left of it.
    """
    from finesweep.cli.summary import Screen, announce
    from finesweep.host.signals import Signals
    from finesweep.sweep import prepare
    from finesweep.sweep.request import Request

    screen = Screen()
    request = Request(spec, overrides or [], on, name, results, trust_remote_code=trust_remote_code)
    with Signals().counted() as signals, signals.ending_the_block():
        checked = prepare.check(request, prepare.profile_of(request))
    announce(screen, checked)
    screen.say("No problems found.")


def plan(
    spec: SpecFile,
    overrides: Overrides = None,
    on: On = None,
    name: Name = None,
    results: Results = RESULTS,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Tell what a sweep will take: hours, memory, disk.

    Up to 20 steps of each batch size are measured; of a range, of its ends and its middle. Nothing is left of it.
    """
    from finesweep.cli.plan_screen import lines, speeds
    from finesweep.cli.summary import Screen, announce
    from finesweep.sweep.plan import plan as plan_sweep
    from finesweep.sweep.request import Request

    screen = Screen()
    request = Request(spec, overrides or [], on, name, results, workers=workers, trust_remote_code=trust_remote_code)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(plan_sweep(request)), indent=2, allow_nan=False))
        return
    estimate = plan_sweep(request, lambda checked: announce(screen, checked))
    screen.print(speeds(estimate))
    for line in lines(estimate):
        screen.print(line, markup=False, soft_wrap=True)
