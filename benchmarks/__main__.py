"""Runs the benchmarks one after the other, each in a process of its own, and writes RESULTS.md as they end.

    python -m benchmarks                          about half an hour
    python -m benchmarks --full                   hours
    python -m benchmarks --data NAME=rows.csv --text COLUMN --label COLUMN
    python -m benchmarks --only throughput fixed_cost

A measure that fails, or takes far longer than it may, is reported as such and loses nothing of the others. Of
``other_seeds``, which takes hours, the rounds until then are reported.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report
from benchmarks.figures import Figures
from benchmarks.programme import MEASURES, Settings, budget, names
from benchmarks.workload import ROOT, Source

RESULTS = Path(__file__).parent / "RESULTS.md"
PATIENCE, GRACE_SECONDS = 3.0, 300.0
"""A measure is ended after so many times its budget and some seconds more."""


LONGEST = 512
"""Tokens that the models have room for."""


def asked() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="hours instead of half an hour")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=[], help="these measures alone")
    parser.add_argument(
        "--data", nargs="+", default=[], help="NAME=train.csv[,validation.csv], or a kind of made-up texts"
    )
    parser.add_argument("--text", default="text", help="column of the texts")
    parser.add_argument("--label", default="label", help="column of the labels")
    parser.add_argument("--max-length", type=int, help="tokens at most (64, on the larger model 128)")
    parser.add_argument("--model", help="folder of a model instead of random weights, where MiniLM is measured")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the budgets of time")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go; the JSON stands beside it")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--figures", type=Path, help=argparse.SUPPRESS)
    found = parser.parse_args()
    try:
        found.sources = tuple(Source.parse(one, found.text, found.label) for one in found.data)
        for source in found.sources:
            source.rows(10, 10)
        if found.model and not (Path(found.model) / "config.json").is_file():
            raise ValueError(f"{found.model}: no folder with a model's config.json")
        lacking = [] if found.model else [name for name in found.only if MEASURES[name].needs_model]
        if lacking:
            raise ValueError(f"--only {' '.join(lacking)}: needs a pretrained model; name its folder with --model")
        if found.max_length is not None and not 8 <= found.max_length <= LONGEST:
            raise ValueError(f"--max-length {found.max_length}: must be from 8 to {LONGEST}")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return found


def run_one(asked: argparse.Namespace) -> None:
    """Be the process of one measure."""
    scratch = asked.figures.with_suffix(".scratch")
    scratch.mkdir()
    model = str(Path(asked.model).resolve()) if asked.model else None
    keep = functools.partial(store, file=asked.figures)
    settings = Settings(asked.full, asked.sources, asked.max_length, model, scratch, keep)
    keep(MEASURES[asked.measure].carry_out(settings, budget(asked.measure, asked.full, asked.scale)))


def store(figures: Figures, file: Path) -> None:
    """Write figures; those before remain until these are whole."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(figures.to_json()), encoding="utf-8")
    part.replace(file)


def stored(file: Path, note: str | None = None) -> Figures:
    """Read figures, and put a note before theirs."""
    figures = Figures.from_json(json.loads(file.read_text(encoding="utf-8")))
    return figures if note is None else dataclasses.replace(figures, notes=[note, *figures.notes])


def unfinished(file: Path, why: str) -> Figures | str:
    """Return what a measure had found when it came to no end, with a note of it; if it had nothing, why it ended."""
    return stored(file, f"**Not finished: {why}.** These are the rounds until then.") if file.exists() else why


def attempt(name: str, asked: argparse.Namespace, file: Path) -> Figures | str:
    """Run a measure in a process of its own; return its figures, or why there are none."""
    command = [sys.executable, "-m", "benchmarks", *sys.argv[1:], "--measure", name, "--figures", str(file)]
    limit = PATIENCE * budget(name, asked.full, asked.scale) + GRACE_SECONDS
    with file.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            return unfinished(file, f"ended after {limit:.0f} s")
        finally:
            end(process)
    if process.returncode:
        words = file.with_suffix(".log").read_text(errors="replace").strip().splitlines()
        return unfinished(file, f"exit code {process.returncode}: {' '.join(words[-3:])[-500:]}")
    return stored(file)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a measure and what it has started, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def main() -> None:
    """Run the programme."""
    found = asked()
    if found.measure:
        run_one(found)
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the measure ends too
    head = {**report.machine(), "begun": time.strftime("%Y-%m-%d %H:%M"), "load before": f"{os.getloadavg()[0]:.2f}"}
    measured: dict[str, Figures] = {}
    failed: dict[str, str] = {}
    rest = found.only or names(full=found.full, model=found.model is not None)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for position, name in enumerate(rest, 1):
            began = time.monotonic()
            say(f"{name}: about {budget(name, found.full, found.scale) / 60:.0f} minutes ...")
            outcome = attempt(name, found, Path(folder) / f"{name}.json")
            if isinstance(outcome, Figures):
                measured[name] = outcome
            else:
                failed[name] = outcome
            head[f"minutes of {name}"] = f"{(time.monotonic() - began) / 60:.1f}"
            write(found.out, head, measured, failed, rest[position:])
    say(f"written: {found.out}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def write(
    out: Path, head: dict[str, str], measured: dict[str, Figures], failed: dict[str, str], rest: list[str]
) -> None:
    """Write RESULTS.md and the JSON beside it."""
    out.write_text(report.results(head, measured, failed, rest), encoding="utf-8")
    values = {"head": head, "measures": {name: one.to_json() for name, one in measured.items()}, "failed": failed}
    out.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def say(words: str) -> None:
    """Tell the person who waits."""
    print(words, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
