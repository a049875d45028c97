"""Lists the measures of the benchmarks: on what each runs, and how much time it may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.workload import Size, Source


@dataclass(frozen=True)
class Settings:
    """What a run of the benchmarks is asked for.

    Attributes:
        full: Hours instead of half an hour.
        sources: The texts; empty for made-up ones.
        max_length: Tokens at most; None for 64 on the quickstart's model and 128 on a larger one, as their YAMLs say.
        model: Folder of a model for whole sweeps and throughput; None for random weights.
        scratch: Where measures write.
        keep: Takes what a measure has found so far. It is what remains if the measure comes to no end.
    """

    full: bool
    sources: tuple[Source, ...]
    max_length: int | None
    model: str | None
    scratch: Path
    keep: Callable[[Figures], None]

    def length(self, usual: int) -> int:
        """Return the tokens at most, where nothing else was asked for the usual number."""
        return self.max_length or usual


def made_up(*names: str) -> tuple[Source, ...]:
    """Return kinds of made-up texts."""
    return tuple(Source(name) for name in names)


SHORT, LONG = 64, 128
SMALL_SPACE = {
    "learning_rate": {"low": 1e-4, "high": 3e-3, "log": True},
    "num_train_epochs": {"low": 2, "high": 5},
    "per_device_train_batch_size": {"choices": [16, 32, 64]},
}
BERT_SPACE = {
    "learning_rate": {"low": 1e-5, "high": 5e-4, "log": True},
    "num_train_epochs": {"low": 2, "high": 5},
    "per_device_train_batch_size": {"choices": [8, 16, 32]},
}
ARMS = ("finesweep", "S", "T", "random")
"""Those that goals of whole sweeps speak of."""

OTHERS = ("R", "O")
"""Peers that take longest and that none does; where there are hours."""


def sweeps(settings: Settings, seconds: float) -> Figures:
    """Whole sweeps on the quickstart's model."""
    from benchmarks import whole_sweeps

    size = Size("small", 1_200, 400, 30, SMALL_SPACE, settings.length(SHORT))
    kinds = settings.sources or made_up(
        *(("questions", "sentences", "reviews", "intents") if settings.full else ("sentences",))
    )
    arms = (*ARMS, *OTHERS) if settings.full else ARMS
    return whole_sweeps.measure(kinds, size, seconds, 5, arms, settings.scratch)


def bert_sweeps(settings: Settings, seconds: float) -> Figures:
    """Whole sweeps on MiniLM."""
    from benchmarks import whole_sweeps

    size = Size(settings.model or "minilm", 2_000, 872, 30, BERT_SPACE, settings.length(LONG))
    kinds = settings.sources or made_up("sentences")
    return whole_sweeps.measure(kinds, size, seconds, 3, ARMS, settings.scratch)


def other_seeds(settings: Settings, seconds: float) -> Figures:
    """Winners of whole sweeps on other seeds, on a model that knows its language."""
    from benchmarks import other_seeds as measure

    if settings.model is None:
        raise ValueError("other_seeds needs a pretrained model: --model FOLDER")
    size = measure.size_for(Path(settings.model), settings.max_length)
    kinds = settings.sources or made_up("sentences", "intents")
    return measure.measure(kinds, size, 10 if settings.full else 3, seconds, settings.scratch, settings.keep)


def throughput(settings: Settings, seconds: float) -> Figures:
    """Real tokens per second on MiniLM."""
    from benchmarks import throughput as measure

    size = Size(settings.model or "minilm", 0, 32, 4, BERT_SPACE, settings.length(LONG))
    kinds = settings.sources or made_up("sentences", "questions", "reviews", "intents")
    return measure.measure(kinds, size, seconds, 5, settings.scratch)


def fixed_cost(settings: Settings, seconds: float) -> Figures:
    """Fixed cost per trial on the quickstart's model and on MiniLM."""
    from benchmarks import fixed_cost as measure
    from benchmarks.workload import make

    size = Size(settings.model or "minilm", 500, 50, 1, BERT_SPACE, settings.length(LONG))
    minilm = Path(make(Source("sentences"), size, settings.scratch).model)
    return measure.figures({"quickstart's model": None, "MiniLM": minilm}, 6, 4, seconds)


def divergence(settings: Settings, _: float) -> Figures:
    """Training after a divergence."""
    from benchmarks import divergence as measure

    size = Size("small", 600, 100, 1, SMALL_SPACE, settings.length(SHORT))
    return measure.measure((settings.sources or made_up("sentences"))[0], size, settings.scratch)


def many_trials(settings: Settings, _: float) -> Figures:
    """Trials that do not train, up to 10,000 of them."""
    from benchmarks import many_trials as measure

    rounds = 5 if settings.full else measure.ROUNDS
    return measure.figures(measure.measure(measure.SIZES, measure.WINDOW, rounds, settings.scratch))


@dataclass(frozen=True)
class Measure:
    """One entry of the programme.

    Attributes:
        carry_out: Does it, given the settings and its budget in seconds.
        seconds: Budget.
        full_seconds: Budget of a full run, None for the same.
        only_full: Whether only a full run has it.
        needs_model: Whether only a run with a model of the user's has it.
    """

    carry_out: Callable[[Settings, float], Figures]
    seconds: float
    full_seconds: float | None = None
    only_full: bool = False
    needs_model: bool = False


MEASURES = {
    "sweeps": Measure(sweeps, 900, 4 * 3_600),
    "throughput": Measure(throughput, 360, 3_600),
    "fixed_cost": Measure(fixed_cost, 150, 900),
    "divergence": Measure(divergence, 60),
    "many_trials": Measure(many_trials, 180, 600),
    "bert_sweeps": Measure(bert_sweeps, 0, 6 * 3_600, only_full=True),
    "other_seeds": Measure(other_seeds, 4 * 3_600, 14 * 3_600, needs_model=True),
}
"""The programme, in its order; what matters most comes first."""


def budget(name: str, full: bool, scale: float) -> float:
    """Return the seconds that a measure may take, about."""
    measure = MEASURES[name]
    return scale * ((measure.full_seconds or measure.seconds) if full else measure.seconds)


def names(*, full: bool, model: bool = False) -> list[str]:
    """Return the measures of a run, in their order.

    Args:
        full: Whether it may take hours.
        model: Whether a model was named.
    """
    return [
        name
        for name, measure in MEASURES.items()
        if (full or not measure.only_full) and (model or not measure.needs_model)
    ]
