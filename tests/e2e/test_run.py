"""`sweep run` from start to end: what comes out, and what the same command does the second time."""

from __future__ import annotations

import csv
import json
import re

import pytest


def test_the_leaderboard_ranks_every_trial_by_its_best_evaluation(finished):
    rows = finished.leaderboard()
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert [row["objective"] for row in rows] == sorted(row["objective"] for row in rows)
    for row, record in ((row, finished.records()[row["trial"]]) for row in rows):
        assert row["state"] == "COMPLETE"
        assert row["objective"] == min(e["objective"] for e in record["evaluations"])
        assert row["best_step"] in [e["step"] for e in record["evaluations"]]
        assert set(row["metrics"]) == {"eval_loss", "eval_accuracy", "eval_macro_f1"}
        assert row["seconds"] > 0
        assert row["examples_per_second"] > 0
        assert row["peak_memory_mb"] > 0
    references = finished.references()
    assert {row["reason"] for row in references} == {"majority class", "TF-IDF + logistic regression"}
    assert {(row["rank"], row["trial"]) for row in references} == {(None, None)}
    with (finished.results() / "leaderboard.csv").open(newline="") as stream:
        assert [row["trial"] for row in csv.DictReader(stream)] == [*(str(row["trial"]) for row in rows), "", ""]
    assert "| rank |" in (finished.results() / "leaderboard.md").read_text()


def test_results_are_closed_to_others_though_the_umask_is_open(finished):
    paths = [finished.path / "results", *(finished.path / "results").rglob("*")]
    assert len(paths) > 50
    modes = {path: path.stat().st_mode & 0o777 for path in paths}
    open_to_others = {str(path): oct(mode) for path, mode in modes.items() if mode & 0o027}
    assert open_to_others == {}
    assert {oct(mode) for mode in modes.values()} <= {"0o750", "0o640", "0o600", "0o700"}


def test_validation_texts_stand_in_no_file_but_data(finished):
    with (finished.path / "validation.csv").open(newline="") as stream:
        texts = [row["text"].encode() for row in csv.DictReader(stream)]
    assert min(map(len, texts)) > 15
    files = [file for file in finished.results().rglob("*") if file.is_file()]
    telling = {str(file.relative_to(finished.results())) for file in files if _holds_one_of(file.read_bytes(), texts)}
    assert telling == {"data/validation.parquet"}


def _holds_one_of(content, texts):
    return any(text in content or json.dumps(text.decode()).encode() in content for text in texts)


def test_every_trial_has_its_record_its_log_and_its_scalars(finished):
    for record in finished.records():
        assert "train_loss" in (finished.results() / record["log"]).read_text()
        events = list((finished.results() / f"tensorboard/trial-{record['trial']:04d}").glob("events.*"))
        assert len(events) == 1
        assert record["evaluations"][-1]["epoch"] == record["params"]["num_train_epochs"]


def test_evaluations_stand_at_the_same_examples_in_all_trials(finished):
    for record in finished.records():
        assert [e["examples"] for e in record["evaluations"]] == [
            400 * epoch for epoch in range(1, record["params"]["num_train_epochs"] + 1)
        ]


def test_only_the_winners_weights_are_kept(finished):
    best = finished.leaderboard()[0]["trial"]
    assert [folder.name for folder in (finished.results() / "checkpoints").iterdir()] == [f"trial-{best:04d}"]
    assert not list(finished.results().rglob("optimizer*"))


@pytest.mark.filterwarnings("ignore")
def test_the_winner_loads_with_the_stock_pipeline_and_beats_the_majority(finished):
    from transformers import pipeline

    classify = pipeline("text-classification", str(finished.results() / "winner"))
    with (finished.path / "validation.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    answers = classify([row["text"] for row in rows], truncation=True)
    right = sum(answer["label"] == row["label"] for answer, row in zip(answers, rows, strict=True))
    winner = finished.leaderboard()[0]
    assert right / len(rows) == pytest.approx(winner["metrics"]["eval_accuracy"])
    labels = [row["label"] for row in rows]
    majority = max(labels.count(label) for label in set(labels)) / len(rows)
    assert right / len(rows) > majority + 0.1


def test_the_winner_was_evaluated_again_and_carries_its_papers(finished):
    winner = finished.results() / "winner"
    evidence = json.loads((winner / "evidence.json").read_text())
    best = finished.leaderboard()[0]
    assert evidence["trial"] == best["trial"]
    assert evidence["reloaded"]["eval_loss"] == pytest.approx(best["objective"], rel=1e-4)
    card = (winner / "README.md").read_text()
    assert f"trial {best['trial']} of the sweep" in card
    assert str(finished.path) not in card
    assert card.count("data.max_length") == 1
    arguments = json.loads((winner / "training_args.json").read_text())
    assert arguments["learning_rate"] == pytest.approx(best["params"]["learning_rate"])
    assert not [name for name in arguments if "token" in name or "hub" in name]
    assert not list(winner.glob("training_args.bin"))


def test_trial_0_is_the_untuned_default_and_the_gain_is_named(finished):
    params = finished.records()[0]["params"]
    assert params["num_train_epochs"] == 3
    assert params["per_device_train_batch_size"] == 16
    assert params["learning_rate"] == pytest.approx((5e-4 * 5e-3) ** 0.5)
    assert re.search("untuned default", (finished.results() / "leaderboard.md").read_text())


def test_the_same_command_again_finds_nothing_to_do(copied):
    before = copied.numbers()
    again, _ = copied.sweep("run", "spec.yaml")
    assert "all 3 trials of the budget have finished" in again
    assert copied.numbers() == before


@pytest.mark.slow
def test_smoke_takes_everything_through_once_in_a_folder_of_its_own(make_project):
    project = make_project()
    project.sweep("run", "spec.yaml", "--smoke")
    shown, _ = project.sweep("run", "spec.yaml", "--smoke", "--profile-start")
    assert [folder.name for folder in (project.path / "results").iterdir() if folder.is_dir()] == ["spec-smoke"]
    records = project.records("spec-smoke")
    assert [record["evaluations"][-1]["step"] for record in records] == [1, 1]
    assert project.manifest("spec-smoke")["data"]["rows"] == {"train": 32, "validation": 32}
    assert (project.results("spec-smoke") / "winner/model.safetensors").is_file()
    before, _, after = shown.partition("From the command to the first training step: ")[2].partition("From the last")
    for process, phase in (
        ("command", "start Python"),
        ("preparation", "check spec, data and model"),
        ("worker", "import PyTorch"),
        ("worker", "wait for the folder"),
        ("worker", "rehearse"),
        ("trial 0", "take the first step"),
    ):
        assert re.search(rf"^{process} +{phase}.*[0-9]\.[0-9][0-9]$", before, re.MULTILINE), (
            f"{process}: {phase}\n{shown}"
        )
    for process, phase in (
        ("command", "start the proof ahead"),
        ("command", "prove the winner"),
        ("proof", "wait for the last trial"),
        ("proof", "evaluate it again"),
        ("command", "write the page"),
    ):
        assert re.search(rf"^{process} +{phase}", after, re.MULTILINE), f"{process}: {phase}\n{shown}"


def test_status_and_leaderboard_read_the_folder(finished):
    status, _ = finished.sweep("status", "results/spec")
    assert "3 of 3 finished" in status
    assert "not running" in status
    board, _ = finished.sweep("leaderboard", "results/spec")
    assert f"{finished.leaderboard()[0]['objective']:.4f}" in board


def test_another_spec_is_refused_and_swept_in_a_fresh_folder(copied):
    """It is a regression, which is swept like a classification."""
    before = copied.numbers()
    _, refused = copied.sweep("run", "spec.yaml", "--set", "space.learning_rate.high=1e-2", code=2)
    assert "space.learning_rate.high: 0.005 -> 0.01" in refused
    assert "--name" in refused
    assert "--fresh" in refused
    assert copied.numbers() == before

    for name in ("train", "validation"):
        lines = (copied.path / f"{name}.csv").read_text().splitlines()
        header, rows = lines[0], lines[1:]
        scored = [row.rsplit(",", 1)[0] + f",{len(row) / 10:.2f}" for row in rows]
        copied.write(f"{name}.csv", "\n".join([header, *scored]) + "\n")
    task = ("--set", "task=text-regression", "--set", "objective.metric=eval_spearman")
    copied.sweep("run", "spec.yaml", *task, "--set", "budget.trials=2", "--workers", "1", "--fresh")
    rows = copied.leaderboard()
    assert len(rows) == 2
    assert set(rows[0]["metrics"]) >= {"eval_loss", "eval_mse", "eval_pearson", "eval_spearman"}
    assert rows[0]["objective"] > rows[1]["objective"]
    assert rows[0]["objective"] > 0.5
    config = json.loads((copied.results() / "winner/config.json").read_text())
    assert config["problem_type"] == "regression"
    aside = [folder for folder in (copied.path / "results").iterdir() if folder.name.startswith("spec.")]
    assert len(aside) == 1
    assert len(list((aside[0] / "trials").glob("*.json"))) == 3


@pytest.mark.slow
def test_patience_ends_a_trial_complete_with_its_best(make_project):
    project = make_project()
    project.sweep(
        "run",
        "spec.yaml",
        *("--set", "budget.trials=1", "--set", "patience=1", "--set", "space.num_train_epochs.low=30"),
        *("--set", "space.num_train_epochs.high=30", "--set", "fixed.lr_scheduler_type=constant"),
    )
    (record,) = project.records()
    assert record["state"] == "COMPLETE"
    assert record["reason"] == "no gain in 1 evaluation"
    assert len(record["evaluations"]) < 30
    assert record["objective"] == record["evaluations"][-2]["objective"]
    evidence = json.loads((project.results() / "winner/evidence.json").read_text())
    assert evidence["reloaded"]["eval_loss"] == pytest.approx(record["objective"], rel=1e-4)


@pytest.mark.slow
def test_cheapest_of_tied_trials_is_exported_and_proved(make_project, check_invariants):
    """At this learning rate both trials give one class to all rows, so they are equally right, and the first is 1st."""
    project = make_project()
    start = "[{learning_rate: 5e-4, num_train_epochs: 2}, {learning_rate: 5e-4, num_train_epochs: 1}]"
    spec = (project.path / "spec.yaml").read_text().replace("pruner: none", "pruner: none, baseline: false")
    spec = spec.replace("{low: 2, high: 3}", "{low: 1, high: 2}").replace("trials: 3", "trials: 2")
    spec += "objective: {metric: eval_accuracy, direction: maximize}\nprefer: cheapest-tied\n"
    project.write(
        "spec.yaml", spec.replace("per_device_train_batch_size: {choices: [16, 32]}", "") + f"start: {start}\n"
    )
    project.sweep("run", "spec.yaml", "--workers", "1")
    first, second = project.leaderboard()
    assert [(row["rank"], row["trial"], row["tied"], row["cheapest"]) for row in (first, second)] == [
        (1, 0, True, False),
        (2, 1, True, True),
    ]
    assert first["objective"] == second["objective"]
    assert first["metrics"]["eval_loss"] != second["metrics"]["eval_loss"]
    evidence = json.loads((project.results() / "winner/evidence.json").read_text())
    assert (evidence["trial"], evidence["ranked"]) == (1, second["objective"])
    assert evidence["reloaded"] == pytest.approx(second["metrics"], rel=1e-6)
    card = (project.results() / "winner/README.md").read_text()
    assert "It is trial 1 of the sweep `spec`: the cheapest of those that cannot be told from the best (trial 0" in card
    for name, value in second["metrics"].items():
        assert f"| {name.removeprefix('eval_')} | {value:.4f} |" in card
    page = (project.results() / "leaderboard.md").read_text().replace("\\", "")
    assert f"trial 1: eval_accuracy {second['objective']:.4f}" in page.splitlines()[2]
    assert f"- Winner: trial 1, step {second['best_step']}; exported to winner/" in page
    report = (project.results() / "report.html").read_text()
    assert report.index("take: trial 1") < report.index("rank 1: trial 0")
    check_invariants(project)


@pytest.mark.slow
def test_target_and_cut_texts_are_said_on_a_quiet_screen(make_project):
    project = make_project()
    out, err = project.sweep(
        "run", "spec.yaml", "--set", "stop.target=10", "--set", "data.max_length=8", "--workers", "1"
    )
    assert "the target 10 is reached" in out
    assert len(project.records()) == 1
    assert err == ""
    assert "\x1b" not in out
    for chatter in ("LOAD REPORT", "%|", "Warning", "[I 20", "MISSING"):
        assert chatter not in out
    counts = json.loads((project.results() / "data/tokens-8/counts.json").read_text())
    assert 0 < counts["train"]["cut"] <= 400
    line = f"{counts['train']['cut']} of 400 train texts are longer than 8 tokens and were cut"
    assert line in out
    assert line in (project.results() / "winner/README.md").read_text()
