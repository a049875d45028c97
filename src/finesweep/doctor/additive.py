"""Measures how much of an objective each parameter explains, by an additive model of its values in bins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finesweep.trial import Value

_BINS = 4
"""Bins of a parameter with more different values; each has as many trials."""

_FEWEST = 4
"""Minimum trials of the second largest bin; a parameter with fewer is not judged."""

_ROUNDS = 30
"""Rounds of fitting one parameter after the other."""


@dataclass(frozen=True)
class Effects:
    """Shares of the variance of the objective's ranks, 0 to 1.

    Attributes:
        explained: By all parameters together, corrected for their number of bins; may be negative.
        shares: By each parameter that was judged.
    """

    explained: float
    shares: Mapping[str, float]


def effects(params: Mapping[str, Sequence[Value]], objective: Sequence[float]) -> Effects:
    """Fit the additive model.

    Ranks take the place of the objective, so that a few bad trials do not decide.

    Args:
        params: The trials' values by parameter.
        objective: The trials' objectives.
    """
    ranks = _ranks(objective)
    count = len(ranks)
    middle = sum(ranks) / count
    target = [rank - middle for rank in ranks]
    total = sum(one * one for one in target)
    bins = {name: found for name, values in params.items() if (found := _binned(values)) is not None}
    if not bins or total == 0:
        return Effects(0.0, {})
    fits = {name: [0.0] * count for name in bins}
    rest = list(target)
    for _ in range(_ROUNDS):
        for name, places in bins.items():
            rest = [one + fit for one, fit in zip(rest, fits[name], strict=True)]
            fits[name] = _bin_means(places, rest)
            rest = [one - fit for one, fit in zip(rest, fits[name], strict=True)]
    freedom = count - 1 - sum(len(set(places)) - 1 for places in bins.values())
    left = sum(one * one for one in rest) / total
    explained = 1 - left * (count - 1) / freedom if freedom > 0 else 0.0
    return Effects(explained, {name: sum(fit * fit for fit in fits[name]) / total for name in bins})


def _binned(values: Sequence[Value]) -> list[int] | None:
    """Return the bin of each value; None if nearly all lie in one."""
    distinct = sorted(set(values), key=lambda value: (str(type(value)), value if _is_number(value) else str(value)))
    if len(distinct) <= _BINS or not all(map(_is_number, distinct)):
        places = [distinct.index(value) for value in values]
    else:
        ranks = _ranks([float(value or 0) for value in values])
        places = [min(int((rank - 0.5) * _BINS / len(values)), _BINS - 1) for rank in ranks]
    common = Counter(places).most_common(2)
    return places if len(common) > 1 and common[1][1] >= _FEWEST else None


def _bin_means(places: Sequence[int], values: Sequence[float]) -> list[float]:
    sums, counts = Counter[int](), Counter(places)
    for place, value in zip(places, values, strict=True):
        sums[place] += value  # type: ignore[assignment]
    return [sums[place] / counts[place] for place in places]


def _ranks(values: Sequence[float]) -> list[float]:
    """Return the ranks from 1; equal values share their mean rank."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for at in order[start:end]:
            ranks[at] = (start + 1 + end) / 2
        start = end
    return ranks


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
