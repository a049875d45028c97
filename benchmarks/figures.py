"""Defines the figures of a measure: tables, goals with what was found, and rounds within a budget of time."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Several figures for one thing.

    Attributes:
        median: Their median.
        low: The smallest.
        high: The largest.
        count: How many there are.
    """

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum values up; there must be one at least."""
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Goal:
    """Something that was promised, and what was found.

    Attributes:
        measure: Its number, such as M1.
        what: What is compared.
        against: The arm or the size that the figure is compared with.
        wanted: The bound.
        unit: What follows the numbers, such as "x" or " s".
        at_least: Whether the bound is a lower one.
        found: What was found, None if nothing was.
        bound: Whether what was found is itself only a bound: the other side was stopped or did not get there.
        is_on_par: Whether the quality beside it was no worse; without that no goal is met.
        note: What must be known beside it.
    """

    measure: str
    what: str
    against: str
    wanted: float
    unit: str
    at_least: bool
    found: Spread | None
    bound: bool = False
    is_on_par: bool = True
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the median is on the right side of the bound, at no worse quality."""
        if self.found is None or not self.is_on_par:
            return False
        return self.found.median >= self.wanted if self.at_least else self.found.median <= self.wanted


@dataclass(frozen=True)
class Table:
    """A table; every cell is a text.

    Attributes:
        title: Over it.
        columns: Heads.
        rows: Cells.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figures:
    """What one measure came to.

    Attributes:
        title: Heading.
        method: How it was measured, in some sentences.
        goals: Promises that it speaks to.
        tables: What was measured.
        notes: What a reader must know about this run of it: what failed, what is missing.
        raw: All single figures, for programs.
    """

    title: str
    method: str
    goals: Sequence[Goal] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    raw: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Figures:
        """Read what ``to_json`` has returned."""
        goals = [
            Goal(**{**goal, "found": Spread(**goal["found"]) if goal["found"] else None}) for goal in values["goals"]
        ]
        return cls(**{**values, "goals": goals, "tables": [Table(**table) for table in values["tables"]]})


def rounds(seconds: float, most: int) -> Iterator[int]:
    """Count rounds from 0: one at least, then further ones while one of the mean length still fits.

    Args:
        seconds: The budget.
        most: Rounds at most.
    """
    began = time.monotonic()
    for done in range(most):
        spent = time.monotonic() - began
        if done and spent + spent / done > seconds:
            return
        yield done


def shown(spread: Spread | None, unit: str = "", digits: int = 3) -> str:
    """Write a median with its range, as ``1.23 (1.1-1.4) s``."""
    if spread is None:
        return "-"
    if spread.count == 1:
        return f"{number(spread.median, digits)}{unit}"
    return f"{number(spread.median, digits)} ({number(spread.low, digits)}-{number(spread.high, digits)}){unit}"


def number(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, and none of a large one behind the point."""
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}".rstrip(".")
