"""Writes the leaderboard: the ranked trials as a page, as files for other programs, and as a table for the terminal."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finesweep.doctor import Finding
from finesweep.files import write_text
from finesweep.folder import SweepFolder
from finesweep.references import Reference
from finesweep.results.board import Board, scores, test_scores
from finesweep.results.leaderboard_columns import BoardColumn, Place, columns
from finesweep.results.leaderboard_facts import (
    facts,
    pruning_facts,
    reference_notes,
    sealed_fact,
    seed_notes,
    standing_notes,
)
from finesweep.results.ranking import Row
from finesweep.text import clean
from finesweep.text.format import finite
from finesweep.trial import Divergence, TrialRecord

if TYPE_CHECKING:
    from rich.console import Group

    from finesweep.text.table import FittedColumn

# Signs that begin a formula in a spreadsheet, also in full width, and after blanks or quotes.
_FORMULA = re.compile(r"[\s\"]*[=+\-@\t\r＝＋－＠]")
# An underscore inside a word is no emphasis, so most parameter names stay as they are.
_MARKDOWN = re.compile(r"([\\`*\[\]|~#]|(?<![^\W_])_|_(?![^\W_]))")


def write(board: Board) -> None:
    """Write ``leaderboard.md``, ``.csv`` and ``.json`` into the sweep's folder, each atomically.

    All three can be made again from the records, so they are not synced to disk.

    Raises:
        FolderError: The disk is full or the folder cannot be written.
    """
    file = SweepFolder(board.folder).leaderboard
    for suffix, text in ((".md", to_markdown(board)), (".csv", to_csv(board)), (".json", to_json(board))):
        write_text(file.with_suffix(suffix), text, durable=False)


def to_markdown(board: Board) -> str:
    """Return the board as a page in Markdown."""
    return "\n".join(_page(board)) + "\n"


def to_json(board: Board) -> str:
    """Return the rows as a JSON array, one object per line; a number that is not finite becomes null."""
    shown = columns(Place.JSON, board.rows, board.manifest, board.evidence, board.standing, board.confirmation)
    plain = [{column.name: _json_value(column.value(row)) for column in shown} for row in board.rows]
    plain += [
        {column.name: _json_value(column.reference_value(one, board.summary.metric)) for column in shown}
        for one in board.references
    ]
    objects = ",\n".join(json.dumps(one, allow_nan=False) for one in plain)
    return f"[\n{objects}\n]\n" if plain else "[]\n"


def to_csv(board: Board) -> str:
    """Return the rows as CSV with full precision.

    A text that a spreadsheet would take for a formula gets a leading apostrophe. All texts are quoted, because some
    spreadsheets also split cells at semicolons.
    """
    shown = columns(Place.CSV, board.rows, board.manifest, board.evidence, board.standing, board.confirmation)
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow([_csv_cell(column.name) for column in shown])
    writer.writerows([_csv_cell(column.value(row)) for column in shown] for row in board.rows)
    writer.writerows(
        [_csv_cell(column.reference_value(one, board.summary.metric)) for column in shown] for one in board.references
    )
    return stream.getvalue()


def console_table(board: Board, *, limit: int = 20) -> Group:
    """Return the leaderboard for a terminal; a narrow one shows fewer columns and names the others.

    Args:
        board: The sweep's board.
        limit: Maximum number of ranked rows, and of other rows.
    """
    from rich.console import Group
    from rich.text import Text

    from finesweep.text.table import FittedTable

    best, rest = board.ranked, board.unranked
    title = f"{clean(board.manifest.name)}: {board.headline}"
    shown = columns(Place.RANKED, best, board.manifest, None, board.standing, board.confirmation)
    fitted = _fitted(best[:limit], shown, board.references) if best else []
    decision = Text(board.decision.text, style=f"bold {board.decision.light}")
    tables: list[FittedTable | Text | str] = [decision, "", FittedTable(title, fitted, _more(best, limit))]
    tables += [Text(line) for line in _notes(board)]
    if rest:
        fitted = _fitted(rest[:limit], columns(Place.UNRANKED, rest, board.manifest))
        tables += ["", FittedTable("Not ranked", fitted, _more(rest, limit))]
    if board.early_end is not None:
        tables += ["", Text(f"Ended early: {board.early_end.why}")]
    if tested := test_scores(board.evidence):
        tables += ["", Text(f"On the test rows: {tested}")]
    if board.openings and (sealed := sealed_fact(board.manifest.data.rows.get("test", 0), board.openings)):
        tables += ["", Text(f"Test rows: {sealed}")]
    if about_pruning := [Text(f"{name}: {text}") for name, text in pruning_facts(board.summary)]:
        tables += ["", *about_pruning]
    if board.findings:
        tables += ["", *(Text(f"{finding.weight.title()}: {finding.line()}") for finding in board.findings)]
    return Group(*tables)


def _notes(board: Board) -> Iterator[str]:
    """Yield what marks and columns of the ranked table mean."""
    yield from seed_notes(board.confirmation, board.ranked)
    yield from standing_notes(board.standing, is_confirmed=board.summary.fresh is not None)
    yield from map(clean, reference_notes(board.references, board.manifest.data.rows))


def _more(rows: Sequence[Row], limit: int) -> str:
    return f"{len(rows) - limit:,} more in leaderboard.md" if len(rows) > limit else ""


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Divergence):
        value = vars(value)
    return {name: _json_value(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, int | float):
        return _json_value(value)
    text = clean(value, limit=2_000)
    return f"'{text}" if _FORMULA.match(text) or _FORMULA.match(str(value)) else text


def _page(board: Board) -> Iterator[str]:
    """Yield the lines of the page: the result, the facts, the ranked trials, the others."""
    best, rest = board.ranked, board.unranked
    light, _, sentences = board.decision.text.partition(" ")
    yield from (f"# {_escaped(board.manifest.name)}", "", f"> **{light}** {_escaped(sentences, 2_000)}", "")
    yield from (f"**{_escaped(board.headline)}**", "")
    for name, text in facts(board.manifest, board.summary, board.runs):
        yield f"- {name}: {_escaped(text, limit=1_000)}"
    if board.early_end is not None:
        yield f"- Ended early: {_escaped(board.early_end.why)}"
    yield f"- Winner: {_escaped(_winner_fact(board), limit=1_000)}"
    if sealed := sealed_fact(board.manifest.data.rows.get("test", 0), board.openings):
        yield f"- Test rows: {_escaped(sealed, limit=2_000)}"
    yield from ("", "## Ranked", "")
    ranked = columns(Place.RANKED, best, board.manifest, None, board.standing, board.confirmation)
    yield from _markdown_table(best, ranked, board.references) if best else ["No trial ranks."]
    yield from (line for note in _notes(board) for line in ("", _escaped(note, limit=1_000)))
    if len(best) > 1 and not board.manifest.repeats:
        yield from ("", _CAUTION.format(count=f"{len(best):,}"))
    if rest:
        yield from ("", "## Not ranked", "")
        yield from _markdown_table(rest, columns(Place.UNRANKED, rest, board.manifest))
    if board.findings:
        yield from ("", "## Findings", "")
        yield from (f"- {finding.weight.title()}: {_finding(finding)}" for finding in board.findings)
    halves = board.manifest.spec.search.pruner == "halving"
    in_order = sorted(board.records, key=lambda record: record.trial)
    if tried_again := [line for record in in_order for line in _tried_again(record, halves)]:
        yield from ("", "## Tried again", "", *tried_again)


def _tried_again(record: TrialRecord, halves: bool) -> Iterator[str]:
    """Describe the interruptions of a trial; waiting at a rung is none."""
    name = f"Trial {record.trial}"
    if record.faults:
        yield f"- {name}, attempt {record.attempt}, after: {_escaped('; '.join(record.faults), limit=1_000)}."
    if record.batch_divisor > 1:
        yield (
            f"- {name} ran out of GPU memory; it was retried with the batch per device divided by "
            f"{record.batch_divisor} and as many more accumulation steps: the effective batch is the same."
        )
    if record.repeated_examples and record.examples:  # without examples of its own it has not gone on yet
        yield (
            f"- {name} had waited at a rung and its state was not kept or not usable: it was trained again, "
            f"{record.repeated_examples:,} examples more."
        )
    if record.resumed_step and not (halves and record.resumed_at_evaluation):
        yield f"- {name} was interrupted and continued from its saved state at step {record.resumed_step:,}."


_CAUTION = (
    "Each trial stands with its best evaluation, and the first of {count} was chosen on the same validation rows, "
    "so its value is a little too good. Rows that no trial has seen give a fair value."
)


def _winner_fact(board: Board) -> str:
    """Describe where the weights of the model to take are; a winner exported from another model is ignored."""
    choice, evidence = board.choice, board.evidence
    if board.manifest.repeats:
        return f"that of the sweep {clean(board.folder.parent.name)}, one folder above"
    if choice is None:
        return "none"
    text, step = f"trial {choice.trial}", choice.record.best_step
    if choice.candidate is not None:
        text += f", fresh seed {choice.record.effective.get('seed')}"
    text += "" if step is None else f", step {step:,}"
    if evidence is not None:
        text += f"; exported to winner/, loaded again and evaluated: {scores(evidence.reloaded)}"
        return text + (f"; on the test rows: {scores(evidence.test)}" if evidence.test else "")
    place = "no folder yet" if board.weights is None else f"{board.weights}/"
    return f"{text}; weights in {place}; not exported yet"


def _finding(finding: Finding) -> str:
    """Return a finding with its YAML as code."""
    text = f"{_escaped(finding.text)}: {_escaped(finding.evidence, limit=1_000)}."
    # A backtick would end the code.
    return text if finding.cure is None else f"{text} Try `{clean(finding.cure, 1_000).replace('`', '')}`."


def _markdown_table(
    rows: Sequence[Row], shown: Sequence[BoardColumn], references: Sequence[Reference] = ()
) -> Iterator[str]:
    """Yield a table whose columns are aligned in the raw text too, except a last one of texts."""
    table = []
    for column in shown:
        texts = [*(column.text(row) for row in rows), *_of_references(column, references, shown)]
        head, *cells = [_escaped(column.title or column.name), *(_escaped(text, 600) for text in texts)]
        width = 3 if column is shown[-1] and not column.right else max(3, len(head), *map(len, cells))
        pad = str.rjust if column.right else str.ljust
        rule = "-" * (width - 1) + (":" if column.right else "-")
        table.append([pad(head, width), rule, *(pad(cell, width) for cell in cells)])
    for line in zip(*table, strict=True):
        yield f"| {' | '.join(line)} |"


def _escaped(text: str, limit: int = 300) -> str:
    """Make one line that Markdown shows literally: no HTML, links, emphasis or new cells."""
    return _MARKDOWN.sub(r"\\\1", html.escape(clean(text, limit), quote=False))


def _of_references(column: BoardColumn, references: Sequence[Reference], shown: Sequence[BoardColumn]) -> Iterator[str]:
    """Yield the cells of a column for the references."""
    objective = next((one.title for one in shown if one.name == "objective"), "")
    yield from (column.reference_text(one, objective) for one in references)


def _fitted(
    rows: Sequence[Row], shown: Sequence[BoardColumn], references: Sequence[Reference] = ()
) -> list[FittedColumn]:
    from finesweep.text.table import Cell, FittedColumn

    shortened = [dataclasses.replace(one, name=clean(one.short)) for one in references]
    return [
        FittedColumn(
            name=column.short or clean(column.title or column.name),
            cells=[
                *(Cell(column.text(row), "bold" if row.rank == 1 else "") for row in rows),
                *(Cell(text, "dim") for text in _of_references(column, shortened, shown)),
            ],
            drop=column.drop,
            right=column.right,
            flexible=column.name == "reason",
        )
        for column in shown
    ]
