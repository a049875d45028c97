"""Finds faults of the search space: bounds in the way, learning rates that diverge, parameters without an effect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

from finesweep.doctor import axis as axes
from finesweep.doctor.additive import effects
from finesweep.doctor.case import Case, Finding, cure, rounded
from finesweep.text import metric, setting
from finesweep.trial import TrialRecord, TrialState

EPOCHS = "num_train_epochs"
RATE = "learning_rate"

BEST = 4
"""Minimum number of best trials that must lie on one side, beside a best tenth."""

FEWEST = 8
"""Minimum number of finished trials for a finding on the space."""

MOST_DIVERGED = 0.5
"""Share of diverged trials from which on that is a finding."""

FEWEST_DIVERGED = 3

FEWEST_FOR_EFFECTS = 20
"""Minimum number of ranked trials that can show that a parameter has no effect."""

MOST_FOR_EFFECTS = 500
"""Maximum number of ranked trials that are looked at for this; the latest ones."""

EXPLAINED = 0.5
"""Minimum share of the objective's variance that all parameters must explain together, else one may hide in noise."""

NO_EFFECT = 0.02
"""Maximum share of that variance that a parameter without an effect explains."""


def at_bound(case: Case) -> Iterator[Finding]:
    """Yield the parameters of which the best trials have the smallest or the largest values."""
    best = case.ranked[: max(BEST, len(case.ranked) // 10)]
    if len(case.finished) < FEWEST or len(best) < BEST:
        return
    for name, axis in case.spec.space.items():
        places = [axes.position(axis, record.params[name]) for record in best if name in record.params]
        known = [place for place in places if place is not None]
        if len(known) < len(best):
            continue
        for up in (True, False):
            outer = [place if up else 1 - place for place in known]
            if outer[0] < 1 - axes.NEAR or min(outer) < 2 / 3:
                continue
            wider = axes.widened(name, axis, up=up, most_tokens=case.most_tokens)
            if wider is not None:
                yield _bound(name, best, wider, up=up)


def _bound(name: str, best: Sequence[TrialRecord], wider: Mapping[str, object], *, up: bool) -> Finding:
    side, part = ("upper", "longest") if up else ("lower", "shortest")
    value = setting(best[0].params[name])
    evidence = f"the best trial has {value}, and the best {len(best)} all lie in that third of the range"
    if name == EPOCHS and up:
        text = f"The {part} trainings win"
        return Finding("longest-wins", text, evidence, cure(space={name: wider}))
    text = f"The best {name} lies at the {side} bound of its range"
    return Finding("at-bound", text, evidence, cure(space={name: wider}))


def many_diverged(case: Case) -> Iterator[Finding]:
    """Yield whether most trials diverged, and above which learning rate."""
    diverged, finished = case.of_state(TrialState.DIVERGED), case.finished
    if len(diverged) < FEWEST_DIVERGED or len(diverged) < MOST_DIVERGED * len(finished):
        return
    text = f"{len(diverged)} of {len(finished)} trials diverged"
    known = [(record.params.get(RATE), record.state is TrialState.DIVERGED) for record in finished]
    rates = [(float(rate), is_diverged) for rate, is_diverged in known if isinstance(rate, int | float)]
    limit = _limit(rates) if len(rates) == len(finished) else None
    if limit is None:
        evidence = "the learning rate does not tell which"
        yield Finding("many-diverged", text, evidence, cure(fixed={"max_grad_norm": 0.5}), weight="problem")
        return
    above = [is_diverged for rate, is_diverged in rates if rate >= limit]
    below = [is_diverged for rate, is_diverged in rates if rate < limit]
    evidence = f"from learning_rate {setting(rounded(limit))} on {sum(above)} of {len(above)}"
    evidence += f", below it {sum(below)} of {len(below)}"
    yield Finding("many-diverged", text, evidence, _lower_rates(case, limit), weight="problem")


def _limit(rates: Sequence[tuple[float, bool]]) -> float | None:
    """Return the rate from which on trials diverge, with the fewest trials on the wrong side.

    Returns:
        None if more than one trial in five is on the wrong side.
    """
    wrong = sum(not is_diverged for _, is_diverged in rates)  # with the limit below all rates
    best, fewest = None, len(rates) + 1
    for rate, group in itertools.groupby(sorted(rates), key=itemgetter(0)):
        if wrong < fewest:
            best, fewest = rate, wrong
        wrong += sum(1 if is_diverged else -1 for _, is_diverged in group)
    return best if fewest <= len(rates) / 5 else None


def _lower_rates(case: Case, limit: float) -> str:
    axis = case.spec.space.get(RATE)
    written = {} if axis is None else axis.model_dump(mode="json", exclude_none=True, exclude={"choices"})
    if axis is None:
        return cure(fixed={RATE: rounded(limit / 10)})
    if axis.choices is not None:
        lower = [choice for choice in axis.choices if isinstance(choice, int | float) and choice < limit]
        return cure(space={RATE: {"choices": lower or [rounded(limit / 10), rounded(limit / 3)]}})
    low = float(axis.low or 0)
    if low >= limit / 2:
        low = rounded(limit / 10)
    kept = {key: value for key, value in written.items() if key != "step" and value is not False}
    return cure(space={RATE: {**kept, "low": low, "high": rounded(limit)}})


def no_effect(case: Case) -> Iterator[Finding]:
    """Yield the parameters that explain nothing of the objective, while all together explain most of it."""
    spec = case.spec
    trials = sorted(case.ranked, key=lambda record: record.trial)[-MOST_FOR_EFFECTS:]
    names = [name for name in spec.space if all(name in record.params for record in trials)]
    if len(trials) < FEWEST_FOR_EFFECTS or len(names) < 2:
        return
    values = [record.objective for record in trials if record.objective is not None]
    found = effects({name: [record.params[name] for record in trials] for name in names}, values)
    if found.explained < EXPLAINED:
        return
    needed = {other for axis in spec.space.values() for other in axis.when or {}}
    for name, share in found.shares.items():
        if share <= NO_EFFECT and name not in needed:
            best = case.ranked[0].params[name]
            evidence = (
                f"over {len(values)} trials it explains {100 * share:.1f} % of the differences in "
                f"{spec.objective.metric} ({metric(min(values))} to {metric(max(values))}), "
                f"all parameters together {100 * found.explained:.0f} %"
            )
            yield Finding("no-effect", f"{name} moves nothing", evidence, cure(fixed={name: best}))
