"""A sweep with a confirmation that is killed in it and called again: who wins, and by which numbers."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest

import tiny

CONFIRMED = "confirm: {top: 2, seeds: 3}\n"


def records(folder: Path) -> dict[int, dict[str, Any]]:
    """The final records in a folder, by trial."""
    found = [json.loads(file.read_text()) for file in sorted((folder / "trials").glob("*.json"))]
    return {one["trial"]: one for one in found if one["state"] != "INTERRUPTED"}


def kill_all(project) -> None:
    """Kill all of a sweep's processes as a power cut would."""
    while pids := project.processes():
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        project.started[-1].poll()


def values_by_seed(confirmation: Path) -> dict[int, dict[int, dict[str, Any]]]:
    """The records of the trainings that gave a value, by trial of the search and seed."""
    found: dict[int, dict[int, dict[str, Any]]] = {}
    ended = records(confirmation)
    for number, repeat in enumerate(json.loads((confirmation / "spec.json").read_text())["repeats"]):
        if ended[number]["state"] == "COMPLETE":
            found.setdefault(repeat["trial"], {})[repeat["seed"]] = ended[number]
    return found


@pytest.mark.slow
def test_confirmation_that_is_killed_goes_on_and_the_best_mean_wins(project, until):
    spec = (project.path / "spec.yaml").read_text().replace("validation.csv,", "validation.csv, test: test.csv,")
    # At the untuned learning rate this model hardly learns, so another trial is the first.
    spec = spec.replace("low: 5e-4", "low: 5e-5").replace("{low: 2, high: 3}", "{low: 3, high: 4}")
    project.write("spec.yaml", spec + CONFIRMED)
    tiny.write_csv(project.path / "test.csv", tiny.review_rows(60, seed=3))
    results = project.results()
    confirmation = results / "confirm"
    begun = project.start("run", "spec.yaml", "--workers", "1")
    until(lambda: begun.poll() is not None or len(records(confirmation)) >= 2, "two trainings have ended", 400)
    assert begun.poll() is None, begun.communicate()
    kill_all(project)
    begun.communicate()
    before = {number: (confirmation / f"trials/{number:04d}.json").read_bytes() for number in records(confirmation)}
    assert not (results / "winner").exists()
    assert list((results / "openings").glob("*.json")) == []

    project.sweep("confirm", "results/spec", "--on", "one_thread.yaml", "--workers", "1", timeout=400)
    assert {number: (confirmation / f"trials/{number:04d}.json").read_bytes() for number in before} == before
    found = values_by_seed(confirmation)
    assert len(found) >= 2
    assert 0 in found, "the untuned default is a candidate"
    assert all(2 <= len(each) <= 3 for each in found.values())
    assert all(len({one["metrics"]["eval_loss"] for one in each.values()}) > 1 for each in found.values())

    means = {trial: statistics.fmean(one["objective"] for one in each.values()) for trial, each in found.items()}
    best = min(means, key=lambda trial: means[trial])
    seed, record = min(found[best].items(), key=lambda item: item[1]["objective"])
    evidence = json.loads((results / "winner/evidence.json").read_text())
    assert (evidence["trial"], evidence["seed"], evidence["ranked"]) == (best, seed, record["objective"])
    assert evidence["reloaded"]["eval_loss"] == pytest.approx(record["metrics"]["eval_loss"], rel=1e-5)
    (opening,) = (json.loads(file.read_text()) for file in (results / "openings").glob("*.json"))
    assert (opening["trial"], opening["command"]) == (best, "confirm")

    search = records(results)
    rows = {row["trial"]: row for row in project.leaderboard()}
    ranked = sorted((row["rank"], trial) for trial, row in rows.items() if row["rank"])
    assert [trial for _, trial in ranked[: len(means)]] == sorted(means, key=lambda trial: means[trial])
    for trial, mean in means.items():
        assert rows[trial]["objective"] == search[trial]["objective"]
        assert rows[trial]["seed_mean"] == pytest.approx(mean)
        assert rows[trial]["optimism"] == pytest.approx(mean - search[trial]["objective"])
        assert rows[trial]["seed_values"] == {str(seed): one["objective"] for seed, one in found[trial].items()}
        assert rows[trial]["seed_low"] < mean < rows[trial]["seed_high"]
    table = list(csv.DictReader((results / "leaderboard.csv").read_text().splitlines()))
    assert float(table[0]["seed_mean"]) == pytest.approx(means[best])
    page = (results / "leaderboard.md").read_text()
    fresh = f"trial {best}: eval_loss {means[best]:.4f} on average over {len(found[best])} fresh seeds"
    assert fresh in page.splitlines()[2]
    assert "60 rows, opened once: for trial" in page
