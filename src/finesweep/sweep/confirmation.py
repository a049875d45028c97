"""Plans and prepares the confirmation of a sweep: a sweep in a folder of its own, with fresh seeds for the best trials.

Its trials are planned one by one, as trial of the search and seed, and are trained to their end: nothing prunes them,
and none ends early. Rows, tokens and model are those of the search. A later call adds trials and seeds to the plan;
what is in it stays, and keeps its number.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Collection, Sequence

from finesweep.calibration import calibration_file
from finesweep.errors import FolderError
from finesweep.files import sync_all, write_json, writing
from finesweep.files.linked_copy import linked_copy
from finesweep.folder import Manifest, Repeat, SweepFolder, checked_files, leftovers, sweep_folder
from finesweep.host.python_process import own_command, own_environment
from finesweep.launch import Profile
from finesweep.results import ranking
from finesweep.spec import BudgetSpec, ConfirmSpec
from finesweep.spec.planned_trials import configuration
from finesweep.spec.sections import PruningSpec
from finesweep.sweep import worker_count
from finesweep.sweep.begin_run import Terms, begin_run
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.text import clean
from finesweep.trial import TrialRecord

LONGEST_NAME = 90
"""Length at which the search's name is cut in that of its confirmation."""


def begin_confirmation(
    search: OpenSweep, confirm: ConfirmSpec, profile: Profile, workers: int | None = None, *, watched: bool = True
) -> OpenSweep | None:
    """Plan a confirmation or add to it, and begin a run of it; None if no trial ranks.

    Args:
        search: The sweep.
        confirm: How many trials, and how many seeds.
        profile: Where the trials run.
        workers: Replaces the profile's own number.
        watched: Whether a command will watch the run's workers.

    Raises:
        FolderError: The folder cannot be written.
        SpecError: This machine cannot run the profile.
    """
    repeated = candidates(search.manifest, search.sweep_folder.records(), confirm.top, _tied(search.sweep_folder))
    if not repeated:
        return None
    folder, manifest = _opened(search, repeated, confirm.seeds)
    spec = manifest.spec.model_copy(update={"budget": BudgetSpec(trials=len(manifest.planned))})
    left = max(1, sum(not folder.is_finished(trial) for trial in range(len(manifest.planned))))
    model, machine = search.manifest.model.folder, worker_count.machine_for(spec)
    settled = profile.settled(machine, left, workers, worker_count.trial_gb(model.glob("*")))
    question = None
    if workers is None and watched:
        rows = manifest.data.rows["train"]
        settled, question = calibration_file.launch(search.sweep_folder, spec, settled, machine, left, rows)
    trusts_code = search.run.trust_remote_code
    return begin_run(folder, manifest, Terms(spec, settled, str(model), trusts_code, watched, question))


def candidates(
    manifest: Manifest, records: Sequence[TrialRecord], top: int, tied: Collection[int] = ()
) -> list[TrialRecord]:
    """Return the trials to confirm: the tied ones, each configuration once, and the untuned default if it ranks.

    Args:
        manifest: The sweep's manifest.
        records: The records of all ended trials.
        top: Most trials besides the untuned default.
        tied: The trials that cannot be told from the first, with the first; empty if they are not known, then any trial
            may be among the best.
    """
    best = dict[object, TrialRecord]()
    for record in ranking.ranked(records, manifest.spec.direction):
        if not tied or record.trial in tied:
            best.setdefault(configuration(manifest.spec, record.params), record)
    found = list(best.values())[:top]
    untuned = ranking.baseline(manifest, records)
    is_new = untuned is not None and all(one.trial != untuned.trial for one in found)
    return [*found, untuned] if untuned is not None and is_new and ranking.ranks(untuned) else found


def _tied(folder: SweepFolder) -> list[int]:
    """Return the trials that cannot be told from the first, as a process of its own finds them.

    It loads numpy and scipy, and this process stays in memory as long as the confirmation runs.
    """
    ran = subprocess.run(
        own_command("tied", str(folder.path)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=own_environment(),
        start_new_session=True,
        check=False,
    )
    if ran.returncode:
        why = clean(ran.stderr.strip().rpartition("\n")[2])
        raise FolderError(f"{folder.path}: the process that compares its trials has failed: {why}")
    found: list[int] = json.loads(ran.stdout)
    return found


def fresh_seed(seed: int, number: int) -> int:
    """Return a seed for a confirmation, 0 to 2^31 - 1.

    Args:
        seed: The sweep's seed.
        number: From 0; the same in all candidates.
    """
    return int.from_bytes(hashlib.sha256(f"confirm:{seed}:{number}".encode()).digest()[:4], "big") >> 1


def _opened(search: OpenSweep, repeated: Sequence[TrialRecord], seeds: int) -> tuple[SweepFolder, Manifest]:
    """Make the confirmation's folder if necessary, and plan what is not in its plan yet."""
    folder = search.sweep_folder.confirmation
    if folder.spec_file.is_file():
        present = folder.manifest()
        leftovers.tidy(folder)
        if (known := checked_files.read(folder, folder.path)) is None or known.own.changed() is not None:
            _fill(search, folder)
    else:
        shutil.rmtree(folder.path, ignore_errors=True)  # begun by a command that was killed
        sweep_folder.make_folders(folder.path)
        _fill(search, folder)
        present = _manifest(search.manifest)
    planned, repeats = list(present.planned), list(present.repeats)
    for number in range(seeds):
        for record in repeated:
            repeat = Repeat(record.trial, fresh_seed(search.manifest.spec.search.seed, number))
            if repeat not in repeats:
                planned.append(record.params)
                repeats.append(repeat)
    manifest = dataclasses.replace(present, planned=planned, repeats=tuple(repeats))
    if len(planned) > len(present.planned):
        write_json(folder.spec_file, manifest.to_json())
    return folder, manifest


def _manifest(search: Manifest) -> Manifest:
    """Return the manifest of a confirmation without its plan."""
    spec = search.spec
    own = {
        "name": f"{spec.name[:LONGEST_NAME]}-confirm",
        "search": spec.search.model_copy(update={"sampler": "random", "pruner": "none", "baseline": False}),
        "pruning": PruningSpec(),
        "patience": "none",
        "start": (),
    }
    return dataclasses.replace(search, spec=spec.model_copy(update=own), planned=[], created=time.time())


def _fill(search: OpenSweep, folder: SweepFolder) -> None:
    """Give the confirmation the rows, the tokens and the model of the search, by links that take no space."""
    source = search.sweep_folder
    with writing(folder.path):
        for place, target in ((source.data, folder.data), (source.model, folder.model)):
            shutil.rmtree(target, ignore_errors=True)
            if place.is_dir():
                linked_copy(place, target)
        sync_all(folder.data)
