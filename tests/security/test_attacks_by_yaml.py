"""Search spaces that want more than to be read: each ends with exit code 2 and a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from security.attacks import SPEC, Canary, Sweep

MODEL, DATA = "model: ./model\n", "data: {train: train.csv, validation: validation.csv}\n"


def replaced(old: str, new: str) -> str:
    assert old in SPEC
    return SPEC.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(SPEC + "task: !!python/object/apply:os.system ['touch PWNED']\n", "not allowed", id="S1-apply"),
        pytest.param(SPEC + "task: !!python/object/new:pathlib.Path [PWNED]\n", "not allowed", id="S1-new"),
        pytest.param(SPEC + "task: !!python/name:os.system\n", "not allowed", id="S1-name"),
        pytest.param("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "anchors and aliases", id="S2-aliases"),
        pytest.param("a: " + "[" * 100_000, "nested deeper than 50", id="S2-nested"),
        pytest.param("a: " + "9" * 100_000, "too long", id="S2-digits"),
        pytest.param(SPEC + "# " + "x" * 4_000_100, "4,000,000 that are read", id="S2-size"),
        pytest.param(SPEC + "trust_remote_code: true\n", "trust_remote_code", id="S5-top"),
        pytest.param(SPEC + "fixed: {trust_remote_code: true}\n", "trust_remote_code", id="S5-fixed"),
        pytest.param(replaced(MODEL, "model: {name: ./model, trust_remote_code: true}\n"), "trust_rem", id="S5-model"),
        pytest.param(SPEC + "name: ../../PWNED\n", "is no name", id="S17-up"),
        pytest.param(SPEC + "name: /tmp/PWNED\n", "is no name", id="S17-absolute"),
        pytest.param(SPEC + 'name: "x\\ntouch PWNED"\n', "is no name", id="S15-line"),
        pytest.param(SPEC + "name: x;touch$IFS'PWNED'\n", "is no name", id="S15-shell"),
        pytest.param(SPEC + "name: .\n", "is no name", id="S17-dot"),
        pytest.param(SPEC + "name: %j\n", "YAML|is no name", id="S15-percent"),
        pytest.param(SPEC + f"name: {'x' * 300}\n", "is no name", id="S17-long"),
        pytest.param(SPEC + "fixed: {output_dir: PWNED}\n", "output_dir", id="S18-fixed"),
        pytest.param(
            replaced("learning_rate:", "output_dir: {choices: [PWNED]}, learning_rate:"), "output_dir", id="S18"
        ),
        pytest.param(SPEC + "fixed: {deepspeed: evil.json}\n", "deepspeed", id="S18-deepspeed"),
        pytest.param(SPEC + "fixed: {push_to_hub: true}\n", "push_to_hub", id="S18-push"),
        pytest.param(SPEC + "fixed: {model._attn_implementation: evil/kernel}\n", "attn_implementation", id="S6-spec"),
    ],
)
def test_a_yaml_runs_nothing(project: Path, pwned: Path, canary: Canary, sweep: Sweep, text: str, message: str) -> None:
    (project / "spec.yaml").write_text(text)
    code, said = sweep("validate", "spec.yaml")
    assert code == 2, said
    assert any(part in said for part in message.split("|")), said
    assert "Traceback" not in said
    assert len(said) < 5_000
    assert not list(project.rglob("PWNED"))


@pytest.mark.parametrize(
    "scheme", ["http://{}/train.csv", "s3://{}/x.csv", "zip://x.csv::http://{}/x.zip", "hf://{}/x"]
)
@pytest.mark.parametrize("key", ["train", "dataset", "model"])
def test_s19_an_address_is_not_fetched(project: Path, canary: Canary, sweep: Sweep, scheme: str, key: str) -> None:
    address = scheme.format(canary.address)
    if key == "model":
        text = replaced("./model", f"'{address}'")
    else:
        text = replaced("train: train.csv, validation: validation.csv", f"{key}: '{address}'")
    (project / "spec.yaml").write_text(text)
    code, said = sweep("validate", "spec.yaml")
    assert code == 2
    assert "is an address" in said


def test_s19_a_place_that_is_no_data_file_is_not_shown(project: Path, sweep: Sweep) -> None:
    (project / "spec.yaml").write_text(replaced("train.csv", "/etc/passwd"))
    code, said = sweep("validate", "spec.yaml")
    assert code == 2
    assert "root:" not in said


@pytest.mark.parametrize("option", [("--set", "data.train=http://{}/x.csv"), ("--name", "../{}")])
def test_the_command_line_is_checked_like_the_yaml(
    project: Path, canary: Canary, sweep: Sweep, option: tuple[str, str]
) -> None:
    code, said = sweep("validate", "spec.yaml", *(text.format(canary.address) for text in option))
    assert code == 2, said
