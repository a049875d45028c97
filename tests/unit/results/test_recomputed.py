"""Each number on leaderboard and page is computed again from the JSON in the folder, with none of the product's code.

Intervals are held against scipy, tie set and leads against a bootstrap that is written out here. The losses of the rows
are so skewed that BCa differs from a plain percentile by more than the tolerance.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import itertools
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from made_records import DIVERGED, FAILED, INTERRUPTED, PRUNED, WAITING, manifest, record, run

from finesweep.folder import Repeat, RowScores, SweepFolder
from finesweep.folder.sweep_folder import make_folders
from finesweep.references import Reference, write_references
from finesweep.report import write_report
from finesweep.results import leaderboard
from finesweep.results.board import read_board
from finesweep.results.winner import EVIDENCE, Evidence
from finesweep.spec.sections import BudgetSpec
from finesweep.trial import Divergence, Evaluation

ROWS = 120
METRICS = ("eval_loss", "eval_accuracy", "eval_macro_f1")
WORSE = {0: 0.30, 1: 0.0, 2: 0.002, 3: 0.15, 7: 0.2, 10: 0.4, 11: 0.25}
"""How much worse each completed trial is in the mean than the best one."""

SEEDS = {1: [0.335, 0.345, 0.352], 2: [0.331, 0.350, 0.342], 0: [0.62, 0.66]}
"""Objectives on fresh seeds, by the trial that they repeat."""

Json = dict[str, Any]
Numbers = np.ndarray[Any, Any]


# A sweep's folder with trials of every state.


def rows_of(trials: Sequence[int]) -> dict[int, dict[str, Numbers]]:
    rng = np.random.default_rng(3)
    common, found = rng.gamma(0.15, 2.0, ROWS), {}
    for trial in trials:
        own = rng.normal(0.0, 0.05, ROWS)
        losses = common + WORSE[trial] + own - own.mean()
        right = (losses < 0.6).astype(float)
        found[trial] = dict(zip(METRICS, (losses, right, right * 0.9 + 0.04), strict=True))
    return found


def evaluations(objective: float, count: int) -> tuple[Evaluation, ...]:
    values = [objective + 0.1 * (count - step) for step in range(1, count + 1)]
    return tuple(
        Evaluation(100 * step, step / 4, 800 * step, {"eval_loss": value}, value)
        for step, value in enumerate(values, 1)
    )


def made(path: Path, *, confirmed: bool) -> SweepFolder:
    folder, held = (
        make_folders(path / "sweep"),
        manifest(baseline=True, data={"rows": {"train": 900, "validation": ROWS}}),
    )
    folder.spec_file.write_text(json.dumps(held.to_json()))
    profile = {"workers": 2, "gpus_per_trial": 1, "trials_per_gpu": 2}
    for number, (began, seconds) in enumerate([(0.0, 7_200.0), (5_000.0, 4_000.0)], 1):
        budget = BudgetSpec(trials=14, hours=12.0)
        folder.write_run(run(number, started=began, ended=None, seconds=seconds, profile=profile, budget=budget))
    for trial, rows in rows_of(list(WORSE)).items():
        means = {name: float(values.mean()) for name, values in rows.items()}
        fields: Json = {
            "metrics": means,
            "examples": {1: 2_700, 2: 1_800}.get(trial, 2_700),
            "seconds": 100.0 + 37 * trial,
            "earlier_seconds": 4_000.0 if trial == 11 else 0.0,
            "resumed_step": 200 if trial == 11 else 0,
            "params": {"learning_rate": 1e-5 * (trial + 1), "num_train_epochs": 2 + trial % 4},
            "evaluations": evaluations(means["eval_loss"], 3),
            "best_step": 300,
            "best_epoch": 0.75,
            "run": 1 + trial % 2,
            "reason": "no better for 2 epochs" if trial == 3 else None,
            "audit": "weak at a rung" if trial == 7 else None,
            "evaluated_rows": ROWS,
        }
        scores = None if trial == 10 else RowScores.of(trial, 1, rows, np.arange(ROWS) % 2)
        folder.record(record(trial, means["eval_loss"], **fields), scores)
    gone = Divergence("training loss is NaN", 120, 4e-4, 0.69)
    others = [
        record(4, 0.9, PRUNED, reason="0.9 at 800 examples", examples=800, evaluations=evaluations(0.9, 1), run=1),
        record(5, None, FAILED, reason="OSError: the file is gone", run=1),
        record(6, None, DIVERGED, reason=gone.reason, divergence=gone, examples=960, run=2),
        record(8, 0.8, INTERRUPTED, reason="asked to stop", examples=320, run=2),
        record(
            9, 0.7, WAITING, reason="waits after 800 examples", examples=800, evaluations=evaluations(0.7, 1), run=2
        ),
        record(12, None, FAILED, reason="OSError: the file is gone", run=2),
    ]
    for one in others:
        folder.record(dataclasses.replace(one, seconds=45.0))
    linear = {"eval_loss": 0.9, "eval_accuracy": 0.6, "eval_macro_f1": 0.55}
    majority = {"eval_loss": 1.1, "eval_accuracy": 0.5, "eval_macro_f1": 1 / 3}
    write_references(
        folder,
        [Reference("majority class", majority, 0.1, 900), Reference("TF-IDF + logistic regression", linear, 1.5, 400)],
    )
    if confirmed:
        confirm(folder)
    else:
        best = folder.read_record(1)
        assert best is not None
        assert best.objective is not None
        test = {"eval_loss": 0.41, "eval_accuracy": 0.83, "eval_macro_f1": 0.8}
        folder.winner.mkdir()
        evidence = Evidence(1, "eval_loss", best.objective, {**best.metrics}, test, {})
        (folder.winner / EVIDENCE).write_text(json.dumps(dataclasses.asdict(evidence)))
    return folder


def confirm(folder: SweepFolder) -> None:
    again = make_folders(folder.confirmation.path)
    plan = [(trial, seed) for seed in range(3) for trial, values in SEEDS.items() if seed < len(values)]
    params = [read(folder.record_file(trial))["params"] for trial, _ in plan]
    held = dataclasses.replace(
        manifest(), planned=params, repeats=tuple(Repeat(trial, 100 + seed) for trial, seed in plan)
    )
    again.spec_file.write_text(json.dumps(held.to_json()))
    for number, ((trial, seed), own) in enumerate(zip(plan, params, strict=True)):
        effective = {"seed": 100 + seed, "data.max_length": 64}
        fields: Json = {"params": own, "effective": effective, "best_step": 500 + number, "examples": 1_000 + number}
        again.record(record(number, SEEDS[trial][seed], seconds=40.0 + number, earlier_seconds=2.0, **fields))


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


# What is shown, parsed.


@dataclasses.dataclass
class Node:
    tag: str
    attributes: Mapping[str, str | None]
    parts: list[Node | str] = dataclasses.field(default_factory=list)

    def all(self, *tags: str) -> Iterator[Node]:
        for part in self.parts:
            if isinstance(part, Node):
                if part.tag in tags:
                    yield part
                yield from part.all(*tags)

    def id(self, name: str) -> Node:
        return next(node for tag in ("table", "script") for node in self.all(tag) if node.attributes.get("id") == name)

    def of_class(self, name: str, tag: str) -> Node:
        return next(node for node in self.all(tag) if name in (node.attributes.get("class") or "").split())

    @property
    def text(self) -> str:
        parts = (part if isinstance(part, str) else part.text for part in self.parts)
        return re.sub(r"\s+", " ", "".join(parts)).strip()

    @property
    def words(self) -> str:
        """Its text without that of drawings."""
        parts = [part for part in self.parts if isinstance(part, str) or part.tag != "svg"]
        return Node(self.tag, {}, parts).text

    def number(self, name: str) -> float:
        return float(self.attributes[name] or "nan")

    def rows(self) -> list[list[str]]:
        """Cells of each row, without those of tables inside."""
        parts = [part for part in self.parts if isinstance(part, Node)]
        lines = [node for part in parts for node in ([part] if part.tag == "tr" else part.parts)]
        return [
            [cell.words for cell in line.parts if isinstance(cell, Node)] for line in lines if isinstance(line, Node)
        ]

    def pairs(self) -> dict[str, str]:
        names, texts = list(self.all("dt")), list(self.all("dd"))
        return {name.text: text.text for name, text in zip(names, texts, strict=True)}


class Page(HTMLParser):
    """The page as a tree; cells and terms may be left open, as HTML allows."""

    _CLOSES: Mapping[str, tuple[str, ...]] = {
        **dict.fromkeys(("td", "th"), ("td", "th")),
        "tr": ("td", "th", "tr"),
        **dict.fromkeys(("dt", "dd"), ("dt", "dd")),
    }
    _VOID = ("meta", "link", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open = [Node("", {})]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        while self.open[-1].tag in self._CLOSES.get(tag, ()):
            self.open.pop()
        node = Node(tag, dict(attrs))
        self.open[-1].parts.append(node)
        if tag not in self._VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        while self.open.pop().tag != tag:
            pass

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].parts.append(Node(tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)


@dataclasses.dataclass(frozen=True)
class Shown:
    """A sweep's folder as JSON, and what the product makes of it."""

    confirmed: bool
    records: dict[int, Json]
    kept: dict[int, dict[str, Numbers]]
    references: list[Json]
    csv: list[dict[str, str]]
    json: list[Json]
    md: str
    page: Node

    @property
    def means(self) -> dict[int, float]:
        means = {trial: float(np.mean(values)) for trial, values in SEEDS.items()} if self.confirmed else {}
        return dict(sorted(means.items(), key=lambda item: item[1]))

    @property
    def ranked(self) -> list[int]:
        complete = [n for n, one in self.records.items() if one["state"] == "COMPLETE"]
        by_objective = sorted(complete, key=lambda n: (self.records[n]["objective"], n))
        return [*self.means, *(n for n in by_objective if n not in self.means)]

    @property
    def searched(self) -> list[int]:
        """Trials with kept rows, best of the search first."""
        return sorted(self.kept, key=lambda n: self.records[n]["objective"])

    @property
    def losses(self) -> Numbers:
        return np.stack([self.kept[n]["eval_loss"] for n in self.searched], axis=1)


@pytest.fixture(scope="module", params=[False, True], ids=["search", "confirmed"])
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = made(tmp_path_factory.mktemp("made"), confirmed=request.param)
    board = read_board(folder)
    leaderboard.write(board)
    write_report(board)
    records = [read(file) for file in sorted(folder.record_file(0).parent.glob("*.json"))]
    kept = {}
    for file in sorted(folder.row_scores_file(0).parent.glob("*.json")):
        held = read(file)
        values = {name: np.frombuffer(base64.b64decode(text), "<f4") for name, text in held["values"].items()}
        kept[held["trial"]] = {name: one.astype(np.float64) for name, one in values.items()}
    table, objects = folder.leaderboard.with_suffix(".csv"), folder.leaderboard.with_suffix(".json")
    return Shown(
        request.param,
        {one["trial"]: one for one in records},
        kept,
        read(folder.path / "references.json")["references"],
        list(csv.DictReader(io.StringIO(table.read_text()))),
        read(objects),
        folder.leaderboard.with_suffix(".md").read_text(),
        Page((folder.path / "report.html").read_text()).open[0],
    )


# The same numbers again.


def four(value: float) -> str:
    return f"{value:.4f}"


def close(text: str, value: float) -> bool:
    return float(text) == pytest.approx(value, rel=1e-6)


def bca(values: Numbers) -> tuple[float, float]:
    random = np.random.default_rng(11)
    found = scipy.stats.bootstrap((values,), np.mean, n_resamples=8_000, method="BCa", random_state=random)
    return tuple(found.confidence_interval)


def wilson(values: Numbers) -> tuple[float, float]:
    return tuple(scipy.stats.binomtest(int(values.sum()), ROWS).proportion_ci(method="wilson"))


def resampled(values: Numbers) -> Numbers:
    weights = np.random.default_rng(12).multinomial(ROWS, np.full(ROWS, 1 / ROWS), 6_000)
    return weights @ values / ROWS


def tie_set(values: Numbers) -> list[int]:
    """Columns that would not trail another one so far if they were the best."""
    means, drawn, kept = values.mean(axis=0), resampled(values), []
    for one in range(values.shape[1]):
        far, largest, spread = [0.0], [], math.sqrt(math.log(ROWS))
        for other in range(values.shape[1]):
            error = (values[:, one] - values[:, other]).std(ddof=1) / math.sqrt(ROWS)
            behind = means[one] - means[other]
            if one != other and behind >= -spread * error:
                far.append(behind / error)
                largest.append((drawn[:, one] - drawn[:, other] - behind) / error)
        if not largest or max(far) <= np.quantile(np.max(largest, axis=0), 0.95):
            kept.append(one)
    return kept


def lead(values: Numbers, best: int, default: int) -> tuple[float, float]:
    """How much better one column is than another, if all are compared with that one at once."""
    gaps = values[:, [default]] - values
    means, errors = gaps.mean(axis=0), gaps.std(axis=0, ddof=1) / math.sqrt(ROWS)
    others = errors > 0
    furthest = np.abs((resampled(gaps) - means)[:, others] / errors[others]).max(axis=1)
    half = np.quantile(furthest, 0.95) * errors[best]
    return means[best] - half, means[best] + half


def over_seeds(trial: int) -> tuple[float, float]:
    rows = [np.array(values) for values in SEEDS.values()]
    freedom = sum(len(row) - 1 for row in rows)
    spread = math.sqrt(sum(((row - row.mean()) ** 2).sum() for row in rows) / freedom)
    half = scipy.stats.t.ppf(0.975, freedom) * spread / math.sqrt(len(SEEDS[trial]))
    return float(np.mean(SEEDS[trial]) - half), float(np.mean(SEEDS[trial]) + half)


def chances() -> dict[int, float]:
    rng, rows = np.random.default_rng(13), [np.array(values) for values in SEEDS.values()]
    freedom, squares = sum(len(row) - 1 for row in rows), sum(((row - row.mean()) ** 2).sum() for row in rows)
    spread = np.sqrt(squares / rng.chisquare(freedom, 50_000))
    drawn = np.stack([row.mean() + spread * rng.standard_normal(50_000) / math.sqrt(len(row)) for row in rows])
    return dict(zip(SEEDS, np.bincount(drawn.argmin(axis=0), minlength=len(rows)) / 50_000, strict=True))


# The files.


def test_order_and_ranks_follow_from_the_objectives(shown: Shown) -> None:
    states = ("WAITING", "COMPLETE", "PRUNED", "DIVERGED", "FAILED", "INTERRUPTED")
    rest = [n for n, one in shown.records.items() if one["state"] != "COMPLETE"]
    rest.sort(key=lambda n: (states.index(shown.records[n]["state"]), n))
    expected = [*((place, n) for place, n in enumerate(shown.ranked, 1)), *((None, n) for n in rest)]
    trials = [item for item in shown.json if item["state"] != "REFERENCE"]
    assert [(item["rank"], item["trial"]) for item in trials] == expected
    lines = [line for line in shown.csv if line["state"] != "REFERENCE"]
    assert [(line["rank"], line["trial"]) for line in lines] == [
        ("" if a is None else str(a), str(b)) for a, b in expected
    ]


def test_each_cell_of_the_files_is_that_of_the_record(shown: Shown) -> None:
    for line, item in zip(shown.csv, shown.json, strict=True):
        if item["state"] == "REFERENCE":
            continue
        held = shown.records[item["trial"]]
        same = (
            "state",
            "reason",
            "objective",
            "metrics",
            "params",
            "best_epoch",
            "best_step",
            "examples",
            "divergence",
        )
        same += ("examples_per_second", "peak_memory_mb", "attempt", "evaluated_rows", "audit", "resumed_step", "log")
        assert {name: item[name] for name in same} == {name: held[name] for name in same}
        assert item["seconds"] == held["seconds"] + held["earlier_seconds"]
        flat = {**held["metrics"], **{f"params.{name}": value for name, value in held["params"].items()}}
        flat |= {name: item[name] for name in ("objective", "seconds", "best_step", "peak_memory_mb")}
        for part in ("step", "learning_rate"):
            flat[f"divergence_{part}"] = (held["divergence"] or {}).get(part)
        for name, value in flat.items():
            assert line[name] == "" if value is None else close(line[name], value), name


def test_references_stand_best_first_with_their_own_scores(shown: Shown) -> None:
    expected = sorted(shown.references, key=lambda one: one["metrics"]["eval_loss"])
    items = [item for item in shown.json if item["state"] == "REFERENCE"]
    assert [(item["reason"], item["metrics"], item["examples"]) for item in items] == [
        (one["name"], one["metrics"], one["rows"]) for one in expected
    ]
    lines = [line for line in shown.csv if line["state"] == "REFERENCE"]
    assert all(
        close(line[name], one["metrics"][name]) for line, one in zip(lines, expected, strict=True) for name in METRICS
    )
    assert "fitted on a sample of 400 of the 900 training rows, scored on all 120 validation rows" in shown.md
    cells = {line[0]: line[1:] for line in shown.page.id("compared").rows()}
    for one in expected:
        assert cells[one["name"]][: len(METRICS)] == [four(one["metrics"][name]) for name in METRICS]


def test_intervals_over_rows_are_those_of_scipy(shown: Shown) -> None:
    for line, item in zip(shown.csv, shown.json, strict=True):
        rows = shown.kept.get(item["trial"])
        if rows is None:
            assert item.get("intervals") is None
            assert line["objective_low"] == ""
            continue
        low, high = bca(rows["eval_loss"])
        # Two bootstraps of some thousand resamples know a bound to 2 % of the width.
        assert item["intervals"]["eval_loss"] == pytest.approx([low, high], abs=0.08 * (high - low))
        low, high = bca(rows["eval_macro_f1"])
        assert item["intervals"]["eval_macro_f1"] == pytest.approx([low, high], abs=0.08 * (high - low))
        assert item["intervals"]["eval_accuracy"] == pytest.approx(list(wilson(rows["eval_accuracy"])))
        assert [float(line["objective_low"]), float(line["objective_high"])] == item["intervals"]["eval_loss"]


def test_tie_set_is_that_of_another_bootstrap(shown: Shown) -> None:
    tied = {shown.searched[column] for column in tie_set(shown.losses)}
    assert tied == {1, 2}, "the made trials 1 and 2 differ by a fifth of their error"
    assert {item["trial"] for item in shown.json if item["tied"]} == tied
    cheapest = min(tied, key=lambda n: shown.records[n]["examples"])
    assert [item["trial"] for item in shown.json if item["cheapest"]] == [cheapest]
    tags = {row[1]: row[3] for row in shown.page.id("trials").rows() if len(row) > 3}
    assert {n for n, text in tags.items() if "tied" in text} == {str(n) for n in tied}


def test_fresh_seeds_give_mean_interval_optimism_and_chance(shown: Shown) -> None:
    if not shown.confirmed:
        assert "seed_mean" not in shown.json[0]
        return
    items, likely = {item["trial"]: item for item in shown.json}, chances()
    for trial, values in SEEDS.items():
        item = items[trial]
        assert item["seed_mean"] == pytest.approx(np.mean(values))
        assert list(item["seed_values"].values()) == values
        assert (item["seed_low"], item["seed_high"]) == pytest.approx(over_seeds(trial))
        assert item["optimism"] == pytest.approx(np.mean(values) - shown.records[trial]["objective"])
        # 10,000 draws know a chance to 0.005.
        assert item["chance"] == pytest.approx(likely[trial], abs=0.02)
    page = {line[0]: line[1:] for line in shown.page.id("confirmed").rows()[1:]}
    for trial, values in SEEDS.items():
        low, high = over_seeds(trial)
        mean, chosen = float(np.mean(values)), shown.records[trial]["objective"]
        texts = [four(chosen), four(mean), f"{four(low)} to {four(high)}", four(mean - chosen)]
        assert page[str(trial)] == [*texts, ", ".join(map(four, values))]
    winner = "- Winner: trial 2, fresh seed 100, step 501; weights in no folder yet; not exported yet"
    assert winner in shown.md.replace("\\", "")
    cost = "The trainings on fresh seeds took 6 min 04 s of trial time and 8,028 training examples, which"
    assert cost in shown.page.text, "8 trainings of 42 to 49 s"
    assert cost in shown.md
    assert "trial 1, the best of the search, and" in shown.page.text


# The sentences and the facts.


def test_decision_names_the_numbers_of_the_records(shown: Shown) -> None:
    says = shown.page.of_class("say", "p").text
    reference = min(one["metrics"]["eval_loss"] for one in shown.references)
    best = shown.ranked[0]
    if shown.confirmed:
        low, high = over_seeds(best)
        mean = shown.means[best]
        assert f"Take trial {best}: eval_loss {four(mean)} on average over 3 fresh seeds" in says
        assert f"(95 % over seeds: {four(low)} to {four(high)})" in says
        assert f"It is {four(shown.means[0] - mean)} below the untuned default" in says
        assert f"{four(reference - mean)} below TF-IDF + logistic regression ({four(reference)})" in says
    else:
        value, held = shown.records[best]["objective"], shown.json[0]["intervals"]["eval_loss"]
        assert f"Take trial {best}: eval_loss {four(value)} " in says
        assert f"(95 % over rows, not over seeds: {four(held[0])} to {four(held[1])})" in says
        assert f"{four(reference - value)} below TF-IDF + logistic regression ({four(reference)})" in says
        found = re.search(r"It is ([\d.]+) below the untuned default \(95 %: ([\d.]+) to ([\d.]+)\)", says)
        assert found is not None
        gain, *bounds = map(float, found.groups())
        assert gain == pytest.approx(shown.records[0]["objective"] - value, abs=6e-5)
        low, high = lead(shown.losses, shown.searched.index(best), shown.searched.index(0))
        assert bounds == pytest.approx([low, high], abs=0.08 * (high - low))
    quoted = re.sub(r"\\", "", next(line for line in shown.md.splitlines() if line.startswith("> **")))
    assert says in quoted


def test_facts_count_trials_examples_and_hours(shown: Shown) -> None:
    facts = {name: text for node in shown.page.all("dl") for name, text in node.pairs().items()}
    counts = Counter(one["state"] for one in shown.records.values())
    finished = sum(count for state, count in counts.items() if state not in ("WAITING", "INTERRUPTED"))
    assert facts["Trials"].startswith(f"{finished} of 14 finished")
    assert all(f"{count} {state}" in facts["Trials"] for state, count in counts.items())
    examples = sum(one["examples"] for one in shown.records.values())
    full = sum(
        one["params"]["num_train_epochs"] * 900
        if one["state"] in ("PRUNED", "WAITING") or (one["state"] == "COMPLETE" and one["reason"])
        else one["examples"]
        for one in shown.records.values()
    )
    assert facts["Trained"].startswith(f"{examples:,} examples, {100 * examples / full:.0f} % of the {full:,} ")
    assert facts["Hours"] == "2.50 of 12 in 2 runs", "the runs overlap: 0 to 7,200 s, and 5,000 to 9,000 s"
    for name in ("Trials", "Trained", "Hours", "Pruning audit"):
        assert f"- {name}: {facts[name]}" in shown.md.replace("\\", "")
    assert "1 of 2 pruned trials was finished all the same; 0 would have won" in facts["Pruning audit"]
    assert f"{finished} of 14 trials finished" in next(shown.page.all("header")).text


def cells_of(markdown: str) -> list[list[str]]:
    lines = [re.sub(r"\\(.)", r"\1", line) for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_ranked_table_of_the_page_in_markdown(shown: Shown) -> None:
    heads, _, *lines = cells_of(shown.md)
    for place, trial in enumerate(shown.ranked):
        cells, held = dict(zip(heads, lines[place], strict=True)), shown.records[trial]
        assert re.sub(r"[=c]", "", cells["rank"]) == str(place + 1)
        assert (cells["trial"], cells["eval_loss"]) == (str(trial), four(held["objective"]))
        assert cells["eval_accuracy"] == four(held["metrics"]["eval_accuracy"])
        interval = shown.json[place]["intervals"]
        assert cells["95 % over rows"] == ("-".join(map(four, interval["eval_loss"])) if interval else "")
        if shown.confirmed:
            assert cells["mean over seeds"] == (four(shown.means[trial]) if trial in SEEDS else "")
            assert cells["fresh seeds"] == (str(len(SEEDS[trial])) if trial in SEEDS else "")


# The page.


def test_table_and_details_of_the_page_are_those_of_the_records(shown: Shown) -> None:
    heads, *_ = shown.page.id("trials").rows()
    bodies = list(shown.page.id("trials").all("tbody"))
    assert [node.attributes["data-trial"] for node in bodies] == [
        str(item["trial"]) for item in shown.json[: len(bodies)]
    ]
    assert len(bodies) == len(shown.records)
    for body, item in zip(bodies, shown.json, strict=False):
        held, (row, _) = shown.records[item["trial"]], body.rows()
        cells = dict(zip(heads, row, strict=True))
        assert cells["rank"] == ("" if item["rank"] is None else str(item["rank"]))
        objective = held["objective"]
        assert cells["eval_loss"] == ("" if objective is None else four(objective))
        check_mark(next(body.all("svg"), None), item)
        assert cells["state"].split()[0].startswith(held["state"]) or held["state"] in cells["state"]
        value = held["metrics"].get("eval_accuracy")
        assert cells["accuracy"] == ("" if value is None else four(value))
        about = {name: text for node in body.all("dl") for name, text in node.pairs().items()}
        for name, number in held["metrics"].items():
            low_high = (item["intervals"] or {}).get(name)
            told = f" ({four(low_high[0])} to {four(low_high[1])})" if low_high else ""
            assert about[name] == four(number) + told
        assert about["examples"] == f"{held['examples']:,}"
        if held["evaluations"]:
            (inner,) = body.all("table")
            texts = [
                [f"{one['examples']:,}", f"{one['epoch']:.3g}", four(one["objective"])] for one in held["evaluations"]
            ]
            assert inner.rows()[1:] == texts


def check_mark(drawing: Node | None, item: Json) -> None:
    """A ranked trial's objective is drawn in its cell, inside its interval."""
    assert (drawing is None) == (item["rank"] is None)
    if drawing is None or not item["intervals"]:
        return
    low, high = item["intervals"]["eval_loss"]
    assert drawing.text == f"95 % over rows: {four(low)} to {four(high)}"
    (drawn,) = drawing.all("line")
    (dot,) = drawing.all("circle")
    ends, place = [drawn.number("x1"), drawn.number("x2")], dot.number("cx")
    assert 0 <= ends[0] <= place <= ends[1] <= 100
    if ends[0] > 0 and ends[1] < 100:
        share = (item["objective"] - low) / (high - low)
        assert (place - ends[0]) / (ends[1] - ends[0]) == pytest.approx(share, abs=0.02)


def test_static_curves_lie_where_their_axis_says(shown: Shown) -> None:
    drawing = shown.page.of_class("curves", "svg")
    ticks = [node for node in drawing.all("text") if node.attributes.get("text-anchor") == "end"]
    at = sorted((node.number("y") - 4, float(node.text)) for node in ticks)
    below = [n for n in drawing.all("text") if n.attributes.get("text-anchor") == "middle" and n.text[0].isdigit()]
    along = sorted((node.number("x"), float(node.text.replace(",", ""))) for node in below)
    lines = list(drawing.all("polyline"))
    assert len(lines) == 5
    for line, trial in zip(lines, shown.ranked, strict=False):
        held = shown.records[trial]["evaluations"]
        for point, one in zip((line.attributes["points"] or "").split(), held, strict=True):
            x, y = map(float, point.split(","))
            # A tenth of a pixel is what the drawing rounds to.
            assert np.interp(x, *zip(*along, strict=True)) == pytest.approx(one["examples"], abs=2)
            assert np.interp(y, *zip(*at, strict=True)) == pytest.approx(one["objective"], abs=1e-3)


def hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:,.1f} min"


def test_costs_and_reasons_add_up_to_the_records(shown: Shown) -> None:
    heads, *lines = shown.page.id("cost").rows()
    assert heads == ["state", "trials", "trial hours", "GPU hours", "training examples"]
    states = Counter(one["state"] for one in shown.records.values())
    assert len(lines) == len(states)
    total = sum(one["seconds"] + one["earlier_seconds"] for one in shown.records.values())
    bars = shown.page.of_class("bars", "svg").text
    for state, *cells in lines:
        held = [one for one in shown.records.values() if one["state"] == state]
        seconds = sum(one["seconds"] + one["earlier_seconds"] for one in held)
        examples = sum(one["examples"] for one in held)
        assert cells == [str(len(held)), hours(seconds), hours(seconds / 2), f"{examples:,}"]
        assert f"{hours(seconds)}, {100 * seconds / total:.0f} %" in bars
    reasons = defaultdict(list)
    for trial, one in shown.records.items():
        if one["state"] != "COMPLETE":
            reasons[f"{one['state']}: {one['reason']}"].append(str(trial))
    assert dict(shown.page.id("reasons").rows()[1:]) == {
        ", ".join(of): text + (f" (trial {of[0]}, and others alike)" if len(of) > 1 else "")
        for text, of in reasons.items()
    }


def test_comparison_and_charts_hold_the_values_of_the_records(shown: Shown) -> None:
    compared = {line[0]: line[1:] for line in shown.page.id("compared").rows()[1:]}
    best, default = shown.records[shown.ranked[0]], shown.records[0]
    taken, untuned = f"take: trial {best['trial']}", "untuned default: trial 0"
    if shown.confirmed:
        value, other = shown.means[best["trial"]], shown.means[0]
        assert compared[f"{taken}, mean over {len(SEEDS[best['trial']])} fresh seeds"] == [four(value), "", "", ""]
        gap = f"{four(other - value)} higher"
        assert compared[f"{untuned}, mean over {len(SEEDS[0])} fresh seeds"] == [four(other), "", "", gap]
    else:
        value, other = best["objective"], default["objective"]
        assert compared[taken] == [*(four(best["metrics"][metric]) for metric in METRICS), ""]
        gap = f"{four(other - value)} higher"
        assert compared[untuned] == [*(four(default["metrics"][metric]) for metric in METRICS), gap]
    for one in shown.references:
        gap = one["metrics"]["eval_loss"] - value
        assert compared[one["name"]][-1] == f"{four(abs(gap))} {'higher' if gap > 0 else 'lower'}"
    figures = json.loads(shown.page.id("figures").text)
    drawn = {trace["customdata"][0]: trace for trace in figures["curves"]["data"] if trace["name"].startswith("trial")}
    assert list(drawn) == shown.ranked[:5]
    for trial, trace in drawn.items():
        held = shown.records[trial]["evaluations"]
        assert trace["x"] == [one["examples"] for one in held]
        assert trace["y"] == pytest.approx([one["objective"] for one in held], rel=1e-5)
    ended = sorted(
        (one for one in shown.records.values() if one["state"] not in ("WAITING", "INTERRUPTED")),
        key=lambda one: (one["started"] + one["seconds"], one["trial"]),
    )
    seen = np.cumsum([one["examples"] for one in ended])
    complete = [one["state"] == "COMPLETE" for one in ended]
    dots, lead_line = figures["progress"]["data"][:2]
    assert dots["x"] == seen[complete].tolist()
    spent = np.cumsum([one["seconds"] + one["earlier_seconds"] for one in ended])[complete] / 3600
    assert figures["progress"]["data"][3]["x"] == pytest.approx(spent.tolist(), rel=1e-4)
    assert figures["progress"]["data"][6]["x"] == [place for place, is_one in enumerate(complete, 1) if is_one]
    values = [one["objective"] for one in ended if one["state"] == "COMPLETE"]
    assert dots["y"] == pytest.approx(values, rel=1e-5)
    assert lead_line["y"][-1] == min(dots["y"])
    assert figures["parallel"]["layout"]["meta"]["trials"] == shown.ranked


def test_outlook_follows_from_the_values_so_far(shown: Shown) -> None:
    ended = [one for one in shown.records.values() if one["state"] not in ("WAITING", "INTERRUPTED")]
    ended.sort(key=lambda one: (one["started"] + one["seconds"], one["trial"]))
    best = [
        min((x["objective"] for x in ended[: n + 1] if x["state"] == "COMPLETE"), default=math.inf) for n in range(11)
    ]
    text = shown.page.text
    since = 10 - best.index(best[-1])
    name = "eval_loss of one seed" if shown.confirmed else "eval_loss"
    assert (f"The last {since} of 11 trials did not improve the best {name}." in text) == (since > 0)
    assert "one of the 3 trials that the budget has left is better than all of these is 21 %" in text
    values = [one["objective"] for one in ended if one["state"] == "COMPLETE"]
    values += [max(values)] * (11 - len(values))
    fall = np.mean([min(some) for some in itertools.combinations(values, 6)]) - best[-1]
    gain = min(fall * sum(1 / n for n in (12, 13, 14)) / sum(1 / n for n in range(7, 12)), best[-1])
    assert f"improve it by about {gain:.1g}." in text
