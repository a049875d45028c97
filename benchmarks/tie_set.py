"""Measures how often the leaderboard's tie set holds the truly best configuration, on recorded curves.

Each simulated sweep draws configurations of a table. A configuration's true loss is the mean over its recorded seeds.
Rows are drawn at random: a row is easy or hard for all models alike, and a little different for each, such that every
model's expected loss is its true one. The tie set is then found as on a leaderboard, from the rows alone.

The second number of each line adds what rows cannot show: each trial's loss is that of one seed, and the truly best
configuration is still that with the best mean over seeds. The tie set does not promise to hold that one.

    python -m benchmarks.tie_set --sweeps 500
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.curves.recorded import read_curves
from scipy.optimize import brentq

from finesweep.confidence import Resamples, best_set

CURVES = Path(__file__).parent / "curves"
TABLES = ("curves.csv", "pretrained.csv", "quickstart.csv")

SPREAD = 1.5
"""Standard deviation over rows of the margin by which a model is right, in logits."""

RESAMPLES = 500
"""Resamples for each tie set; a leaderboard takes more, which changes a set rarely."""

Numbers = np.ndarray


@dataclass(frozen=True)
class Recorded:
    """The best losses of a table.

    Attributes:
        means: (configurations,), the mean over seeds.
        seeds: (seeds, configurations).
    """

    means: Numbers
    seeds: Numbers

    @classmethod
    def read(cls, table: str) -> Recorded:
        """Read one of the tables."""
        curves = read_curves(CURVES / table)
        seeds = np.array([[curve.best for curve in curves[seed]] for seed in sorted(curves)])
        return cls(seeds.mean(axis=0), seeds)


@dataclass(frozen=True)
class Found:
    """Result of many simulated sweeps.

    Attributes:
        held: Share of sweeps whose tie set holds the truly best configuration.
        size: Mean number of trials in the tie set.
        held_over_seeds: As ``held``, where trials were trained with one seed each.
    """

    held: float
    size: float
    held_over_seeds: float


def simulate(
    recorded: Recorded,
    *,
    trials: int,
    rows: int,
    sweeps: int,
    alike: float = 0.8,
    level_field: bool = False,
    seed: int = 0,
) -> Found:
    """Simulate sweeps and find their tie sets.

    Args:
        recorded: A table's losses.
        trials: Trials in a sweep.
        rows: Validation rows.
        sweeps: Number of sweeps.
        alike: Share of the variance over rows that all models have in common.
        level_field: Whether all trials of a sweep have the true loss of the best one: the hardest case, in which a set
            of the stated level holds the best one in just so many sweeps.
        seed: Seed of everything.
    """
    rng = np.random.default_rng(seed)
    held, sizes, over_seeds = [], [], []
    for sweep in range(sweeps):
        chosen = rng.choice(len(recorded.means), trials, replace=False)
        means, one_seed = recorded.means[chosen], recorded.seeds[rng.integers(len(recorded.seeds)), chosen]
        best = int(means.argmin())
        true = np.full(trials, means[best]) if level_field else means
        tied = _tied(true, rows, alike, rng, sweep)
        held.append(tied[best])
        sizes.append(tied.sum())
        over_seeds.append(_tied(one_seed, rows, alike, rng, sweep)[best])
    return Found(float(np.mean(held)), float(np.mean(sizes)), float(np.mean(over_seeds)))


def _tied(means: Numbers, rows: int, alike: float, rng: np.random.Generator, seed: int) -> Numbers:
    return best_set(Resamples.of(row_losses(means, rows, alike, rng), count=RESAMPLES, seed=seed))


def row_losses(means: Numbers, rows: int, alike: float, rng: np.random.Generator) -> Numbers:
    """Draw the losses of models on rows, (rows, models), with these expected values.

    Args:
        means: (models,), each model's expected loss, above 0.
        rows: Number of rows.
        alike: Share of the margin's variance that is the row's own.
        rng: Source of the draws.
    """
    common, own = rng.normal(size=(rows, 1)), rng.normal(size=(rows, len(means)))
    margins = SPREAD * (np.sqrt(alike) * common + np.sqrt(1 - alike) * own)
    return np.asarray(np.logaddexp(0.0, -(margins + np.array([_margin(mean) for mean in means]))))


def _margin(loss: float) -> float:
    """Return the mean margin that gives this expected loss."""
    points, weights = np.polynomial.hermite_e.hermegauss(60)

    def above(margin: float) -> float:
        return float(weights @ np.logaddexp(0.0, -(margin + SPREAD * points)) / weights.sum() - loss)

    return float(brentq(above, -50.0, 50.0, xtol=1e-12))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the coverage for each table, number of trials and number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=500)
    parser.add_argument("--rows", type=int, default=872)
    parser.add_argument("--trials", type=int, nargs="+", default=[3, 8, 24])
    parser.add_argument("--tables", nargs="+", default=TABLES)
    asked = parser.parse_args(arguments)
    print("| table | trials | true losses | holds the best | size | holds the best over seeds |")  # noqa: T201
    print("|---|---|---|---|---|---|")  # noqa: T201
    for table, trials, is_level in itertools.product(asked.tables, asked.trials, (True, False)):
        found = simulate(
            Recorded.read(table), trials=trials, rows=asked.rows, sweeps=asked.sweeps, level_field=is_level
        )
        seeds = "" if is_level else f"{found.held_over_seeds:.3f}"
        cells = [
            table,
            trials,
            "all equal" if is_level else "recorded",
            f"{found.held:.3f}",
            f"{found.size:.1f}",
            seeds,
        ]
        print("|", " | ".join(map(str, cells)), "|", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
