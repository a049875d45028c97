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
from dataclasses import dataclass

from finesweep.forecast.course import Course, stop
from finesweep.forecast.simulation import SimulatedTrial, Simulation
from finesweep.forecast.speed import ResampledSpeed
from finesweep.pruning import cohorts, values_at
from finesweep.pruning.rules import FEWEST
from finesweep.spec import LEARNING, Workload
from finesweep.trial import Direction, Progress, TrialRecord, TrialState

_LATEST = 40
"""Number of latest ended trials from which the lengths of trials are learned."""

_TRUST = 4
"""Weight of the prior on a pruner, in ended trials."""

_RECENT = 15
"""Number of latest trials from which the proposals of a learning sampler are learned."""

_STARTUP = 10
"""Number of trials that a learning sampler draws at random first."""

_MOST_DRAWN = 120
"""Maximum number of future trials that are simulated one by one; they represent the others."""

_MOST_COHORTS = 2
"""Maximum number of future cohorts that are simulated; they represent the others."""

_PROGRESS_SECONDS = 1.0
"""Maximum age of a running trial's progress in seconds."""

_SAYS_MUCH = 0.3
"""Minimum trained share of an attempt with which its own speed predicts its rest."""

_WHOLE = 0.98
"""Minimum trained share of its workload with which a trial counts as trained to its end."""


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
    """

    course: Course
    budget: int
    begun: Mapping[int, SimulatedTrial]
    running: Mapping[int, Running]
    unseen: Sequence[int]
    ended: Sequence[tuple[TrialRecord, Workload]]
    reached: Mapping[int, Sequence[float]]

    @classmethod
    def of(
        cls,
        course: Course,
        budget: int,
        records: Sequence[TrialRecord] = (),
        progress: Iterable[Progress] = (),
        now: float = 0.0,
    ) -> Rest:
        """Determine the rest of a sweep.

        Args:
            course: How far trials go.
            budget: Number of trials of the sweep.
            records: The records of all ended or waiting trials.
            progress: The running trials.
            now: Unix time.
        """
        over = {record.trial for record in records if record.state.finished}
        left = _left(course, budget, over)
        # A trial can have both a record (of an earlier attempt) and progress; the progress is newer.
        begun = {record.trial: _recorded(course, record) for record in records if record.trial in left}
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
        return cls(course, budget, begun, running, unseen, ended, reached)

    def draw(self, speed: ResampledSpeed, workers: int, source: random.Random) -> float:
        """Draw the seconds that the rest takes at a speed."""
        simulation, fresh, standing = self.simulation(speed.seconds, workers, source)
        running = {number: self._until_stop(number, simulation, speed, source) for number in self.running}
        took = simulation.run(running, [*self._interrupted(), *fresh])
        # Only some future trials were simulated. The others take the same time on average, shared by the workers.
        times = (len(self.unseen) - len(fresh)) / max(len(standing), 1)
        return took + times * sum(sum(simulation.begun[number]) for number in standing) / workers

    def simulation(
        self, seconds: Callable[..., float], workers: int, source: random.Random
    ) -> tuple[Simulation, Sequence[int], Sequence[int]]:
        """Draw one sweep, ready to run; also return the future trials, and those of them that represent others."""
        end, proposed = self._ends(source), self._proposed(source)
        fresh, standing = self._some_unseen(source)
        trials = {number: dataclasses.replace(trial, values=dict(trial.values)) for number, trial in self.begun.items()}
        for number in fresh:
            plan = proposed(number)
            trials[number] = SimulatedTrial(plan, plan.examples, is_spared=self.course.is_baseline(number))
        for number, trial in trials.items():
            if not trial.is_over:
                trial.end = max(end(number, trial), trial.seen)

        simulation = Simulation(self.course, self.budget, trials, workers, seconds, self._values(source))
        return simulation, fresh, standing

    def _interrupted(self) -> list[int]:
        """Return the interrupted trials, which resume as soon as a worker is free."""
        paused = (number for number in self.begun if number not in self.running)
        return [number for number in paused if not (self.begun[number].is_over or self.begun[number].waits)]

    def _until_stop(self, number: int, simulation: Simulation, speed: ResampledSpeed, source: random.Random) -> float:
        """Draw the seconds until a running trial's next stop: by its own speed, once it has trained long enough."""
        trial, ran = simulation.trials[number], self.running[number]
        left = simulation.next_stop(trial) - trial.seen
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

    def _ends(self, source: random.Random) -> Callable[[int, SimulatedTrial], int]:
        """Draw the examples at which a trial ends: like one of the ended trials, or by the prior on the pruner."""
        course, free = self.course, FEWEST if self.course.spec.search.pruner == "median" else 0
        ended = [(record, plan) for record, plan in self.ended if record.trial >= free]
        drawn = source.choices(ended, k=len(ended)) if ended else []
        shares = [course.share(source)] * len(course.rungs)
        # Running trials are evidence too: they have not ended early so far.
        trust = _TRUST + len(self.running)

        def end(number: int, trial: SimulatedTrial) -> int:
            is_free = course.halves or trial.is_spared or number < free or course.is_spared(number)
            beyond, examples = trial.seen, None
            if source.random() * (trust + len(drawn)) >= trust:
                record, plan = source.choice(drawn)
                beyond, examples = max(beyond, record.examples), _end_like(trial.plan, record, plan, is_free=is_free)
            if examples is not None and examples > trial.seen:
                return examples
            return trial.plan.examples if is_free else stop(trial.plan, beyond, course.rungs, shares, source)

        return end

    def _proposed(self, source: random.Random) -> Callable[[int], Workload]:
        """Draw future proposals: from the whole space, or like recent ones if the sampler learns."""
        recent = [plan for _, plan in self.ended[-_RECENT:]]
        learns = self.course.spec.search.sampler in LEARNING
        favourites = source.choices(recent, k=5) if recent else source.choices(self.course.pool)
        often = source.random() if recent else source.uniform(0.0, 0.7)

        def proposed(number: int) -> Workload:
            if number < len(self.course.planned):
                return self.course.planned[number]
            is_like_others = learns and number >= _STARTUP and source.random() < often
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
        gain = source.random() if self.course.spec.search.sampler in LEARNING else 0.0
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


def _left(course: Course, budget: int, over: set[int]) -> Sequence[int]:
    """Return the trials that are not over; with halving, all trials of their cohorts."""
    if not course.halves:
        return [number for number in range(budget) if number not in over]
    return [n for cohort in cohorts(budget) if not over.issuperset(cohort) for n in cohort]


def _end_like(plan: Workload, record: TrialRecord, other: Workload, *, is_free: bool) -> int | None:
    """Return the examples at which a trial ends if it ends like another one; None if that one trained to its end."""
    if record.state is TrialState.PRUNED:
        return None if is_free or reached(record) >= plan.examples else reached(record)
    share = record.examples / other.examples
    return None if share >= _WHOLE else int(share * plan.examples)


def reached(record: TrialRecord) -> int:
    """Return the examples that a trial has reached; at a rung, exactly the rung, though its last batch exceeds it."""
    at_rung = record.state in (TrialState.PRUNED, TrialState.WAITING) and record.evaluations
    return record.evaluations[-1].examples if at_rung else record.examples


def _values_of(course: Course, trial: TrialRecord | Progress) -> dict[int, float]:
    return values_at(trial.evaluations, course.rungs, course.spec.direction) if course.halves else {}


def _recorded(course: Course, record: TrialRecord) -> SimulatedTrial:
    """Return a recorded trial as simulated; one that a fault interrupted starts again at its first example."""
    is_over, is_lost = record.state.finished, bool(record.faults) and record.state is TrialState.INTERRUPTED
    is_spared = record.audit is not None or course.is_baseline(record.trial)
    seen, values = (0, {}) if is_lost else (reached(record), _values_of(course, record))
    waits = record.state is TrialState.WAITING and bool(values) and not is_spared
    plan = course.plan(record.params)
    return SimulatedTrial(plan, seen if is_over else plan.examples, seen, values, waits, is_over, is_spared)


def _progressed(course: Course, progress: Progress, before: int) -> SimulatedTrial:
    """Return a running trial, which had trained ``before`` examples in earlier attempts."""
    plan = course.plan(progress.params)
    # While the number of steps is unknown, a resumed trial has only loaded its state.
    share = progress.step / progress.total_steps if progress.total_steps > 0 else 0.0
    seen = max(min(round(plan.examples * share), plan.examples), 0 if share else before)
    evaluated = {before, *(evaluation.examples for evaluation in progress.evaluations)}
    # A rung that was passed and has no evaluation yet is being evaluated.
    seen = min((rung for rung in course.rungs if before < rung <= seen and rung not in evaluated), default=seen)
    is_spared = progress.audit is not None or course.is_baseline(progress.trial)
    return SimulatedTrial(plan, plan.examples, seen, _values_of(course, progress), is_spared=is_spared)
