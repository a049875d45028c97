"""Checks a launch profile's keys for Slurm, and settles their numbers.

The values end up in a batch script. So every text must match its own pattern, which allows nothing that a shell or
``sbatch`` could interpret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from finesweep.errors import did_you_mean, printable
from finesweep.host.machine import Machine
from finesweep.launch.deadlines import SLURM_SECONDS
from finesweep.launch.profile import Profile, SettledProfile, number, one_gpu_at_most

DEFAULT_WORKERS = 4
"""Number of workers for ``auto``: the submitting machine does not know how many fit on the cluster."""

EARLY_SECONDS = 60
"""Seconds by which Slurm may send a signal early."""

MOST_SETUP_LINES = 100
MOST_CHARACTERS = 200

FLAGS = frozenset({"contiguous", "exclusive", "oversubscribe", "spread-job", "use-min-nodes"})
"""Options of ``sbatch`` without a value."""

_VALUES = """
begin core-spec cores-per-socket deadline delay-boot exclude gres-flags hint licenses mail-type mail-user
mem-per-cpu mem-per-gpu mincpus network nice nodelist prefer priority reservation sockets-per-node switches thread-spec
threads-per-core tmp wckey
"""
VALUES = frozenset(_VALUES.split()) - FLAGS
"""Options of ``sbatch`` that a profile may pass through: where and when a job runs, and who gets mail. Others are
refused, because they could run programs, write files, or undo what the script relies on."""

SAID_ELSEWHERE = {
    "account": "account",
    "array": "workers",
    "constraint": "constraint",
    "cpus-per-gpu": "cpus",
    "cpus-per-task": "cpus",
    "gpus": "gpus",
    "gpus-per-node": "gpus",
    "gpus-per-task": "gpus",
    "gres": "gpus",
    "mem": "memory_gb",
    "partition": "partition",
    "qos": "qos",
    "signal": "signal_seconds",
    "time": "minutes",
}
"""Options that have their own key."""


def _form(pattern: str, allowed: str) -> Callable[[str], str]:
    """Make the validator of a text that must match a pattern as a whole."""
    form = re.compile(pattern, re.ASCII)

    def checked(value: str) -> str:
        if len(value) <= MOST_CHARACTERS and form.fullmatch(value):
            return value
        raise ValueError(
            f"'{printable(value, 60)}' is not allowed; there may be {allowed}, at most {MOST_CHARACTERS} characters"
        )

    return checked


_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*"
_WORD_ALLOWED = "letters, digits and _ . @ + -, a letter, a digit or _ first"
_option_text = _form(
    r"[A-Za-z0-9_][A-Za-z0-9_.,:;@/=+*()\[\]-]*",
    "letters, digits and _ . , : ; @ / = + * ( ) [ ] -, a letter, a digit or _ first",
)
Word = Annotated[str, AfterValidator(_form(_WORD, _WORD_ALLOWED))]
Words = Annotated[str, AfterValidator(_form(f"{_WORD}(?:,{_WORD})*", f"{_WORD_ALLOWED}, and commas between names"))]
Constraint = Annotated[
    str,
    AfterValidator(
        _form(
            r"[A-Za-z0-9_(\[][A-Za-z0-9_.,:&|!*=()\[\]+-]*",
            "letters, digits and _ . , : & | ! * = ( ) [ ] + -, a letter, a digit, _ or a bracket first",
        )
    ),
]


def _shell_line(value: str) -> str:
    if value.strip() and all(character.isprintable() or character == "\t" for character in value):
        return value
    raise ValueError(f"'{printable(value, 60)}' is no line of shell code; each line is an entry of its own")


WorkerGpus = Annotated[int, BeforeValidator(one_gpu_at_most("`workers` says"))]
ShellLine = Annotated[str, Field(max_length=1_000), AfterValidator(_shell_line)]


def _option(name: Any, value: Any) -> Any:
    """Return the value of a passed-through option if both are allowed."""
    if name in SAID_ELSEWHERE:
        raise ValueError(f"{name}: the key `{SAID_ELSEWHERE[name]}` of the profile says this")
    if name not in FLAGS | VALUES:
        near = did_you_mean(str(name).strip("-").replace("_", "-"), FLAGS | VALUES)
        raise ValueError(
            f"{printable(str(name), 60)}: not passed on to sbatch{f' ({near})' if near else ''}; "
            f"allowed are {', '.join(sorted(FLAGS | VALUES))}"
        )
    if value is True and name in FLAGS:
        return value
    if type(value) is int and name in VALUES:
        return value
    if type(value) is str and name in VALUES:
        try:
            return _option_text(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    raise ValueError(f"{name}: must be {'true' if name in FLAGS else 'a text or an integer'}")


class SlurmProfile(Profile):
    """A launch profile with ``launcher: slurm``: the resources of each worker, which is one job of an array."""

    launcher: str = Field("slurm", description="Where workers run.")
    partition: Words | None = Field(None, description="Partition, or several; default: the cluster's.")
    account: Word | None = Field(None, description="Account that is charged.")
    qos: Word | None = Field(None, description="Quality of service.")
    constraint: Constraint | None = Field(None, description="Features that a node must have.")
    minutes: int | None = Field(None, ge=2, le=525_600, description="Time limit of a job; default: the partition's.")
    cpus: int = Field(1, ge=1, le=1_024, description="CPU threads of a worker.")
    gpus: WorkerGpus = Field(0, ge=0, description="GPUs of a worker: 0 or 1.")
    gpu_type: Word | None = Field(None, description="Kind of GPU, as the cluster calls it.")
    at_once: int | None = Field(None, ge=1, le=1_000, description="How many of the workers run at a time.")
    signal_seconds: int = Field(
        120, ge=SLURM_SECONDS, le=3_600, description="How long before the time limit a worker saves and stops."
    )
    requeues: int = Field(5, ge=0, le=1_000, description="How often a worker that was killed goes back to the queue.")
    setup: tuple[ShellLine, ...] = Field(
        (), strict=False, max_length=MOST_SETUP_LINES, description="Lines of shell code before the worker starts."
    )
    options: dict[str, str | int | bool] = Field(
        default_factory=dict, description="Other options of sbatch, by their long names."
    )

    @property
    def shell_lines(self) -> tuple[str, ...]:
        """Lines of shell code that each job runs before its worker; they must come from a trusted author."""
        return self.setup

    @field_validator("trials_per_gpu")
    @classmethod
    def _gpu_is_not_shared(cls, value: Any) -> Any:
        if value not in ("auto", 1):
            raise ValueError("on Slurm each worker is a job with a GPU of its own; only 1 is possible")
        return value

    @field_validator("options")
    @classmethod
    def _options_are_known(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {name: _option(name, item) for name, item in value.items()}

    @model_validator(mode="after")
    def _keys_agree(self) -> SlurmProfile:
        if self.gpus_per_trial not in ("auto", self.gpus):
            raise ValueError("on Slurm `gpus` says how many GPUs a trial has; leave gpus_per_trial out")
        if self.threads_per_worker not in ("auto", self.cpus):
            raise ValueError("on Slurm `cpus` says how many threads a worker has; leave threads_per_worker out")
        if self.gpu_type and not self.gpus:
            raise ValueError("gpu_type goes with gpus: 1")
        if self.minutes is not None and self.minutes * 60 < self.signal_seconds + EARLY_SECONDS:
            least = -(-(self.signal_seconds + EARLY_SECONDS) // 60)
            raise ValueError(
                f"minutes: {self.minutes} leaves no time for a trial, which is asked to stop signal_seconds: "
                f"{self.signal_seconds} before; at least {least} are needed"
            )
        if self.memory_gb is not None and self.options.keys() & {"mem-per-cpu", "mem-per-gpu"}:
            raise ValueError("options: mem-per-cpu and mem-per-gpu do not go with memory_gb")
        return self

    def settled(
        self, machine: Machine, trials: int, workers: int | None = None, trial_gb: float = 0.0
    ) -> SettledProfile:
        """Return this profile with a number for each ``auto``.

        Args:
            machine: Not used: the submitting machine tells nothing about the nodes.
            trials: Number of trials left; there are never more workers.
            workers: Replaces the profile's own number.
            trial_gb: Not used: Slurm gets the value of ``memory_gb``.
        """
        asked = self.workers if workers is None else workers
        count = max(1, min(number(asked, DEFAULT_WORKERS), trials))
        return SettledProfile(self, count, self.gpus, 1, self.cpus)

    def notes(self, settled: SettledProfile, machine: Machine) -> list[str]:
        """Return warnings about allowed values that may be a mistake; numbers and machine are not used."""
        if self.minutes is not None and self.limits.trial_minutes is not None:
            useful = self.minutes - self.signal_seconds / 60
            if self.limits.trial_minutes > useful:
                longest = f"limits.trial_minutes: {self.limits.trial_minutes:g}"
                return [
                    f"a job of {self.minutes} minutes ends before {longest}; such a trial continues in the next job"
                ]
        return []
