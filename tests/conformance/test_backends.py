"""Every backend with every sampler and pruner keeps the same promises; no model is trained here."""

from __future__ import annotations

import functools
import gc
import math
import multiprocessing
import os
import pickle
import random
import resource
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import made_records
import pytest
from optuna.trial import FrozenTrial

from finesweep.backends.optuna.pruners import step_of
from finesweep.backends.optuna.samplers import SAMPLERS
from finesweep.backends.optuna.study import SweepStudy
from finesweep.backends.search_driver import SearchDriver
from finesweep.errors import FolderError, TrialFailed
from finesweep.folder import next_attempt
from finesweep.folder.claims import Claim, Lease
from finesweep.folder.manifest import Run
from finesweep.folder.sweep_folder import SweepFolder, make_folders
from finesweep.launch.profile import Profile
from finesweep.registry import BACKENDS
from finesweep.spec.planned_trials import configuration, planned_trials, trials_wanted
from finesweep.spec.search_space import SearchSpace
from finesweep.spec.sections import ON_RUNGS, BudgetSpec, StopSpec, SweepSpec
from finesweep.trial import (
    AttemptOutdated,
    Divergence,
    Evaluation,
    Report,
    TrialDiverged,
    TrialInterrupted,
    TrialPruned,
    TrialRecord,
    TrialState,
    TrialWaits,
)
from finesweep.worker.rung_judge import RungJudge
from made_profiles import settled
from made_specs import made_spec
from ray_searches import RaySearches

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

EVERY_KIND = {
    "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "weight_decay": {"low": 0.0, "high": 0.3, "step": 0.1},
    "num_train_epochs": {"low": 2, "high": 5},
    "gradient_accumulation_steps": {"low": 1, "high": 8, "log": True},
    "per_device_train_batch_size": {"choices": [8, 16, 32]},
    "lr_scheduler_type": {"choices": ["linear", "polynomial", "constant"]},
    "warmup_steps": {"low": 0.0, "high": 0.2, "when": {"lr_scheduler_type": ["linear", "polynomial"]}},
}
COUNTABLE = {name: EVERY_KIND[name] for name in ("weight_decay", "num_train_epochs", "per_device_train_batch_size")}


ENOUGH = {"samplers": {"tpe"}, "pruners": {"median", "asha"}}
"""What is tried with Ray. Both backends ask the same study and judge by the same rules, and e2e/test_ray_backend.py
compares their trials. Ray's own part differs for what it stops itself (asha) and what a trial stops (median)."""


def cases(of: str) -> list[Any]:
    """Return every backend with its samplers or pruners; with Ray, which has to be started, few and slow."""
    items = [(name, item) for name in BACKENDS.names for item in getattr(BACKENDS.load(name), of)]
    return [pytest.param(*item, marks=slow(item[0])) for item in items if not slow(item[0]) or item[1] in ENOUGH[of]]


def slow(backend: str) -> Iterable[pytest.MarkDecorator]:
    return (pytest.mark.slow,) if BACKENDS.load(backend).single_worker else ()


CASES = cases("samplers")
QUICK_CASE = ("optuna", "tpe")
PRUNERS = cases("pruners")
ALL = [pytest.param(name, marks=slow(name)) for name in BACKENDS.names]
PARALLEL = [name for name in BACKENDS.names if not BACKENDS.load(name).single_worker]
"""Backends that run in many workers side by side. Of the others there is one, whose trials run elsewhere: what
happens to those is shown in e2e/test_ray_backend.py."""

ROWS = 100
"""Training rows of a sweep in which nothing is trained; each evaluation comes an epoch later."""

STATES = {
    TrialPruned: TrialState.PRUNED,
    TrialWaits: TrialState.WAITING,
    TrialDiverged: TrialState.DIVERGED,
    TrialInterrupted: TrialState.INTERRUPTED,
    TrialFailed: TrialState.FAILED,
}
CONTEXT = multiprocessing.get_context("fork")


@pytest.fixture(scope="module", autouse=True)
def warm():
    """As a worker before its forks: else the stock call goes through all that was ever imported, for each trial."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    RAY.close()


class RecordedWork:
    """A ``Work`` whose training is a function of the parameters; everything else is the real thing."""

    def __init__(
        self, folder: Path, spec: SweepSpec, body: Callable[[int, dict], object], run: int = 1, at_a_time: int = 2
    ) -> None:
        self.sweep_folder: SweepFolder = make_folders(folder)
        self.spec, self.body, self.run = spec, body, run
        self.planned = planned_trials(spec, {}, 128)
        self.rows = ROWS
        self.profile = settled(workers=at_a_time)
        self.rung_judge = RungJudge(self.sweep_folder, spec, ROWS, self.wanted)
        self.leases: dict[Claim, Lease] = {}
        self.stop_file = folder / f"stopped-{run}"

    @property
    def wanted(self) -> int:
        return trials_wanted(self.spec, self.planned)

    @property
    def stopping(self) -> bool:
        return self.stop_file.exists()

    @property
    def over(self) -> bool:
        return self.stopping or all(map(self.sweep_folder.is_finished, range(self.wanted)))

    def claim(self, wait: bool = True) -> Claim | None:
        lease = None if self.stopping else next_attempt.claim(self.sweep_folder, self.run, self.rung_judge.queue())
        if lease is None:
            return None
        self.leases[lease.claim] = lease
        return lease.claim

    def borrower(self) -> Callable[[], RecordedWork]:
        return functools.partial(Borrower, self)

    def renew(self) -> None:
        for lease in self.leases.values():
            lease.renew()

    def release(self, claim: Claim) -> None:
        if (lease := self.leases.pop(claim, None)) is not None:
            lease.release()

    def lost(self, claim: Claim, how: str, seconds: float) -> None:
        if self.sweep_folder.read_record(claim.trial) is None:
            self.sweep_folder.record(self.record_of(claim, TrialState.INTERRUPTED, {}, (), how))

    def isolated(self, claim: Claim, body: Callable[[], None], attend: Callable[[], None] | None = None) -> None:
        try:
            body()
        finally:
            self.release(claim)

    def train(self, claim, params, report) -> float:
        evaluations: list[Evaluation] = []
        before = self.sweep_folder.read_record(claim.trial)
        judged = len(before.evaluations) if before is not None else 0

        try:
            for index, value in enumerate(self.body(claim.trial, params), start=1):
                evaluations.append(Evaluation(index, float(index), index * ROWS, {}, value))
                best = min(evaluation.objective for evaluation in evaluations)
                record = self.record_of(claim, TrialState.PRUNED, params, evaluations, "")
                report(Report(evaluations[-1], best, False, lambda record=record: record))
                if index > judged:
                    self.rung_judge.judge(claim.trial, evaluations, params)
        except AttemptOutdated:
            (self.sweep_folder.path / "outdated").touch()
            raise
        except tuple(STATES) as stop:
            if isinstance(stop, TrialInterrupted):
                self.stop_file.touch()
            self.sweep_folder.record(self.record_of(claim, STATES[type(stop)], params, evaluations, str(stop)))
            raise
        record = self.record_of(claim, TrialState.COMPLETE, params, evaluations)
        self.sweep_folder.record(record)
        assert record.objective is not None
        return record.objective

    def record_of(self, claim, state, params, evaluations, reason=None) -> TrialRecord:
        return TrialRecord(
            trial=claim.trial,
            attempt=claim.attempt,
            state=state,
            params=params,
            started=time.time(),
            seconds=0.0,
            log="",
            host="h",
            reason=reason,
            objective=min((evaluation.objective for evaluation in evaluations), default=None),
            evaluations=tuple(evaluations),
            run=self.run,
        )

    def search(self) -> list[TrialRecord]:
        backend = BACKENDS.load(self.spec.search.backend)
        if backend.single_worker:
            RAY.run(functools.partial(backend().search, self))
        else:
            backend().search(self)
        return self.sweep_folder.records()


class Borrower:
    """The same work in a process that Ray has started, which forks for each trial as a worker does."""

    def __init__(self, work: RecordedWork) -> None:
        self.work, self.spec, self.sweep_folder, self.train = work, work.spec, work.sweep_folder, work.train
        self.rung_judge = work.rung_judge

    def isolated(self, claim: Claim, body: Callable[[], None], attend: Callable[[], None]) -> None:
        process = CONTEXT.Process(target=body)
        process.start()
        while process.is_alive():
            attend()
            process.join(timeout=0.01)


RAY = RaySearches()


def make_spec(space=None, *, trials: int = 12, start: tuple = (), **search) -> SweepSpec:
    return made_spec(
        name="conformance",
        start=start,
        budget={"trials": trials},
        search={"pruner": "none", **search},
        pruning={"rungs": (1, 2), "factor": 3},
        space=space or EVERY_KIND,
    )


def by_learning_rate(trial: int, params) -> list[float]:
    return [params.get("learning_rate", 0.1) * 1000 + 1]


@pytest.mark.parametrize(("backend", "sampler"), CASES)
def test_parameters_lie_in_the_space_and_differ_and_the_budget_is_met(tmp_path, backend, sampler):
    space = COUNTABLE if sampler == "grid" else EVERY_KIND
    spec = make_spec(space, backend=backend, sampler=sampler)
    records = RecordedWork(tmp_path / "s", spec, by_learning_rate).search()
    assert [record.trial for record in records] == list(range(12))
    assert {record.state for record in records} == {TrialState.COMPLETE}
    for record in records:
        assert SearchSpace(spec.space).contains(record.params), record.params
    assert len({tuple(sorted(record.params.items())) for record in records}) == 12


@pytest.mark.parametrize(("backend", "sampler"), [case for case in CASES if case.values[0] in PARALLEL])
def test_a_trials_parameters_follow_from_seed_and_number(tmp_path, backend, sampler):
    space = COUNTABLE if sampler == "grid" else EVERY_KIND
    runs = [
        RecordedWork(
            tmp_path / str(i), make_spec(space, backend=backend, sampler=sampler, trials=6, seed=seed), by_learning_rate
        )
        for i, seed in enumerate((7, 7, 8))
    ]
    params = [[record.params for record in work.search()] for work in runs]
    assert params[0] == params[1] != params[2]


@pytest.mark.parametrize("backend", ALL)
def test_first_trials_that_end_badly_are_recorded_and_the_next_ones_run(tmp_path, backend):
    """Stock: `ValueError: No trials are completed yet`, or the error itself, ends the whole search."""
    stops = {
        0: functools.partial(TrialPruned, "weak"),
        1: functools.partial(TrialFailed, 1, "broken", "log"),
        2: functools.partial(TrialDiverged, Divergence("NaN", 1, 1e-3, None)),
    }

    def body(trial, params):
        if trial in stops:
            stop = stops[trial]()
            raise stop
        return [1.0]

    records = RecordedWork(tmp_path / "s", make_spec(backend=backend, trials=5), body).search()
    assert [record.state for record in records] == [
        *(TrialState.PRUNED, TrialState.FAILED, TrialState.DIVERGED),
        *(TrialState.COMPLETE, TrialState.COMPLETE),
    ]


@pytest.mark.parametrize(("backend", "pruner"), PRUNERS)
def test_weak_trials_are_stopped_and_strong_ones_are_not(tmp_path, backend, pruner):
    def body(trial, params):
        return [3.0 - step * 0.1 + trial for step in range(8)]

    spec = make_spec(backend=backend, pruner=pruner, sampler="random", trials=16)
    states = [record.state for record in RecordedWork(tmp_path / "s", spec, body).search()]
    assert states[0] is TrialState.COMPLETE
    assert (TrialState.PRUNED in states) == (pruner != "none")


@pytest.mark.parametrize(
    ("sampler", "backend"), [("random", "optuna"), ("tpe", "optuna"), pytest.param("tpe", "ray", marks=slow("ray"))]
)
def test_trials_wait_for_each_other_and_go_on_under_their_numbers_in_the_same_study(tmp_path, backend, sampler):
    def body(trial, params):
        return [3.0 - step * 0.1 + trial * 7 % 12 for step in range(4)]

    spec = make_spec(backend=backend, pruner="halving", sampler=sampler, trials=12, baseline=False)
    records = RecordedWork(tmp_path / "s", spec, body).search()
    by_state = {state: [r.trial for r in records if r.state is state] for state in TrialState}
    assert by_state[TrialState.COMPLETE] == [0]  # 12 at the first rung, then 4, then 1
    assert len(by_state[TrialState.PRUNED]) == 11
    assert Counter(len(record.evaluations) for record in records) == {1: 8, 2: 3, 4: 1}
    assert max(record.attempt for record in records) > 1
    best, *others = studied(tmp_path / "s", spec)
    assert [trial.number for trial in others] == list(range(1, 12))
    assert best.intermediate_values == pytest.approx({100: 3.0, 200: 2.9, 300: 2.8, 400: 2.7})
    assert in_step(tmp_path / "s", spec)


@pytest.mark.parametrize("backend", ALL)
def test_a_trial_that_waits_goes_on_in_the_next_run_with_its_parameters(tmp_path, backend):
    def body(trial, params):
        if trial == 5 and not (tmp_path / "again").exists():
            raise TrialInterrupted("stop")
        return [3.0 - step * 0.1 + trial for step in range(4)]

    spec = make_spec(backend=backend, pruner="halving", sampler="random", trials=6)
    first = RecordedWork(tmp_path / "s", spec, body, at_a_time=1).search()
    waiting = {record.trial: record for record in first if record.state is TrialState.WAITING}
    assert waiting
    (tmp_path / "again").touch()
    records = RecordedWork(tmp_path / "s", spec, body, run=2, at_a_time=1).search()
    assert [record.trial for record in records] == list(range(6))
    assert all(record.state.finished for record in records)
    assert all(records[trial].params == record.params for trial, record in waiting.items())
    assert in_step(tmp_path / "s", spec)


@pytest.mark.slow
@pytest.mark.parametrize("backend", [name for name in BACKENDS.names if name not in PARALLEL])
def test_a_trial_that_is_killed_when_it_is_stopped_is_pruned_all_the_same(tmp_path, backend):
    """Ray ends its actor without waiting; what stands was sent along with the evaluation."""

    class Killed(RecordedWork):
        def record_of(self, claim, state, params, evaluations, reason=None) -> TrialRecord:
            if state is TrialState.PRUNED and self.is_stopped():
                os.kill(os.getpid(), signal.SIGKILL)
            return super().record_of(claim, state, params, evaluations, reason)

        def is_stopped(self) -> bool:
            return isinstance(sys.exc_info()[1], TrialPruned)

    def body(trial, params):
        return [3.0 - step * 0.1 + trial for step in range(8)]

    spec = make_spec(backend=backend, pruner="asha", sampler="random", trials=6)
    records = Killed(tmp_path / "s", spec, body).search()
    assert {record.attempt for record in records} == {1}
    assert {record.state for record in records} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert in_step(tmp_path / "s", spec)


@pytest.mark.slow
@pytest.mark.parametrize("backend", [name for name in BACKENDS.names if name not in PARALLEL])
def test_what_is_wrong_with_the_folder_elsewhere_ends_the_search_in_those_words(tmp_path, backend):
    """Stock: the trial has failed, and so does every other one."""

    def opened() -> RecordedWork:
        raise FolderError("/results/s on node-2: there is no such folder")

    class Unshared(RecordedWork):
        def borrower(self) -> Callable[[], RecordedWork]:
            return opened

    spec = make_spec(backend=backend, sampler="random", trials=3)
    with pytest.raises(FolderError, match="/results/s on node-2: there is no such folder"):
        Unshared(tmp_path / "s", spec, by_learning_rate).search()
    assert SweepFolder(tmp_path / "s").records() == []
    records = RecordedWork(tmp_path / "s", spec, by_learning_rate, run=2).search()
    assert {record.state for record in records} == {TrialState.COMPLETE}


def from_best(params) -> float:
    """Return the distance from the best configuration, which is in a corner, in widths of the space."""
    return math.hypot(math.log10(params["learning_rate"] / 1e-3) / 2, (params["weight_decay"] - 0.3) / 0.3)


def proposals_after_thirty_records(folder: Path, sampler: str) -> list[float]:
    """Return how far from the best configuration a sampler's next proposals are."""
    space = {"learning_rate": EVERY_KIND["learning_rate"], "weight_decay": {"low": 0.0, "high": 0.3}}
    spec = make_spec(space, trials=33, sampler=sampler, baseline=False)
    work, drawn = RecordedWork(folder, spec, lambda _, params: [from_best(params)]), random.Random(0)
    for trial in range(30):
        params = {"learning_rate": 10 ** drawn.uniform(-5, -3), "weight_decay": drawn.uniform(0.0, 0.3)}
        evaluations = [Evaluation(1, 1.0, ROWS, {}, from_best(params))]
        work.sweep_folder.record(work.record_of(Claim(trial, 1, 1), TrialState.COMPLETE, params, evaluations))
    return [from_best(record.params) for record in work.search()[30:]]


@pytest.mark.parametrize("sampler", [name for name, kind in SAMPLERS.items() if kind != "RandomSampler"])
def test_a_learning_sampler_learns_from_records_alone(tmp_path, sampler):
    """A sampler that keeps its state in its own trials starts anew in each study, and never learns."""
    learned = proposals_after_thirty_records(tmp_path / sampler, sampler)
    assert max(learned) < 0.2 < statistics.mean(proposals_after_thirty_records(tmp_path / "random", "random"))


@pytest.mark.parametrize("backend", PARALLEL)
def test_a_diverged_trial_stays_in_the_samplers_memory(tmp_path, backend):
    """Stock tells FAIL, which the sampler ignores: it walks into the same corner again."""

    def body(trial, params):
        if params["learning_rate"] > 1e-4:
            raise TrialDiverged(Divergence("NaN", 1, params["learning_rate"], None))
        return [1.0]

    space = {"learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}}
    spec = make_spec(space, backend=backend, trials=40)
    records = RecordedWork(tmp_path / "s", spec, body, at_a_time=1).search()
    late = [record.state is TrialState.DIVERGED for record in records[20:]]
    # Half of the space diverges, so 10 of the last 20 would without memory; 5 or fewer has odds of 2 %.
    assert sum(late) <= 5


@pytest.mark.parametrize("backend", ALL)
def test_an_interrupted_trial_runs_again_under_its_number_with_its_parameters(tmp_path, backend):
    """The second run has another seed: what the sampler would propose now is not what was interrupted."""

    def interrupted(trial, params):
        if trial == 2:
            raise TrialInterrupted("stopped")
        return [1.0]

    first = make_spec(backend=backend, trials=3, sampler="random", seed=1)
    before = RecordedWork(tmp_path / "s", first, interrupted).search()
    assert [record.state for record in before][2] is TrialState.INTERRUPTED
    second = make_spec(backend=backend, trials=5, sampler="random", seed=2)
    after = RecordedWork(tmp_path / "s", second, by_learning_rate, run=2).search()
    assert [(record.trial, record.attempt) for record in after] == [(0, 1), (1, 1), (2, 2), (3, 1), (4, 1)]
    assert after[2].params == before[2].params
    assert {record.state for record in after} == {TrialState.COMPLETE}


def _killed_trial(folder: Path, spec: SweepSpec) -> None:
    import os
    import signal

    def body(trial, params):
        if trial == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return [1.0]

    RecordedWork(folder, spec, body).search()


@pytest.mark.parametrize("backend", PARALLEL)
def test_a_killed_search_goes_on_with_the_same_parameters_and_without_zombies(tmp_path, backend):
    spec = make_spec(backend=backend, trials=4, sampler="random")
    process = CONTEXT.Process(target=_killed_trial, args=(tmp_path / "s", spec))
    process.start()
    process.join()
    assert process.exitcode == -9
    records = RecordedWork(tmp_path / "s", spec, by_learning_rate, run=2).search()
    assert [(record.trial, record.attempt) for record in records] == [(0, 1), (1, 2), (2, 1), (3, 1)]
    undisturbed = RecordedWork(tmp_path / "u", spec, by_learning_rate).search()
    assert [record.params for record in records] == [record.params for record in undisturbed]
    assert in_step(tmp_path / "s", spec)


def studied(folder: Path, spec: SweepSpec) -> list[FrozenTrial]:
    """Return the trials of a sweep as the next one to be proposed sees them."""
    return SweepStudy(SweepFolder(folder), spec, functools.partial(step_of, spec)).others(-1)


def _count(trial: object, params: object) -> float:
    return 1.0


DIED = "its process died"


def lost(
    folder: Path, *, retries: int, before: TrialState | None = None, after: TrialState | None = None
) -> SweepFolder:
    """Return a folder whose trial 0 ran elsewhere and was lost, and recorded its own end before or after that."""
    from finesweep.worker.worker import Worker

    sweep_folder, spec = make_folders(folder), make_spec()
    worker: Any = Worker(
        sweep_folder,
        None,
        Run(1, BudgetSpec(), StopSpec(), {}, {}, "h", 1, 0.0),
        spec,
        settled(Profile(retries=retries)),
    )  # type: ignore[arg-type]
    lease = next_attempt.claim(sweep_folder, 1, range(1))
    assert lease is not None
    own = {
        state: made_records.record(0, None, state, examples=640, reason="its own") for state in (before, after) if state
    }
    if before is not None:
        sweep_folder.record(own[before])
    worker.lost(lease.claim, DIED, 1.0)
    if after is not None:
        with pytest.raises(AttemptOutdated, match=f"trial 0: attempt 1 has ended: {DIED}"):
            sweep_folder.record(own[after])
    return sweep_folder


@pytest.mark.parametrize(("retries", "state"), [(0, TrialState.FAILED), (1, TrialState.INTERRUPTED)])
@pytest.mark.parametrize("own", [{}, {"before": TrialState.INTERRUPTED}, {"after": TrialState.INTERRUPTED}])
def test_a_lost_trial_has_one_fault_whoever_records_first(tmp_path, retries, state, own):
    """Its process may outlive Ray's, saves its state, and says that it was only interrupted."""
    found = lost(tmp_path / "s", retries=retries, **own).read_record(0)
    assert (found.state, found.faults) == (state, (DIED,))
    assert found.examples == (640 if "before" in own else 0)
    assert found.reason.startswith(DIED)


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.WAITING, TrialState.PRUNED])
def test_a_trial_that_had_ended_when_it_was_lost_ended_so(tmp_path, state):
    found = lost(tmp_path / "s", retries=1, before=state).read_record(0)
    assert (found.state, found.faults, found.reason) == (state, (), "its own")


def test_the_driver_carries_no_model():
    """Ray sends it to every actor; stock sends the whole Trainer."""
    assert len(pickle.dumps(SearchDriver(_count))) < 4096


def test_what_is_sent_to_an_actor_is_a_few_kilobytes():
    """A path, a number and a token; in it nothing of the rows, the model, or what this process holds open."""
    from ray import cloudpickle

    from finesweep.backends.ray.trial import ActorTrials
    from finesweep.worker.worker import Worker

    opens = functools.partial(Worker.open_borrower, Path("/" + "folder/" * 100), 1, "t" * 100)
    assert len(cloudpickle.dumps(SearchDriver(ActorTrials(opens, "key")))) < 16_000


def started(count: int, search: Callable[[], object]) -> list[multiprocessing.Process]:
    """Start searches at once, each in a fork of this warm process, as workers are not but their trials are."""
    processes = [CONTEXT.Process(target=search) for _ in range(count)]
    for process in processes:
        process.start()
    return processes


def ended(processes: list[multiprocessing.Process], seconds: float = 100.0) -> list[int | None]:
    """Wait for processes, and end those that hang, so that a failure leaves nothing behind."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(timeout=max(deadline - time.monotonic(), 0.0))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def in_step(folder: Path, spec: SweepSpec) -> bool:
    """Whether a study has the records' trials, and none that is RUNNING, and all attempts at a trial are alike."""
    sweep_folder = SweepFolder(folder)
    records, trials = sweep_folder.records(), studied(folder, spec)
    complete = [(trial.number, trial.params, trial.value) for trial in trials if trial.state.name == "COMPLETE"]
    assert complete == [(r.trial, r.params, r.objective) for r in records if r.state is TrialState.COMPLETE]
    for record in records:
        assert all(params == record.params for params in sweep_folder.claims.params(record.trial))
    return all(trial.state.is_finished() for trial in trials)


def pausing(trial: int, params) -> list[float]:
    time.sleep(0.03)
    return by_learning_rate(trial, params)


@pytest.mark.parametrize(("backend", "sampler"), [case for case in CASES if case.values[0] in PARALLEL])
def test_sixteen_racing_processes_share_the_budget_and_differ(tmp_path, backend, sampler):
    """Stock: 7 of 16 trials are distinct with TPE, 4 of 16 at random, and the study ends up with more than asked."""
    space = COUNTABLE if sampler == "grid" else EVERY_KIND
    trials = 18 if sampler == "gp" else 40
    spec = make_spec(space, backend=backend, sampler=sampler, trials=trials)
    assert ended(started(16, RecordedWork(tmp_path / "s", spec, by_learning_rate).search)) == [0] * 16
    records = SweepFolder(tmp_path / "s").records()
    assert [(record.trial, record.attempt) for record in records] == [(number, 1) for number in range(trials)]
    assert len({tuple(sorted(record.params.items())) for record in records}) == trials
    assert in_step(tmp_path / "s", spec)
    if sampler in ("grid", "random"):
        alone = RecordedWork(tmp_path / "alone", spec, by_learning_rate).search()
        assert [record.params for record in records] == [record.params for record in alone]


SMALL = {
    "num_train_epochs": {"low": 1, "high": 2},
    "weight_decay": {"low": 0.0, "high": 0.3, "step": 0.1},
    "lr_scheduler_type": {"choices": ["linear", "constant"]},
    "warmup_steps": {"choices": [0.0, 0.1], "when": {"lr_scheduler_type": "linear"}},
}
"""A space of 24 configurations: two of a scheduler's three are told apart by a parameter that the other lacks."""

ASKED = {"num_train_epochs": 2, "weight_decay": 0.3, "lr_scheduler_type": "constant"}


def configurations(spec: SweepSpec, records: Iterable[TrialRecord]) -> Counter:
    return Counter(configuration(spec, record.params) for record in records)


@pytest.mark.parametrize(
    ("backend", "sampler"),
    [pytest.param(*case.values, marks=[] if case.values == QUICK_CASE else [pytest.mark.slow]) for case in CASES],
)
def test_a_space_is_used_up_and_nothing_is_tried_twice_but_what_is_asked_for(tmp_path, backend, sampler):
    spec = make_spec(SMALL, backend=backend, sampler=sampler, trials=40, start=(ASKED, ASKED))
    work = RecordedWork(tmp_path / "s", spec, by_learning_rate)
    records = work.search()
    assert len(records) == work.wanted == 25
    found = configurations(spec, records)
    assert len(found) == 24
    assert found.most_common(2)[0] == (configuration(spec, ASKED), 2)
    assert found.most_common(2)[1][1] == 1


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("random", marks=pytest.mark.slow)])
def test_racing_processes_try_no_configuration_twice(tmp_path, sampler):
    spec = make_spec(SMALL, sampler=sampler, trials=40)
    folder = tmp_path / "s"
    assert ended(started(4, lambda: RecordedWork(folder, spec, pausing).search())) == [0] * 4
    found = configurations(spec, RecordedWork(folder, spec, pausing).sweep_folder.records())
    assert (len(found), set(found.values())) == (24, {1})


def test_a_number_has_the_same_parameters_however_many_workers_and_whatever_became_of_the_others(tmp_path):
    """With the random sampler, also in a space in which many proposals are repeats."""
    spec = make_spec(SMALL, sampler="random", trials=40)

    def failing(trial, params):
        if trial % 3 == 0:
            raise TrialFailed(trial, f"broken in the way of {trial}", "log")
        return pausing(trial, params)

    alone = RecordedWork(tmp_path / "alone", spec, by_learning_rate).search()
    folder = tmp_path / "s"
    assert ended(started(3, lambda: RecordedWork(folder, spec, failing).search())) == [0] * 3
    records = RecordedWork(folder, spec, failing).sweep_folder.records()
    assert [record.params for record in records] == [record.params for record in alone]


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("random", marks=pytest.mark.slow)])
def test_a_trial_that_is_tried_again_keeps_its_configuration_and_no_other_takes_it(tmp_path, sampler):
    spec = make_spec(SMALL, sampler=sampler, trials=40)
    folder = tmp_path / "s"

    def interrupted(trial, params):
        if trial == 5:
            raise TrialInterrupted("stop")
        return [1.0]

    before = RecordedWork(folder, spec, interrupted).search()[5]
    (folder / "stopped-1").unlink()
    records = RecordedWork(folder, spec, by_learning_rate, run=2).search()
    assert (records[5].params, records[5].attempt) == (before.params, 2)
    assert set(configurations(spec, records).values()) == {1}
    assert len(records) == 24


@pytest.mark.parametrize("backend", PARALLEL)
def test_the_last_trial_is_raced_for_by_sixteen_and_run_once(tmp_path, backend):
    spec = make_spec(backend=backend, sampler="random", trials=3)
    RecordedWork(tmp_path / "s", make_spec(backend=backend, sampler="random", trials=2), by_learning_rate).search()
    assert ended(started(16, RecordedWork(tmp_path / "s", spec, pausing, run=2).search)) == [0] * 16
    records = SweepFolder(tmp_path / "s").records()
    assert [(record.trial, record.attempt) for record in records] == [(0, 1), (1, 1), (2, 1)]
    assert len(studied(tmp_path / "s", spec)) == 3


@pytest.mark.parametrize("backend", PARALLEL)
def test_searches_that_are_killed_at_random_leave_nothing_running_and_lose_nothing(tmp_path, backend):
    spec = make_spec(backend=backend, sampler="random", trials=30)
    search = RecordedWork(tmp_path / "s", spec, pausing).search
    chance = random.Random(3)
    processes = started(4, search)
    seen: dict[int, TrialRecord] = {}
    for _ in range(10):
        time.sleep(chance.uniform(0.02, 0.3))
        victim = chance.choice(processes)
        victim.kill()
        victim.join()
        processes.remove(victim)
        processes += started(1, search)
        acknowledged = {record.trial: record for record in SweepFolder(tmp_path / "s").records()}
        assert seen.items() <= acknowledged.items()
        seen = acknowledged
    assert set(ended(processes)) == {0}
    records = RecordedWork(tmp_path / "s", spec, by_learning_rate, run=2).search()
    assert [record.trial for record in records] == list(range(30))
    assert {record.trial: record for record in records}.items() >= seen.items()
    alone = RecordedWork(tmp_path / "alone", spec, by_learning_rate).search()
    assert [record.params for record in records] == [record.params for record in alone]
    assert in_step(tmp_path / "s", spec)


@pytest.mark.parametrize("backend", PARALLEL)
def test_a_full_disk_is_called_that_and_costs_no_trial(tmp_path, backend):
    """Stock: `AssertionError: Should not reach.`, and the study cannot be opened any more."""
    folder = tmp_path / "s"
    spec = make_spec(backend=backend, sampler="random", trials=3)

    class Filling(RecordedWork):
        def claim(self, wait: bool = True) -> Claim | None:
            claim = super().claim(wait)
            if claim is not None and claim.trial == 1:
                size = (folder / "claims" / "0001.1").stat().st_size
                resource.setrlimit(resource.RLIMIT_FSIZE, (size + 7, resource.RLIM_INFINITY))
            return claim

    def search():
        with pytest.raises(FolderError, match=r"claims/0001\.1: the disk is full"):
            Filling(folder, spec, by_learning_rate).search()

    assert ended(started(1, search)) == [0]
    records = RecordedWork(folder, spec, by_learning_rate, run=2).search()
    assert [(record.trial, record.attempt) for record in records] == [(0, 1), (1, 2), (2, 1)]
    assert in_step(folder, spec)


@pytest.mark.parametrize("backend", PARALLEL)
def test_a_frozen_search_that_wakes_up_finds_its_trial_given_away(tmp_path, backend):
    """Stock: the worker dies of a bare AssertionError, and the trial's two results are both told."""
    spec = make_spec(backend=backend, sampler="random", trials=2)
    folder = tmp_path / "s"
    awake = CONTEXT.Event()

    def sleepy(trial, params):
        yield 1.0
        if trial == 0:
            (folder / "asleep").touch()
            awake.wait(timeout=60)
        yield 0.5

    def outdated():
        """Release the claim at once, as if its machine had fallen silent."""
        work = RecordedWork(folder, spec, sleepy)
        real = work.claim

        def claim(wait=True):
            claimed = real()
            if claimed is not None:
                work.leases[claimed].release()
            return claimed

        work.claim = claim
        work.search()

    frozen = started(1, outdated)
    wait_for(folder / "asleep")
    before = RecordedWork(folder, spec, lambda *_: [2.0], run=2).search()
    awake.set()
    assert ended(frozen) == [0]
    after = SweepFolder(folder).records()
    assert [(record.trial, record.attempt, record.objective) for record in after] == [(0, 2, 2.0), (1, 1, 2.0)]
    assert after == before
    assert (folder / "outdated").exists()
    assert in_step(folder, spec)


def wait_for(file: Path, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, f"{file.name} did not appear"
        time.sleep(0.01)


@pytest.mark.parametrize(("backend", "pruner"), [case for case in PRUNERS if case.values[1] not in ON_RUNGS])
def test_a_resumed_trial_repeats_its_reports_and_is_not_pruned_for_them(tmp_path, backend, pruner):
    """Its first half was weak but had been let through; said again, and said twice, it ends nothing."""

    class Resumed(RecordedWork):
        def train(self, claim, params, report) -> float:
            if claim.trial == 8:
                record = self.record_of(claim, TrialState.PRUNED, params, (), "")
                for index in (1, 2, 2, 3):
                    report(
                        Report(
                            Evaluation(index, float(index), index * 100, {}, 50.0),
                            50.0,
                            True,
                            lambda record=record: record,
                        )
                    )
            return super().train(claim, params, report)

    def body(trial, params):
        return [3.0 - step * 0.1 + trial for step in range(4)] if trial != 8 else [50.0, 50.0, 50.0]

    spec = make_spec(backend=backend, pruner=pruner, sampler="random", trials=9)
    assert Resumed(tmp_path / "s", spec, body).search()[8].state is TrialState.COMPLETE
