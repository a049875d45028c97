"""Runs a trial in Ray: in a fork of an actor, which reports its evaluations and its end to the search.

The fork never touches Ray, because Ray's threads do not exist in it. It communicates with its actor over a pipe.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesweep.backends.optuna.pruners import grounds, step_of
from finesweep.backends.protocol import Work
from finesweep.errors import FolderError, TrialFailed
from finesweep.folder import Claim
from finesweep.pruning.rules import others_at
from finesweep.spec import SweepSpec
from finesweep.trial import AttemptOutdated, Direction, Params, Report, TrialPruned, TrialRecord, TrialStopped

CLAIMED = "claimed"
"""Key of a Ray trial's config that holds the claim and the parameters."""

STEP, OBJECTIVE, LAST, PRUNED, ENDED, COMPLAINT = "step", "objective", "last", "pruned", "ended", "complaint"
"""Keys of the reports.

An evaluation has the step on the pruner's axis, the best objective so far, whether training ends here, and the record
to use if it is stopped here. Other reports hold the record of a trial's end, or an error about the folder."""

_GO, _PRUNE = b"go on", b"prune"

_opened: dict[str, Work] = {}


def config_of(claim: Claim, params: Params) -> dict[str, str]:
    """Return the config that Ray sends to an actor: one text, in which Ray finds nothing to resolve."""
    return {CLAIMED: json.dumps({"claim": dataclasses.asdict(claim), "params": params})}


def compared(record: TrialRecord, records: Sequence[TrialRecord], direction: Direction) -> TrialRecord:
    """Add to a pruned trial's reason what the other trials had reached after the same examples."""
    others = others_at(record.trial, record.examples, records, direction)
    return dataclasses.replace(record, reason=f"{record.reason}; {others}")


def _claimed(config: Mapping[str, str]) -> tuple[Claim, Params]:
    values = json.loads(config[CLAIMED])
    claim = values["claim"]
    return Claim(**{**claim, "faults": tuple(claim["faults"])}), values["params"]


@dataclass
class ActorTrials:
    """Runs trials in an actor, one after the other; only this object is sent to the actor.

    Attributes:
        open_work: Opens the work there, once for each actor.
        key: Distinguishes this search from an earlier one in the same actor.
        sees_gpu: Whether trials have a GPU, or a share of one; Ray decides which.
        folder: The current folder there; None to stay in Ray's folder.
    """

    open_work: Callable[[], Work]
    key: str
    sees_gpu: bool = False
    folder: Path | None = None

    def __call__(self, config: Mapping[str, str], _: Params) -> float:
        """Run one claimed trial and report its end to the search; its objective is only in its record."""
        import ray.tune

        claim, params = _claimed(config)
        try:
            record = _carried_out(self._work(), claim, params)
        except FolderError as error:
            ray.tune.report({COMPLAINT: str(error)})
        else:
            if record is not None:
                ray.tune.report({ENDED: json.dumps(record.to_json())})
        return 0.0

    def _work(self) -> Work:
        if self.key not in _opened:
            if self.folder is not None:
                os.chdir(self.folder)
            if not self.sees_gpu:
                # Before the work is opened, which imports torch.
                os.environ["CUDA_VISIBLE_DEVICES"] = ""
            _opened[self.key] = self.open_work()
        return _opened[self.key]


def _carried_out(work: Work, claim: Claim, params: Params) -> TrialRecord | None:
    """Run a trial in a fork; return its record, None if there is none.

    Raises:
        SystemExit: Ray has stopped it, and has its record.
        FolderError: The folder cannot be written.
    """
    with contextlib.closing(_Line(work.spec, work.sweep_folder.records)) as line:
        work.isolated(claim, lambda: _train(work, claim, params, line), line.attend)
    if line.is_pruned:
        raise SystemExit(0)  # as Ray's own report does; returning would report once more
    record = work.sweep_folder.read_record(claim.trial)
    return record if record is not None and record.attempt == claim.attempt else None


def _train(work: Work, claim: Claim, params: Params, line: _Line) -> None:
    # However it ends, its record says how.
    with contextlib.suppress(TrialStopped, TrialFailed):
        work.train(claim, params, line.report)


class _Line:
    """A pipe between an actor and the trial in its fork.

    Args:
        spec: Defines what is reported, and its step on the pruner's axis.
        records: Returns the records of all trials.
    """

    def __init__(self, spec: SweepSpec, records: Callable[[], Sequence[TrialRecord]]) -> None:
        self._spec = spec
        self._records = records
        self._actors, self._trials = multiprocessing.Pipe()
        self._reported: set[int] = set()
        self.is_pruned = False

    def report(self, report: Report) -> None:
        """In the fork: report an evaluation, and wait for the answer; see ``trial.Reporter``."""
        # The fork has inherited this end. While it is open here, the actor's death would not be noticed.
        self._actors.close()
        step = step_of(self._spec, report.evaluation)
        if step is None or step in self._reported:
            return
        self._reported.add(step)
        assert report.record is not None
        record = dataclasses.replace(report.record(), reason=grounds(self._spec, report))
        values = {STEP: step, OBJECTIVE: report.best, LAST: report.last, PRUNED: json.dumps(record.to_json())}
        if self._answer(values) == _PRUNE:
            record = compared(record, self._records(), self._spec.direction)
            raise TrialPruned(record.reason or "", record)

    def _answer(self, values: Mapping[str, Any]) -> bytes:
        try:
            self._trials.send_bytes(json.dumps(values).encode())
            return self._trials.recv_bytes()
        except (EOFError, OSError):
            # Its actor has died, perhaps because the trial was stopped here. Then this process must not write its
            # record.
            raise AttemptOutdated("the process that started it is gone") from None

    def attend(self) -> None:
        """In the actor: pass the trial's reports on, and answer them."""
        # The fork has this end too. While it is open here, the trial's death would not be noticed.
        self._trials.close()
        with contextlib.suppress(EOFError, OSError):  # the trial has ended
            while self._actors.poll():
                values = json.loads(self._actors.recv_bytes())
                self._actors.send_bytes(_PRUNE if self._is_weak(values) else _GO)

    def _is_weak(self, values: Mapping[str, Any]) -> bool:
        import ray.tune

        try:
            ray.tune.report(dict(values))
        except SystemExit:
            self.is_pruned = True
        return self.is_pruned

    def close(self) -> None:
        """Close both ends."""
        self._actors.close()
        self._trials.close()
