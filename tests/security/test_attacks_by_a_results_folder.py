"""Results folders that somebody else sent: nothing in them is unpickled, run, waited for or followed elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from finesweep.errors import FolderError, SweepError
from finesweep.files import checked_json
from finesweep.folder import next_attempt
from finesweep.folder.claims import Claim
from finesweep.folder.sweep_folder import SweepFolder
from security.attacks import Canary, Planted, Sweep

READERS = ("status", "leaderboard")
PICKLES = (
    *("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "tuner.pkl", "trainable.pkl"),
    *("study.journal", "study.pkl", "experiment_state-2026.json", "searcher-state-2026.pkl"),
    *("checkpoints/trial-0000/training_args.bin", "checkpoints/trial-0000/optimizer.pt"),
    *("checkpoints/trial-0000/pytorch_model.bin", "winner/training_args.bin", "winner/evidence.json"),
    *("trials/0002.json", "progress/0002.json", "runs/0002.json", "claims/0002.1", "data/train.parquet"),
)


@pytest.mark.parametrize("reader", READERS)
def test_s9_s10_no_pickle_in_a_folder_is_loaded(
    planted: Planted, evil_pickle: bytes, sweep: Sweep, reader: str
) -> None:
    for name in PICKLES:
        planted.write(name, evil_pickle)
    code, said = sweep(reader, planted.path)
    assert code == 0, said
    assert "0002.json could not be read" in said or reader == "leaderboard"


RECORDS = {
    "nested": "[" * 5_000 + "]" * 5_000,
    "nested objects": '{"trial":' * 5_000,
    "numbers": "9" * 5_000,
    "pickle": b"\x80\x04\x95",
    "not finite": '{"trial": 1, "objective": NaN}',
    "infinite": '{"trial": 1, "objective": 1e999}',
    "surrogate": '{"trial": 1, "reason": "\\ud800"}',
}


@pytest.mark.parametrize("content", RECORDS.values(), ids=RECORDS)
@pytest.mark.parametrize("reader", READERS)
def test_a_record_that_is_none_is_set_aside(planted: Planted, sweep: Sweep, reader: str, content: str | bytes) -> None:
    for name in ("trials/0001.json", "progress/0002.json", "runs/0001.json", "claims/0002.1", "winner/evidence.json"):
        planted.write(name, content)
    code, said = sweep(reader, planted.path)
    assert code == 0, said
    assert (planted.path / "trials" / "0001.json.corrupt").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"trial": 7},
        {"trial": "../../x"},
        {"state": "WON"},
        {"objective": "-1000"[1:] + "x"},
        {"seconds": None},
        {"params": {"learning_rate": {"__reduce__": "x"}}},
        {"evaluations": [{"step": 1}]},
        {"metrics": {"eval_loss": "<script>"}},
        {"__class__": "x"},
    ],
)
def test_a_record_whose_fields_are_none_is_set_aside(
    planted: Planted, sweep: Sweep, changes: dict[str, object]
) -> None:
    planted.change("trials/0001.json", **changes)
    code, said = sweep("status", planted.path)
    assert code == 0, said
    assert "0001.json could not be read" in said


def test_what_would_be_waited_for_is_not_read(planted: Planted, sweep: Sweep) -> None:
    for name in ("trials/0002.json", "runs/0002.json", "progress/0002.json", "claims/0002.1"):
        os.mkfifo(planted.path / name)
    (planted.path / "trials" / "0003.json").symlink_to("/dev/zero")
    with (planted.path / "trials" / "0004.json").open("wb") as stream:
        stream.truncate(checked_json.MAX_BYTES + 1)
    code, said = sweep("status", planted.path)
    assert code == 0, said
    assert said.count("could not be read") == 3
    assert not next_attempt.is_alive(SweepFolder(planted.path), 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../x"},
        {"name": "x\x1b]0;PWNED\x07"},
        {"spec": None},
        {"spec": {}},
        {"data": {"rows": 5}},
        {"model": {"name": 3}},
        {"plan": [{"output_dir": "/tmp/PWNED"}]},
        {"plan": [{"model._attn_implementation": "evil/kernel"}]},
        {"plan": "x"},
        {"surprise": 1},
        {"format": {"a": 1}},
    ],
)
@pytest.mark.parametrize("reader", READERS)
def test_a_manifest_that_is_none_is_refused(
    planted: Planted, sweep: Sweep, reader: str, changes: dict[str, object]
) -> None:
    planted.change("spec.json", **changes)
    code, said = sweep(reader, planted.path)
    assert code == 2, said
    assert "spec.json" in said
    assert "\x1b" not in said


def test_a_manifest_gives_no_leave_to_run_code(planted: Planted) -> None:
    values = json.loads((planted.path / "spec.json").read_text())
    planted.change("spec.json", model={**values["model"], "trust_remote_code": True})
    assert not SweepFolder(planted.path).manifest().trusts_code


def test_a_run_of_another_number_is_nobodys(planted: Planted) -> None:
    folder = SweepFolder(planted.path)
    first = json.loads((planted.path / "runs" / "0001.json").read_text())
    planted.write(
        "runs/0000.json", json.dumps({**first, "number": 1, "trust_remote_code": True, "model_path": "/evil"})
    )
    [run] = folder.runs()
    assert not run.trust_remote_code
    assert not folder.manifest().of_run(run).trusts_code


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a folder of the user's with a JSON file, a log and weights, none of which may be touched."""
    folder = tmp_path / "home"
    (folder / "trial-0009").mkdir(parents=True)
    for name in ("0001.json", "settings.json", ".profile", "trial-0009/model.safetensors"):
        (folder / name).write_text("mine")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["trials", "checkpoints", "claims", "runs", "logs", "data", "winner", "states"])
@pytest.mark.parametrize("command", ["status", "leaderboard", "run"])
def test_a_folder_that_is_a_link_is_not_followed(
    planted: Planted, victim: Path, sweep: Sweep, command: str, name: str
) -> None:
    before = contents(victim)
    place = planted.path / name
    if place.exists():
        place.rename(planted.path.with_name("aside"))
    place.symlink_to(victim)
    code, said = sweep(command, "spec.yaml" if command == "run" else planted.path)
    assert code == 2, said
    assert f"{place} is a symbolic link" in said
    assert contents(victim) == before


@pytest.mark.parametrize("name", ["logs/trial-0002.log", "checkpoints/trial-0000", "claims/.lock", "trials/0002.json"])
def test_s34_a_link_deeper_in_a_folder_ends_a_run(planted: Planted, victim: Path, sweep: Sweep, name: str) -> None:
    before = contents(victim)
    (planted.path / name).symlink_to(victim / ".profile")
    code, said = sweep("run", "spec.yaml")
    assert code == 2, said
    assert f"{planted.path / name} is a symbolic link" in said
    assert contents(victim) == before


@pytest.mark.parametrize("command", ["status", "run"])
def test_s34_a_lock_beside_the_folder_that_is_a_link_is_not_followed(
    planted: Planted, victim: Path, sweep: Sweep, command: str
) -> None:
    (planted.path.parent / ".spec.lock").symlink_to(victim / ".profile")
    code, said = sweep(command, "spec.yaml" if command == "run" else planted.path)
    assert "Traceback" not in said
    assert code == 2 or command == "status"
    assert (victim / ".profile").read_text() == "mine"


def test_s34_a_lock_of_the_claims_that_is_a_link_is_not_followed(planted: Planted, victim: Path) -> None:
    (planted.path / "claims" / ".lock").symlink_to(victim / ".profile")
    with pytest.raises(FolderError, match=r"claims/\.lock: cannot be written \(Too many levels of symbolic links\)"):
        next_attempt.claim(SweepFolder(planted.path), 1, 3)
    assert (victim / ".profile").read_text() == "mine"


def test_s34_a_claim_that_is_a_link_is_not_written_through(planted: Planted, victim: Path) -> None:
    (planted.path / "claims" / "0005.1").symlink_to(victim / ".profile")
    with pytest.raises(FolderError, match=r"claims/0005\.1: cannot be written \(Too many levels of symbolic links\)"):
        SweepFolder(planted.path).claims.note(Claim(5, 1, 1), {"learning_rate": 1e-3})
    assert (victim / ".profile").read_text() == "mine"


def test_s34_an_exported_study_is_not_written_through_a_link(planted: Planted, victim: Path, sweep: Sweep) -> None:
    (planted.path.parent / "exported").symlink_to(victim / ".profile")
    code, said = sweep("export-study", planted.path, str(planted.path.parent / "exported"))
    assert code == 2, said
    assert (victim / ".profile").read_text() == "mine"


def test_s10_a_claim_that_is_a_pickle_is_not_loaded(planted: Planted, evil_pickle: bytes) -> None:
    for content in (evil_pickle, b"{}\n" + evil_pickle + b"\n", b'{}\n{"params": {"learning_rate": [1]}}\n'):
        planted.write("claims/0005.1", content)
        assert list(SweepFolder(planted.path).params_of(5)) == []


@pytest.mark.parametrize("name", ["leaderboard.md", "leaderboard.csv", "study.journal", "spec.json"])
def test_s33_a_file_that_is_a_link_is_not_written_through(
    planted: Planted, victim: Path, sweep: Sweep, name: str
) -> None:
    (planted.path / name).unlink(missing_ok=True)
    (planted.path / name).symlink_to(victim / ".profile")
    code, said = sweep("leaderboard", planted.path)
    assert code == 2, said
    assert (victim / ".profile").read_text() == "mine"


def test_s33_temporary_names_cannot_be_guessed(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (seen.append(self.name), real(self, target))[1])
    for _ in range(5):
        SweepFolder(planted.path).write_run(SweepFolder(planted.path).runs()[0])
    assert len(set(seen)) == 5


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        '{"pid": "1; rm"}',
        '{"faults": 5}',
        '{"beat": 1e999}',
        '{"pid": 1e300}',
        "[" * 9_999,
    ],
)
def test_a_claim_of_any_content_is_a_claim(planted: Planted, content: str) -> None:
    planted.write("claims/0002.1", content)
    for stranger in ("0002.../../x", "0002.1.tmp", "9" * 200 + ".1", "٣.1"):
        planted.write(f"claims/{stranger.replace('/', '_')}", content)
    lease = next_attempt.claim(SweepFolder(planted.path), 1, range(3))
    assert lease is not None
    assert (lease.claim.trial, lease.claim.attempt) == (2, 2)
    assert isinstance(lease.claim, Claim)
    lease.release()


ESCAPES = "\x1b]0;PWNED\x07\x1b[2Jgone\u202e"


@pytest.mark.parametrize("reader", READERS)
def test_s23_texts_of_a_folder_do_nothing_to_a_terminal(planted: Planted, sweep: Sweep, reader: str) -> None:
    fields = {"state": "FAILED", "reason": ESCAPES, "log": ESCAPES, "host": ESCAPES, "objective": None}
    planted.change("trials/0001.json", **fields, params={"learning_rate": ESCAPES}, metrics={ESCAPES: 0.5})
    planted.change("runs/0001.json", outcome=ESCAPES, host=ESCAPES, environment={ESCAPES: ESCAPES})
    planted.write(f"trials/{'x' + ESCAPES.replace('/', '')}.json", "{")
    planted.write("../.spec.lock", ESCAPES)
    code, said = sweep(reader, planted.path)
    assert code == 0, said
    assert not [character for character in said if not character.isprintable() and character != "\n"]
    for file in planted.path.glob("leaderboard.*"):
        assert "\x1b" not in file.read_text()


@pytest.mark.parametrize(
    "text",
    ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", '"=1', "＝1", "＋1", "－1", "＠1", "\x00=1"],
)
def test_s21_texts_of_a_folder_are_no_formulas(planted: Planted, sweep: Sweep, text: str) -> None:
    import csv

    planted.change(
        "trials/0001.json", reason=text, params={"learning_rate": text}, objective=-0.5, metrics={text: -0.5}
    )
    assert sweep("leaderboard", planted.path)[0] == 0
    with (planted.path / "leaderboard.csv").open(newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert not [cell for cell in cells if cell.lstrip(' "').startswith(tuple("=+@＝＋－＠\t\r\0"))]
    assert "-0.5" in cells  # a number stays one


def test_s25_what_is_written_is_json_that_everybody_reads(planted: Planted, sweep: Sweep) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    planted.change("trials/0001.json", objective=None, state="DIVERGED", metrics={"eval_loss": None})
    assert sweep("leaderboard", planted.path)[0] == 0
    json.loads((planted.path / "leaderboard.json").read_text(), parse_constant=refuse)


def test_s19_rows_of_a_folder_hold_numbers_and_fetch_nothing(planted: Planted, canary: Canary) -> None:
    """A column of images would be opened when its row is read, wherever it says that they are."""
    import datasets

    from finesweep.folder.checked_files import seal
    from finesweep.training.tokens import tokenized

    folder = SweepFolder(planted.path)
    places = [{"bytes": None, "path": f"http://{canary.address}/x.png"}, {"bytes": b"x", "path": ""}]
    rows = datasets.Dataset.from_dict({"input_ids": [[1, 2], [3]], "labels": places})
    rows.save_to_disk(str(folder.tokens(24) / "train"))
    info = json.loads((folder.tokens(24) / "train" / "dataset_info.json").read_text())
    info["features"]["labels"] = {"_type": "Image"}
    planted.write("data/tokens-24/train/dataset_info.json", json.dumps(info))
    seal(folder.tokens(24))
    with pytest.raises(SweepError, match=r"train: the column 'labels' holds no numbers"):
        tokenized(folder, folder.manifest(), 24)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the user a token for Ray, and no address for it."""
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "d34d")


@pytest.mark.parametrize("command", ["status", "cancel", "supervise --run 1", "collect --run 1"])
def test_s44_an_address_in_a_folder_gets_no_credentials(
    planted: Planted, sweep: Sweep, canary: Canary, credentials: None, command: str
) -> None:
    """Neither Ray's dashboard nor its head: the address is shown, with what confirms it."""
    profile = {
        "launcher": "ray",
        "address": canary.address,
        "dashboard": f"http://{canary.address}",
    }
    planted.change("runs/0001.json", profile=profile, ended=None, outcome=None, token="t0k")
    planted.write("runs/0001.jobs", json.dumps({"sweep": "id"}))
    name, *options = command.split()
    code, said = sweep(name, planted.path, *options)
    assert code == (0 if name == "status" else 2), said
    if name in ("status", "cancel"):
        assert f"its job is at http://{canary.address}" in said
        assert f"--on PROFILE.yaml or RAY_API_SERVER_ADDRESS=http://{canary.address}" in said
    else:
        assert "run 1 names address and dashboard; without its --token nothing is sent there" in said
