"""Writes the leaderboard: the ranked trials as a page, as files for other programs, and on a terminal."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finesweep.atomic import write_text
from finesweep.leaderboard_facts import facts, pruning_facts
from finesweep.manifest import Manifest, Run
from finesweep.ranking import Outcome, Row, outcome, rank, reasons, winner
from finesweep.readable import clean, duration, finite, headings, metric, setting
from finesweep.run_dir import RunDir
from finesweep.trial import TrialRecord
from finesweep.winner import Evidence, read_evidence

if TYPE_CHECKING:
    from rich.console import Group

    from finesweep.fitting import Column

__all__ = [
    "Outcome",
    "Row",
    "console_table",
    "outcome",
    "proof",
    "rank",
    "reasons",
    "test_scores",
    "to_csv",
    "to_json",
    "winner",
    "write",
]

_FORMULA = re.compile(r"[\s\"]*[=+\-@\t\r＝＋－＠]")
_MARKDOWN = re.compile(r"([\\`*\[\]|~#]|(?<![^\W_])_|_(?![^\W_]))")


def write(run_dir: RunDir, manifest: Manifest, records: Sequence[TrialRecord], runs: Sequence[Run]) -> None:
    """Write ``leaderboard.md``, ``.csv`` and ``.json``, each atomically.

    All three can be made again from the records, so they are not forced to the disk.

    Args:
        run_dir: The sweep's folder.
        manifest: What the sweep is.
        records: How each trial ended.
        runs: Every ``sweep run``, oldest first.

    Raises:
        RunDirError: The disk is full or the folder cannot be written.
    """
    summary = outcome(manifest, records, runs)
    rows = _with_test(rank(records, summary.direction), proof(run_dir, summary.best))
    page = "\n".join(_page(run_dir, manifest, summary, rows, runs)) + "\n"
    for suffix, text in ((".md", page), (".csv", to_csv(rows, manifest)), (".json", to_json(rows))):
        write_text(run_dir.leaderboard.with_suffix(suffix), text, durable=False)


def proof(run_dir: RunDir, best: TrialRecord | None) -> Evidence | None:
    """Return the evidence of the exported winner if it is the best trial's; one of another trial says nothing of it."""
    evidence = read_evidence(run_dir)
    is_best = evidence and best and (evidence.trial, evidence.ranked) == (best.trial, best.objective)
    return evidence if is_best else None


def test_scores(evidence: Evidence | None) -> str | None:
    """Return the winner's scores on the test rows as one line, None if there are none."""
    return f"{_scores(evidence.test)} (trial {evidence.trial})" if evidence and evidence.test else None


def _with_test(rows: Sequence[Row], evidence: Evidence | None) -> Sequence[Row]:
    if evidence is None or not evidence.test:
        return rows
    test = {name: finite(value) for name, value in evidence.test.items()}
    return [dataclasses.replace(row, test=test) if row.trial == evidence.trial else row for row in rows]


def to_json(rows: Sequence[Row]) -> str:
    """Return the rows as a JSON array, an object on each line; a number that is not finite is null."""
    objects = ",\n".join(json.dumps(_plain(row), allow_nan=False) for row in rows)
    return f"[\n{objects}\n]\n" if rows else "[]\n"


def to_csv(rows: Sequence[Row], manifest: Manifest) -> str:
    """Return the rows as CSV with full precision.

    A text that a spreadsheet would take for a formula gets a leading apostrophe, and all texts are
    quoted, because some spreadsheets also split cells at semicolons.
    """
    metrics, parameters = _metric_names(rows), _parameter_names(rows, manifest)
    tests = list(dict.fromkeys(name for row in rows for name in row.test or ()))
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    head = ["rank", "trial", "state", "reason", "objective", "best_epoch", "best_step", *metrics]
    head += [f"params.{name}" for name in parameters]
    head += [f"test.{name}" for name in tests]
    head += ["seconds", "examples_per_second", "peak_memory_mb", "attempt"]
    head += ["divergence_step", "divergence_learning_rate", "last_finite_loss", "log"]
    writer.writerow([_csv_cell(name) for name in head])
    for row in rows:
        writer.writerow([_csv_cell(value) for value in _csv_values(row, metrics, parameters, tests)])
    return stream.getvalue()


def console_table(
    run_dir: RunDir, manifest: Manifest, records: Sequence[TrialRecord], runs: Sequence[Run], *, limit: int = 20
) -> Group:
    """Return the leaderboard for a terminal; where that is narrow, it drops columns and says which.

    Args:
        run_dir: The sweep's folder.
        manifest: What the sweep is.
        records: How each trial ended.
        runs: Every ``sweep run``, oldest first.
        limit: Most rows shown of the ranked trials, and of the others.
    """
    from rich.console import Group
    from rich.text import Text

    from finesweep.fitting import FittedTable

    summary = outcome(manifest, records, runs)
    rows = rank(records, summary.direction)
    best, rest = [row for row in rows if row.rank], [row for row in rows if not row.rank]
    title = f"{clean(manifest.name)}: {summary.headline()}"
    columns = _columns(best[:limit], _ranked_fields(best, summary, manifest)) if best else []
    tables: list[FittedTable | Text | str] = [FittedTable(title, columns, _more(best, limit))]
    if rest:
        columns = _columns(rest[:limit], _unranked_fields(rest, summary, manifest))
        tables += ["", FittedTable("Not ranked", columns, _more(rest, limit))]
    if tested := test_scores(proof(run_dir, summary.best)):
        tables += ["", Text(f"On the test rows: {tested}")]
    if about_pruning := [Text(f"{name}: {text}") for name, text in pruning_facts(summary)]:
        tables += ["", *about_pruning]
    return Group(*tables)


def _more(rows: Sequence[Row], limit: int) -> str:
    return f"{len(rows) - limit:,} more in leaderboard.md" if len(rows) > limit else ""


@dataclass(frozen=True)
class _Field:
    """One column: its name, its text in a row, when a narrow terminal drops it, and its heading there."""

    name: str
    show: Callable[[Row], str]
    drop: int = 0
    right: bool = True
    heading: str = ""


def _ranked_fields(rows: Sequence[Row], summary: Outcome, manifest: Manifest) -> list[_Field]:
    others = sorted((name for name in _metric_names(rows) if name != summary.metric), key=lambda name: "loss" in name)
    return [
        _Field("rank", lambda row: "" if row.rank is None else str(row.rank)),
        _Field("trial", lambda row: str(row.trial)),
        _Field(summary.metric, lambda row: metric(row.objective)),
        *(_metric_field(name, 10) for name in others[:1]),
        *_parameter_fields(rows, manifest),
        _Field("time", lambda row: duration(row.seconds), drop=22),
        *(_metric_field(name, 23 + min(index, 6)) for index, name in enumerate(others[1:])),
        _Field("best epoch", lambda row: "" if row.best_epoch is None else f"{row.best_epoch:.4g}", drop=30),
        _Field("examples/s", lambda row: _rounded(row.examples_per_second), drop=40),
        _Field("memory MB", lambda row: _rounded(row.peak_memory_mb), drop=41),
    ]


def _unranked_fields(rows: Sequence[Row], summary: Outcome, manifest: Manifest) -> list[_Field]:
    return [
        _Field("trial", lambda row: str(row.trial)),
        _Field("state", lambda row: str(row.state), right=False),
        _Field(summary.metric, lambda row: metric(row.objective), drop=10),
        *_parameter_fields(rows, manifest),
        _Field("time", lambda row: duration(row.seconds), drop=30),
        _Field("log", lambda row: clean(row.log), drop=40, right=False),
        _Field("reason", _reason, right=False),
    ]


def _metric_field(name: str, drop: int) -> _Field:
    return _Field(name, lambda row: metric(row.metrics.get(name)), drop, heading=clean(name.removeprefix("eval_")))


def _parameter_fields(rows: Sequence[Row], manifest: Manifest) -> Iterator[_Field]:
    names = _parameter_names(rows, manifest)
    for index, (name, heading) in enumerate(zip(names, headings(names), strict=True)):
        yield _parameter_field(name, heading, 11 + min(index, 8))


def _parameter_field(name: str, heading: str, drop: int) -> _Field:
    return _Field(name, lambda row: setting(row.params[name]) if name in row.params else "", drop, heading=heading)


def _reason(row: Row) -> str:
    """Say why a trial does not rank; for a diverged one with what a person needs to find the cause."""
    text = clean(row.reason or (row.divergence.reason if row.divergence else ""))
    if row.divergence is None:
        return text
    facts = [f"step {row.divergence.step:,}"]
    if row.divergence.learning_rate is not None:
        facts.append(f"learning rate {setting(float(row.divergence.learning_rate))}")
    last = metric(row.divergence.last_finite_loss)
    facts.append(f"last finite loss {last}" if last else "no finite loss before")
    return f"{text} ({', '.join(facts)})"


def _metric_names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.metrics))


def _parameter_names(rows: Sequence[Row], manifest: Manifest) -> list[str]:
    return list(dict.fromkeys([*manifest.spec["space"], *(name for row in rows for name in row.params)]))


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 10 else f"{value:.1f}"


def _plain(row: Row) -> dict[str, Any]:
    """Return a row as JSON holds it; ``dataclasses.asdict`` would copy 10,000 rows in a second."""
    values: dict[str, Any] = {**vars(row), "state": str(row.state), "metrics": dict(row.metrics)}
    values["params"] = {name: _json_value(value) for name, value in row.params.items()}
    if row.divergence is not None:
        values["divergence"] = {name: _json_value(value) for name, value in vars(row.divergence).items()}
    return values


def _json_value(value: Any) -> Any:
    return finite(value) if isinstance(value, float) else value


def _csv_values(row: Row, metrics: Sequence[str], parameters: Sequence[str], tests: Sequence[str]) -> Iterator[Any]:
    yield from (row.rank, row.trial, str(row.state), row.reason, row.objective, row.best_epoch, row.best_step)
    yield from (row.metrics.get(name) for name in metrics)
    yield from (row.params.get(name) for name in parameters)
    yield from ((row.test or {}).get(name) for name in tests)
    yield from (row.seconds, row.examples_per_second, row.peak_memory_mb, row.attempt)
    where = row.divergence
    yield from (where.step, where.learning_rate, where.last_finite_loss) if where else (None, None, None)
    yield row.log


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, int | float):
        return _json_value(value)
    text = clean(value, limit=2_000)
    return f"'{text}" if _FORMULA.match(text) or _FORMULA.match(str(value)) else text


def _page(
    run_dir: RunDir, manifest: Manifest, summary: Outcome, rows: Sequence[Row], runs: Sequence[Run]
) -> Iterator[str]:
    """Yield the lines of the page: the result, what it rests on, the ranked trials, the others."""
    best, rest = [row for row in rows if row.rank], [row for row in rows if not row.rank]
    yield from (f"# {_escaped(manifest.name)}", "", f"**{_escaped(summary.headline())}**", "")
    for name, text in facts(manifest, summary, runs):
        yield f"- {name}: {_escaped(text, limit=1_000)}"
    yield f"- Winner: {_escaped(_winner_fact(run_dir, summary), limit=1_000)}"
    yield from ("", "## Ranked", "")
    yield from _markdown_table(best, _ranked_fields(best, summary, manifest)) if best else ["No trial ranks."]
    if len(best) > 1:
        yield from ("", _CAUTION.format(count=f"{len(best):,}"))
    if rest:
        yield from ("", "## Not ranked", "")
        yield from _markdown_table(rest, _unranked_fields(rest, summary, manifest))
    halves = manifest.spec["search"]["pruner"] == "halving"
    if tried_again := [line for row in sorted(rows, key=lambda row: row.trial) for line in _tried_again(row, halves)]:
        yield from ("", "## Tried again", "", *tried_again)


def _tried_again(row: Row, halves: bool) -> Iterator[str]:
    """Say what happened to a trial that was not trained in one go, unless it only waited for its turn."""
    if row.faults:
        yield f"- Trial {row.trial}, attempt {row.attempt}, after: {_escaped('; '.join(row.faults), limit=1_000)}."
    if row.batch_divisor > 1:
        yield (
            f"- Trial {row.trial} ran out of GPU memory; it was tried again with the batch per device divided by "
            f"{row.batch_divisor} and as many more accumulation steps: the effective batch is the same."
        )
    if row.resumed_step and not (halves and row.promoted):
        yield f"- Trial {row.trial} was interrupted and went on from its saved state at step {row.resumed_step:,}."


_CAUTION = (
    "Each trial stands with its best evaluation, and the first of {count} was chosen on the same validation rows: "
    "its value flatters it a little. Rows that no trial has seen tell what to expect."
)


def _winner_fact(run_dir: RunDir, summary: Outcome) -> str:
    """Say where the best trial's weights are; a winner exported from another trial is not its."""
    best = summary.best
    if best is None:
        return "none"
    text = f"trial {best.trial}" + ("" if best.best_step is None else f", step {best.best_step:,}")
    if (evidence := proof(run_dir, best)) is not None:
        text += f"; exported to {run_dir.winner.name}/, loaded again and evaluated: {_scores(evidence.reloaded)}"
        return text + (f"; on the test rows: {_scores(evidence.test)}" if evidence.test else "")
    checkpoint = run_dir.checkpoint(best.trial)
    place = f"{checkpoint.relative_to(run_dir.path)}/" if checkpoint.is_dir() else "no folder yet"
    return f"{text}; weights in {place}; not exported yet"


def _scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{clean(name)} {metric(value)}" for name, value in scores.items())


def _markdown_table(rows: Sequence[Row], fields: Sequence[_Field]) -> Iterator[str]:
    """Yield a table whose columns line up in the raw text too; the last one is left ragged."""
    columns = [[_escaped(field.name), *(_escaped(field.show(row), 600) for row in rows)] for field in fields]
    widths = [max(3, *map(len, column)) for column in columns]
    if not fields[-1].right:
        widths[-1] = 3
    for number, cells in enumerate(zip(*columns, strict=True)):
        padded = [
            cell.rjust(width) if field.right else cell.ljust(width)
            for cell, width, field in zip(cells, widths, fields, strict=True)
        ]
        yield f"| {' | '.join(padded)} |"
        if number == 0:
            marks = [
                "-" * (width - 1) + (":" if field.right else "-") for width, field in zip(widths, fields, strict=True)
            ]
            yield f"| {' | '.join(marks)} |"


def _escaped(text: str, limit: int = 300) -> str:
    """Make one line of a text that Markdown shows as it is: no HTML, links, emphasis or new cells."""
    return _MARKDOWN.sub(r"\\\1", html.escape(clean(text, limit), quote=False))


def _columns(rows: Sequence[Row], fields: Sequence[_Field]) -> list[Column]:
    from finesweep.fitting import Cell, Column

    return [
        Column(
            name=field.heading or clean(field.name),
            cells=[Cell(field.show(row), "bold" if row.rank == 1 else "") for row in rows],
            drop=field.drop,
            right=field.right,
            flexible=field.name == "reason",
        )
        for field in fields
    ]
