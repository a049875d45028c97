"""Owns the spine of ``sweep run``: check, prepare, launch, wait, collect, each handing its value on."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesweep import ownership, preflight, ranking, run_dir, spec_reader, winner
from finesweep import profile as profile_module
from finesweep.atomic import write_json
from finesweep.display import open_display
from finesweep.errors import NoFinishedTrial, RunDirError, SweepError
from finesweep.manifest import Manifest, Run, changes
from finesweep.preflight import Checked
from finesweep.profile import Profile
from finesweep.registry import LAUNCHERS
from finesweep.run_dir import RunDir
from finesweep.scratch_model import make_scratch
from finesweep.spec import ScratchModelSpec, SweepSpec
from finesweep.spec_reader import LoadedSpec
from finesweep.supervisor import OpenSweep, Signals, Supervisor, nothing_left
from finesweep.trial import TrialRecord
from finesweep.winner import Evidence

SMOKE_ROWS = 32
SMOKE_TRIALS = 2
_LIBRARIES = ("finesweep", "transformers", "torch", "datasets", "accelerate", "optuna", "tokenizers")


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        spec: The search space YAML.
        overrides: ``dotted.name=value`` of every ``--set``.
        profile: The launch profile YAML; None for this machine with the defaults.
        name: Overrides the name of the results folder.
        results: Folder that holds one folder per sweep.
        fresh: Move an earlier sweep of this name aside and start anew.
        smoke: Take everything through once, on few rows, in a folder of its own.
    """

    spec: Path
    overrides: Sequence[str] = ()
    profile: Path | None = None
    name: str | None = None
    results: Path = Path("results")
    fresh: bool = False
    smoke: bool = False


@dataclass(frozen=True)
class Outcome:
    """How one ``sweep run`` ended.

    Attributes:
        sweep: The sweep.
        records: All trials so far.
        why: One line: why the run ended.
        signal: The signal that ended it, None if none did.
        evidence: Of the winner; None after a signal, when no winner is exported.
    """

    sweep: OpenSweep
    records: Sequence[TrialRecord]
    why: str
    signal: int | None = None
    evidence: Evidence | None = None


def check(request: Request) -> Checked:
    """Do everything that ``sweep run`` does before it writes or trains anything.

    Raises:
        SpecError: With every problem found.
        RunDirError: The results folder could not be written.
    """
    loaded = spec_reader.load(request.spec, request.overrides, request.name)
    profile_module.load(request.profile)
    folder = request.results.absolute() / loaded.spec.name
    run_dir.check_writable(folder)
    checked = preflight.check(_for_smoke(loaded) if request.smoke else loaded)
    preflight.refuse_model_inside(checked, folder)
    return checked


def run(request: Request, display_of: Any = open_display, announce: Any = lambda _: None) -> Outcome:
    """Carry a spec out: search, rank, export and prove the winner.

    Args:
        request: What the user asked for.
        display_of: Opens the live display.
        announce: Called with the ``Checked`` spec before training starts.

    Raises:
        SpecError, RunDirError, LaunchError, NoFinishedTrial, WinnerMismatch: See ``finesweep.errors``.
    """
    checked = check(request)
    announce(checked)
    path = request.results.absolute() / checked.loaded.spec.name
    with ownership.held(path) as lock, Signals().counted() as signals:
        sweep = _opened(path, checked, request)
        why = _search(sweep, lock, signals, display_of)
        return _collected(sweep, why, signals)


def _for_smoke(loaded: LoadedSpec) -> LoadedSpec:
    """Shrink a spec to two trials of one step on a few rows."""
    spec = loaded.spec
    small = spec.model_copy(
        update={
            "name": f"{spec.name}-smoke",
            "data": spec.data.model_copy(update={"max_train_rows": SMOKE_ROWS, "max_eval_rows": SMOKE_ROWS}),
            "budget": spec.budget.model_copy(update={"trials": SMOKE_TRIALS}),
            "search": spec.search.model_copy(update={"pruner": "none"}),
            "fixed": {**spec.fixed, "max_steps": 1},
        }
    )
    return dataclasses.replace(loaded, spec=small)


def _opened(path: Path, checked: Checked, request: Request) -> OpenSweep:
    """Open the sweep's folder, made with its rows and its model if need be, and begin a run in it."""
    if path.exists() and (request.fresh or request.smoke):
        _clear(path, smoke=request.smoke)
    folder, spec = RunDir(path), checked.loaded.spec
    if folder.spec_file.exists():
        manifest = _same(folder, checked.manifest())
    else:
        folder, manifest = _created(path, checked, checked.manifest())
    profile = profile_module.load(request.profile)
    return OpenSweep(folder, manifest, spec, profile, _begin(folder, spec, profile))


def _clear(path: Path, *, smoke: bool) -> None:
    """Move an earlier sweep aside; an earlier smoke run, which nobody needs, is deleted."""
    is_smoke = smoke and RunDir(path).manifest().spec["fixed"].get("max_steps") == 1
    aside = run_dir.move_aside(path)
    if is_smoke:
        shutil.rmtree(aside)


def _same(folder: RunDir, asked: Manifest) -> Manifest:
    """Return the folder's manifest; refuse a spec that is another sweep's."""
    present = folder.manifest()
    if differences := changes(present, asked):
        listed = "\n".join(f"  {line}" for line in differences)
        raise RunDirError(
            f"{folder.path} holds another sweep; this spec differs:\n{listed}\n"
            "Give it a name of its own with --name, or move the old folder aside with --fresh."
        )
    return present


def _created(path: Path, checked: Checked, manifest: Manifest) -> tuple[RunDir, Manifest]:
    run_dir.refuse_foreign(path)
    folder = run_dir.make_folders(path)
    for split, frame in checked.data.frames.items():
        frame.to_parquet(folder.data / f"{split}.parquet")
    model = checked.loaded.spec.model
    if isinstance(model, ScratchModelSpec):
        train = checked.data.frames["train"]
        columns = [train[name] for name in ("text", "text_pair") if name in train]
        texts = (text for column in columns for text in column)
        make_scratch(model, texts, folder.model, pairs=len(columns) > 1)
        manifest = dataclasses.replace(manifest, model={**manifest.model, "path": str(folder.model)})
    write_json(folder.spec_file, dataclasses.asdict(manifest))
    return folder, manifest


def _begin(folder: RunDir, spec: SweepSpec, profile: Profile) -> Run:
    run = Run(
        number=len(list((folder.path / "runs").glob("*.json"))) + 1,
        budget=spec.budget.model_dump(),
        stop=spec.stop.model_dump(),
        profile=profile.model_dump(),
        environment=_environment(),
        host=socket.gethostname(),
        pid=os.getpid(),
        started=time.time(),
    )
    folder.write_run(run)
    return run


def _environment() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), "platform": platform.platform(), **versions}


def _search(sweep: OpenSweep, lock: int, signals: Signals, display_of: Any) -> str:
    """Run a worker until the sweep is over; return why it ended, which its run keeps too."""
    try:
        why = nothing_left(sweep) or _supervised(sweep, lock, signals, display_of)
    except SweepError as error:
        # Where the folder itself is gone, the error that says so must not be replaced by this one.
        with contextlib.suppress(RunDirError):
            sweep.end_run(str(error).partition("\n")[0])
        raise
    sweep.end_run(why)
    return why


def _supervised(sweep: OpenSweep, lock: int, signals: Signals, display_of: Any) -> str:
    spec, folder = sweep.spec, sweep.run_dir
    with display_of(
        spec.name,
        direction=spec.direction,
        metric=spec.objective.metric,
        trials=sweep.wanted,
        parameters=list(spec.space),
        hours=None if spec.budget.hours is None else spec.budget.hours - folder.hours_used(),
    ) as display:
        display.update(folder.records(), [])  # what earlier runs did is no news
        supervisor = Supervisor(sweep, signals, display)
        launcher = LAUNCHERS.load(sweep.profile.launcher)()
        return supervisor.wait(launcher.start(folder, sweep.run.number, sweep.profile, lock))


def _collected(sweep: OpenSweep, why: str, signals: Signals) -> Outcome:
    """Write the final leaderboard; export and prove the winner unless the user wants to get out."""
    records = sweep.run_dir.records()
    sweep.write_leaderboard(records)
    received = signals.received[0] if signals.received else None
    best = ranking.winner(records, sweep.spec.direction)
    evidence = None
    if best is not None and received is None:
        evidence = winner.export(sweep.run_dir, sweep.manifest, best)
        sweep.write_leaderboard(records)  # it says where the winner is
    if best is None and received is None:
        raise NoFinishedTrial(_no_winner(sweep.run_dir, records))
    return Outcome(sweep, records, why, received, evidence)


def _no_winner(folder: RunDir, records: Sequence[TrialRecord]) -> str:
    counted = "\n".join(f"  {count} x {reason}" for count, reason in ranking.reasons(records))
    first = next((record for record in records if record.state.finished), None)
    log = f"\nThe first one's log: {folder.path / first.log}" if first else ""
    return f"no trial finished, so there is no winner; {len(records)} ended otherwise:\n{counted}{log}"
