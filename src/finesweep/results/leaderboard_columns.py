"""Lists the leaderboard's columns; heading and cells of every format are made from the same entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any

from finesweep.confidence import Interval
from finesweep.folder import Manifest, Repeat
from finesweep.references import Reference
from finesweep.results.confirmation import Candidate, Confirmation
from finesweep.results.ranking import Row
from finesweep.results.standing import Standing
from finesweep.results.winner import Evidence
from finesweep.text import clean, duration, headings, metric, setting
from finesweep.text.format import finite

REFERENCE = "REFERENCE"
"""State of a reference in the leaderboard's files."""


class Place(Flag):
    """Where a column can stand: the two tables of ``leaderboard.md`` and the terminal, and the files for programs."""

    RANKED = auto()
    UNRANKED = auto()
    CSV = auto()
    JSON = auto()
    FILES = CSV | JSON
    ALL = RANKED | UNRANKED | FILES


def _text(value: Any) -> str:
    return "" if value is None else clean(value)


@dataclass(frozen=True)
class BoardColumn:
    """One column.

    Attributes:
        name: Heading in the CSV, and key in the JSON.
        places: Where the column stands.
        get: Returns its value in a row; if None, the record's attribute ``name``.
        title: Heading in ``leaderboard.md``; the name if empty.
        show: Formats a value for ``leaderboard.md`` and a terminal.
        drop: Order of removal on a narrow terminal, as in ``FittedColumn``.
        right: Whether these two align it to the right.
        short: Heading on a terminal; the title if empty.
    """

    name: str
    places: Place
    get: Callable[[Row], Any] | None = None
    title: str = ""
    show: Callable[[Any], str] = _text
    drop: int = 0
    right: bool = True
    short: str = ""

    def value(self, row: Row) -> Any:
        """Return the value in a row, as CSV and JSON hold it."""
        return self.get(row) if self.get is not None else getattr(row.record, self.name)

    def text(self, row: Row) -> str:
        """Return the value in a row, formatted for reading."""
        return self.show(self.value(row))

    def reference_value(self, reference: Reference, objective: str) -> Any:
        """Return a reference's value, as CSV and JSON hold it; None where it has none."""
        own = {
            "state": REFERENCE,
            "reason": reference.name,
            "seconds": reference.seconds,
            "metrics": reference.metrics,
            "examples": reference.rows,
        }
        return own.get(self.name, reference.value(objective if self.name == "objective" else self.name))

    def reference_text(self, reference: Reference, objective: str) -> str:
        """Return a reference's value, formatted for reading: its name stands for the trial, and its rank is `-`."""
        value = self.reference_value(reference, objective)
        return {"rank": "-", "trial": reference.name}.get(self.name, "" if value is None else self.show(value))


def columns(
    place: Place,
    rows: Sequence[Row],
    manifest: Manifest,
    evidence: Evidence | None = None,
    standing: Standing | None = None,
    confirmation: Confirmation | None = None,
) -> list[BoardColumn]:
    """Return the columns of one place, in their order.

    A column that stands elsewhere in another place has an entry for each.

    Args:
        place: One of the places.
        rows: The rows of that place; their metrics and parameters have columns of their own.
        manifest: The sweep's manifest.
        evidence: Evidence of the exported winner, whose row gets its test scores; None without a winner.
        standing: How sure the ranks are; without it there are no marks and no intervals.
        confirmation: The trials on fresh seeds; without it there are no columns on seeds.
    """
    objective = manifest.spec.objective.metric
    metrics = dict.fromkeys(name for row in rows for name in row.record.metrics)
    others = sorted((name for name in metrics if name != objective), key=lambda name: "loss" in name)
    entries = [
        BoardColumn("rank", Place.FILES, lambda row: row.rank),
        BoardColumn("rank", Place.RANKED, lambda row: _marked(row, standing), show=str),
        BoardColumn("trial", Place.ALL),
        *(_repeated(manifest.repeats) if manifest.repeats else ()),
        BoardColumn("attempt", Place.JSON),
        BoardColumn("state", Place.UNRANKED | Place.FILES, right=False),
        BoardColumn("reason", Place.FILES),
        BoardColumn("objective", Place.RANKED | Place.FILES, title=objective, show=metric),
        BoardColumn("objective", Place.UNRANKED, title=objective, show=metric, drop=10),
        *(_fresh_seeds(confirmation) if confirmation else ()),
        *(_sureness(standing) if standing else ()),
        BoardColumn("best_epoch", Place.FILES),
        BoardColumn("best_step", Place.FILES),
        *(_metric(name, Place.CSV) for name in metrics),
        BoardColumn("metrics", Place.JSON),
        *(_metric(name, Place.RANKED, 10) for name in others[:1]),
        *_parameters(rows, manifest),
        BoardColumn("params", Place.JSON),
        *(_test_score(name, evidence) for name in (evidence.test if evidence else ())),
        BoardColumn("seconds", Place.ALL, lambda row: row.record.trained_seconds, "time", duration, 22),
        *(_metric(name, Place.RANKED, 23 + min(index, 6)) for index, name in enumerate(others[1:])),
        BoardColumn("best_epoch", Place.RANKED, title="best epoch", show=_epoch, drop=30),
        BoardColumn("examples_per_second", Place.RANKED | Place.FILES, title="examples/s", show=_rounded, drop=40),
        BoardColumn("peak_memory_mb", Place.RANKED | Place.FILES, title="memory MB", show=_rounded, drop=41),
        BoardColumn("attempt", Place.CSV),
        BoardColumn("divergence", Place.JSON),
        BoardColumn("divergence_step", Place.CSV, _of_divergence("step")),
        BoardColumn("divergence_learning_rate", Place.CSV, _of_divergence("learning_rate")),
        BoardColumn("last_finite_loss", Place.CSV, _of_divergence("last_finite_loss")),
        BoardColumn("log", Place.UNRANKED | Place.FILES, drop=40, right=False),
        BoardColumn("reason", Place.UNRANKED, _full_reason, show=str, right=False),
        *(
            BoardColumn(name, Place.JSON)
            for name in ("faults", "batch_divisor", "resumed_step", "promoted", "examples", "repeated_examples")
        ),
        *(BoardColumn(name, Place.JSON) for name in ("model_size", "evaluated_rows", "audit")),
        BoardColumn("test", Place.JSON, lambda row: _test(row, evidence)),
    ]
    return [column for column in entries if place in column.places]


def _repeated(repeats: Sequence[Repeat]) -> Iterator[BoardColumn]:
    """Yield what each training of a confirmation repeats."""

    def repeat(row: Row) -> Repeat | None:
        return repeats[row.record.trial] if row.record.trial < len(repeats) else None

    yield BoardColumn("repeats", Place.ALL, lambda row: (one := repeat(row)) and one.trial, "repeats trial")
    yield BoardColumn("seed", Place.ALL, lambda row: (one := repeat(row)) and one.seed)


TIED, CHEAPEST = "=", "c"
"""Marks beside a rank: cannot be told from the first, and the cheapest of these."""


def _marked(row: Row, standing: Standing | None) -> str:
    trial = row.record.trial
    if standing is None or len(standing.tied) < 2 or trial not in standing.tied:
        return f"{row.rank}"
    return f"{row.rank}{TIED}{CHEAPEST if trial == standing.cheapest else ''}"


def _sureness(standing: Standing) -> Iterator[BoardColumn]:
    """Yield the columns on intervals and ties."""

    def interval(row: Row) -> Interval | None:
        return standing.intervals.get(row.record.trial)

    if standing.intervals:
        yield BoardColumn("interval", Place.RANKED, interval, "95 % over rows", _range, 21, short="95 %")
        yield BoardColumn("objective_low", Place.CSV, lambda row: getattr(interval(row), "low", None))
        yield BoardColumn("objective_high", Place.CSV, lambda row: getattr(interval(row), "high", None))
    yield BoardColumn("tied", Place.FILES, lambda row: row.record.trial in standing.tied if standing.tied else None)
    yield BoardColumn("cheapest", Place.FILES, lambda row: row.record.trial == standing.cheapest)
    yield BoardColumn("intervals", Place.JSON, lambda row: _bounds(standing.scores.get(row.record.trial)))


def _fresh_seeds(confirmation: Confirmation) -> Iterator[BoardColumn]:
    """Yield the columns on fresh seeds, which are empty for a trial that was not trained again."""
    found, both = {one.trial: one for one in confirmation.candidates}, Place.RANKED | Place.FILES

    def of(get: Callable[[Candidate], Any]) -> Callable[[Row], Any]:
        return lambda row: get(found[row.record.trial]) if row.record.trial in found else None

    def race(row: Row) -> str | None:
        if row.record.trial in found:
            return confirmation.race(found[row.record.trial])
        return "unconfirmed" if row.rank and confirmation.is_unconfirmed(row.record) else None

    yield BoardColumn("seed_mean", both, of(lambda one: one.mean), "mean over seeds", metric, short="mean")
    yield BoardColumn("seeds", both, of(lambda one: len(one.values)), "fresh seeds", drop=20, short="seeds")
    yield BoardColumn("seed_interval", Place.RANKED, of(lambda one: one.interval), "95 % over seeds", _range, 9)
    yield BoardColumn("seed_low", Place.FILES, of(lambda one: getattr(one.interval, "low", None)))
    yield BoardColumn("seed_high", Place.FILES, of(lambda one: getattr(one.interval, "high", None)))
    yield BoardColumn("optimism", both, of(lambda one: one.optimism(confirmation.direction)), show=metric, drop=19)
    yield BoardColumn("chance", Place.FILES, of(lambda one: one.chance))
    yield BoardColumn("race", both, race, drop=8, right=False)
    yield BoardColumn("seed_values", Place.JSON, of(lambda one: {str(seed): v for seed, v in one.values.items()}))


def _range(interval: Interval | None) -> str:
    return "" if interval is None else f"{metric(interval.low)}-{metric(interval.high)}"


def _bounds(scores: Mapping[str, Interval] | None) -> dict[str, list[float]] | None:
    return {name: [one.low, one.high] for name, one in scores.items()} if scores else None


def _metric(name: str, place: Place, drop: int = 0) -> BoardColumn:
    short = clean(name.removeprefix("eval_"))
    return BoardColumn(name, place, lambda row: row.record.metrics.get(name), show=metric, drop=drop, short=short)


def _parameters(rows: Sequence[Row], manifest: Manifest) -> Iterator[BoardColumn]:
    names = list(dict.fromkeys([*manifest.spec.space, *(name for row in rows for name in row.record.params)]))
    for index, (name, short) in enumerate(zip(names, headings(names), strict=True)):
        yield _parameter(name, short, 11 + min(index, 8))


def _parameter(name: str, short: str, drop: int) -> BoardColumn:
    places = Place.RANKED | Place.UNRANKED | Place.CSV
    # Absent is not None, which is a value and shown as "null".
    return BoardColumn(
        f"params.{name}", places, lambda row: row.record.params.get(name, ""), name, setting, drop, short=short
    )


def _test_score(name: str, evidence: Evidence | None) -> BoardColumn:
    return BoardColumn(f"test.{name}", Place.CSV, lambda row: (_test(row, evidence) or {}).get(name))


def _test(row: Row, evidence: Evidence | None) -> Mapping[str, float] | None:
    """Return a trial's test scores; only the exported winner has them."""
    return evidence.test or None if evidence is not None and evidence.trial == row.record.trial else None


def _of_divergence(name: str) -> Callable[[Row], Any]:
    return lambda row: getattr(row.record.divergence, name, None)


def _full_reason(row: Row) -> str:
    """Return why a trial does not rank; for a diverged one with the facts that show the cause."""
    divergence = row.record.divergence
    text = clean(row.record.reason or (divergence.reason if divergence else ""))
    if divergence is None:
        return text
    facts = [f"step {divergence.step:,}"]
    if divergence.learning_rate is not None:
        facts.append(f"learning rate {setting(float(divergence.learning_rate))}")
    last = metric(divergence.last_finite_loss)
    facts.append(f"last finite loss {last}" if last else "no finite loss before")
    return f"{text} ({', '.join(facts)})"


def _epoch(value: float | None) -> str:
    return "" if finite(value) is None else f"{value:.4g}"


def _rounded(value: float | None) -> str:
    value = finite(value)
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 10 else f"{value:.1f}"
