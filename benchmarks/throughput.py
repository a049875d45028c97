"""Measures real tokens per second, all workers together, for texts of several lengths (M3).

Every arm trains the same few trials of one epoch at batch 16 on a model of MiniLM's shape, without pruning. Counted are
the tokens of the texts, not what pads them; the time is from the first trial's begin to the last one's end, with all
that lies between: evaluations (few rows), saving, starting the next trial.
"""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.arms import OURS, RANDOM, Arm, Outcome, carry_out
from benchmarks.figures import Figures, Goal, Spread, Table, rounds, shown
from benchmarks.threads import fastest, short
from benchmarks.workload import Size, Source, Workload, make

METHOD = (
    "{trials} trials of one epoch at batch 16, without pruning, in turns. Tokens are those of the texts, at most "
    "{length} each, without what pads them; the time is from the first trial's begin to the last one's end, so "
    "evaluations, saving and whatever lies between two trials are in it. eval_loss is the best that an arm's own "
    "evaluations have seen: one short epoch, so only its likeness says something."
)
GOALS = {"T": 5.0, "S": 2.0}
LIMIT_SECONDS = 1_200
TOKENS, FEWEST, MOST = 6_000, 96, 320
"""Real tokens of an epoch, about, and its rows at least and at most."""

STEADY = Arm(OURS.key, OURS.title, None, (*RANDOM, "--set", "search.baseline=false"))


def measure(sources: Sequence[Source], size: Size, seconds: float, most: int, scratch: Path) -> Figures:
    """Train some equal trials with each arm.

    Args:
        sources: The texts, one after the other.
        size: Model and space; rows follow from how long the texts are, trials are as many as it says.
        seconds: Budget; one round of each source is run in any case.
        most: Rounds at most.
        scratch: Where everything is written.
    """
    chosen: dict[str, Arm] = {}
    goals, tables, notes, raw = [], [], [], {}
    for source in sources:
        workload, tokens = sized(source, size, scratch / source.name)
        if not chosen:
            chosen, tried = fastest(list(GOALS), workload, scratch / "threads")
            tables.append(_threads_table(source.name, tried, tokens))
        outcomes: dict[str, list[Outcome]] = {OURS.key: [], **{key: [] for key in chosen}}
        for turn in rounds(seconds / len(sources), most):
            for key in outcomes if turn % 2 == 0 else list(outcomes)[::-1]:
                folder = scratch / source.name / f"{turn}-{key}"
                arm = chosen.get(key, STEADY)
                outcomes[key].append(carry_out(arm, workload, folder, LIMIT_SECONDS, judge=False))
                shutil.rmtree(folder)
        rates = {key: speeds(found, tokens) for key, found in outcomes.items()}
        goals += [goal(source.name, tokens, key, rates) for key in GOALS]
        tables.append(_table(f"{source.name}: {tokens:.0f} tokens a text on average", chosen, outcomes, rates))
        notes += [
            f"{source.name}, {key}: {one.failure}" for key, found in outcomes.items() for one in found if one.failure
        ]
        raw[source.name] = {key: [dataclasses.asdict(one) for one in found] for key, found in outcomes.items()}
    method = METHOD.format(trials=size.trials, length=size.max_length)
    return Figures("Real tokens per second", method, goals, tables, notes, raw)


def sized(source: Source, size: Size, folder: Path) -> tuple[Workload, float]:
    """Make a workload of a certain number of tokens; return it and the real tokens of a text."""
    workload = make(source, dataclasses.replace(size, train_rows=MOST), folder)
    tokens = mean_tokens(workload)
    rows = round(min(max(TOKENS / tokens, FEWEST), MOST, workload.train_rows))
    made = make(source, dataclasses.replace(size, train_rows=rows), folder)
    return short(made, size.trials), mean_tokens(made)


def mean_tokens(workload: Workload) -> float:
    """Return how many tokens a training text has on average, cut at ``max_length``."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(workload.model)
    with Path(workload.train).open(newline="", encoding="utf-8") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    found = tokenizer(texts, truncation=True, max_length=workload.max_length)["input_ids"]
    return sum(map(len, found)) / len(found)


def speeds(found: Sequence[Outcome], tokens: float) -> list[float]:
    """Return the real tokens per second of each round, 0 where it failed."""
    return [tokens * one.examples / one.training_seconds if one.failure is None else 0.0 for one in found]


def goal(name: str, tokens: float, peer: str, rates: Mapping[str, Sequence[float]]) -> Goal:
    """Compare with one peer, round by round."""
    pairs = zip(rates[OURS.key], rates[peer], strict=True)
    ratios = [own / other for own, other in pairs if other]
    what = f"real tokens/s ({name}, {tokens:.0f} tokens a text)"
    return Goal("M3", what, peer, GOALS[peer], "x", True, Spread.of(ratios) if ratios else None)


def _table(
    title: str,
    chosen: Mapping[str, Arm],
    outcomes: Mapping[str, Sequence[Outcome]],
    rates: Mapping[str, Sequence[float]],
) -> Table:
    columns = ["arm", "tokens/s", "s of training", "s in all", "CPU s", "eval_loss"]
    rows = [
        [
            chosen.get(key, STEADY).title,
            shown(Spread.of(rates[key])),
            shown(Spread.of([one.training_seconds if one.trials else 0.0 for one in found])),
            shown(Spread.of([one.seconds for one in found])),
            shown(Spread.of([one.cpu_seconds for one in found])),
            shown(Spread.of([one.best for one in found]), digits=4),
        ]
        for key, found in outcomes.items()
    ]
    return Table(title, columns, rows)


def _threads_table(name: str, tried: Sequence[Outcome], tokens: float) -> Table:
    rows = [[one.arm, shown(Spread.of(speeds([one], tokens)))] for one in tried]
    return Table(f"{name}: peers with threads of their own choice, and with one", ["arm", "tokens/s"], rows)
