"""What holds after something went wrong that nobody caused from outside: divergence, a path in the way."""

from __future__ import annotations

import json
import re

import pytest

from finesweep.model.weights import digest


def test_a_diverged_trial_never_ranks_and_the_search_goes_on(project):
    """Stock: the NaN loss is logged as 0, the best there is, and the trial trains to its end."""
    spec = ("--set", "space.learning_rate={choices: [1e-3, 9.0]}", "--set", "search.sampler=grid")
    fixed = ("--set", "fixed={max_grad_norm: 0.0, optim: sgd, warmup_steps: 0}")
    epochs = ("--set", "space.num_train_epochs={choices: [3]}", "--set", "budget.trials=4")
    project.sweep("run", "spec.yaml", *spec, *fixed, *epochs)
    rows = project.leaderboard()
    ranked, diverged = rows[:2], rows[2:]
    assert [row["rank"] for row in rows] == [1, 2, None, None]
    assert {row["params"]["learning_rate"] for row in ranked} == {1e-3}
    assert {row["state"] for row in diverged} == {"DIVERGED"}
    for row in diverged:
        record = project.records()[row["trial"]]
        assert record["divergence"]["step"] <= 20, "ten steps to diverge at the most, ten to be noticed"
        assert record["divergence"]["learning_rate"] > 1
        assert record["divergence"]["reason"] in row["reason"]
    assert "DIVERGED" in (project.results() / "leaderboard.md").read_text()


def test_results_that_cannot_be_written_are_refused_before_anything_else(project):
    project.write("results", "a file, not a folder")
    _, err = project.sweep("run", "spec.yaml", code=2)
    assert "cannot be written" in err
    assert "--results" in err


@pytest.mark.slow
def test_a_corrupted_contender_is_no_winner(copied):
    """The weights are other ones than were ranked, and the record's digest of them fits."""
    results, trial = copied.results(), copied.leaderboard()[0]["trial"]
    weights = results / f"checkpoints/trial-{trial:04d}/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2000:] = bytes(2000)
    (results / "winner/evidence.json").unlink()
    weights.unlink()  # the winner's is a hard link to it
    weights.write_bytes(data)
    record = copied.records()[trial]
    record["weights_sha256"] = digest(weights.parent)
    (results / f"trials/{trial:04d}.json").write_text(json.dumps(record))
    _, err = copied.sweep("run", "spec.yaml", "--workers", "1", code=1)
    assert re.search(r"evaluated by a plain loop, differ: eval_loss \S+ and", err)
