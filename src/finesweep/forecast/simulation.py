"""Simulates the rest of a sweep: workers take trials, and the sweep's own rule judges them at rungs."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from finesweep.forecast.course import Course
from finesweep.forecast.simulated_stop import SimulatedStop
from finesweep.pruning import RungStanding, cohorts, promotions
from finesweep.spec import Workload


@dataclass
class SimulatedTrial:
    """A trial of a simulated sweep.

    Attributes:
        plan: Its workload if nothing ends it.
        end: Training examples at which it ends, unless halving ends it before.
        seen: Training examples so far.
        values: Its best objective at each rung so far, by the rung's index.
        waits: Whether it waits at a rung.
        is_over: Whether it has ended.
        is_spared: Whether no pruner can end it any more.
        stopped: When it last ended or began to wait, in seconds since the simulation began.
    """

    plan: Workload
    end: int
    seen: int = 0
    values: dict[int, float] = field(default_factory=dict)
    waits: bool = False
    is_over: bool = False
    is_spared: bool = False
    stopped: float = 0.0

    def standing(self, number: int) -> RungStanding:
        """Return its progress in the form that the rule takes."""
        return RungStanding(number, dict(self.values), self.waits, self.is_over, self.is_spared)


@dataclass
class Simulation:
    """A sweep in simulated time.

    Attributes:
        course: How far its trials go.
        budget: Its number of trials; cohorts follow from it.
        trials: Trials by number. With halving, if a cohort has a trial that is not over, all its trials, also those
            that are over: the rule compares with them.
        workers: Number of simultaneous trials.
        seconds: Draws the seconds that a workload takes for a number of examples; with ``anew``, of a new attempt.
        value: Draws the best objective of a trial at a rung, given by its index.
        stop: Ends the sweep before its budget; None for nothing.
        now: Seconds since the simulation began.
        begun: Seconds of the simulated attempts, by trial.
        is_stopped: Whether ``stop`` has ended it: trials that run are finished, no other begins.
        known: Trials that had ended or waited before it.
    """

    course: Course
    budget: int
    trials: Mapping[int, SimulatedTrial]
    workers: int
    seconds: Callable[..., float]
    value: Callable[[int, int], float]
    stop: SimulatedStop | None = None
    now: float = 0.0
    begun: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    is_stopped: bool = False
    known: frozenset[int] = frozenset()
    _arrived: set[int] = field(default_factory=set, init=False)
    _events: list[tuple[float, int]] = field(default_factory=list, init=False)
    _queue: deque[int] = field(default_factory=deque, init=False)
    _cohorts: dict[int, range] = field(default_factory=dict, init=False)
    _standings: dict[range, dict[int, RungStanding]] = field(default_factory=dict, init=False)

    def run(self, running: Mapping[int, float], queue: Iterable[int]) -> float:
        """Run the sweep to its end and return the seconds that it takes.

        Args:
            running: Seconds until each running trial reaches its next rung or its end.
            queue: Trials to begin, in order.
        """
        self._queue.extend(queue)
        self._events = [(rest, number) for number, rest in running.items()]
        heapq.heapify(self._events)
        for cohort in cohorts(self.budget) if self.course.halves else ():
            if cohort[0] in self.trials:
                self._cohorts |= dict.fromkeys(cohort, cohort)
                self._standings[cohort] = {}
                for number in cohort:
                    trial = self.trials[number]
                    if trial.seen or trial.is_over or trial.is_spared:
                        self._note(number)
                self._judge(cohort)
        while self._begin_some():
            self.now, number = heapq.heappop(self._events)
            self._arrive(number)
        return self.now

    def next_stop(self, trial: SimulatedTrial) -> int:
        """Return the examples at which a trial waits or ends next."""
        rungs = self.course.rungs_of(trial.plan) if self.course.halves and not trial.is_spared else ()
        return min(next((rung for rung in rungs if rung > trial.seen), trial.end), trial.end)

    def _begin_some(self) -> bool:
        """Give trials to free workers; return whether any trial runs."""
        while self._queue and len(self._events) < self.workers:
            self._begin(self._queue.popleft(), anew=True)
        return bool(self._events)

    def _begin(self, number: int, *, anew: bool) -> None:
        trial = self.trials[number]
        took = self.seconds(trial.plan, self.next_stop(trial) - trial.seen, anew=anew)
        if anew:
            self.begun[number].append(took)
        elif self.begun[number]:
            self.begun[number][-1] += took
        heapq.heappush(self._events, (self.now + took, number))

    def _arrive(self, number: int) -> None:
        trial = self.trials[number]
        self._arrived.add(number)
        trial.seen, trial.stopped = self.next_stop(trial), self.now
        trial.is_over = trial.seen >= trial.end
        if trial.is_over:
            # Halving prunes only trials that wait; what ends by itself is complete.
            is_pruned = not self.course.halves and self.course.rungs and trial.end < trial.plan.examples
            self._finish(trial, complete=not is_pruned)
        if self.course.halves:
            if not trial.is_over:
                rung = self.course.rungs_of(trial.plan).index(trial.seen)
                trial.values.setdefault(rung, self.value(number, rung))
                trial.waits = True
            self._note(number)
            self._judge(self._cohorts[number], number)
        if self.stop is not None and self.stop.ends_with(len(self._arrived - self.known)):
            self._stop()

    def _finish(self, trial: SimulatedTrial, *, complete: bool) -> None:
        if self.stop is None or self.is_stopped:
            return
        if self.stop.ends_after(trial.stopped, trial.values, complete=complete):
            self._stop()

    def _stop(self) -> None:
        self.is_stopped = True
        self._queue.clear()

    def _note(self, number: int) -> None:
        cohort = self._cohorts[number]
        self._standings[cohort][number - cohort[0]] = self.trials[number].standing(number - cohort[0])

    def _judge(self, cohort: range, arrived: int | None = None) -> None:
        """Let the rule decide which trials of a cohort are promoted, after one of them has arrived at a rung."""
        shape = len(cohort), len(self.course.rungs), self.course.spec.direction
        found = promotions(self._standings[cohort], *shape, factor=self.course.spec.factor, cohort=len(cohort))
        # Each goes to the front of the queue, so the first one must be added last.
        for place in reversed(found.promoted):
            self._go_on(cohort[place], arrived)
        for place in found.dropped:
            trial = self.trials[cohort[place]]
            trial.is_over = not self.course.is_spared(cohort[place])
            if trial.is_over:
                trial.waits = False
                self._finish(trial, complete=False)
            else:
                trial.is_spared = True
                self._go_on(cohort[place], arrived)
            self._note(cohort[place])

    def _go_on(self, number: int, arrived: int | None) -> None:
        self.trials[number].waits = False
        self._note(number)
        # The trial that has just arrived continues in its process. One that waited needs a worker and a new attempt.
        if number == arrived:
            self._begin(number, anew=False)
        elif not self.is_stopped:
            self._queue.appendleft(number)
