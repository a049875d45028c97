"""Lists the facts on the leaderboard's page: model, data, search, space, hours, and the effect of pruning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from finesweep.data import DataFacts
from finesweep.folder import Manifest, ModelFacts, Run
from finesweep.folder.openings import Opening
from finesweep.references import Reference
from finesweep.results.confirmation import Confirmation
from finesweep.results.leaderboard_columns import CHEAPEST, TIED
from finesweep.results.ranking import Row, SweepSummary
from finesweep.results.standing import Standing
from finesweep.spec import AUTO, Parameter, WarmStart
from finesweep.text import clean, duration, first_few, setting


def facts(manifest: Manifest, summary: SweepSummary, runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    """Yield the facts behind the result, as names and texts; the texts may contain anything from a file or a spec.

    Args:
        manifest: The sweep's manifest.
        summary: State of the sweep.
        runs: Every ``sweep run``, oldest first.
    """
    spec = manifest.spec
    search = spec.search
    yield "Model", _model_fact(manifest.model)
    yield "Data", _data_fact(manifest.data, search.seed)
    yield "Objective", f"{summary.metric}, {summary.direction}"
    if manifest.repeats:
        yield "Search", f"none; each trial of the plan repeats one of the search with another seed ({search.backend})"
    else:
        pruner = f"{search.pruner} pruner" + (f" (1 in {spec.factor})" if search.pruner == "halving" else "")
        yield "Search", f"{search.sampler} sampler, {pruner}, {search.backend}, seed {search.seed}"
    yield "Space", "; ".join(f"{name} {_axis(axis)}" for name, axis in spec.space.items())
    known = len(manifest.planned) - search.baseline
    if spec.start == AUTO and known > 0:
        yield "Start", f"{known} known good {'configuration was' if known == 1 else 'configurations were'} tried first"
    if isinstance(spec.start, WarmStart):
        told = "its trials tell the sampler as foreign ones, and do not rank here"
        yield "Start", f"{spec.start.folder}; its best {spec.start.top} were tried first; {told}"
    if spec.fixed:
        yield "Fixed", "; ".join(f"{name} {setting(value)}" for name, value in spec.fixed.items())
    yield "Trials", _trials_fact(summary)
    yield from pruning_facts(summary)
    if text := _evaluations_fact(manifest, summary):
        yield "Evaluations", text
    limit = f" of {summary.hours_budget:g}" if summary.hours_budget else ""
    yield "Hours", f"{summary.hours:.2f}{limit}" + (f" in {len(runs)} runs" if len(runs) > 1 else "")
    yield "Made with", "; then ".join(_environments(manifest, runs))


def _model_fact(model: ModelFacts) -> str:
    version = model.revision or model.digest
    return f"{model.name}@{version[:12]}" if version else model.name


def _data_fact(data: DataFacts, seed: int) -> str:
    parts = []
    for split, count in data.rows.items():
        source = data.sources.get(split)
        place = f"{source.place} ({source.digest[:12]})" if source else f"split off with seed {seed}"
        parts.append(f"{split} {count:,} rows, {place}")
    if labels := data.labels:
        shown = ", ".join(clean(label, 40) for label in labels[:10])
        parts.append(f"{len(labels):,} labels: {shown}" + (", ..." if len(labels) > 10 else ""))
    return "; ".join(parts)


def _axis(axis: Parameter) -> str:
    """Format one parameter's range or choices as in the YAML."""
    if axis.choices is not None:
        text = f"one of {', '.join(map(setting, axis.choices))}"
    else:
        text = f"{setting(axis.low)} to {setting(axis.high)}"
        text += f" by {setting(axis.step)}" if axis.step is not None else ""
        text += ", log" if axis.log else ""
    return clean(text) + (f", when {clean(axis.when)}" if axis.when else "")


def sealed_fact(rows: int, openings: Sequence[Opening]) -> str | None:
    """Return how often the test rows were opened, and for which winners; None without test rows.

    Args:
        rows: Number of test rows.
        openings: Each opening, oldest first.
    """
    if not rows:
        return None
    if not openings:
        return f"{rows:,} rows, sealed; none was evaluated yet"
    times = "once" if len(openings) == 1 else f"{len(openings)} times"
    each = [f"for trial {one.trial} ({clean(one.command, 20)}, {_day(one.when)})" for one in openings]
    text = f"{rows:,} rows, opened {times}: {', then '.join(each)}"
    if len({one.trial for one in openings}) > 1:
        text += "; a later winner was chosen after a test score was known, so its own may be too good"
    return text


def _day(when: float) -> str:
    """Return a Unix time as date and minute in UTC; a time that no calendar has as it is."""
    try:
        return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return f"{when:g}"


def pruning_facts(summary: SweepSummary) -> Iterator[tuple[str, str]]:
    """Yield the amount of training, and the result of the pruning audit."""
    if summary.trained is not None and summary.trained.examples:
        yield "Trained", summary.trained.text()
    if summary.audit is not None:
        yield "Pruning audit", summary.audit.text()


def seed_notes(confirmation: Confirmation | None, rows: Sequence[Row]) -> Iterator[str]:
    """Yield what the columns on fresh seeds mean, and which trials are better by one seed alone.

    Args:
        confirmation: The trials on fresh seeds, None without.
        rows: The ranked rows, best first.
    """
    if confirmation is None or confirmation.best is None:
        return
    yield from rank_notes(confirmation)
    yield "Optimism is by how much the value that a trial was chosen by is better than its mean."
    yield cost_of_seeds(confirmation)
    lone = [f"{row.record.trial}" for row in rows if confirmation.is_unconfirmed(row.record)]
    if lone:
        named = f"Trial{'s' if len(lone) > 1 else ''} {first_few(lone, 10)}"
        value = f"the mean of trial {confirmation.best.trial}"
        yield f"{named}: unconfirmed; the value of one seed is better than {value}, and that may be luck."


def rank_notes(confirmation: Confirmation | None) -> Iterator[str]:
    """Yield by what the confirmed trials rank, if there are any."""
    if confirmation is not None and confirmation.best is not None:
        yield (
            "Trials with a mean over fresh seeds rank first, by that mean. Its interval rests on the spread between "
            "the seeds of all of them."
        )


def cost_of_seeds(confirmation: Confirmation) -> str:
    """Return what the trainings on fresh seeds took, as a sentence."""
    took = f"{duration(confirmation.seconds)} of trial time and {confirmation.examples:,} training examples"
    return f"The trainings on fresh seeds took {took}, which the numbers of the search leave out."


def reference_notes(references: Sequence[Reference], rows: Mapping[str, int]) -> Iterator[str]:
    """Yield which references were fitted on fewer rows than the trials.

    Args:
        references: The references.
        rows: Number of the sweep's rows by split.
    """
    for one in references:
        if one.rows < rows["train"]:
            yield (
                f"{one.name}: fitted on a sample of {one.rows:,} of the {rows['train']:,} training rows, "
                f"scored on all {rows['validation']:,} validation rows."
            )


def standing_notes(standing: Standing | None, *, is_confirmed: bool = False) -> Iterator[str]:
    """Yield what the marks and intervals of the ranked table mean.

    Args:
        standing: How sure the ranks are.
        is_confirmed: Whether fresh seeds decide the first ranks, so that rank 1 may be another trial.
    """
    if standing is None:
        return
    if len(standing.tied) > 1:
        named = tied_fact(standing, is_confirmed=is_confirmed)
        yield f"{TIED} marks tied trials: {named}. {CHEAPEST} marks the cheapest of them."
    if standing.intervals:
        drawn = f"{standing.rows:,} validation rows"
        if standing.groups is not None:
            drawn += f" in {standing.groups:,} groups, resampled as a whole"
        yield f"95 % is an interval over {drawn}. It is not one over seeds, which is wider."
    if standing.why is not None:
        yield f"No trials are marked as tied: {standing.why}."
    if standing.absent:
        trials = first_few([str(trial) for trial in standing.absent], 10)
        yield f"Not compared, because their rows are missing or differ: {trials}."


def tied_fact(standing: Standing, *, is_confirmed: bool) -> str:
    """Return which trials are tied, and how sure that is; see ``standing_notes``."""
    first = f"trial {standing.tied[0]}, the best of the search," if is_confirmed else "the first"
    others = len(standing.tied) - 1
    named = "one other" if others == 1 else f"{others:,} others"
    return f"{first} and {named} cannot be told apart on these rows (95 % for all comparisons together)"


def _trials_fact(summary: SweepSummary) -> str:
    finished = f"{summary.finished:,}" + (f" of {summary.trials:,}" if summary.trials is not None else "") + " finished"
    ended = ", ".join(f"{count:,} {state}" for state, count in summary.counts.items() if state.finished)
    others = "".join(f", {count:,} {state}" for state, count in summary.counts.items() if not state.finished)
    return (f"{finished} ({ended})" if ended else finished) + others


def _evaluations_fact(manifest: Manifest, summary: SweepSummary) -> str:
    """Return on how many rows trials were ranked, if evaluations while training used fewer; else an empty string."""
    steering, rows = manifest.spec.evaluation.rows, manifest.data.rows.get("validation", 0)
    if steering >= rows:
        return ""
    ranking = summary.best.evaluated_rows if summary.best is not None else None
    return f"while training on {steering:,} of {rows:,} validation rows; the ranking rests on {ranking or rows:,}"


def _environments(manifest: Manifest, runs: Sequence[Run]) -> list[str]:
    """Return the distinct environments of the runs, oldest first."""
    facts = [{"finesweep": manifest.version, **dict(_flat(run.environment))} for run in runs]
    texts = [", ".join(f"{name} {value}" for name, value in each.items()) for each in facts]
    return list(dict.fromkeys(texts)) or [f"finesweep {manifest.version}"]


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif value is not None:
            yield clean(name), clean(value)
