"""Shows the answer of `sweep plan` on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from finesweep.calibration import BatchMeasurement
from finesweep.forecast import Span
from finesweep.forecast.time_left import span
from finesweep.sweep.plan_costs import ConfirmationCost, Disk, Estimate, Memory
from finesweep.text import clean

BUSY_SHARE = 0.2
"""Share of the cores' time used by other processes above which the user is warned."""


def speeds(estimate: Estimate) -> Table:
    """Return the measurements of each batch size as a table."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("batch size", "examples/s", "tokens/s", "evaluated/s", "memory of a trial"):
        table.add_column(name, justify="right")
    for one in estimate.readings:
        table.add_row(*_cells(one))
    return table


def _cells(one: BatchMeasurement) -> tuple[str, ...]:
    if (found := one.measurement) is None:
        return str(one.batch), "does not fit", "", "", ""
    on_gpu = f" + {found.gpu_memory_mb / 1000:.1f} GB of the GPU" if found.gpu_memory_mb else ""
    return (
        str(one.batch),
        f"{found.examples_per_second:,.0f}",
        f"{found.tokens_per_second:,.0f}",
        f"{found.rows_per_second or 0:,.0f}",
        f"{found.memory_mb / 1000:.2f} GB{on_gpu}",
    )


def lines(estimate: Estimate) -> Iterator[str]:
    """Yield the expected costs of the sweep, one line each."""
    yield f"  workers   {_workers(estimate)}"
    if estimate.launcher != "local":
        yield f"            measured on this machine; with launcher: {estimate.launcher} they run on others"
    if estimate.hours is not None and estimate.hours_unpruned is not None:
        yield f"  time      {_time(estimate, estimate.hours, estimate.hours_unpruned)}"
        if (limit := estimate.budget_hours) is not None and estimate.hours.high > limit:
            ends = "ends" if estimate.hours.low > limit else "may end"
            yield f"            the budget of {limit:g} hours {ends} it before all {estimate.trials:,} trials"
    if estimate.busy_share is not None and estimate.busy_share > BUSY_SHARE:
        busy = f"{estimate.busy_share:.0%}"
        yield f"            other processes used the cores for {busy} of the time; without them it takes less"
    yield f"  examples  {_examples(estimate)}"
    if estimate.confirmation is not None:
        yield f"  confirm   {_confirmation(estimate.confirmation)}"
    if estimate.memory is not None:
        yield f"  memory    {_memory(estimate.memory, estimate.workers)}"
    if estimate.disk is not None:
        yield from _disk_lines(estimate.disk)
    for problem in estimate.problems:
        yield f"  problem   {clean(problem, 500)}"
    if not estimate.problems:
        yield "Everything fits."


def _workers(estimate: Estimate) -> str:
    if estimate.note:
        return clean(estimate.note)
    threads = f"{estimate.threads} {'thread' if estimate.threads == 1 else 'threads'}"
    return f"1 with {threads}" if estimate.workers == 1 else f"{estimate.workers} with {threads} each"


def _time(estimate: Estimate, hours: Span, unpruned: Span) -> str:
    whole = f"{_hours(unpruned)} for {estimate.trials:,} trials"
    return whole if estimate.pruner == "none" else f"{whole} without pruning, {_hours(hours)} with {_pruner(estimate)}"


def _pruner(estimate: Estimate) -> str:
    return estimate.pruner if estimate.factor is None else f"{estimate.pruner} (1 in {estimate.factor})"


def _hours(hours: Span) -> str:
    return span(hours.low * 3600, hours.high * 3600)


def _examples(estimate: Estimate) -> str:
    whole = f"about {estimate.examples_unpruned.middle:,.0f}"
    if estimate.pruner == "none":
        return whole
    low, high = estimate.examples.low, estimate.examples.high
    return f"{whole} without pruning, {low:,.0f} to {high:,.0f} with {_pruner(estimate)}"


def _confirmation(cost: ConfirmationCost) -> str:
    text = f"besides at most {cost.trainings:,} trainings, about {cost.examples.middle:,.0f} examples"
    return text if cost.hours is None else f"{text}, {_hours(cost.hours)}"


def _memory(memory: Memory, workers: int) -> str:
    each = f"{memory.worker_gb:.2f} GB for a worker and its trial"
    return each if workers == 1 else f"{each}, {memory.total_gb:.2f} GB in all"


def _disk_lines(disk: Disk) -> Iterator[str]:
    yield f"  disk      {_disk(disk)}"
    if disk.states_limit_gb is not None:
        most = _size(disk.states_limit_gb)
        if disk.states_memory_gb:
            rest = f" and then {most} on disk" if disk.states_limit_gb else ""
            in_memory = f"{_size(disk.states_memory_gb)} in memory (limits.states)"
            yield f"            trials that wait keep states of up to {in_memory}{rest}; others start again"
            yield "            if the sweep is stopped, those in memory move to disk, as far as there is room"
        else:
            yield f"            trials that wait keep states of {most} at most (limits.states_gb); others start again"


def _disk(disk: Disk) -> str:
    parts = (
        ("rows and tokens", disk.data_gb),
        ("weights", disk.weights_gb),
        ("states", disk.states_gb),
        ("logs", disk.logs_gb),
    )
    return f"{_size(disk.total_gb)} at the peak: {', '.join(f'{_size(gb)} {name}' for name, gb in parts)}"


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{gigabytes * 1000:.1f} MB"
