"""Draws rows at random, repeatably: the validation rows taken from train, and samples of a capped split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def sample(size: int, rows: int, rng: np.random.Generator, classes: Sequence[int] | None = None) -> list[int]:
    """Draw rows without replacement.

    Args:
        size: Number of rows to draw, at most ``rows``.
        rows: Number of rows.
        rng: Random generator.
        classes: Class of each row; the sample keeps their proportions, and at least one row of each class if ``size``
            allows.

    Returns:
        Positions in ascending order.
    """
    if classes is None:
        return sorted(int(row) for row in rng.permutation(rows)[:size])
    counts = Counter(classes)
    least = 1 if size >= len(counts) else 0
    return _draw(classes, _shares(counts, size, dict.fromkeys(counts, least), dict(counts)), rng)


def hold_out(fraction: float, rows: int, rng: np.random.Generator, classes: Sequence[int] | None) -> list[int]:
    """Draw the validation rows; every class keeps a row in train, so a class of one row stays there.

    Args:
        fraction: Share of the rows to draw, between 0 and 1; at least one row is drawn if possible.
        rows: Number of rows.
        rng: Random generator.
        classes: Class of each row, to keep their proportions.

    Returns:
        Positions in ascending order; empty if no row can be spared.
    """
    size = min(max(round(rows * fraction), 1), rows - 1)
    if classes is None:
        return sample(size, rows, rng)
    counts = Counter(classes)
    most = {name: count - 1 for name, count in counts.items()}
    spread = size >= sum(1 for count in most.values() if count)
    least = {name: min(count, 1) if spread else 0 for name, count in most.items()}
    return _draw(classes, _shares(counts, min(size, sum(most.values())), least, most), rng)


def hold_out_groups(
    fraction: float, groups: Sequence[object], rng: np.random.Generator, classes: Sequence[int] | None
) -> list[int]:
    """Draw validation rows by whole groups, as near to the fraction of every class as groups allow.

    Groups are visited in random order. A group is taken if it brings the drawn rows nearer to the fraction and leaves
    each of its classes a row in train. If no group does, the nearest one is taken.

    Args:
        fraction: Share of the rows to draw, between 0 and 1.
        groups: Group of each row.
        rng: Random generator.
        classes: Class of each row, to keep their proportions.

    Returns:
        Positions in ascending order; empty if no group can be spared.
    """
    kinds: Sequence[int] = classes if classes is not None else [0] * len(groups)
    hand = _Hand(Counter(kinds), fraction)
    members: dict[object, Counter[int]] = defaultdict(Counter)
    for group, kind in zip(groups, kinds, strict=True):
        members[group][kind] += 1
    names = list(members)
    order = [names[position] for position in rng.permutation(len(names))]
    taken = set()
    for group in order:
        if hand.can_spare(members[group]) and hand.gain(members[group]) > 0:
            hand.take(members[group])
            taken.add(group)
    if not taken and (spare := [group for group in order if hand.can_spare(members[group])]):
        taken.add(max(spare, key=lambda group: hand.gain(members[group])))
    return [row for row, group in enumerate(groups) if group in taken]


class _Hand:
    """Counts rows by class while groups are taken: those that are left, and those that are still to be taken."""

    def __init__(self, counts: Counter[int], fraction: float) -> None:
        self.left = Counter(counts)
        self.lacking = {kind: count * fraction for kind, count in counts.items()}

    def can_spare(self, group: Counter[int]) -> bool:
        # More, not as many: train must keep a row of each class.
        return all(self.left[kind] > count for kind, count in group.items())

    def gain(self, group: Counter[int]) -> float:
        return sum(abs(self.lacking[kind]) - abs(self.lacking[kind] - count) for kind, count in group.items())

    def take(self, group: Counter[int]) -> None:
        self.left.subtract(group)
        for kind, count in group.items():
            self.lacking[kind] -= count


def _shares(counts: Counter[int], total: int, least: dict[int, int], most: dict[int, int]) -> dict[int, int]:
    """Divide ``total`` in proportion to the counts, within bounds, by largest remainders."""
    rows = sum(counts.values())
    ideal = {name: total * count / rows for name, count in counts.items()}
    shares = {name: min(max(int(ideal[name]), least[name]), most[name]) for name in sorted(counts)}
    while (lacking := total - sum(shares.values())) != 0:
        step = 1 if lacking > 0 else -1
        bounds = most if step > 0 else least
        open_names = [name for name in shares if shares[name] * step < bounds[name] * step]
        open_names.sort(key=lambda name: (shares[name] - ideal[name]) * step)
        for name in open_names[: abs(lacking)]:
            shares[name] += step
    return shares


def _draw(classes: Sequence[int], shares: dict[int, int], rng: np.random.Generator) -> list[int]:
    left, drawn = dict(shares), []
    for row in rng.permutation(len(classes)):
        if left[classes[row]] > 0:
            left[classes[row]] -= 1
            drawn.append(int(row))
    return sorted(drawn)
