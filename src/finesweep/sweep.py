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

from finesweep import contenders, folders, ownership, preflight, ranking, run_dir, spec_reader, winner
from finesweep import profile as profile_module
from finesweep.atomic import sync_all, write_json, writing
from finesweep.display import open_display
from finesweep.errors import NoFinishedTrial, RunDirError, SweepError
from finesweep.launchers import Handle
from finesweep.machine import Machine
from finesweep.manifest import Manifest, Run, changes
from finesweep.open_sweep import OpenSweep
from finesweep.plan import trials_wanted
from finesweep.preflight import Checked
from finesweep.profile import Profile
from finesweep.registry import LAUNCHERS
from finesweep.run_dir import RunDir
from finesweep.scratch_model import make_scratch
from finesweep.signals import Signals
from finesweep.spec import ScratchModelSpec, SweepSpec
from finesweep.spec_reader import LoadedSpec
from finesweep.stored import refuse_links
from finesweep.supervisor import Supervisor
from finesweep.trial import TrialRecord
from finesweep.winner import Evidence

SMOKE_ROWS = 32
SMOKE_TRIALS = 2
MOST_REPAIRS = 3
"""How often damaged weights are trained again before the disk is blamed."""

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
        join: Where a sweep of this name runs already, run more of its trials beside it.
        workers: Overrides the profile's number of workers.
        trust_remote_code: Allow code that comes with the model; to be said anew for each run.
    """

    spec: Path
    overrides: Sequence[str] = ()
    profile: Path | None = None
    name: str | None = None
    results: Path = Path("results")
    fresh: bool = False
    smoke: bool = False
    join: bool = False
    workers: int | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Outcome:
    """How one ``sweep run`` ended.

    Attributes:
        sweep: The sweep.
        records: All trials so far.
        why: One line: why the run ended.
        signal: The signal that ended it, None if none did.
        evidence: Of the winner; None after a signal, when no winner is exported.
        owner: Who owns the sweep that this run joined, and will export the winner.
    """

    sweep: OpenSweep
    records: Sequence[TrialRecord]
    why: str
    signal: int | None = None
    evidence: Evidence | None = None
    owner: str | None = None


def check(request: Request) -> Checked:
    """Do everything that ``sweep run`` does before it writes or trains anything.

    Raises:
        SpecError: With every problem found.
        RunDirError: The results folder could not be written.
    """
    return _checked(_loaded(request), request)


def _loaded(request: Request) -> LoadedSpec:
    loaded = spec_reader.load(request.spec, request.overrides, request.name)
    _settled(request, loaded.spec, loaded.spec.budget.trials)
    found = _for_smoke(loaded) if request.smoke else loaded
    folders.check_writable(_path(found, request))
    return found


def _settled(request: Request, spec: SweepSpec, trials: int) -> Profile:
    """Return the launch profile as this machine carries it out; refuse what it cannot."""
    return profile_module.load(request.profile).settled(_machine(spec), trials, request.workers)


def _machine(spec: SweepSpec) -> Machine:
    machine = Machine.probe()
    return dataclasses.replace(machine, gpus=()) if spec.fixed.get("use_cpu") else machine


def _checked(loaded: LoadedSpec, request: Request) -> Checked:
    folder = _path(loaded, request)
    checked = preflight.check(loaded, trusted=request.trust_remote_code)
    preflight.refuse_model_inside(checked, folder)
    profile = _settled(request, loaded.spec, loaded.spec.budget.trials)
    return dataclasses.replace(checked, notes=[*checked.notes, *profile.notes(_machine(loaded.spec))])


def _path(loaded: LoadedSpec, request: Request) -> Path:
    return request.results.absolute() / loaded.spec.name


def run(request: Request, display_of: Any = open_display, announce: Any = lambda _: None) -> Outcome:
    """Carry a spec out: search, rank, export and prove the winner.

    Args:
        request: What the user asked for.
        display_of: Opens the live display.
        announce: Called with the ``Checked`` spec before training starts.

    Raises:
        SpecError, RunDirError, LaunchError, NoFinishedTrial, WinnerMismatch, Stopped: See ``finesweep.errors``.
    """
    with Signals().counted() as signals:
        with signals.ending_the_block():
            loaded = _loaded(request)
            path = _path(loaded, request)
            if not request.join:
                ownership.refuse_owned(path)  # before minutes are spent on large data
            checked = _checked(loaded, request)
            announce(checked)
        if request.join and ownership.owner(path) is not None:
            return _joined(path, checked, request, signals, display_of)
        with ownership.held(path) as lock:
            sweep = _opened(path, checked, request)
            return _carried_out(sweep, lock, signals, display_of)


def _joined(path: Path, checked: Checked, request: Request, signals: Signals, display_of: Any) -> Outcome:
    """Run trials of a sweep that another command owns, until there are none; collect if that one is gone."""
    folder = RunDir(path)
    if not folder.spec_file.exists():
        raise RunDirError(f"{path} is being prepared by another `sweep run`; join it in a moment")
    manifest = _same(folder, checked.manifest())
    sweep = _begun(folder, manifest, checked, request)
    why = _search(sweep, None, signals, display_of)
    try:
        with ownership.held(path) as lock:
            # Its owner is gone: what is left of an owner's work is to be done here.
            return (
                _collected(sweep, why, signals) if signals.received else _carried_out(sweep, lock, signals, display_of)
            )
    except ownership.InUse as error:
        return Outcome(sweep, folder.records(), why, _first(signals), owner=error.owner)


def _carried_out(sweep: OpenSweep, lock: int, signals: Signals, display_of: Any) -> Outcome:
    """Search, and go on searching as long as the best trial's weights turn out to be damaged."""
    for _ in range(MOST_REPAIRS):
        why = _search(sweep, lock, signals, display_of)
        if signals.received or (found := _damaged(sweep)) is None:
            return _collected(sweep, why, signals)
        sweep.run_dir.notes.append(found)
    raise RunDirError(f"{sweep.run_dir.path}: {found}, for the {MOST_REPAIRS}th time; is the disk sound?")


def _damaged(sweep: OpenSweep) -> str | None:
    best = ranking.winner(sweep.run_dir.records(), sweep.spec.direction)
    return None if best is None else contenders.set_aside_if_damaged(sweep.run_dir, best)


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
    folder = RunDir(path)
    if folder.spec_file.exists():
        manifest = _same(folder, checked.manifest())
        run_dir.make_folders(path)  # of a folder that an earlier version made
        _tidy(folder)
    else:
        folder, manifest = _created(path, checked, checked.manifest())
    return _begun(folder, manifest, checked, request)


def _tidy(folder: RunDir) -> None:
    """Delete what killed processes left half written, unless a run that has joined goes on writing."""
    if not any(folder.alive(holder.claim.trial) for holder in folder.holders()):
        folders.remove_leftovers(folder)


def _begun(folder: RunDir, manifest: Manifest, checked: Checked, request: Request) -> OpenSweep:
    """Begin a run in a sweep's folder."""
    spec = checked.loaded.spec
    left = [trial for trial in range(trials_wanted(spec, manifest.plan)) if not folder.is_finished(trial)]
    profile = _settled(request, spec, max(len(left), 1))
    run = folder.begin_run(
        lambda number: Run(
            number=number,
            budget=spec.budget.model_dump(),
            stop=spec.stop.model_dump(),
            profile=profile.model_dump(),
            environment=_environment(),
            host=socket.gethostname(),
            pid=os.getpid(),
            started=time.time(),
            model_path=str(checked.model.path or folder.model),
            trust_remote_code=request.trust_remote_code,
        )
    )
    return OpenSweep(folder, manifest.of_run(run), spec, profile, run)


def _clear(path: Path, *, smoke: bool) -> None:
    """Move an earlier sweep aside; an earlier smoke run, which nobody needs, is deleted."""
    is_smoke = smoke and RunDir(path).manifest().spec["fixed"].get("max_steps") == 1
    aside = folders.move_aside(path)
    if is_smoke:
        shutil.rmtree(aside)


def _same(folder: RunDir, asked: Manifest) -> Manifest:
    """Return the folder's manifest; refuse a spec that is another sweep's, and links that lead out of it."""
    present = folder.manifest()
    refuse_links(folder.path, deep=True)
    if differences := changes(present, asked):
        listed = "\n".join(f"  {line}" for line in differences)
        raise RunDirError(
            f"{folder.path} holds another sweep; this spec differs:\n{listed}\n"
            "Give it a name of its own with --name, or move the old folder aside with --fresh."
        )
    return present


def _created(path: Path, checked: Checked, manifest: Manifest) -> tuple[RunDir, Manifest]:
    folders.refuse_foreign(path)
    folder = run_dir.make_folders(path)
    with writing(folder.data):
        manifest = _prepared(folder, checked, manifest)
    write_json(folder.spec_file, dataclasses.asdict(manifest))
    return folder, manifest


def _prepared(folder: RunDir, checked: Checked, manifest: Manifest) -> Manifest:
    """Write the rows, and the model where it is made from scratch; return the manifest that says so."""
    for split, frame in checked.data.frames.items():
        frame.to_parquet(folder.data / f"{split}.parquet")
    model = checked.loaded.spec.model
    if isinstance(model, ScratchModelSpec):
        train = checked.data.frames["train"]
        columns = [train[name] for name in ("text", "text_pair") if name in train]
        texts = (text for column in columns for text in column)
        building = folder.data / ".model.tmp"
        shutil.rmtree(building, ignore_errors=True)
        make_scratch(model, texts, building, pairs=len(columns) > 1)
        shutil.rmtree(folder.model, ignore_errors=True)
        sync_all(building)
        building.rename(folder.model)  # so that nobody reads half of its JSON
        manifest = dataclasses.replace(manifest, model={**manifest.model, "path": str(folder.model)})
    sync_all(folder.data)  # a power cut must not leave a manifest without what it stands for
    return manifest


def _environment() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), "platform": platform.platform(), **versions}


def _search(sweep: OpenSweep, lock: int | None, signals: Signals, display_of: Any) -> str:
    """Run workers until the sweep is over; return why it ended, which its run keeps too."""
    try:
        why = sweep.nothing_left() or _supervised(sweep, lock, signals, display_of)
    except SweepError as error:
        # Where the folder itself is gone, the error that says so must not be replaced by this one.
        with contextlib.suppress(RunDirError):
            sweep.end_run(str(error).partition("\n")[0])
        raise
    sweep.end_run(why)
    return why


def _supervised(sweep: OpenSweep, lock: int | None, signals: Signals, display_of: Any) -> str:
    spec, folder = sweep.spec, sweep.run_dir
    with display_of(
        spec.name,
        direction=spec.direction,
        metric=spec.objective.metric,
        trials=sweep.wanted,
        parameters=list(spec.space),
        hours=None if spec.budget.hours is None else spec.budget.hours - folder.hours_used(besides=sweep.run.number),
    ) as display:
        display.update(folder.records(), [])  # what earlier runs did is no news
        launcher = LAUNCHERS.load(sweep.profile.launcher)()

        def start(index: int) -> Handle:
            handle: Handle = launcher.start(folder, sweep.run.number, sweep.profile, lock, index)
            return handle

        return Supervisor(sweep, signals, display, start).wait()


def _collected(sweep: OpenSweep, why: str, signals: Signals) -> Outcome:
    """Write the final leaderboard; export and prove the winner unless the user wants to get out."""
    _tidy(sweep.run_dir)
    records = sweep.run_dir.records()
    sweep.write_leaderboard(records)
    received = _first(signals)
    best = ranking.winner(records, sweep.spec.direction)
    evidence = None
    if best is not None and received is None:
        evidence = winner.export(sweep.run_dir, sweep.manifest, best, sweep.profile, lambda: bool(signals.received))
        received = _first(signals)
        sweep.write_leaderboard(records)  # it says where the winner is
    if best is None and received is None:
        raise NoFinishedTrial(_no_winner(sweep.run_dir, records, why))
    return Outcome(sweep, records, why, received, evidence)


def _first(signals: Signals) -> int | None:
    return signals.received[0] if signals.received else None


def _no_winner(folder: RunDir, records: Sequence[TrialRecord], why: str) -> str:
    counted = "\n".join(f"  {count} x {reason}" for count, reason in ranking.reasons(records))
    first = next((record for record in records if record.state.finished), None)
    log = f"\nThe first one's log: {folder.path / first.log}" if first else ""
    ended = f"no trial finished, so there is no winner; {len(records)} ended otherwise:\n{counted}{log}"
    return f"{ended}\nEnded: {why}."
