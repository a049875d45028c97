"""Owns what is left of a sweep: who of its trials may still train how many examples, given how it stands."""

from __future__ import annotations

import functools
import heapq
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from finesweep.forecast.work import LEARNING, SHARES, Course, going_on, stop
from finesweep.pruning.rules import FEWEST, cohorts, values_at
from finesweep.spec.trial_length import Workload
from finesweep.trial import Direction, Evaluation, Progress, TrialRecord, TrialState

_LATEST = 40
"""Ended trials from which it is learned how far trials go."""

_TRUST = 4.0
"""As many trials what is known of a pruner beforehand counts."""

_RECENT = 15
"""Trials from which it is learned what a learning sampler proposes."""

_FEWEST_BEST = 3
_FEWEST_VALUES = 2
_MOST_DRAWN = 120
"""Trials to come that are drawn one by one; they stand for the others."""

_MOST_COHORTS = 5
_SOUND = frozenset({TrialState.COMPLETE, TrialState.PRUNED})


@dataclass(frozen=True)
class Begun:
    """A trial that has begun and is not over.

    Attributes:
        trial: Its number.
        plan: What it would train.
        seen: Training examples so far.
        before: Those of earlier attempts among them.
        elapsed: Seconds that its attempt has run, None where it waits.
        to_its_end: Whether no pruner ends it any more.
        evaluations: What its evaluations have said.
    """

    trial: int
    plan: Workload
    seen: int
    before: int = 0
    elapsed: float | None = None
    to_its_end: bool = False
    evaluations: Sequence[Evaluation] = ()


@dataclass(frozen=True)
class Task:
    """What a trial trains until it waits or ends.

    Attributes:
        plan: Its plan.
        examples: Training examples.
        begun: The trial, where it runs already.
    """

    plan: Workload
    examples: int
    begun: Begun | None = None


@dataclass(frozen=True)
class Draw:
    """One course that the rest of a sweep may take.

    Attributes:
        running: What is left of the trials that run.
        tasks: What is still to be begun, in about this order.
        standing: Those of them that stand for more than themselves.
        times: For how many each.
    """

    running: Sequence[Task]
    tasks: Sequence[Task]
    standing: Sequence[Task] = ()
    times: float = 1.0


@dataclass
class Outlook:
    """How a sweep stands.

    Attributes:
        course: How far its trials go.
        trials: The budget.
        begun: Trials that have begun and are not over, by number.
        over: Ended trials, by number.
        latest: The trials that ended last, the latest at the end.
    """

    course: Course
    trials: int
    begun: Mapping[int, Begun]
    over: Mapping[int, TrialRecord]
    latest: Sequence[tuple[TrialRecord, Workload]] = field(init=False)
    unseen: Sequence[int] = field(init=False)
    _seen_values: dict[int, Mapping[int, float]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        last = heapq.nlargest(_LATEST, self.over.values(), key=lambda record: record.started + record.seconds)
        self.latest = [(record, self.course.plan(record.params)) for record in reversed(last)]
        self.unseen = [trial for trial in range(self.trials) if trial not in self.over and trial not in self.begun]

    @classmethod
    def of(
        cls, course: Course, trials: int, records: Iterable[TrialRecord], progress: Iterable[Progress], now: float
    ) -> Outlook:
        """Take stock.

        Args:
            course: How far trials go.
            trials: The budget.
            records: How each ended trial ended.
            progress: The running trials.
            now: Unix time.
        """
        over = {record.trial: record for record in records if record.state.finished}
        paused = (record for record in records if record.trial not in over and record.trial < trials)
        begun = {record.trial: _paused(course, record) for record in paused}
        for one in progress:
            if one.trial not in over:
                begun[one.trial] = _running(course, one, begun.get(one.trial), now)
        return cls(course, trials, begun, over)

    def draw(self, source: random.Random) -> Draw:
        """Draw what the rest of the sweep may be."""
        return self._halving(source) if self.course.halves else self._each_for_itself(source)

    def _each_for_itself(self, source: random.Random) -> Draw:
        rungs, shares = self.course.rungs, self._shares(source)
        fate, proposed = self._fate(source), self._proposed(source)

        def end(trial: Begun) -> int:
            is_free = trial.to_its_end or self.course.is_spared(trial.trial)
            planned = trial.plan.examples if is_free else stop(trial.plan, trial.seen, rungs, shares, source)
            return max(min(planned, fate(trial.plan)), trial.seen)

        running: list[Task] = []
        paused: list[Task] = []
        fresh: list[Task] = []
        for trial in self.begun.values():
            (paused if trial.elapsed is None else running).append(_task(trial, end(trial)))
        for number in self._some_unseen(source):
            trial = Begun(number, proposed(number), 0)
            fresh.append(_task(trial, end(trial)))
        return Draw(running, [*paused, *fresh], fresh, len(self.unseen) / len(fresh) if fresh else 1.0)

    def _some_unseen(self, source: random.Random) -> Sequence[int]:
        return self.unseen if len(self.unseen) <= _MOST_DRAWN else source.sample(self.unseen, _MOST_DRAWN)

    def _halving(self, source: random.Random) -> Draw:
        """Draw cohort by cohort."""
        open_cohorts = [cohort for cohort in cohorts(self.trials) if any(n not in self.over for n in cohort)]
        untouched = set(self.unseen)
        fresh = [cohort for cohort in open_cohorts if untouched.issuperset(cohort)]
        fate, proposed = self._fate(source), self._proposed(source)

        def tasks(some: Iterable[range]) -> list[Task]:
            return [task for cohort in some for task in self._cohort(cohort, fate, proposed, source)]

        running = [_task(one, self._next_stop(one)) for one in self.begun.values() if one.elapsed is not None]
        begun = tasks(cohort for cohort in open_cohorts if cohort not in fresh)
        standing = tasks(fresh[:_MOST_COHORTS])
        return Draw(running, [*begun, *standing], standing, max(len(fresh) / _MOST_COHORTS, 1.0))

    def _cohort(
        self, cohort: range, fate: Callable[[Workload], int], proposed: Callable[[int], Workload], source: random.Random
    ) -> list[Task]:
        """Draw who of a cohort goes on from which rung; what running trials do until the next one is left out."""
        members = {number: self._member(number, proposed) for number in cohort}
        lives = {n: reached(self.over[n]) if n in self.over else fate(trial.plan) for n, trial in members.items()}
        free = {n: trial.seen for n, trial in members.items() if trial.to_its_end}
        chosen = [n for n in members if n not in free]
        waited = set(chosen)
        parts: dict[int, list[Task]] = {n: [] for n in members}
        for rung, (start, end) in enumerate(zip((0, *self.course.rungs), (*self.course.rungs, None), strict=True)):
            for n in chosen:
                if n not in self.over and (leg := _leg(members[n], start, end, lives[n])):
                    _go_on(parts[n], leg, anew=n in waited)
            if end is None:
                break
            there = [n for n in chosen if members[n].plan.examples >= end and lives[n] >= end]
            going = self._going(there, rung, source)
            chosen = [n for n in chosen if members[n].seen > end or (n in going and not self._was_pruned(n))]
            waited = {n for n in chosen if going.get(n) != n}
            free |= {n: end for n in there if n not in chosen and self.course.is_spared(n)}
        for n, start in free.items():
            if n not in self.over and (rest := _leg(members[n], start, None, lives[n])):
                _go_on(parts[n], rest, anew=False)
        most = max(map(len, parts.values()))
        return [tasks[turn] for turn in range(most) for tasks in parts.values() if turn < len(tasks)]

    def _going(self, there: Sequence[int], rung: int, source: random.Random) -> dict[int, int]:
        """Draw who goes on from a rung, and whose arrival there lets it; what is still to be seen, as others were."""
        sign = 1 if self.course.spec.direction is Direction.MINIMIZE else -1
        known = {n: sign * value for n in there if (value := self._values(n).get(rung)) is not None}
        order = [*known, *(n for n in there if n not in known)]
        others = _between(sorted(known.values()), source)
        values = [known[n] if n in known else others() for n in order]
        turns = going_on(values, self.course.spec.pruning.factor, len(known))
        return {order[place]: order[arrival] for place, arrival in turns.items()}

    def _values(self, trial: int) -> Mapping[int, float]:
        """Return a trial's values by the index of the rung."""
        if trial not in self._seen_values:
            seen = self.begun[trial].evaluations if trial in self.begun else ()
            seen = self.over[trial].evaluations if trial in self.over else seen
            self._seen_values[trial] = values_at(seen, self.course.rungs, self.course.spec.direction)
        return self._seen_values[trial]

    def _was_pruned(self, number: int) -> bool:
        return number in self.over and self.over[number].state is not TrialState.COMPLETE

    def _member(self, number: int, proposed: Callable[[int], Workload]) -> Begun:
        if number in self.begun:
            return self.begun[number]
        is_spared = self.course.is_baseline(number)
        if number in self.over:
            record = self.over[number]
            is_spared |= record.audit is not None
            return Begun(number, self.course.plan(record.params), reached(record), to_its_end=is_spared)
        return Begun(number, proposed(number), 0, to_its_end=is_spared)

    def _next_stop(self, trial: Begun) -> int:
        """Return the examples at which a running trial waits or ends next."""
        ahead = () if trial.to_its_end else (rung for rung in self.course.rungs if rung > trial.seen)
        return min(next(iter(ahead), trial.plan.examples), trial.plan.examples)

    def _shares(self, source: random.Random) -> list[float]:
        """Draw how many of those that come to each rung go on: as those did that ended, and as it is with others."""
        low, likely, high = SHARES.get(self.course.spec.search.pruner, (1.0, 1.0, 1.0))
        if low == high:
            return [high] * len(self.course.rungs)
        expected = source.triangular(low, high, likely)
        counts = (self._came_and_went(rung) for rung in self.course.rungs)
        return [
            source.betavariate(_TRUST * expected + went, _TRUST * (1 - expected) + came - went) for came, went in counts
        ]

    def _came_and_went(self, rung: int) -> tuple[int, int]:
        """Count the trials that a pruner could have ended at a rung, and those of them that went on."""
        ends = [
            reached(record)
            for record, plan in self.latest
            if plan.examples > rung
            and reached(record) >= rung
            and record.state in _SOUND
            and not self.course.is_spared(record.trial)
        ]
        if len(self.over) <= _LATEST:
            ends = ends[FEWEST:]  # the first were spared, having too few to be held against
        on_their_way = sum(trial.seen > rung and trial.elapsed is not None for trial in self.begun.values())
        return len(ends) + on_their_way, sum(end > rung for end in ends) + on_their_way

    def _fate(self, source: random.Random) -> Callable[[Workload], int]:
        """Draw how often trials end by themselves before their planned end: diverged, failed, out of patience."""
        ends = [
            record.examples / plan.examples
            for record, plan in self.latest
            if record.state is not TrialState.PRUNED and record.examples < 0.98 * plan.examples
        ]
        often = source.betavariate(len(ends) + 0.3, len(self.latest) - len(ends) + 6)

        def fate(plan: Workload) -> int:
            if source.random() >= often:
                return plan.examples
            return int(plan.examples * (source.choice(ends) if ends else source.uniform(0.0, 0.6)))

        return fate

    def _proposed(self, source: random.Random) -> Callable[[int], Workload]:
        """Draw what will be proposed: anything in the space, or what was good or frequent, where the sampler learns."""
        recent = [plan for _, plan in self.latest[-_RECENT:]]
        learns = bool(recent) and self.course.spec.search.sampler in LEARNING
        like_the_best = source.uniform(0.0, 0.9) if learns else 0.0
        favourites = source.choices(self._best_plans, k=2)
        like_the_last = source.uniform(0.0, 1.0 - like_the_best) if learns else 0.0

        def proposed(number: int) -> Workload:
            if number < len(self.course.planned):
                return self.course.planned[number]
            drawn = source.random()
            if drawn < like_the_best:
                return source.choice(favourites)
            return source.choice(recent if drawn < like_the_best + like_the_last else self.course.pool)

        return proposed

    @functools.cached_property
    def _best_plans(self) -> Sequence[Workload]:
        """Plans of the best of the latest trials: near them is what a learning sampler proposes."""
        sign = 1 if self.course.spec.direction is Direction.MINIMIZE else -1
        known = [(sign * record.objective, plan) for record, plan in self.latest if record.objective is not None]
        best = sorted(known, key=lambda item: item[0])[: max(_FEWEST_BEST, len(known) // 4)]
        return [plan for _, plan in best] or self.course.pool


def _between(known: Sequence[float], source: random.Random) -> Callable[[], float]:
    """Draw values like some that are known, in ascending order; anything where they say too little."""
    if len(known) < _FEWEST_VALUES:
        one = known[0] if known else 1.0
        known = sorted((0.9 * one, 1.1 * one))

    def draw() -> float:
        place = source.uniform(0, len(known) - 1)
        low = min(int(place), len(known) - 2)
        return known[low] + (place - low) * (known[low + 1] - known[low])

    return draw


def reached(record: TrialRecord) -> int:
    """Return the examples that a trial has come to; one that stopped at a rung has seen the rest of its batch too."""
    at_rung = record.state in (TrialState.PRUNED, TrialState.WAITING) and record.evaluations
    return record.evaluations[-1].examples if at_rung else record.examples


def _task(trial: Begun, end: int) -> Task:
    return Task(trial.plan, max(end - trial.seen, 0), None if trial.elapsed is None else trial)


def _leg(trial: Begun, start: int, end: int | None, life: int) -> Task | None:
    """Return the part of a trial between two rungs that is still to be begun, None if there is nothing of it."""
    if trial.elapsed is not None and trial.seen >= start:
        return None
    stop_at = min(trial.plan.examples, life, trial.plan.examples if end is None else end)
    examples = stop_at - max(start, trial.seen)
    return Task(trial.plan, examples) if examples > 0 else None


def _go_on(parts: list[Task], leg: Task, *, anew: bool) -> None:
    """Add a leg to a trial's tasks: to the last one, unless the trial waits in between."""
    if parts and not anew:
        leg = Task(leg.plan, parts.pop().examples + leg.examples)
    parts.append(leg)


def _paused(course: Course, record: TrialRecord) -> Begun:
    """Return a trial that waits at a rung or was interrupted; after a fault it begins anew."""
    seen = 0 if record.faults else reached(record)
    is_spared = record.audit is not None or course.is_baseline(record.trial)
    return Begun(record.trial, course.plan(record.params), seen, seen, None, is_spared, record.evaluations)


def _running(course: Course, progress: Progress, paused: Begun | None, now: float) -> Begun:
    plan = course.plan(progress.params)
    before = paused.seen if paused else 0
    # As long as the number of steps is not known, a trial that goes on has only loaded its state.
    share = progress.step / progress.total_steps if progress.total_steps > 0 else 0.0
    seen = max(min(round(plan.examples * share), plan.examples), 0 if share else before)
    evaluated = {before, *(evaluation.examples for evaluation in progress.evaluations)}
    seen = min((rung for rung in course.rungs if before < rung <= seen and rung not in evaluated), default=seen)
    elapsed = max(now - progress.started, 0.0)
    is_spared = progress.audit is not None or course.is_baseline(progress.trial)
    return Begun(progress.trial, plan, seen, min(before, seen), elapsed, is_spared, progress.evaluations)
