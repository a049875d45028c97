"""Measures finesweep on one GPU with a model of BERT-base's size, offline, in at most eight minutes.

    python -m benchmarks.gpu            on a machine with an NVIDIA GPU
    python -m benchmarks.gpu --tiny     the same on the CPU and with a tiny model, to see that it works

What trials share the GPU by calibration, which precision they train in, whether a batch that is too large for the
memory is halved, and real tokens per second beside the stock call: as it comes, in single precision, and with
``bf16: true``. The weights are random and the rows made up, so nothing is fetched. Without a GPU it says so and ends
with exit code 2. What does not fit into the eight minutes any more is named and not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.arms import ARMS, OURS, Arm, Outcome, carry_out, environment
from benchmarks.figures import Figures, Goal, Spread, Table, number
from benchmarks.threads import short
from benchmarks.throughput import STEADY, mean_tokens, speeds
from benchmarks.workload import ROOT, Size, Source, Workload, make

SECONDS = 450.0
"""How long all parts may take; with what a part needs to end when its time is over, that is less than eight minutes."""
RESULTS = Path(__file__).parent / "GPU.md"
LEAST_SECONDS = 20.0
"""A part is begun only if so many seconds are left for it."""

LOOK_SECONDS = 0.02
"""Pause between two looks at the GPU's free memory."""

SPACE = {"learning_rate": {"low": 1e-5, "high": 1e-4, "log": True}}
STOCK_BF16 = dataclasses.replace(ARMS["S"], key="S+bf16", title="S with bf16: true")
ALONE = Arm(OURS.key, OURS.title, None, (*STEADY.options, "--workers", "1"))

MANY_TRIALS = 5_000
"""Trials of the sweep that is planned: of so many it pays to measure how many share the GPU."""

METHOD = (
    "One GPU, a model of {model} size with random weights, made-up rows. `sweep plan` measures how many trials share "
    "the GPU, as `sweep run` does for a long sweep. With this number finesweep trains {trials} trials of one epoch at "
    "batch 16 without pruning, in the precision that it chooses; the stock call trains {stock}. Tokens are those of "
    "the texts, without what pads them; the time is from the first trial's begin to the last one's end. Then one trial "
    "trains alone with batches of {batch} texts that fill max_length, another with half of that, and a last one with "
    "{batch} again, while another process has filled the GPU's memory up to the middle of what the first two needed."
)


@dataclass(frozen=True)
class Scale:
    """How large the measures are.

    Attributes:
        model: One of ``models.SIZES``.
        rows: Training rows of an epoch.
        trials: Trials of finesweep.
        stock_trials: Trials of the stock call.
        batch: Batch that is to be too large.
        max_length: Tokens at most.
    """

    model: str
    rows: int
    trials: int
    stock_trials: int
    batch: int
    max_length: int


BERT = Scale("bert-base", 3_000, 12, 3, 128, 128)
TINY = Scale("small", 64, 2, 1, 32, 32)


@dataclass
class Clock:
    """The time that is left.

    Attributes:
        deadline: When everything must have ended, on the monotonic clock.
        skipped: Parts for which no time was left.
    """

    deadline: float
    skipped: list[str] = field(default_factory=list)

    def left(self, part: str) -> float | None:
        """Return the seconds that a part may take; None if they are too few, which is noted."""
        seconds = self.deadline - time.monotonic()
        if seconds >= LEAST_SECONDS:
            return seconds
        self.skipped.append(f"no time was left for: {part}")
        return None


def measure(scale: Scale, scratch: Path, seconds: float) -> Figures:
    """Run all parts.

    Args:
        scale: How large they are.
        scratch: Where everything is written.
        seconds: How long all may take.
    """
    clock = Clock(time.monotonic() + seconds)
    workload = _made("sentences", scale, scale.rows, scratch / "short")
    tokens, given = mean_tokens(workload), short(workload, scale.stock_trials)
    limit = clock.left("how many trials share the GPU")
    plan = planned(workload, scratch / "plan", limit) if limit else {"note": "not measured"}
    ours = sharing(plan, scratch / "profile.yaml")
    plans = [(ours, short(workload, scale.trials)), (ARMS["S"], given), (STOCK_BF16, with_bf16(given))]
    outcomes: dict[str, Outcome] = {}
    for arm, asked in plans:
        if (limit := clock.left(arm.title)) is not None:
            outcomes[arm.key] = carry_out(arm, asked, scratch / arm.key, limit, judge=False)
    halving, notes = halved(scale, scratch, clock)
    notes += [f"{key}: {one.failure}" for key, one in outcomes.items() if one.failure]
    return Figures(
        title="What was measured",
        method=METHOD.format(model=scale.model, trials=scale.trials, stock=scale.stock_trials, batch=scale.batch),
        goals=goals(tokens, outcomes),
        tables=[
            sharing_table(plan),
            precision_table(records_of(scratch / ours.key)),
            speed_table(tokens, [arm for arm, _ in plans], outcomes),
            halving,
        ],
        notes=[*notes, *clock.skipped],
        raw={"plan": plan, **{key: dataclasses.asdict(one) for key, one in outcomes.items()}},
    )


def _made(kind: str, scale: Scale, rows: int, folder: Path) -> Workload:
    return make(Source(kind), Size(scale.model, rows, 32, scale.trials, SPACE, scale.max_length), folder)


def with_bf16(workload: Workload) -> Workload:
    """Return a workload that asks for bf16; without a GPU the library wants to hear that the CPU is meant."""
    here = {"bf16": True} if gpu_name() else {"bf16": True, "use_cpu": True}
    return dataclasses.replace(workload, fixed={**workload.fixed, **here})


def planned(workload: Workload, folder: Path, limit: float) -> dict[str, Any]:
    """Have finesweep measure how many trials share the GPU; return what `sweep plan --json` says.

    Args:
        workload: What is trained, at batch 16.
        folder: Where it may write.
        limit: Seconds after which it is ended; then there is only a note.
    """
    folder.mkdir()
    command = STEADY.command(short(workload, MANY_TRIALS).write(folder / "workload.json"), folder)
    command[command.index("run")] = "plan"
    try:
        done = subprocess.run(
            [*command, "--json"],
            env=environment(STEADY, folder),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"note": f"nothing: it took longer than {limit:.0f} s"}
    if done.returncode:
        return {"note": f"nothing: {' '.join(done.stderr.strip().splitlines()[-2:])[-300:]}"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def sharing(plan: Mapping[str, Any], file: Path) -> Arm:
    """Return finesweep with as many trials on the GPU as a plan says; it decides by itself where the plan failed.

    Args:
        plan: What ``planned`` has returned.
        file: Where the launch profile is written.
    """
    if not plan.get("per_gpu"):
        return STEADY
    file.write_text(json.dumps({"launcher": "local", "trials_per_gpu": plan["per_gpu"]}), encoding="utf-8")
    return dataclasses.replace(STEADY, options=(*STEADY.options, "--on", str(file)))


def goals(tokens: float, outcomes: Mapping[str, Outcome]) -> list[Goal]:
    """Compare tokens per second with both ways of the stock call."""
    rates = {key: speeds([one], tokens)[0] for key, one in outcomes.items()}
    own = rates.get(OURS.key)
    return [
        Goal("M3", f"real tokens/s on a GPU ({tokens:.0f} tokens a text)", key, 2.0, "x", True, Spread.of([own / rate]))
        for key, rate in rates.items()
        if key != OURS.key and own and rate
    ]


def speed_table(tokens: float, arms: Sequence[Arm], outcomes: Mapping[str, Outcome]) -> Table:
    """Return tokens per second, and how long each arm took to begin and to end."""
    columns = ["arm", "trials", "tokens/s", "s of training", "s to the first step", "s from the last step", "s in all"]
    rows = []
    for arm in arms:
        if (one := outcomes.get(arm.key)) is None:
            continue
        training = one.training_seconds if one.trials else 0.0
        figures = (speeds([one], tokens)[0], training, one.start_seconds, one.end_seconds, one.seconds)
        rows.append([arm.title, str(len(one.trials)), *("-" if value is None else number(value) for value in figures)])
    return Table(f"Real tokens per second, {tokens:.0f} tokens a text on average", columns, rows)


# What finesweep chose


def sharing_table(plan: Mapping[str, Any]) -> Table:
    """Return the table of how many trials share the GPU, from what ``planned`` has returned."""
    readings = [one["measurement"] for one in plan.get("readings", ()) if one["measurement"]]
    speed = number(readings[0]["examples_per_second"]) if readings else "-"
    row = [str(plan.get("per_gpu", "-")), str(plan.get("threads", "-")), speed, plan["note"]]
    columns = ["trials on the GPU", "threads each", "examples/s together, longest texts", "why"]
    return Table("Trials on one GPU", columns, [row])


def precision_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of the precision of trials, from their records."""
    names = ("bf16", "fp16", "tf32")
    found = {tuple(str(record["effective"].get(name, "-")) for name in names) for record in records}
    return Table("Precision that finesweep chose", list(names), [list(one) for one in sorted(found)])


def records_of(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a sweep's trials."""
    return _read(folder, "trials/*.json")


def _read(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob(f"results/*/{pattern}"))]


# Halving


@dataclass
class Memory:
    """The GPU's memory, in bytes; 0 without a GPU.

    Attributes:
        free: Free bytes now.
        least: Free bytes at the least since ``watched`` began.
    """

    look: Callable[[], int]
    least: int = 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Note the least free memory while the block runs."""
        self.least, over = self.look(), threading.Event()

        def watch() -> None:
            while not over.wait(LOOK_SECONDS):
                self.least = min(self.least, self.look())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def free_memory() -> int:
    """Return the free bytes of the GPU; 0 without one."""
    import torch

    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else 0


def to_fill(free: int, whole: int, half: int) -> int:
    """Return how many bytes to fill, so that there is room for the half batch and not for the whole one.

    Args:
        free: Free bytes now.
        whole: Bytes that a trial with the whole batch needed.
        half: The same with half the batch.

    Raises:
        ValueError: There is nothing between the two, or the GPU is fuller than that already.
    """
    if whole <= half:
        raise ValueError("the whole batch needs no more memory than half of it")
    if (size := free - (whole + half) // 2) <= 0:
        raise ValueError("the GPU is too full for the whole batch already")
    return size


def halved(scale: Scale, scratch: Path, clock: Clock) -> tuple[Table, list[str]]:
    """Train a trial with a batch that is too large for the memory that is left; return what came of it, and notes."""
    memory, notes, rows = Memory(free_memory), list[str](), list[list[str]]()
    if gpu_name() is None:
        clock.skipped.append("there is no GPU to fill, so no batch is halved")
    workload = _made("reviews", scale, 4 * scale.batch, scratch / "long")
    needed: list[int] = []
    filled = None
    # Without a GPU nothing can be filled: one trial shows that the rest works.
    parts = ("whole", "half", "filled") if gpu_name() else ("whole",)
    for part in parts:
        if (limit := clock.left(f"halving, {part}")) is None:
            break
        if part == "filled":
            filled, why = _ballast(memory, needed)
            notes += [f"halving: {why}"] if why else []
        folder, before = scratch / f"halving-{part}", memory.look()
        batch = scale.batch // 2 if part == "half" else scale.batch
        with memory.watched():
            outcome = carry_out(ALONE, short(workload, 1, batch), folder, limit, judge=False)
        needed.append(before - memory.least)
        notes += [f"halving, {part}: {outcome.failure}"] if outcome.failure else []
        rows += [[str(batch), f"{before / 1e9:.2f}", f"{needed[-1] / 1e9:.2f}", *ended(records_of(folder))]]
    del filled
    columns = ["batch", "GB free before", "GB used at most", "ended", "attempts", "batch it trained with"]
    return Table("Batches that do not fit", columns, rows), notes


def ended(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how the one trial of a sweep ended: state, attempts, and its batches after halving."""
    if not records:
        return ["no record", "-", "-"]
    record = records[0]
    divisor, batch = record["batch_divisor"], record["effective"].get("per_device_train_batch_size", 0)
    shown = str(batch) if divisor == 1 else f"{record['effective'].get('gradient_accumulation_steps', 1)} x {batch}"
    return [record["state"], str(record["attempt"]), shown]


def _ballast(memory: Memory, needed: Sequence[int]) -> tuple[Any, str | None]:
    """Fill the GPU; return what fills it, and why nothing does."""
    import torch

    try:
        size = to_fill(memory.look(), *needed)
    except ValueError as error:
        return None, str(error)
    return torch.empty(size, dtype=torch.uint8, device="cuda"), None


def gpu_name() -> str | None:
    """Return the name of the GPU, None without one."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="on the CPU and with a tiny model, to see that it works")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long everything may take")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go; the JSON stands beside it")
    asked = parser.parse_args()
    # One GPU, the first that is visible. With --tiny it is one in name, so that the sweep measures its machine too.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    os.environ["CUDA_VISIBLE_DEVICES"] = "0" if asked.tiny else visible
    if not asked.tiny and gpu_name() is None:
        print("no GPU: PyTorch finds none on this machine; --tiny runs the same on the CPU", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        figures = measure(TINY if asked.tiny else BERT, Path(scratch), asked.seconds)
    head = {
        **report.machine(),
        "GPU": gpu_name() or "none (tiny, on the CPU)",
        "ended": time.strftime("%Y-%m-%d %H:%M"),
    }
    facts = "\n".join(f"* {name}: {value}" for name, value in head.items())
    text = "\n\n".join(
        ["# One GPU", facts, report.as_markdown(report.goals_table(figures.goals)), report.section(figures)]
    )
    asked.out.write_text(text + "\n", encoding="utf-8")
    content = {"head": head, "figures": figures.to_json()}
    asked.out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
