"""Defines the hidden commands that finesweep calls itself, in its own processes and jobs."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from finesweep import activity
from finesweep.cli.app import Folder, RunNumber, Token, TrustRemoteCode, app
from finesweep.host import process_ahead, timeline
from finesweep.host.signals import end_with_parent
from finesweep.host.timeline import phase

OBJECTS = 100_000
"""New objects after which garbage is sought in a process that does so rarely; Python's default is some hundreds."""

STARTED_AHEAD = {
    "worker": ("worker", "wait for the folder", ("finesweep.worker.worker", "sklearn.metrics")),
    "verify": (
        "proof",
        "wait for the last trial",
        ("finesweep.worker.prove_winner", "transformers.models.auto", "transformers.pipelines"),
    ),
    "try-model": ("dry run", "wait for the checks", ("finesweep.worker.dry_run_steps", "sklearn.metrics")),
}
"""Commands that a process may be started for ahead; each with the names of its notes and of its waiting, and with what
it imports.

Besides the command's module these are others that it would import later: to rehearse, to load the winner."""


def ahead(command: str, channel: int) -> None:
    """Import what a command needs, and carry the command out when its arguments come in on a socket."""
    end_with_parent()
    name, waiting, modules = STARTED_AHEAD[command]
    timeline.enter(name)
    try:
        with phase("import PyTorch and transformers"), importing():
            for module in modules:
                importlib.import_module(module)
    finally:  # an error is for the log, which comes with the arguments
        with phase(waiting):
            sys.argv[1:] = process_ahead.awaited(channel)
    app()


def prepare(channel: int) -> None:
    """Check a request that comes in on a socket, and begin a run of it."""
    timeline.enter("preparation")
    seek_garbage_rarely()
    with phase("import what checks"):
        from finesweep.cli.summary import Screen, announce
        from finesweep.sweep import prepare_process

    screen = Screen()
    prepare_process.answer(channel, lambda checked: announce(screen, checked))


def worker(
    folder: Folder,
    run: RunNumber,
    token: Token = "",
    parent: Annotated[int | None, typer.Option(help="Process id of its parent; it stops when that is gone.")] = None,
) -> None:
    """Run trials of a prepared sweep until none is left."""
    timeline.enter("worker")
    with activity.heard_by(activity.log):
        activity.tell("importing PyTorch and transformers")
        with phase("import PyTorch and transformers"), importing():
            from finesweep.worker.worker import Worker

        Worker.open(folder.absolute(), run, parent, token).work()


def supervise(folder: Folder, run: RunNumber, token: Token = "") -> None:
    """Carry a prepared run out: workers, leaderboard, winner."""
    from finesweep.cli.summary import conclude
    from finesweep.sweep.run import supervise as supervise_run

    conclude(supervise_run(folder.absolute(), run, token))


def collect(folder: Folder, run: RunNumber, token: Token = "") -> None:
    """End a run whose workers have ended: leaderboard, winner, and the proof of it."""
    from finesweep.cli.summary import conclude
    from finesweep.sweep.collect import collect as collect_run

    conclude(collect_run(folder.absolute(), run, token))


def survey(
    folder: Folder,
    output: Path,
    run: RunNumber,
    parent: Annotated[int, typer.Option(help="Process id of its parent; it stops when that is gone.")],
    token: Token = "",
) -> None:
    """Measure a prepared sweep."""
    with activity.heard_by(activity.log):
        activity.tell("importing PyTorch and transformers")
        with importing():
            from finesweep.worker import worker as _  # noqa: F401 - what takes time to import
            from finesweep.worker.measure_for_plan import measure_for_plan

        measure_for_plan(folder.absolute(), run, parent, token, output)


def verify(
    folder: Folder,
    model: Path,
    record: Path,
    output: Path,
    trial: Annotated[int, typer.Option(help="Number of the winner.")],
    command: Annotated[str, typer.Option(help="The command that exports it.")],
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Evaluate an exported model in this process."""
    timeline.enter("proof")
    seek_garbage_rarely()
    with phase("import PyTorch and transformers"), importing():
        from finesweep.worker.prove_winner import prove

    prove(folder, model, record, output, trial=trial, command=command, trusted=trust_remote_code)


def tied(folder: Folder) -> None:
    """Print the trials that cannot be told from the first as JSON."""
    from finesweep.folder import SweepFolder
    from finesweep.results.standing import tied_trials

    typer.echo(json.dumps(tied_trials(SweepFolder(folder.absolute()))))


def try_model(folder: Folder) -> None:
    """Take two rows through a sweep's model."""
    timeline.enter("dry run")
    with phase("import PyTorch and transformers"), importing():
        from finesweep.sweep import dry_run
        from finesweep.worker import dry_run_steps

    end_with_parent()
    with phase("take two rows through the model"):
        dry_run_steps.try_model(folder, dry_run.ASKED, dry_run.ANSWER)


def seek_garbage_rarely() -> None:
    """Collect garbage less often, in a process that imports as it goes along and ends soon.

    transformers imports most of itself when a model is made. Seeking garbage as often as usual would take a sixth of
    such a process's time.
    """
    gc.set_threshold(OBJECTS, 10, 10)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import with the garbage collector off: imports make no garbage, and the search takes a quarter of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
