"""Owns the spine of ``sweep run``: check, prepare, launch, wait, collect, each handing its value on."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finesweep import leaderboard, ownership, preflight, ranking, run_dir, spec_reader, winner
from finesweep import profile as profile_module
from finesweep.atomic import write_json
from finesweep.display import Display, open_display
from finesweep.errors import LaunchError, NoFinishedTrial, RunDirError, SweepError
from finesweep.launchers import Handle
from finesweep.manifest import Manifest, Run, changes
from finesweep.plan import early_stop, trials_wanted
from finesweep.preflight import Checked
from finesweep.profile import Profile
from finesweep.registry import LAUNCHERS
from finesweep.run_dir import RunDir
from finesweep.scratch_model import make_scratch
from finesweep.spec import ScratchModelSpec, SweepSpec
from finesweep.spec_reader import LoadedSpec
from finesweep.trial import TrialRecord
from finesweep.winner import Evidence

POLL_SECONDS = 0.25
LEADERBOARD_SECONDS = 1.0
NO_SPACE_BYTES = 1_000_000
"""So little free space that whatever went wrong went wrong for lack of it."""

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
        run_dir: The sweep's folder.
        manifest: What the sweep is.
        spec: The spec with this run's budget.
        records: All trials so far.
        why: One line: why the run ended.
        signal: The signal that ended it, None if none did.
        evidence: Of the winner; None after a signal, when no winner is exported.
    """

    run_dir: RunDir
    manifest: Manifest
    spec: SweepSpec
    records: Sequence[TrialRecord]
    why: str
    signal: int | None = None
    evidence: Evidence | None = None


@dataclass
class Signals:
    """Counts Ctrl-C and SIGTERM; whoever supervises decides what follows."""

    received: list[int] = field(default_factory=list)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count signals for as long as the block runs, also where the caller had them ignored.

        A lost terminal does not end a sweep.
        """
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda received, _: self.received.append(received))
        try:
            yield
        finally:
            # Once told to stop, the command is on its way out: one more Ctrl-C must not spoil its exit code.
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if self.received else handler)


def check(request: Request) -> Checked:
    """Do everything that ``sweep run`` does before it writes or trains anything.

    Raises:
        SpecError: With every problem found.
        RunDirError: The results folder could not be written.
    """
    loaded = spec_reader.load(request.spec, request.overrides, request.name)
    profile_module.load(request.profile)
    run_dir.check_writable(request.results.absolute() / loaded.spec.name)
    return preflight.check(_for_smoke(loaded) if request.smoke else loaded)


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
    spec, profile = checked.loaded.spec, profile_module.load(request.profile)
    path = request.results.absolute() / spec.name
    with ownership.held(path) as lock:
        folder, manifest = _prepared(path, checked, fresh=request.fresh or request.smoke)
        this_run = _begin(folder, spec, profile)
        signals = Signals()
        with signals.counted():
            why = _search(folder, manifest, spec, profile, this_run, lock, signals, display_of)
            outcome = _collected(folder, manifest, spec, why, signals)
        folder.write_run(dataclasses.replace(this_run, ended=time.time(), outcome=why))
    return outcome


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


def _prepared(path: Path, checked: Checked, *, fresh: bool) -> tuple[RunDir, Manifest]:
    """Open the sweep's folder, or make it with its rows and its model."""
    manifest = checked.manifest()
    if fresh and path.exists():
        aside = run_dir.move_aside(path)
        if checked.loaded.spec.name.endswith("-smoke"):
            shutil.rmtree(aside)
    folder = RunDir(path)
    if not folder.spec_file.exists():
        return _created(path, checked, manifest)
    present = folder.manifest()
    if differences := changes(present, manifest):
        listed = "\n".join(f"  {line}" for line in differences)
        raise RunDirError(
            f"{path} holds another sweep; this spec differs:\n{listed}\n"
            "Give it a name of its own with --name, or move the old folder aside with --fresh."
        )
    return folder, present


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


def _search(
    folder: RunDir,
    manifest: Manifest,
    spec: SweepSpec,
    profile: Profile,
    this_run: Run,
    lock: int,
    signals: Signals,
    display_of: Any,
) -> str:
    """Run a worker until the sweep is over; return why it ended."""
    wanted = trials_wanted(spec, manifest.plan)
    if reason := _nothing_left(folder, spec, wanted):
        return reason
    hours = spec.budget.hours
    with display_of(
        spec.name,
        direction=spec.direction,
        metric=spec.objective.metric,
        trials=wanted,
        parameters=list(spec.space),
        hours=None if hours is None else hours - folder.hours_used(),
    ) as display:
        display.update(folder.records(), [])  # what earlier runs did is no news
        handle = LAUNCHERS.load(profile.launcher)().start(folder, this_run.number, profile, lock)
        supervisor = _Supervisor(folder, manifest, spec, handle, signals, display)
        return supervisor.wait()


def _nothing_left(folder: RunDir, spec: SweepSpec, wanted: int) -> str | None:
    records = [record for record in folder.records() if record.state.finished]
    if len([record for record in records if record.trial < wanted]) >= wanted:
        return f"all {wanted} trials of the budget have finished"
    if spec.budget.hours is not None and folder.hours_used() >= spec.budget.hours:
        return f"the budget of {spec.budget.hours:g} hours is used up"
    return early_stop(spec.stop, records, spec.direction)


class _Supervisor:
    """Watches a worker through the sweep's folder, which it keeps up to date for everybody else."""

    def __init__(
        self, folder: RunDir, manifest: Manifest, spec: SweepSpec, handle: Handle, signals: Signals, display: Display
    ) -> None:
        self.folder, self.manifest, self.spec = folder, manifest, spec
        self.handle, self.signals, self.display = handle, signals, display
        self.hours_before = folder.hours_used()
        self.started = time.monotonic()
        self.written = 0.0
        self.seen: Sequence[TrialRecord] = ()
        self.stopped_for: str | None = None
        self.told = 0

    def wait(self) -> str:
        """Return why the worker ended.

        Raises:
            LaunchError: It died of something that is no trial's.
            RunDirError: The folder was removed or cannot be written.
        """
        try:
            while (code := self.handle.poll()) is None:
                self._look()
                self._enforce()
                time.sleep(POLL_SECONDS)
        except BaseException:
            self.handle.kill()
            raise
        self._look()
        return self._why(code)

    def _look(self) -> None:
        if not self.folder.spec_file.exists():
            raise RunDirError(f"{self.folder.path}: the folder was removed or renamed while its sweep ran")
        records = self.folder.records()
        self.display.update(records, self.folder.progress())
        if records != self.seen and time.monotonic() - self.written >= LEADERBOARD_SECONDS:
            leaderboard.write(self.folder, self.manifest, records, self.folder.runs())
            self.seen, self.written = records, time.monotonic()

    def _enforce(self) -> None:
        hours = self.hours_before + (time.monotonic() - self.started) / 3600
        limit = self.spec.budget.hours
        if limit is not None and hours >= limit and self.stopped_for is None:
            self.stopped_for = f"the budget of {limit:g} hours is used up"
            self.handle.stop()
        count = len(self.signals.received)
        if count > self.told:
            self.told = count
            self._obey(count)

    def _obey(self, count: int) -> None:
        if count > 1:
            self.handle.kill()
            return
        name = signal.Signals(self.signals.received[0]).name
        self.stopped_for = f"stopped by {'Ctrl-C' if name == 'SIGINT' else name}"
        self.display.note("Stopping after the current step; once more to stop at once.")
        self.handle.stop()

    def _why(self, code: int) -> str:
        if self.stopped_for is not None:
            return self.stopped_for
        if code != 0:
            raise self._worker_failure(code)
        records = [record for record in self.folder.records() if record.state.finished]
        return early_stop(self.spec.stop, records, self.spec.direction) or f"{len(records)} trials have finished"

    def _worker_failure(self, code: int) -> SweepError:
        free = shutil.disk_usage(self.folder.path).free
        if free < NO_SPACE_BYTES:
            return RunDirError(
                f"{self.folder.path}: the disk is full ({free / 1e6:.1f} MB free); "
                "make room and run the same command again"
            )
        return LaunchError(self._last_words(code))

    def _last_words(self, code: int) -> str:
        log = self.folder.worker_log
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
        said = lines[-1] if lines else f"exit code {code}"
        return f"the worker stopped: {said.removeprefix('error: ')}\nIts log: {log}"


def _collected(folder: RunDir, manifest: Manifest, spec: SweepSpec, why: str, signals: Signals) -> Outcome:
    """Write the final leaderboard; export and prove the winner unless the user wants to get out."""
    records = folder.records()
    leaderboard.write(folder, manifest, records, folder.runs())
    received = signals.received[0] if signals.received else None
    best = ranking.winner(records, spec.direction)
    evidence = None
    if best is not None and received is None:
        evidence = winner.export(folder, manifest, best)
        leaderboard.write(folder, manifest, records, folder.runs())  # it says where the winner is
    if best is None and received is None:
        raise NoFinishedTrial(_no_winner(folder, records))
    return Outcome(folder, manifest, spec, records, why, received, evidence)


def _no_winner(folder: RunDir, records: Sequence[TrialRecord]) -> str:
    counted = "\n".join(f"  {count} x {reason}" for count, reason in ranking.reasons(records))
    first = next((record for record in records if record.state.finished), None)
    log = f"\nThe first one's log: {folder.path / first.log}" if first else ""
    return f"no trial finished, so there is no winner; {len(records)} ended otherwise:\n{counted}{log}"
