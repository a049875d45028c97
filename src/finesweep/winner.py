"""Owns the winner: exporting the best trial's weights, and proving that they are what was ranked."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesweep.atomic import write_json, write_text
from finesweep.environment import child_environment
from finesweep.errors import RunDirError, WinnerMismatch
from finesweep.manifest import Manifest
from finesweep.model_card import model_card
from finesweep.run_dir import RunDir
from finesweep.trial import TrialRecord

TOLERANCE = 1e-4
"""Largest relative difference between the ranked value and the reloaded winner's."""

EVIDENCE = "evidence.json"


@dataclass(frozen=True)
class Evidence:
    """What shows that a winner is the model that was ranked.

    Attributes:
        trial: The trial it comes from.
        metric: Name of the objective.
        ranked: The objective on the leaderboard.
        reloaded: Validation metrics of the exported folder, evaluated in a fresh process.
        test: Test metrics of the same, where there is a test set.
        sample: What the pipeline says about the first validation text.
    """

    trial: int
    metric: str
    ranked: float
    reloaded: Mapping[str, float]
    test: Mapping[str, float]
    sample: Mapping[str, Any]


def export(run_dir: RunDir, manifest: Manifest, record: TrialRecord) -> Evidence:
    """Export a trial as ``winner/``: copied, reloaded in a fresh process, evaluated, then put in place.

    A winner that is there already and is this very trial stays as it is.

    Args:
        run_dir: The sweep's folder.
        manifest: What was prepared.
        record: The best trial; its weights are under ``checkpoints/``.

    Raises:
        RunDirError: The weights are gone, or cannot be copied.
        WinnerMismatch: The reloaded model does not give the ranked value.
    """
    metric = manifest.spec["objective"]["metric"]
    assert record.objective is not None
    if (present := read_evidence(run_dir)) and (present.trial, present.ranked) == (record.trial, record.objective):
        return present
    building = run_dir.path / ".winner.tmp"
    shutil.rmtree(building, ignore_errors=True)
    _copy(run_dir.checkpoint(record.trial), building)
    found = _evaluate_in_fresh_process(run_dir, building, record)
    evidence = Evidence(record.trial, metric, record.objective, **found)
    if not math.isclose(evidence.reloaded[metric], record.objective, rel_tol=TOLERANCE, abs_tol=1e-8):
        raise WinnerMismatch(
            f"trial {record.trial} was ranked with {metric} {record.objective:.6g}, but its weights, loaded again, "
            f"give {evidence.reloaded[metric]:.6g}; they are left in {building} and are not exported as winner/"
        )
    write_json(building / EVIDENCE, evidence.__dict__)
    cut = run_dir.cut_texts(record.effective["data.max_length"])
    write_text(building / "README.md", model_card(manifest, record, cut, evidence.reloaded, evidence.test))
    shutil.rmtree(run_dir.winner, ignore_errors=True)
    building.rename(run_dir.winner)
    return evidence


def read_evidence(run_dir: RunDir) -> Evidence | None:
    """Return the evidence of the exported winner, None if there is none."""
    try:
        return Evidence(**json.loads((run_dir.winner / EVIDENCE).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return None


def _copy(checkpoint: Path, target: Path) -> None:
    if not checkpoint.is_dir():
        raise RunDirError(f"{checkpoint}: the best trial's weights are gone; run the sweep anew with --fresh")
    try:
        # A hard link costs no space; where the file system has none, the bytes are copied.
        shutil.copytree(checkpoint, target, copy_function=_link_or_copy)
    except (OSError, shutil.Error) as error:
        free = shutil.disk_usage(checkpoint).free / 1e6
        raise RunDirError(f"{target}: the winner cannot be written ({error}); {free:.0f} MB are free") from error


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _evaluate_in_fresh_process(run_dir: RunDir, folder: Path, record: TrialRecord) -> dict[str, Any]:
    """Return ``reloaded``, ``test`` and ``sample`` as a new process that only knows the folders finds them."""
    with tempfile.TemporaryDirectory(prefix="finesweep-") as scratch:
        output = Path(scratch) / "evidence.json"
        arguments = ["verify", str(run_dir.path), str(folder), "--trial", str(record.trial), "--output", str(output)]
        log = run_dir.path / "logs" / "winner.log"
        with log.open("ab") as stream:
            command = [sys.executable, "-m", "finesweep", *arguments]
            result = subprocess.run(command, stdout=stream, stderr=stream, env=child_environment(), check=False)
        if result.returncode != 0 or not output.is_file():
            raise WinnerMismatch(f"the winner of trial {record.trial} could not be loaded again; see {log}")
        found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        return found
