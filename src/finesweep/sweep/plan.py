"""Runs `sweep plan`: prepares a sweep in a temporary folder, measures it there, and estimates its costs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from finesweep import activity
from finesweep.calibration import PlanMeasurement
from finesweep.errors import LaunchError
from finesweep.files import last_words, read_as
from finesweep.folder import disk
from finesweep.host.machine import usable_memory_gb
from finesweep.host.python_process import child_environment
from finesweep.host.signals import Signals
from finesweep.launch.commands import run_command
from finesweep.sweep import prepare
from finesweep.sweep.open_sweep import OpenSweep
from finesweep.sweep.plan_costs import Estimate, PlanInputs, estimated
from finesweep.sweep.preflight import Checked
from finesweep.sweep.request import Request
from finesweep.sweep.states_in_memory import memory_bytes

MOST_ROWS = 20_000
"""Maximum number of prepared rows of a split; they represent the others."""

POLL_SECONDS = 0.05


def plan(request: Request, announce: Callable[[Checked], None] = lambda _: None) -> Estimate:
    """Estimate the costs of a sweep; nothing is left behind.

    Args:
        request: The user's request.
        announce: Called with the ``Checked`` spec before anything is measured.

    Raises:
        SpecError: With every problem found.
        LaunchError: Nothing could be measured.
        Stopped: The user stopped the command.
    """
    with (
        Signals().counted() as signals,
        tempfile.TemporaryDirectory(prefix="finesweep-plan-", ignore_cleanup_errors=True) as temporary,
        contextlib.ExitStack() as stack,
        signals.ending_the_block(),
    ):
        began = time.monotonic()
        profile = prepare.profile_of(request)
        checked = prepare.check(request, profile)
        activity.tell("")
        announce(checked)
        here = dataclasses.replace(request, results=Path(temporary))
        sample, share = _sampled(checked)
        path, write = Path(temporary) / checked.loaded.spec.name, functools.partial(prepare.write_prepared, sample)
        sweep = prepare.open_folder(path, sample, here, profile, write=write)
        seconds = time.monotonic() - began
        with signals.held_back():
            process = stack.enter_context(_MeasuringProcess(sweep, Path(temporary)))
        found = process.measurement()
        return estimated(_inputs(request, checked, sweep, share, seconds), found)


def _sampled(checked: Checked) -> tuple[Checked, float]:
    """Return a spec with enough rows for measuring, and their share of all rows."""
    frames = checked.data.frames
    every = {split: -(-len(frame) // MOST_ROWS) for split, frame in frames.items()}
    few = {split: frame.iloc[:: every[split]].reset_index(drop=True) for split, frame in frames.items()}
    share = sum(map(len, few.values())) / sum(map(len, frames.values()))
    return dataclasses.replace(checked, data=dataclasses.replace(checked.data, frames=few)), share


def _inputs(request: Request, checked: Checked, sweep: OpenSweep, share: float, seconds: float) -> PlanInputs:
    existing = request.results.absolute()
    while not existing.exists():
        existing = existing.parent
    return PlanInputs(
        spec=checked.loaded.spec,
        profile=sweep.profile.asked,
        rows=checked.data.facts().rows,
        trials=sweep.wanted,
        prepared_bytes=disk.used_bytes(sweep.sweep_folder.path) / share,
        free_bytes=float(shutil.disk_usage(existing).free),
        memory_gb=usable_memory_gb(),
        check_seconds=seconds,
        planned=checked.planned,
        states_memory_bytes=memory_bytes(sweep.profile.asked, checked.loaded.spec),
    )


class _MeasuringProcess:
    """Measures in a separate process, which has always ended after the block."""

    def __init__(self, sweep: OpenSweep, temporary: Path) -> None:
        self._output, self._log = temporary / "readings.json", temporary / "survey.log"
        command = run_command("survey", sweep.sweep_folder, sweep.run)
        device = "" if sweep.profile.gpus_per_trial == 0 else None
        with self._log.open("wb") as stream:
            self._process = subprocess.Popen(
                [*command, "--parent", str(os.getpid()), str(self._output)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**child_environment(device, 1), "TMPDIR": str(temporary)},
                start_new_session=True,
            )

    def __enter__(self) -> _MeasuringProcess:
        """Return self; the process runs already."""
        return self

    def __exit__(self, *error: object) -> None:
        """Kill the process and its forks, and wait for its end."""
        # If only zombies are left in a group, macOS reports that it is not permitted.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def measurement(self) -> PlanMeasurement:
        """Wait for the measurements.

        Raises:
            LaunchError: Nothing could be measured.
        """
        told = ""
        while (code := self._process.poll()) is None:
            time.sleep(POLL_SECONDS)
            if (doing := activity.last_logged(self._log)) != told:
                activity.tell(doing)
                told = doing
        activity.tell("")
        if code:
            raise LaunchError(f"nothing could be measured: {last_words(self._log, code)}")
        return read_as(PlanMeasurement, self._output)
