"""Draws the rest of a sweep from the trials that have begun, for a simulation."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import heapq
import math
import operator
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from finesweep.forecast.course import Course
from finesweep.forecast.seed_rounds import confirmation_seconds, round_seconds, rounds_left
from finesweep.forecast.simulated_stop import SimulatedStop, chance_to_reach, trials_until_poor
from finesweep.forecast.simulation import SimulatedTrial, Simulation
from finesweep.forecast.speed import ResampledSpeed
from finesweep.forecast.trial_ends import reached, trial_ends
from finesweep.pruning import cohorts, values_at
from finesweep.pruning.gains import Gains
from finesweep.spec import LEARNING, Workload
from finesweep.trial import Direction, Progress, TrialRecord, TrialState

_LATEST = 40
"""Number of latest ended trials from which the lengths of trials are learned."""

_RECENT = 15
"""Number of latest trials from which the proposals of a learning sampler are learned."""

_MOST_DRAWN = 120
"""Maximum number of future trials that are simulated one by one; they represent the others."""

_MOST_COHORTS = 2
"""Maximum number of future cohorts that are simulated; they represent the others."""

_PROGRESS_SECONDS = 1.0
"""Maximum age of a running trial's progress in seconds."""

_SAYS_MUCH = 0.3
"""Minimum trained share of an attempt with which its own speed predicts its rest."""

_BEST = 10
"""Number of best trials from which the candidates of a confirmation are drawn."""


@dataclass(frozen=True)
class Running:
    """Progress of a running attempt.

    Attributes:
        trained: Training examples of this attempt.
        seconds: Its wall clock.
    """

    trained: int
    seconds: float


@dataclass(frozen=True)
class Rest:
    """The rest of a sweep.

    Attributes:
        course: How far its trials go.
        budget: Its number of trials.
        begun: Trials that have begun and are not over, by number. With halving, also the trials of the same cohorts
            that are over: the rule compares with them.
        running: Those of them that run.
        unseen: Trials that have not begun.
        ended: The trials that ended last with their workloads, the latest at the end.
        reached: Objectives of trials at each rung, by its index, ascending.
        now: Unix time.
        gains: How the best objective came about.
        best: Workloads of the best COMPLETE trials, best first.
        objectives: Objectives of the ended trials that are COMPLETE.
        out: Candidates of a confirmation that need no more seeds.
        ends: Whether the sweep ends before its budget, so that only trials that have begun and do not wait are left.
    """

    course: Course
    budget: int
    begun: Mapping[int, SimulatedTrial]
    running: Mapping[int, Running]
    unseen: Sequence[int]
    ended: Sequence[tuple[TrialRecord, Workload]]
    reached: Mapping[int, Sequence[float]]
    now: float = 0.0
    gains: Gains = field(default_factory=Gains)
    best: Sequence[Workload] = ()
    objectives: Sequence[float] = ()
    out: frozenset[int] = frozenset()
    ends: bool = False

    @classmethod
    def of(
        cls,
        course: Course,
        budget: int,
        records: Sequence[TrialRecord] = (),
        progress: Iterable[Progress] = (),
        now: float = 0.0,
        *,
        ends: bool = False,
    ) -> Rest:
        """Determine the rest of a sweep.

        Args:
            course: How far trials go.
            budget: Number of trials of the sweep.
            records: The records of all ended or waiting trials.
            progress: The running trials.
            now: Unix time.
            ends: Whether the sweep ends before its budget.
        """
        over = {record.trial for record in records if record.state.finished}
        left = _left(course, budget, over)
        # A trial can have both a record (of an earlier attempt) and progress; the progress is newer.
        begun = {record.trial: _recorded(course, record, now) for record in records if record.trial in left}
        running = {}
        for one in progress:
            if one.trial in left and one.trial not in over:
                before = begun[one.trial].seen if one.trial in begun else 0
                begun[one.trial] = _progressed(course, one, before)
                trained = max(begun[one.trial].seen - before, 0)
                running[one.trial] = Running(trained, max(now - one.started, 0.0))
        unseen = [number for number in left if number not in over and number not in begun]
        by_end = operator.attrgetter("ended")
        last = heapq.nlargest(_LATEST, (record for record in records if record.trial in over), key=by_end)
        ended = [(record, course.plan(record.params)) for record in sorted(last, key=by_end)]
        known = [*(trial.values for trial in begun.values()), *(_values_of(course, record) for record, _ in ended)]
        rungs = range(len(course.rungs))
        reached = {rung: sorted(values[rung] for values in known if rung in values) for rung in rungs}
        complete = [record for record, _ in ended if _ranks(record)]
        best = heapq.nsmallest(_BEST, filter(_ranks, records), key=functools.partial(_rank, course))
        return cls(
            course,
            budget,
            begun,
            running,
            unseen,
            ended,
            reached,
            now=now,
            gains=Gains.of(records, course.spec.direction),
            best=[course.plan(record.params) for record in best],
            objectives=[record.objective for record in complete if record.objective is not None],
            out=_out(course, records),
            ends=ends,
        )

    def draw(self, speed: ResampledSpeed, workers: int, source: random.Random, allowed: float = math.inf) -> float:
        """Draw the seconds that the rest takes at a speed, the confirmation that follows included.

        Args:
            speed: Draws how long an attempt takes.
            workers: Number of simultaneous trials.
            source: Random generator.
            allowed: Seconds that the search may take; the confirmation has no such limit.
        """
        if self.course.candidates:
            return self._draw_race(speed, workers, source)
        return min(self.draw_search(speed, workers, source), allowed) + self._draw_confirmation(speed, workers, source)

    def _draw_race(self, speed: ResampledSpeed, workers: int, source: random.Random) -> float:
        """Draw the seconds of the rest of a confirmation, in which each round waits for the one before."""
        first, *later = rounds_left(self.course.candidates, set(self.unseen), self.out, source) or [[]]
        if not self.running and not self._interrupted():
            later, first = [first, *later], []
        took = dataclasses.replace(self, unseen=first).draw_search(speed, workers, source)
        plans = ([self.course.planned[number] for number in each] for each in later)
        return took + sum(
            round_seconds([speed.seconds(plan, plan.examples) for plan in each], workers) for each in plans
        )

    def draw_search(self, speed: ResampledSpeed, workers: int, source: random.Random) -> float:
        """Draw the seconds until no trial is left, or ``stop`` ends the sweep."""
        simulation, fresh, standing = self.simulation(speed.seconds, workers, source)
        running = {number: self._until_stop(number, simulation, speed, source) for number in self.running}
        took = simulation.run(running, self._interrupted() if self.ends else [*self._interrupted(), *fresh])
        if not simulation.is_stopped:
            # Only some future trials were simulated. The others take the same time on average, shared by the workers.
            times = (len(self.unseen) - len(fresh)) / max(len(standing), 1)
            took += times * sum(sum(simulation.begun[number]) for number in standing) / workers
        return took

    def _draw_confirmation(self, speed: ResampledSpeed, workers: int, source: random.Random) -> float:
        """Draw the seconds of the confirmation that follows, 0 without one."""
        confirm = self.course.spec.confirm
        if confirm is None:
            return 0.0
        # Often as many trials are tied as may be confirmed.
        count = confirm.top if source.random() < 0.5 else source.randint(1, confirm.top)
        known = [*self.best[: confirm.top], *self.course.pool]
        plans = [known[number] if number < len(self.best) else source.choice(known) for number in range(count)]
        if self.course.has_baseline:
            plans.append(self.course.planned[0])
        # Nothing prunes or stops a training of the confirmation.
        return confirmation_seconds(
            plans, confirm.seeds, lambda plan: speed.seconds(plan, plan.examples), workers, source
        )

    def simulation(
        self, seconds: Callable[..., float], workers: int, source: random.Random
    ) -> tuple[Simulation, Sequence[int], Sequence[int]]:
        """Draw one sweep, ready to run; also return the future trials, and those of them that represent others."""
        end, proposed = trial_ends(self.course, self.ended, len(self.running), source), self._proposed(source)
        fresh, standing = self._some_unseen(source)
        trials = {number: dataclasses.replace(trial, values=dict(trial.values)) for number, trial in self.begun.items()}
        for number in fresh:
            plan = proposed(number)
            trials[number] = SimulatedTrial(plan, plan.examples, is_spared=self.course.is_baseline(number))
        for number, trial in trials.items():
            if not trial.is_over:
                trial.end = max(end(number, trial), trial.seen)

        values, stop = self._values(source), self._stop(source)
        known = frozenset(number for number, trial in self.begun.items() if trial.waits or trial.is_over)
        simulation = Simulation(
            self.course, self.budget, trials, workers, seconds, values, stop, is_stopped=self.ends, known=known
        )
        return simulation, fresh, standing

    def _stop(self, source: random.Random) -> SimulatedStop | None:
        """Draw when ``stop`` ends the sweep; None if it cannot."""
        stop, direction = self.course.spec.stop, self.course.spec.direction
        if stop.target is None and stop.no_gain_trials is None and stop.auto is not True:
            return None
        power = 1 / (1 + self._gain(source))
        chance = 0.0 if stop.target is None else chance_to_reach(stop.target, self.objectives, direction, source)
        best_at = -math.inf if self.gains.ended is None else self.gains.ended - self.now
        doubt, left = source.random(), len(self.unseen)
        known = self.budget - left - len(self.running)
        more = trials_until_poor(known, left, source) if stop.auto is True else None
        return SimulatedStop(
            stop, self.gains, best_at, chance**power, power, source, self._marks, direction, doubt, more
        )

    @property
    def _marks(self) -> Mapping[int, float]:
        """The second best value at each rung: as many draws from the known values are better as will be a new best."""
        second = -2 if self._is_best_last else 1
        return {rung: values[second] for rung, values in self.reached.items() if len(values) > 2}

    def _gain(self, source: random.Random) -> float:
        """Draw how much better than random a sampler's proposals are; 0 for those that do not learn."""
        return source.random() if self.course.spec.search.sampler in LEARNING else 0.0

    def _interrupted(self) -> list[int]:
        """Return the interrupted trials, which resume as soon as a worker is free."""
        paused = (number for number in self.begun if number not in self.running)
        return [number for number in paused if not (self.begun[number].is_over or self.begun[number].waits)]

    def _until_stop(self, number: int, simulation: Simulation, speed: ResampledSpeed, source: random.Random) -> float:
        """Draw the seconds until a running trial's next stop: by its own speed, once it has trained long enough."""
        trial, ran = simulation.trials[number], self.running[number]
        left = simulation.next_stop(trial) - trial.seen
        if left <= 0:  # all its examples are known from an earlier attempt
            return 0.0
        if ran.trained < _SAYS_MUCH * (ran.trained + left):
            took = speed.seconds(trial.plan, ran.trained + left)
            # An attempt that is slower than drawn still needs some time.
            rest = max(took - ran.seconds, 0.2 * took * left / (ran.trained + left))
        else:
            rest = ran.seconds * left / ran.trained
        return max(rest - source.uniform(0.0, _PROGRESS_SECONDS), 0.0)

    def _some_unseen(self, source: random.Random) -> tuple[Sequence[int], Sequence[int]]:
        """Return future trials, and those of them that represent the others."""
        if not self.course.halves:
            some = source.sample(self.unseen, min(len(self.unseen), _MOST_DRAWN))
            return sorted(some), some
        unseen = set(self.unseen)
        whole = [cohort for cohort in cohorts(self.budget) if unseen.issuperset(cohort)]
        left_out = {number for cohort in whole[_MOST_COHORTS:] for number in cohort}
        standing = [number for cohort in whole[:_MOST_COHORTS] for number in cohort]
        return [number for number in self.unseen if number not in left_out], standing

    def _proposed(self, source: random.Random) -> Callable[[int], Workload]:
        """Draw future proposals: from the whole space, or like recent ones if the sampler learns."""
        recent = [plan for _, plan in self.ended[-_RECENT:]]
        startup = LEARNING.get(self.course.spec.search.sampler, math.inf)
        favourites = source.choices(recent, k=5) if recent else source.choices(self.course.pool)
        often = source.random() if recent else source.uniform(0.0, 0.7)

        def proposed(number: int) -> Workload:
            if number < len(self.course.planned):
                return self.course.planned[number]
            is_like_others = number >= startup and source.random() < often
            return source.choice(favourites if is_like_others else self.course.pool)

        return proposed

    @property
    def _is_best_last(self) -> bool:
        return self.course.spec.direction is Direction.MAXIMIZE

    @functools.cached_property
    def _places(self) -> Mapping[int, float]:
        """Ranks of trials among all at their last rung, from 0, the best, to 1."""
        found = {}
        for number, trial in self.begun.items():
            if trial.values:
                known, value = self.reached[max(trial.values)], trial.values[max(trial.values)]
                place = bisect.bisect_left(known, value) / max(len(known) - 1, 1)
                found[number] = 1 - place if self._is_best_last else place
        return found

    def _values(self, source: random.Random) -> Callable[[int, int], float]:
        """Draw a trial's value at a rung: between the known values, nearer to the best if the sampler learns.

        A trial keeps its rank from rung to rung, except by chance; how likely that is, is drawn for each simulation.
        Where fewer than two values are known, a spread is drawn, 2 % to 100 % of the value; later rungs spread more.
        """
        # Ranks from 0, the best, to 1. A power above 1 moves them towards the best.
        gain = self._gain(source)
        chance, spreads = source.random() ** 2, sorted(10 ** source.uniform(-1.7, 0.0) for _ in self.course.rungs)
        places = defaultdict(lambda: source.random() ** (1 + gain), self._places)

        def value(number: int, rung: int) -> float:
            known = self.reached[rung]
            place = source.random() ** (1 + gain) if source.random() < chance else places[number]
            place = 1 - place if self._is_best_last else place
            if len(known) < 2:
                return (known[0] if known else 1.0) * math.exp(spreads[rung] * place)
            low = min(int(place * (len(known) - 1)), len(known) - 2)
            return known[low] + (place * (len(known) - 1) - low) * (known[low + 1] - known[low])

        return value


def _ranks(record: TrialRecord) -> bool:
    return record.state is TrialState.COMPLETE and record.objective is not None and math.isfinite(record.objective)


def _rank(course: Course, record: TrialRecord) -> float:
    """Return an objective with its sign, so that the smallest is the best."""
    value = record.objective or 0.0
    return value if course.spec.direction is Direction.MINIMIZE else -value


def _out(course: Course, records: Iterable[TrialRecord]) -> frozenset[int]:
    """Return the candidates of a confirmation of which a training was ended because it need not run."""
    known = range(len(course.candidates))
    ended = (record.trial for record in records if record.state is TrialState.PRUNED and record.trial in known)
    return frozenset(course.candidates[trial] for trial in ended)


def _left(course: Course, budget: int, over: set[int]) -> Sequence[int]:
    """Return the trials that are not over; with halving, all trials of their cohorts."""
    if not course.halves:
        return [number for number in range(budget) if number not in over]
    return [n for cohort in cohorts(budget) if not over.issuperset(cohort) for n in cohort]


def _values_of(course: Course, trial: TrialRecord | Progress) -> dict[int, float]:
    if not course.halves:
        return {}
    return values_at(trial.evaluations, course.rungs_of(course.plan(trial.params)), course.spec.direction)


def _recorded(course: Course, record: TrialRecord, now: float) -> SimulatedTrial:
    """Return a recorded trial as simulated; one that a fault interrupted starts again at its first example."""
    is_over, is_lost = record.state.finished, bool(record.faults) and record.state is TrialState.INTERRUPTED
    is_spared = record.audit is not None or course.is_baseline(record.trial)
    seen, values = (0, {}) if is_lost else (reached(record), _values_of(course, record))
    waits = record.state is TrialState.WAITING and bool(values) and not is_spared
    plan = course.plan(record.params)
    end, stopped = seen if is_over else plan.examples, record.ended - now
    return SimulatedTrial(plan, end, seen, values, waits, is_over, is_spared, stopped)


def _progressed(course: Course, progress: Progress, before: int) -> SimulatedTrial:
    """Return a running trial, which had trained ``before`` examples in earlier attempts."""
    plan = course.plan(progress.params)
    # While the number of steps is unknown, a resumed trial has only loaded its state.
    share = progress.step / progress.total_steps if progress.total_steps > 0 else 0.0
    seen = max(min(round(plan.examples * share), plan.examples), 0 if share else before)
    evaluated = {before, *(evaluation.examples for evaluation in progress.evaluations)}
    # A rung that was passed and has no evaluation yet is being evaluated.
    seen = min(
        (rung for rung in course.rungs_of(plan) if before < rung <= seen and rung not in evaluated), default=seen
    )
    is_spared = progress.audit is not None or course.is_baseline(progress.trial)
    return SimulatedTrial(plan, plan.examples, seen, _values_of(course, progress), is_spared=is_spared)
