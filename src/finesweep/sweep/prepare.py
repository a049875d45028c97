"""Checks a request, and makes the sweep's folder with everything that trials need."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from finesweep import activity
from finesweep.errors import FolderError, Problem, SpecError
from finesweep.files import permissions, refuse_all_but_files, sync_all, write_json, writing
from finesweep.folder import (
    CheckedFiles,
    Manifest,
    SweepFolder,
    changes,
    checked_files,
    leftovers,
    lost_records,
    placement,
    sweep_folder,
    sweep_lock,
)
from finesweep.host.machine import usable_memory_gb
from finesweep.host.process_ahead import ProcessAhead
from finesweep.host.timeline import phase
from finesweep.launch import Profile
from finesweep.launch import profile as profile_module
from finesweep.launch.local import WorkerPlace
from finesweep.model import ResolvedModel
from finesweep.model.from_scratch import make_scratch
from finesweep.registry import LAUNCHERS
from finesweep.spec import Draft, LoadedSpec, ScratchModelSpec, SweepSpec, in_order, reader, trials_wanted, used_up
from finesweep.sweep import dry_run, new_folder, preflight, settled_spec, states_in_memory, worker_count
from finesweep.sweep.begin_run import Terms, begin_run
from finesweep.sweep.first_workers import beside_the_checks, beside_the_step, foreseen
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.sweep.preflight import Checked
from finesweep.sweep.request import Request

WriteFolder = Callable[[SweepFolder, Manifest], Manifest]
"""Writes the files that trials need into a new folder; returns the manifest with what was made."""

SMOKE_ROWS = 32
SMOKE_TRIALS = 2
_CAPS = ("max_train_rows", "max_eval_rows", "max_test_rows")


def check(request: Request, profile: Profile) -> Checked:
    """Do all checks of ``sweep run``, before anything is written or trained.

    Raises:
        SpecError: With every problem found.
        FolderError: The results folder could not be written.
    """
    loaded = load(request, profile)
    with dry_run.started_ahead(loaded.spec) as ahead:
        checked = checked_spec(loaded, request, profile)
        try_model(checked, profile, ahead)
    return checked


def profile_of(request: Request) -> Profile:
    """Read the launch profile; a command does this once, first of all.

    Raises:
        SpecError: With every problem of the profile, and those of the spec, the data and the model.
    """
    try:
        return profile_module.load(request.profile)
    except SpecError as error:
        raise _all_problems(request, _draft(request), error.problems) from None


def check_to_begin(
    request: Request, profile: Profile, foresee: Callable[[Sequence[WorkerPlace]], None] = lambda _: None
) -> Checked:
    """Check a request that a run will follow; an existing sweep needs no dry run.

    Args:
        request: The request.
        profile: Its launch profile.
        foresee: Called with the probable places of first workers: some once the spec is read; before the dry run all
            those whose processes may be there, also instead of the former.

    Raises:
        SpecError: With every problem found.
        InUse: Another command owns the sweep's folder.
        FolderError, LaunchError: See ``load``.
    """
    loaded = load(request, profile)
    if not request.join:
        sweep_lock.refuse_owned(path_of(loaded, request))  # before minutes are spent on large data
    folder = SweepFolder(path_of(loaded, request))
    known = folder if folder.spec_file.exists() and not (request.fresh or request.smoke) else None
    if known is not None:
        refuse_all_but_files(known.path, deep=True)  # before its records are read, since damaged ones are renamed
    places = foreseen(loaded, request, profile, known)
    with dry_run.started_ahead(loaded.spec) if known is None else contextlib.nullcontext() as ahead:
        foresee(places[: beside_the_checks(busy=1 if ahead is None else 2)])
        checked = checked_spec(loaded, request, profile)
        foresee(beside_the_step(places, loaded.spec, checked.model))
        if known is None:
            try_model(checked, profile, ahead)
    return checked


def load(request: Request, profile: Profile) -> LoadedSpec:
    """Read the spec, and compare the profile with this machine.

    Raises:
        SpecError: With every problem of both, and then those of the data and the model too.
        FolderError: The results folder could not be written.
    """
    draft = _draft(request)
    if (problems := _without_place(request, profile, draft.sound())) or draft.problems:
        raise _all_problems(request, draft, problems)
    found = _for_smoke(draft.finished()) if request.smoke else draft.finished()
    path = path_of(found, request)
    placement.check_writable(path)
    return settled_spec.settled(found, None if request.fresh or request.smoke else SweepFolder(path))


def _draft(request: Request) -> Draft:
    activity.tell(f"reading {request.spec}")
    return reader.draft(request.spec, request.overrides, request.name)


def _all_problems(request: Request, draft: Draft, of_profile: Sequence[Problem]) -> SpecError:
    """Return the error that lists the problems of the spec, the data and the model, and then the profile's."""
    return SpecError([*preflight.problems(draft, trusted=request.trust_remote_code), *in_order(of_profile)])


def _without_place(request: Request, profile: Profile, spec: SweepSpec) -> Sequence[Problem]:
    """Return the problems that keep this machine from running the profile."""
    try:
        worker_count.settled(profile, spec, spec.budget.trials, request.workers)
    except SpecError as error:
        return error.problems
    return ()


def checked_spec(loaded: LoadedSpec, request: Request, profile: Profile) -> Checked:
    """Compare a spec with its data, its model and the profile.

    Raises:
        SpecError: With every problem found.
    """
    folder = path_of(loaded, request)
    checked = preflight.check(loaded, trusted=request.trust_remote_code)
    preflight.refuse_model_inside(checked, folder)
    trials = trials_wanted(loaded.spec, checked.planned)
    why = used_up(loaded.spec, checked.planned)
    small = [f"{why[0].upper()}{why[1:]}; it ends when all are tried."] if why else []
    workers = worker_count.notes(profile, loaded.spec, trials, request.workers, checked.model)
    states = states_in_memory.notes(profile, loaded.spec)
    return dataclasses.replace(checked, notes=[*checked.notes, *small, *workers, *states])


@phase("dry run")
def try_model(checked: Checked, profile: Profile, ahead: ProcessAhead | None = None) -> None:
    """Take two rows through the model, with each end of its searched settings.

    Args:
        checked: The checked spec, with its rows.
        profile: The launch profile.
        ahead: A process from ``dry_run.started_ahead``, None to start one.

    Raises:
        SpecError: With everything that fails.
    """
    memory_gb = usable_memory_gb() if profile.launcher == "local" else None
    if problems := dry_run.problems(checked, write_prepared, memory_gb, ahead):
        raise SpecError(in_order(problems))


def path_of(loaded: LoadedSpec, request: Request) -> Path:
    """Return the sweep's folder."""
    return request.results.absolute() / loaded.spec.name


def _for_smoke(loaded: LoadedSpec) -> LoadedSpec:
    """Shrink a spec to two trials of one step on a few rows."""
    spec = loaded.spec
    small = spec.model_copy(
        update={
            "name": f"{spec.name}-smoke",
            "data": spec.data.model_copy(update=dict.fromkeys(_CAPS, SMOKE_ROWS)),
            "budget": spec.budget.model_copy(update={"trials": SMOKE_TRIALS}),
            "confirm": None,
            "search": spec.search.model_copy(update={"pruner": "none"}),
            "fixed": {**spec.fixed, "max_steps": 1},
        }
    )
    return dataclasses.replace(loaded, spec=small)


def open_folder(
    path: Path,
    checked: Checked,
    request: Request,
    profile: Profile,
    *,
    watched: bool = True,
    write: WriteFolder | None = None,
) -> OpenSweep:
    """Open the sweep's folder, made with its rows and its model if necessary, and begin a run in it.

    Args:
        path: The folder.
        checked: The spec.
        request: The user's request.
        profile: Its launch profile, as it was written.
        watched: Whether a command will watch the run's workers.
        write: Writes rows and model into a new folder; None for ``write_all`` with the rows of ``checked``.

    Raises:
        FolderError: The folder is another sweep's, or cannot be written.
    """
    moved = None
    if path.exists() and (request.fresh or request.smoke):
        moved = _clear(path, smoke=request.smoke)
    permissions.prepare(path, profile.shared)
    folder = SweepFolder(path)
    write = write or functools.partial(write_all, checked)
    if folder.spec_file.exists():
        manifest = same_sweep(folder, checked.manifest())
        sweep_folder.make_folders(path)  # adds folders that an earlier version did not make
        leftovers.tidy(folder)
        lost_records.refuse(folder, rerun=request.rerun_lost)
        _renewed(folder, manifest, checked.model, write)
    else:
        folder, manifest = _created(path, checked.manifest(), write)
    if moved is not None:
        folder.notes.append(f"the earlier sweep of this name was moved to {moved}")
    return begin(folder, manifest, checked, request, profile, watched=watched)


def join(path: Path, checked: Checked, request: Request, profile: Profile) -> OpenSweep:
    """Begin a run in the folder of a sweep that another command owns.

    Raises:
        FolderError: The folder is another sweep's, or not complete yet.
    """
    folder = SweepFolder(path)
    permissions.follow(path)
    if not folder.spec_file.exists():
        raise FolderError(f"{path} is being prepared by another `sweep run`; join it in a moment")
    return begin(folder, same_sweep(folder, checked.manifest()), checked, request, profile)


def refuse_batch(profile: Profile, file: Path | None) -> None:
    """Refuse a profile whose launcher does not stay with its workers.

    Raises:
        SpecError: The launcher takes whole sweeps as batches.
    """
    if profile.launcher not in LAUNCHERS.names:
        message = f"{profile.launcher} takes whole sweeps as batches"
        raise SpecError.of(f"{file} launcher", message, "sweep submit does that")


def begin(
    folder: SweepFolder,
    manifest: Manifest,
    checked: Checked,
    request: Request,
    profile: Profile,
    *,
    watched: bool = True,
) -> OpenSweep:
    """Begin a run in a sweep's folder; see ``open_folder``."""
    spec = checked.loaded.spec
    left = [trial for trial in range(trials_wanted(spec, manifest.planned)) if not folder.is_finished(trial)]
    count = max(len(left), 1)
    settled, question = worker_count.settled(profile, spec, count, request.workers, checked.model), None
    if request.workers is None and not request.smoke and watched:
        settled, question = worker_count.measured(settled, spec, folder, count, manifest.data.rows["train"])
    place = str(checked.model.path or folder.model)
    terms = Terms(spec, settled, place, request.trust_remote_code, watched, question)
    return begin_run(folder, manifest, terms)


def _clear(path: Path, *, smoke: bool) -> Path | None:
    """Move an earlier sweep aside and return its new path; an earlier smoke run is deleted."""
    is_smoke = smoke and SweepFolder(path).manifest().spec.fixed.get("max_steps") == 1
    aside = placement.move_aside(path)
    if is_smoke:
        shutil.rmtree(aside)
    return None if is_smoke else aside


def same_sweep(folder: SweepFolder, asked: Manifest) -> Manifest:
    """Return the folder's manifest; refuse a spec of another sweep, and links that lead out of the folder."""
    present = folder.manifest()
    refuse_all_but_files(folder.path, deep=True)
    if differences := changes(present, asked):
        listed = "\n".join(f"  {_with_file(line, folder, asked)}" for line in differences)
        raise FolderError(
            f"{folder.path} holds another sweep; this spec differs:\n{listed}\n"
            "Give it a name of its own with --name, or move the old folder aside with --fresh."
        )
    return present


def _with_file(line: str, folder: SweepFolder, asked: Manifest) -> str:
    """Return a difference between two sweeps, with the file's name if the content differs."""
    key = line.partition(":")[0]
    if key.startswith("data.content.") and (source := asked.data.sources.get(key.rpartition(".")[2])):
        return f"{line} ({source.place})"
    if key == "model.content" and asked.model.path is not None:
        known = checked_files.read(folder, asked.model.folder)
        changed = known.model.changed() if known is not None else None
        return f"{line} ({changed or asked.model.path})"
    return line


def _renewed(folder: SweepFolder, manifest: Manifest, model: ResolvedModel, write: WriteFolder) -> None:
    """Make rows, tokens and a model from scratch again if they have changed since they were prepared.

    Raises:
        FolderError: A file of the model's folder has changed, and cannot be made again.
    """
    known = checked_files.read(folder, model.path or folder.model)
    if known is not None:
        if (file := known.model.changed()) is not None:
            raise FolderError(f"{file}: it is not what the sweep began with; put it back, or start anew with --fresh")
        if (file := known.own.changed()) is None:
            return
        folder.notes.append(f"{file.relative_to(folder.path)} was not what was prepared; it is made again")
    for tokens in folder.data.glob("tokens-*"):
        shutil.rmtree(tokens)
    write(folder, manifest)


def _created(path: Path, manifest: Manifest, write: WriteFolder) -> tuple[SweepFolder, Manifest]:
    placement.refuse_foreign(path)
    folder = sweep_folder.make_folders(path)
    manifest = write(folder, manifest)
    # Written last: if it exists, the folder is complete.
    write_json(folder.spec_file, manifest.to_json())
    return folder, manifest


def write_all(checked: Checked, folder: SweepFolder, manifest: Manifest) -> Manifest:
    """Do what ``write_prepared`` does, and write what else a new folder gets.

    Raises:
        FolderError: The folder cannot be written.
    """
    manifest = write_prepared(checked, folder, manifest)
    new_folder.write(folder, checked)
    return manifest


def write_prepared(checked: Checked, folder: SweepFolder, manifest: Manifest) -> Manifest:
    """Write the rows, and a model made from scratch; return the manifest with its folder.

    Raises:
        FolderError: The folder cannot be written.
    """
    with writing(folder.data):
        return _prepared(folder, checked, manifest)


def _prepared(folder: SweepFolder, checked: Checked, manifest: Manifest) -> Manifest:
    activity.tell("writing the rows")
    for split, frame in checked.data.frames.items():
        frame.to_parquet(folder.data / f"{split}.parquet")
    model = checked.loaded.spec.model
    if isinstance(model, ScratchModelSpec):
        train = checked.data.frames["train"]
        columns = [train[name] for name in ("text", "text_pair") if name in train]
        texts = (text for column in columns for text in column)
        activity.tell("making a tokenizer and a model from scratch")
        building = folder.data / ".model.tmp"
        shutil.rmtree(building, ignore_errors=True)
        make_scratch(model, texts, building, pairs=len(columns) > 1)
        shutil.rmtree(folder.model, ignore_errors=True)
        sync_all(building)
        building.rename(folder.model)  # so that no process reads half of its JSON
        manifest = dataclasses.replace(manifest, model=dataclasses.replace(manifest.model, path=str(folder.model)))
    model_folder = checked.model.path or folder.model
    found = checked_files.note(folder, model_folder, checked.model.files)
    if checked.model.path is not None and checked.model.revision is None:
        _refuse_unchecked(found.model, checked.model)
    sync_all(folder.data)  # a power cut must not leave a manifest without its files
    return manifest


def _refuse_unchecked(files: CheckedFiles, model: ResolvedModel) -> None:
    """Refuse a model's folder that has changed since it was checked a moment ago."""
    if model.digest != checked_files.digest(files):
        raise FolderError(f"{files.folder}: it was changed while it was checked; run the same command again")
