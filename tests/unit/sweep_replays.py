"""Replays sweeps in simulated time: workers, pruners, noise in speed; what the folder would say at each moment.

The pruning rules are the product's own; everything else is written for itself, so that an estimate is not held
against its own assumptions.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.curves.recorded import Curve

from finesweep.forecast.course import Course
from finesweep.pruning.early_stopping import out_of_patience
from finesweep.pruning.rules import Promotions, RungStanding, is_audited, is_below_median, promotions, rung_examples
from finesweep.pruning.seed_race import SeedRun, seed_race
from finesweep.results.stop_conditions import early_stop
from finesweep.spec.sections import StopSpec, SweepSpec
from finesweep.trial import Direction, Evaluation, Progress, TrialRecord, TrialState
from made_specs import made_spec

ROWS = 4_000
SPACE = {
    "learning_rate": {"low": 1e-5, "high": 5e-5, "log": True},
    "num_train_epochs": {"low": 2, "high": 5},
    "per_device_train_batch_size": {"choices": [8, 16, 32]},
}
SLOWNESS = {8: 1.6, 16: 1.15, 32: 1.0}
"""Seconds per example by batch size, against the largest."""


def spec_with(pruner: str, sampler: str = "random", **sections: Any) -> SweepSpec:
    """A spec over learning rate, epochs and batch size, without early stopping."""
    values = {"space": SPACE, "search": {"pruner": pruner, "sampler": sampler}, "patience": "none"}
    return made_spec(**{**values, **sections})


@dataclass(frozen=True)
class World:
    """What a sweep is replayed in.

    Attributes:
        spec: Its spec.
        trials: Its budget.
        workers: Trials at a time.
        seed: Of everything.
        noise: Standard deviation of a trial's speed.
        drift: Standard deviation of the machine's speed over the sweep.
        fixed: Seconds of an attempt besides its training.
        divergent: Share of trials that diverge.
    """

    spec: SweepSpec
    trials: int
    workers: int
    seed: int
    noise: float = 0.1
    drift: float = 0.1
    fixed: float = 2.0
    divergent: float = 0.05


@dataclass
class _Trial:
    params: dict[str, Any]
    floor: float
    fall: float
    speed: float
    dies_at: int | None
    turn: float = math.inf
    rise: float = 0.0
    attempt: int = 0
    seen: int = 0
    before: int = 0
    started: float = 0.0
    reached: float = 0.0
    left: int = 0
    set_out: float = 0.0
    evaluations: list[Evaluation] = field(default_factory=list)
    audit: str | None = None
    curve: dict[int, float] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return int(self.params["num_train_epochs"] * ROWS)


@dataclass(frozen=True)
class Moment:
    """What the folder says when a trial has ended.

    Attributes:
        now: Seconds since the sweep began.
        records: How each ended trial ended.
        progress: The running trials.
    """

    now: float
    records: Sequence[TrialRecord]
    progress: Sequence[Progress]


class Replay:
    """One sweep from its first trial to its last."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.source = random.Random(f"{world.seed} {world.workers} {world.trials} {world.spec.search.pruner}")
        self.seen: dict[int, _Trial] = {}
        self.records: dict[int, TrialRecord] = {}
        self.running: dict[int, _Trial] = {}
        self.events: list[tuple[float, int]] = []
        self.phase = self.source.uniform(0, 2 * math.pi)
        self.now = 0.0

    def rungs(self, trial: _Trial) -> tuple[int, ...]:
        """Return the examples of each rung of a trial."""
        return rung_examples(self.world.spec, ROWS, trial.total)

    def moments(self) -> Iterator[Moment]:
        """Yield each moment at which a trial has ended for good; the last is the sweep's end.

        When `stop` ends the sweep, the trials that run are finished, and each of them is a moment.
        """
        self._fill()
        while self.events:
            self.now, number = heapq.heappop(self.events)
            if self._arrive(number) and not self._ends():
                self._fill()
            is_over = number in self.records and self.records[number].state.finished
            if number not in self.running and (is_over or self._ends()):
                yield Moment(self.now, list(self.records.values()), [self._progress(n) for n in self.running])

    def _ends(self) -> bool:
        return early_stop(self.world.spec.stop, list(self.records.values()), Direction.MINIMIZE) is not None

    def _fill(self) -> None:
        for number in self._queue():
            if len(self.running) >= self.world.workers:
                return
            if number not in self.running and not self._is_over(number):
                self._begin(number)

    def _queue(self) -> list[int]:
        everybody = range(self.world.trials)
        if self.world.spec.search.pruner != "halving":
            return list(everybody)
        standings = {number: self._standing(number) for number in self.seen}
        decided = self._promotions(standings)
        for number in decided.dropped:
            self._drop(number)
        others = [n for n in everybody if n not in standings or not standings[n].waits]
        return [*decided.promoted, *others]

    def _promotions(self, standings: dict[int, RungStanding]) -> Promotions:
        factor = self.world.spec.factor
        return promotions(
            standings, self.world.trials, len(rung_examples(self.world.spec, ROWS)), Direction.MINIMIZE, factor=factor
        )

    def _standing(self, number: int) -> RungStanding:
        trial, record = self.seen[number], self.records.get(number)
        is_over = self._is_over(number) or trial.audit is not None
        waits = record is not None and record.state is TrialState.WAITING and number not in self.running
        return RungStanding(number, self._values(trial), waits and trial.audit is None, is_over)

    def _values(self, trial: _Trial) -> dict[int, float]:
        best, values = math.inf, {}
        for one in trial.evaluations:
            best = min(best, one.objective or math.inf)
            if one.examples in (rungs := self.rungs(trial)):
                values.setdefault(rungs.index(one.examples), best)
        return values

    def _drop(self, number: int) -> None:
        trial = self.seen[number]
        if is_audited(self.world.spec.search.seed, number, self.world.spec.pruning.audit):
            trial.audit = "weak"
            self.records[number] = dataclasses.replace(self.records[number], audit="weak")
        else:
            self.records[number] = dataclasses.replace(self.records[number], state=TrialState.PRUNED)

    def _is_over(self, number: int) -> bool:
        return number in self.records and self.records[number].state.finished

    def _begin(self, number: int) -> None:
        trial = self.seen.setdefault(number, self._made(number)) if number not in self.seen else self.seen[number]
        trial.attempt += 1
        gap = self.source.uniform(0.05, 0.3)
        trial.started, trial.before = self.now + gap, trial.seen
        trial.reached = trial.started + self.world.fixed * self.source.uniform(0.8, 1.2)
        self.running[number] = trial
        self._go_on(number)

    def _go_on(self, number: int) -> None:
        """Set out for the trial's next evaluation."""
        trial = self.running[number]
        ahead = [*self.rungs(trial), *range(ROWS, trial.total, ROWS), trial.total, trial.dies_at or 0]
        goal = min(x for x in ahead if x > trial.seen)
        seconds = (goal - trial.seen) * trial.speed * self._machine()
        trial.left, trial.set_out = trial.seen, trial.reached
        trial.seen, trial.reached = goal, trial.reached + seconds
        heapq.heappush(self.events, (trial.reached, number))

    def _machine(self) -> float:
        return math.exp(self.world.drift * math.sin(self.phase + self.now / 150) * 1.4)

    def _arrive(self, number: int) -> bool:
        """Judge a trial at an evaluation; return whether a worker is free now."""
        trial = self.running[number]
        if trial.seen == trial.dies_at:
            return self._end(number, TrialState.DIVERGED)
        value = self._value(trial)
        trial.evaluations.append(Evaluation(trial.seen, trial.seen / ROWS, trial.seen, {}, value))
        if trial.seen >= trial.total or self._stops_early(trial):
            return self._end(number, TrialState.COMPLETE)
        is_free = trial.audit is not None or (number == 0 and self.world.spec.search.baseline)
        state = None if is_free else self._state_after(number)
        if state is TrialState.PRUNED and is_audited(
            self.world.spec.search.seed, number, self.world.spec.pruning.audit
        ):
            trial.audit, state = "weak", None
        if state is not None:
            return self._end(number, state)
        self._go_on(number)
        return False

    def _stops_early(self, trial: _Trial) -> bool:
        best = min(trial.evaluations, key=lambda one: (one.objective or 0.0, one.examples))
        return out_of_patience(self.world.spec, ROWS, best, trial.evaluations[-1]) is not None

    def _value(self, trial: _Trial) -> float:
        rise = trial.rise * max(trial.seen / ROWS - trial.turn, 0.0)
        return trial.floor + trial.fall * math.exp(-trial.seen / ROWS) + rise + self.source.gauss(0, 0.01)

    def _state_after(self, number: int) -> TrialState | None:
        trial, pruner = self.seen[number], self.world.spec.search.pruner
        if pruner == "asha":
            return self._asha(number)
        values = self._values(trial)
        if not values or self.rungs(trial)[max(values)] != trial.seen:
            return None
        rung = max(values)
        if pruner == "median":
            others = [v[rung] for n, t in self.seen.items() if n != number and rung in (v := self._values(t))]
            return TrialState.PRUNED if is_below_median(values[rung], others, Direction.MINIMIZE) else None
        standings = {n: self._standing(n) for n in self.seen} | {number: RungStanding(number, values, waits=True)}
        decided = self._promotions(standings)
        if number in decided.dropped:
            return TrialState.PRUNED
        return None if number in decided.promoted else TrialState.WAITING

    def _asha(self, number: int) -> TrialState | None:
        """The stopping form: one goes on that is in the better half of those that came as far before it."""
        epoch = self.seen[number].seen // ROWS
        if epoch not in (1, 2, 4):
            return None
        there = sorted(
            t.evaluations[epoch - 1].objective or 0 for t in self.seen.values() if len(t.evaluations) >= epoch
        )
        own = self.seen[number].evaluations[-1].objective or 0
        return TrialState.PRUNED if len(there) > 1 and own > there[(len(there) - 1) // 2] else None

    def _end(self, number: int, state: TrialState) -> bool:
        trial = self.running.pop(number)
        seconds = self.now - trial.started
        speed = (trial.seen - trial.before) / seconds if seconds > 0 else None
        self.records[number] = TrialRecord(
            trial=number,
            attempt=trial.attempt,
            state=state,
            params=trial.params,
            started=trial.started,
            seconds=seconds,
            log="",
            host="",
            objective=min((one.objective or math.inf for one in trial.evaluations), default=None),
            evaluations=tuple(trial.evaluations),
            examples=trial.seen + (-trial.seen) % ROWS % trial.params["per_device_train_batch_size"],
            examples_per_second=speed,
            resumed_step=trial.before,
            audit=trial.audit,
        )
        return True

    def _progress(self, number: int) -> Progress:
        """Say what a running trial's progress file says, where one step is one example."""
        trial = self.running[number]
        done = (self.now - trial.set_out) / max(trial.reached - trial.set_out, 1e-9)
        step = int(trial.left + min(max(done, 0.0), 1.0) * (trial.seen - trial.left))
        is_new = self.now < trial.started + self.world.fixed / 2
        return Progress(
            number,
            trial.attempt,
            trial.params,
            trial.started,
            0 if is_new else step,
            0 if is_new else trial.total,
            evaluations=tuple(trial.evaluations),
            audit=trial.audit,
        )

    def _made(self, number: int) -> _Trial:
        params = self._proposal(number)
        off = math.log(params["learning_rate"] / 2.5e-5)
        speed = (
            SLOWNESS[params["per_device_train_batch_size"]] * 1e-3 * math.exp(self.source.gauss(0, self.world.noise))
        )
        total = params["num_train_epochs"] * ROWS
        dies = int(self.source.uniform(0.05, 0.5) * total) if self.source.random() < self.world.divergent else None
        floor = 0.3 + 0.15 * off**2 + abs(self.source.gauss(0, 0.02)) - 0.01 * params["num_train_epochs"]
        trial = _Trial(params, floor, self.source.uniform(0.2, 0.5), speed, dies)
        if self.world.spec.patience != "none":  # some learn their rows by heart after a while
            trial.turn, trial.rise = self.source.uniform(1, 4), self.source.choice([0.0, 0.1, 0.3])
        return trial

    def _proposal(self, number: int) -> dict[str, Any]:
        """Draw parameters; a learning sampler stays near the best after ten."""
        source = self.source
        drawn = {
            "learning_rate": math.exp(source.uniform(math.log(1e-5), math.log(5e-5))),
            "num_train_epochs": source.randint(2, 5),
            "per_device_train_batch_size": source.choice([8, 16, 32]),
        }
        ended = [r for r in self.records.values() if r.objective is not None]
        if self.world.spec.search.sampler != "tpe" or number < 10 or len(ended) < 5:
            return drawn
        best = dict(min(ended, key=lambda record: record.objective or 0).params)
        best["learning_rate"] = min(max(best["learning_rate"] * math.exp(source.gauss(0, 0.2)), 1e-5), 5e-5)
        return {name: best[name] if source.random() < 0.6 else drawn[name] for name in drawn}


class ConfirmationReplay(Replay):
    """The confirmation of a replayed sweep: fresh seeds of its best trials and of the untuned default, in a race.

    Args:
        search: The sweep, replayed to its end.
        tied: How many trials cannot be told from the best one, with it.
    """

    def __init__(self, search: Replay, tied: int) -> None:
        spec, done = search.world.spec, search.records
        assert spec.confirm is not None
        ranked = sorted(
            (number for number, record in done.items() if record.state is TrialState.COMPLETE),
            key=lambda number: done[number].objective or 0.0,
        )
        found = ranked[: min(tied, spec.confirm.top)]
        found += [0] if spec.search.baseline and 0 in ranked and 0 not in found else []
        self.candidates = [number for _ in range(spec.confirm.seeds) for number in found]
        search_spec = spec.search.model_copy(update={"pruner": "none", "sampler": "random", "baseline": False})
        own = spec.model_copy(update={"search": search_spec, "patience": "none", "stop": StopSpec(), "confirm": None})
        super().__init__(dataclasses.replace(search.world, spec=own, trials=len(self.candidates)))
        self.repeated = {number: search.seen[number] for number in found}

    @property
    def course(self) -> Course:
        """The course that the command gives to the estimate."""
        return Course(self.world.spec, ROWS, [self._made(n).params for n in range(self.world.trials)], self.candidates)

    def _queue(self) -> list[int]:
        runs = [self._run_of(number) for number in range(self.world.trials)]
        race = seed_race(runs, Direction.MINIMIZE)
        for number in race.dropped:
            trial = self.seen.setdefault(number, self._made(number))
            self.running[number] = trial
            trial.started = self.now
            self._end(number, TrialState.PRUNED)
        return [number for number in race.may_run if number not in self.running]

    def _run_of(self, number: int) -> SeedRun:
        record = self.records.get(number)
        value = record.objective if record is not None and record.state is TrialState.COMPLETE else None
        return SeedRun(number, self.candidates[number], record is not None, value)

    def _made(self, number: int) -> _Trial:
        other = self.repeated[self.candidates[number]]
        return _Trial(other.params, other.floor + self.source.gauss(0, 0.02), other.fall, other.speed, None)


class RecordedReplay(Replay):
    """A sweep whose trials are recorded curves, with the values and the times that were seen of them."""

    def __init__(self, world: World, curves: Sequence[Curve]) -> None:
        self.curves = random.Random(world.seed).sample(curves, world.trials)
        super().__init__(world)

    def _made(self, number: int) -> _Trial:
        curve = self.curves[number]
        params = {"learning_rate": 2.5e-5, "num_train_epochs": curve.epochs}
        params["per_device_train_batch_size"] = curve.batch
        trial = _Trial(params, 0.0, 0.0, curve.seconds / (curve.epochs * ROWS), None)
        trial.curve = {round(one.examples / curve.rows * ROWS): one.objective or 0.0 for one in curve.evaluations}
        return trial

    def _value(self, trial: _Trial) -> float:
        return trial.curve[trial.seen]
