"""Computes the page's short sections: what the best trial is compared with, what more trials would bring, commands."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml

from finesweep.registry import TASKS
from finesweep.results import Evidence
from finesweep.results.board import Board
from finesweep.results.confirmation import Candidate
from finesweep.results.decision import Light, between
from finesweep.results.leaderboard_facts import (
    facts,
    rank_notes,
    reference_notes,
    sealed_fact,
    standing_notes,
    tied_fact,
)
from finesweep.results.ranking import ranks, reasons, unranked
from finesweep.text import clean, first_few, metric
from finesweep.text.format import finite
from finesweep.trial import Direction, TrialRecord

TAKEN, WINNER = "take: trial", "the winner"

MOST_NAMED = 10
"""Maximum number of trials that are named as having one reason."""

MOST_METRICS = 5
"""Maximum number of metrics beside each other."""


@dataclass(frozen=True)
class Step:
    """Something to do next.

    Attributes:
        text: What, and why.
        command: The command for it; empty without one.
    """

    text: str
    command: str = ""


@dataclass(frozen=True)
class Top:
    """What is read first.

    Attributes:
        light: The decision's light.
        word: The light in words.
        text: The decision.
        steps: What to do next, most urgent first.
    """

    light: Light
    word: str
    text: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class Compared:
    """One line of the comparison.

    Attributes:
        name: What is compared.
        values: Its metrics, as text, in the order of the comparison's metrics; empty where unknown.
        difference: How much worse or better its objective is than that of the trial to take; empty where unknown.
    """

    name: str
    values: Sequence[str]
    difference: str = ""


@dataclass(frozen=True)
class Comparison:
    """What the trial to take is compared with.

    Attributes:
        metrics: Names of the metrics, the objective first.
        lines: The trial to take, then what it is compared with.
    """

    metrics: Sequence[str]
    lines: Sequence[Compared]


LIGHTS = {
    Light.GREEN: "Green: ship it",
    Light.YELLOW: "Yellow: look first",
    Light.RED: "Red: do not ship",
}
"""Words beside the light, for readers who do not see its colour."""


def top(board: Board) -> Top:
    """Return the decision, and what follows from it."""
    light = board.decision.light
    return Top(light, LIGHTS[light], " ".join(board.decision.sentences), list(_steps(board)))


def _steps(board: Board) -> Iterator[Step]:
    if board.take is None:
        yield Step("Look at why no trial ranks, below and in the logs")
    elif board.decision.light is Light.RED:
        yield Step("Do not use the winner; see below what is as good or better, and what the doctor finds")
    elif board.evidence is not None:
        yield Step("Use the winner", load_command(board))
    else:
        yield Step("Run the same command again: it trains what is left, and exports and proves the winner")
    if board.confirmation is None and board.standing is not None and len(board.standing.tied) > 1:
        yield Step("Tell the tied trials apart: train the best again on fresh seeds", f"sweep confirm {_place(board)}")
    if board.findings:
        place = f"{_place(board)} --write next.yaml"
        yield Step(
            "Search on with the cures of the findings below, from where this sweep ended", f"sweep doctor {place}"
        )


def _place(board: Board) -> str:
    """Return the sweep's folder for a command line, as seen from the folder that holds ``results/``."""
    return shlex.quote(clean(f"{board.folder.parent.name}/{board.folder.name}", 400))


def load_command(board: Board) -> str:
    """Return the line of Python that loads the winner."""
    task = TASKS.load(board.manifest.spec.task)
    options = "".join(f", {name}={value!r}" for name, value in task.pipeline_options.items())
    folder = clean(f"{board.folder.parent.name}/{board.folder.name}/winner", 400)
    return f"transformers.pipeline({task.pipeline!r}, {folder!r}{options})"


def comparison(board: Board) -> Comparison | None:
    """Return the trial to take beside everything that it is compared with, None if nothing ranks."""
    best = board.take
    if best is None:
        return None
    names = list(dict.fromkeys([board.summary.metric, *best.metrics]))[:MOST_METRICS]
    lines = [_compared(board, name, values, names) for name, values in _candidates(board, best)]
    return Comparison([clean(name) for name in names], lines)


def _candidates(board: Board, best: TrialRecord) -> Iterator[tuple[str, Mapping[str, float | None]]]:
    first, baseline = board.summary.best, board.summary.baseline
    yield _named(board, TAKEN, best)
    if first is not None and first.trial != best.trial:
        yield _named(board, "rank 1: trial", first)
    if baseline is not None and ranks(baseline) and baseline.trial != best.trial:
        yield _named(board, "untuned default: trial", baseline)
    naive = board.manifest.data.naive
    # The references have the same answer, with the scores of one model.
    if naive is not None and not board.references:
        yield f"always answering {clean(naive.answer, 40)!r}", naive.scores
    for reference in board.references:
        yield reference.name, reference.metrics
    if (evidence := board.evidence) is not None:
        which = which_weights(evidence)
        if evidence.seed is not None:
            yield f"{WINNER}: {which}", evidence.reloaded
        if evidence.test:
            yield f"{WINNER} on the test rows: {which}", evidence.test


def _named(board: Board, role: str, record: TrialRecord) -> tuple[str, Mapping[str, float | None]]:
    """Return a trial's line: its mean over fresh seeds where it has one, which is of the objective alone."""
    found = {one.trial: one for one in board.confirmation.candidates} if board.confirmation else {}
    if board.summary.fresh is None or record.trial not in board.summary.fresh.means:
        seed = ", by its one seed in the search" if board.summary.fresh is not None else ""
        return f"{role} {record.trial}{seed}", {**record.metrics, board.summary.metric: record.objective}
    mean, seeds = board.summary.fresh.means[record.trial], len(found[record.trial].values)
    return f"{role} {record.trial}, mean over {seeds} fresh seeds", {board.summary.metric: mean}


def which_weights(evidence: Evidence) -> str:
    """Return which training the winner's weights are of: ``trial 3, fresh seed 17``."""
    return f"trial {evidence.trial}" + (f", fresh seed {evidence.seed}" if evidence.seed is not None else "")


def _compared(board: Board, name: str, values: Mapping[str, float | None], names: Sequence[str]) -> Compared:
    own, difference = finite(values.get(board.summary.metric)), ""
    is_other = not name.startswith((TAKEN, WINNER))
    if is_other and own is not None and board.take is not None and board.take.objective is not None:
        means = {} if board.summary.fresh is None else board.summary.fresh.means
        gap = own - means.get(board.take.trial, board.take.objective)
        difference = "equal" if gap == 0 else f"{metric(abs(gap))} {'higher' if gap > 0 else 'lower'}"
    return Compared(name, [metric(values.get(one)) for one in names], difference)


@dataclass(frozen=True)
class Confirmed:
    """A candidate of the confirmation.

    Attributes:
        trial: Its number.
        chosen: Its objective in the search.
        values: Its objectives on fresh seeds.
        mean: Their mean; why there is none, if there is none.
        interval: Interval of the mean over seeds; empty if unknown.
        optimism: How much better the value was by which it was chosen; empty if unknown.
    """

    trial: int
    chosen: str
    values: str
    mean: str
    interval: str
    optimism: str


def confirmed(board: Board) -> list[Confirmed]:
    """Return the candidates of the confirmation, best mean first; none without a confirmation."""
    found = board.confirmation
    return [] if found is None else [_confirmed(one, found.direction) for one in found.candidates]


def _confirmed(one: Candidate, direction: Direction) -> Confirmed:
    optimism = one.optimism(direction)
    return Confirmed(
        trial=one.trial,
        chosen=metric(one.chosen),
        values=", ".join(map(metric, one.values.values())),
        mean=metric(one.mean) if one.mean is not None else "diverged" if one.has_diverged else "too few seeds",
        interval=between(one.interval) if one.interval else "",
        optimism="0" if optimism == 0 else metric(optimism),
    )


def commands(board: Board) -> list[tuple[str, str]]:
    """Return what can be done next, and the command for it; for a folder two levels below the current one."""
    found = [("write this page again", f"sweep report {_place(board)}")]
    if board.evidence is not None:
        found.insert(0, ("load the winner", load_command(board)))
    name = shlex.quote(f"{board.manifest.name}.yaml")
    return [*found, ("search again, with the spec below", f"sweep run {name} --name again")]


def spec_yaml(board: Board) -> str:
    """Return the sweep's spec as YAML, without what is empty."""
    spec = board.manifest.spec
    latest = board.manifest.spec_for(board.runs[-1]) if board.runs else spec
    values = latest.model_dump(mode="json", exclude={"name", "base"}, exclude_defaults=True)
    return yaml.safe_dump({"name": board.manifest.name, **values}, sort_keys=False, allow_unicode=True, width=100)


def in_short(board: Board) -> str:
    """Return the model and the number of rows, as the head of the page has them."""
    rows = ", ".join(f"{count:,} {split}" for split, count in board.manifest.data.rows.items())
    return f"{clean(board.manifest.model.name, 100)}, {rows} rows"


def unranked_reasons(board: Board) -> list[tuple[str, str]]:
    """Return the trials that do not rank, and why; those whose reasons differ only in numbers are together."""
    found = []
    for trials, reason in reasons(unranked(board.records)):
        others = f" (trial {trials[0]}, and others alike)" if len(trials) > 1 else ""
        found.append((first_few([*map(str, trials)], MOST_NAMED), f"{reason}{others}"))
    return found


def basis(board: Board) -> list[tuple[str, str]]:
    """Return the facts behind the result, references on fewer rows, and how often the test rows were opened."""
    found = [(name, clean(text, 2_000)) for name, text in facts(board.manifest, board.summary, board.runs)]
    if board.early_end is not None:
        found.append(("Ended early", board.early_end.why))
    sealed = sealed_fact(board.manifest.data.rows.get("test", 0), board.openings)
    found += [("Reference", clean(text, 2_000)) for text in reference_notes(board.references, board.manifest.data.rows)]
    return [*found, ("Test rows", sealed)] if sealed else found


def notes(board: Board) -> Iterator[str]:
    """Yield what the intervals and the tags in the table mean."""
    standing = board.standing
    if standing is None:
        return
    if len(standing.tied) > 1:
        yield (
            f"Tied: {tied_fact(standing, is_confirmed=board.summary.fresh is not None)}. Cheapest: the one of them "
            "that saw the fewest examples."
        )
    yield from rank_notes(board.confirmation)
    # Marks in the leaderboard's table are tags here, so only the notes that follow its first one are the same.
    yield from standing_notes(dataclasses.replace(standing, tied=()))
