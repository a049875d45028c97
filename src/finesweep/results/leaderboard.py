"""Writes the leaderboard: the ranked trials as a page, as files for other programs, and as a table for the terminal."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finesweep.files import write_text
from finesweep.folder import Manifest, Run, SweepFolder
from finesweep.results.leaderboard_facts import facts, pruning_facts
from finesweep.results.ranking import Row, SweepSummary, rank, summarize
from finesweep.results.winner import Evidence, read_evidence
from finesweep.text import clean, duration, headings, metric, setting
from finesweep.text.format import finite
from finesweep.trial import Divergence, TrialRecord

if TYPE_CHECKING:
    from rich.console import Group

    from finesweep.text.table import FittedColumn

# Signs that begin a formula in a spreadsheet, also in full width, and after blanks or quotes.
_FORMULA = re.compile(r"[\s\"]*[=+\-@\t\r＝＋－＠]")
# An underscore inside a word is no emphasis, so most parameter names stay as they are.
_MARKDOWN = re.compile(r"([\\`*\[\]|~#]|(?<![^\W_])_|_(?![^\W_]))")


def write(sweep_folder: SweepFolder, manifest: Manifest, records: Sequence[TrialRecord], runs: Sequence[Run]) -> None:
    """Write ``leaderboard.md``, ``.csv`` and ``.json``, each atomically.

    All three can be made again from the records, so they are not synced to disk.

    Args:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest.
        records: The records of all ended trials.
        runs: Every ``sweep run``, oldest first.

    Raises:
        FolderError: The disk is full or the folder cannot be written.
    """
    summary = summarize(manifest, records, runs)
    rows, evidence = rank(records, summary.direction), proof(sweep_folder, summary.best)
    page = "\n".join(_page(sweep_folder, manifest, summary, rows, runs)) + "\n"
    for suffix, text in (
        (".md", page),
        (".csv", to_csv(rows, manifest, evidence)),
        (".json", to_json(rows, evidence)),
    ):
        write_text(sweep_folder.leaderboard.with_suffix(suffix), text, durable=False)


def proof(sweep_folder: SweepFolder, best: TrialRecord | None) -> Evidence | None:
    """Return the evidence of the exported winner, None if it is of another trial than the best one."""
    evidence = read_evidence(sweep_folder)
    is_best = evidence and best and (evidence.trial, evidence.ranked) == (best.trial, best.objective)
    return evidence if is_best else None


def test_scores(evidence: Evidence | None) -> str | None:
    """Return the winner's scores on the test rows as one line, None if there are none."""
    return f"{_scores(evidence.test)} (trial {evidence.trial})" if evidence and evidence.test else None


def to_json(rows: Sequence[Row], evidence: Evidence | None = None) -> str:
    """Return the rows as a JSON array, one object per line; a number that is not finite becomes null.

    Args:
        rows: The leaderboard.
        evidence: Evidence of the exported winner, whose row gets its test scores; None without a winner.
    """
    objects = ",\n".join(json.dumps(_plain(row, evidence), allow_nan=False) for row in rows)
    return f"[\n{objects}\n]\n" if rows else "[]\n"


def to_csv(rows: Sequence[Row], manifest: Manifest, evidence: Evidence | None = None) -> str:
    """Return the rows as CSV with full precision.

    A text that a spreadsheet would take for a formula gets a leading apostrophe. All texts are quoted, because some
    spreadsheets also split cells at semicolons.

    Args:
        rows: The leaderboard.
        manifest: The sweep's manifest.
        evidence: Evidence of the exported winner, as for ``to_json``.
    """
    metrics, parameters = _metric_names(rows), _parameter_names(rows, manifest)
    tests = list(dict.fromkeys(name for row in rows for name in _test(row, evidence) or ()))
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    head = ["rank", "trial", "state", "reason", "objective", "best_epoch", "best_step", *metrics]
    head += [f"params.{name}" for name in parameters]
    head += [f"test.{name}" for name in tests]
    head += ["seconds", "examples_per_second", "peak_memory_mb", "attempt"]
    head += ["divergence_step", "divergence_learning_rate", "last_finite_loss", "log"]
    writer.writerow([_csv_cell(name) for name in head])
    for row in rows:
        writer.writerow(
            [_csv_cell(value) for value in _csv_values(row, metrics, parameters, _test(row, evidence), tests)]
        )
    return stream.getvalue()


def console_table(
    sweep_folder: SweepFolder,
    manifest: Manifest,
    records: Sequence[TrialRecord],
    runs: Sequence[Run],
    *,
    limit: int = 20,
) -> Group:
    """Return the leaderboard for a terminal; a narrow one shows fewer columns and names the others.

    Args:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest.
        records: The records of all ended trials.
        runs: Every ``sweep run``, oldest first.
        limit: Maximum number of ranked rows, and of other rows.
    """
    from rich.console import Group
    from rich.text import Text

    from finesweep.text.table import FittedTable

    summary = summarize(manifest, records, runs)
    rows = rank(records, summary.direction)
    best, rest = [row for row in rows if row.rank], [row for row in rows if not row.rank]
    title = f"{clean(manifest.name)}: {summary.headline()}"
    columns = _columns(best[:limit], _ranked_fields(best, summary, manifest)) if best else []
    tables: list[FittedTable | Text | str] = [FittedTable(title, columns, _more(best, limit))]
    if rest:
        columns = _columns(rest[:limit], _unranked_fields(rest, summary, manifest))
        tables += ["", FittedTable("Not ranked", columns, _more(rest, limit))]
    if tested := test_scores(proof(sweep_folder, summary.best)):
        tables += ["", Text(f"On the test rows: {tested}")]
    if about_pruning := [Text(f"{name}: {text}") for name, text in pruning_facts(summary)]:
        tables += ["", *about_pruning]
    return Group(*tables)


def _more(rows: Sequence[Row], limit: int) -> str:
    return f"{len(rows) - limit:,} more in leaderboard.md" if len(rows) > limit else ""


@dataclass(frozen=True)
class _Field:
    """One column: its name, its text in a row, its order of removal on a narrow terminal, and its heading there."""

    name: str
    show: Callable[[Row], str]
    drop: int = 0
    right: bool = True
    heading: str = ""


def _ranked_fields(rows: Sequence[Row], summary: SweepSummary, manifest: Manifest) -> list[_Field]:
    others = sorted((name for name in _metric_names(rows) if name != summary.metric), key=lambda name: "loss" in name)
    return [
        _Field("rank", lambda row: "" if row.rank is None else str(row.rank)),
        _Field("trial", lambda row: str(row.record.trial)),
        _Field(summary.metric, lambda row: metric(row.record.objective)),
        *(_metric_field(name, 10) for name in others[:1]),
        *_parameter_fields(rows, manifest),
        _Field("time", lambda row: duration(row.record.trained_seconds), drop=22),
        *(_metric_field(name, 23 + min(index, 6)) for index, name in enumerate(others[1:])),
        _Field("best epoch", lambda row: _epoch(row.record.best_epoch), drop=30),
        _Field("examples/s", lambda row: _rounded(row.record.examples_per_second), drop=40),
        _Field("memory MB", lambda row: _rounded(row.record.peak_memory_mb), drop=41),
    ]


def _unranked_fields(rows: Sequence[Row], summary: SweepSummary, manifest: Manifest) -> list[_Field]:
    return [
        _Field("trial", lambda row: str(row.record.trial)),
        _Field("state", lambda row: str(row.record.state), right=False),
        _Field(summary.metric, lambda row: metric(row.record.objective), drop=10),
        *_parameter_fields(rows, manifest),
        _Field("time", lambda row: duration(row.record.trained_seconds), drop=30),
        _Field("log", lambda row: clean(row.record.log), drop=40, right=False),
        _Field("reason", _reason, right=False),
    ]


def _metric_field(name: str, drop: int) -> _Field:
    return _Field(
        name, lambda row: metric(row.record.metrics.get(name)), drop, heading=clean(name.removeprefix("eval_"))
    )


def _parameter_fields(rows: Sequence[Row], manifest: Manifest) -> Iterator[_Field]:
    names = _parameter_names(rows, manifest)
    for index, (name, heading) in enumerate(zip(names, headings(names), strict=True)):
        yield _parameter_field(name, heading, 11 + min(index, 8))


def _parameter_field(name: str, heading: str, drop: int) -> _Field:
    return _Field(
        name, lambda row: setting(row.record.params[name]) if name in row.record.params else "", drop, heading=heading
    )


def _reason(row: Row) -> str:
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


def _metric_names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.record.metrics))


def _parameter_names(rows: Sequence[Row], manifest: Manifest) -> list[str]:
    return list(dict.fromkeys([*manifest.spec.space, *(name for row in rows for name in row.record.params)]))


def _rounded(value: float | None) -> str:
    value = finite(value)
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 10 else f"{value:.1f}"


_IN_JSON = {
    name: name
    for name in (
        *("trial", "attempt", "state", "reason", "objective", "best_epoch", "best_step", "metrics", "params"),
        *("seconds", "examples_per_second", "peak_memory_mb", "divergence", "log", "faults", "batch_divisor"),
        *("resumed_step", "promoted", "examples", "evaluated_rows", "audit"),
    )
} | {"seconds": "trained_seconds"}
"""The record's attribute for each key of a row in ``leaderboard.json``."""


def _plain(row: Row, evidence: Evidence | None) -> dict[str, Any]:
    """Return a row for JSON; ``dataclasses.asdict`` would take a second for 10,000 rows."""
    values = {key: _json_value(getattr(row.record, attribute)) for key, attribute in _IN_JSON.items()}
    return {"rank": row.rank, **values, "test": _json_value(_test(row, evidence))}


def _test(row: Row, evidence: Evidence | None) -> Mapping[str, float] | None:
    """Return a trial's test scores; only the exported winner has them."""
    return evidence.test or None if evidence is not None and evidence.trial == row.record.trial else None


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Divergence):
        value = vars(value)
    return {name: _json_value(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def _csv_values(
    row: Row, metrics: Sequence[str], parameters: Sequence[str], test: Mapping[str, float] | None, tests: Sequence[str]
) -> Iterator[Any]:
    record, where = row.record, row.record.divergence
    yield from (row.rank, record.trial, str(record.state), record.reason)
    yield from (record.objective, record.best_epoch, record.best_step)
    yield from (record.metrics.get(name) for name in metrics)
    yield from (record.params.get(name) for name in parameters)
    yield from ((test or {}).get(name) for name in tests)
    yield from (record.trained_seconds, record.examples_per_second, record.peak_memory_mb, record.attempt)
    yield from (where.step, where.learning_rate, where.last_finite_loss) if where else (None, None, None)
    yield record.log


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, int | float):
        return _json_value(value)
    text = clean(value, limit=2_000)
    return f"'{text}" if _FORMULA.match(text) or _FORMULA.match(str(value)) else text


def _page(
    sweep_folder: SweepFolder, manifest: Manifest, summary: SweepSummary, rows: Sequence[Row], runs: Sequence[Run]
) -> Iterator[str]:
    """Yield the lines of the page: the result, the facts, the ranked trials, the others."""
    best, rest = [row for row in rows if row.rank], [row for row in rows if not row.rank]
    yield from (f"# {_escaped(manifest.name)}", "", f"**{_escaped(summary.headline())}**", "")
    for name, text in facts(manifest, summary, runs):
        yield f"- {name}: {_escaped(text, limit=1_000)}"
    yield f"- Winner: {_escaped(_winner_fact(sweep_folder, summary), limit=1_000)}"
    yield from ("", "## Ranked", "")
    yield from _markdown_table(best, _ranked_fields(best, summary, manifest)) if best else ["No trial ranks."]
    if len(best) > 1:
        yield from ("", _CAUTION.format(count=f"{len(best):,}"))
    if rest:
        yield from ("", "## Not ranked", "")
        yield from _markdown_table(rest, _unranked_fields(rest, summary, manifest))
    halves = manifest.spec.search.pruner == "halving"
    in_order = sorted((row.record for row in rows), key=lambda record: record.trial)
    if tried_again := [line for record in in_order for line in _tried_again(record, halves)]:
        yield from ("", "## Tried again", "", *tried_again)


def _tried_again(record: TrialRecord, halves: bool) -> Iterator[str]:
    """Describe the interruptions of a trial; waiting at a rung is none."""
    name = f"Trial {record.trial}"
    if record.faults:
        yield f"- {name}, attempt {record.attempt}, after: {_escaped('; '.join(record.faults), limit=1_000)}."
    if record.batch_divisor > 1:
        yield (
            f"- {name} ran out of GPU memory; it was tried again with the batch per device divided by "
            f"{record.batch_divisor} and as many more accumulation steps: the effective batch is the same."
        )
    if record.resumed_step and not (halves and record.promoted):
        yield f"- {name} was interrupted and continued from its saved state at step {record.resumed_step:,}."


_CAUTION = (
    "Each trial stands with its best evaluation, and the first of {count} was chosen on the same validation rows, "
    "so its value is a little too good. Rows that no trial has seen give a fair value."
)


def _winner_fact(sweep_folder: SweepFolder, summary: SweepSummary) -> str:
    """Describe where the best trial's weights are; a winner exported from another trial is ignored."""
    best = summary.best
    if best is None:
        return "none"
    text = f"trial {best.trial}" + ("" if best.best_step is None else f", step {best.best_step:,}")
    if (evidence := proof(sweep_folder, best)) is not None:
        text += f"; exported to {sweep_folder.winner.name}/, loaded again and evaluated: {_scores(evidence.reloaded)}"
        return text + (f"; on the test rows: {_scores(evidence.test)}" if evidence.test else "")
    checkpoint = sweep_folder.checkpoint(best.trial)
    place = f"{checkpoint.relative_to(sweep_folder.path)}/" if checkpoint.is_dir() else "no folder yet"
    return f"{text}; weights in {place}; not exported yet"


def _scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{clean(name)} {metric(value)}" for name, value in scores.items())


def _markdown_table(rows: Sequence[Row], fields: Sequence[_Field]) -> Iterator[str]:
    """Yield a table whose columns are aligned in the raw text too, except the last one."""
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
    """Make one line that Markdown shows literally: no HTML, links, emphasis or new cells."""
    return _MARKDOWN.sub(r"\\\1", html.escape(clean(text, limit), quote=False))


def _columns(rows: Sequence[Row], fields: Sequence[_Field]) -> list[FittedColumn]:
    from finesweep.text.table import Cell, FittedColumn

    return [
        FittedColumn(
            name=field.heading or clean(field.name),
            cells=[Cell(field.show(row), "bold" if row.rank == 1 else "") for row in rows],
            drop=field.drop,
            right=field.right,
            flexible=field.name == "reason",
        )
        for field in fields
    ]
