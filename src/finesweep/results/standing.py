"""Says how sure the ranks are: intervals over the validation rows, the trials tied with the first, the cheapest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from finesweep.confidence import Interval, Resamples, bca, best_set, leads, wilson
from finesweep.errors import Unreadable
from finesweep.files import open_regular
from finesweep.files.parquet import read_columns
from finesweep.folder import Manifest, SweepFolder
from finesweep.results.ranking import cost
from finesweep.results.ranking import ranked as in_order
from finesweep.trial import Direction, TrialRecord

if TYPE_CHECKING:
    import numpy as np

MOST_COMPARED = 100
"""Number of the best trials that are compared. With 5,000 rows and three metrics that takes two seconds."""

_SAME = 1e-4
"""Relative difference between a record's metric and the mean of its rows, which have single precision, above which they
are not of one evaluation."""

_SHARES = ("accuracy", "f1")
"""Ends of the names of metrics that are shares: of rows, or of decisions."""

LEAST_UNITS = 10
"""Minimum number of rows or groups that are resampled: intervals of fewer would be much too narrow."""

_GROUP_BYTES = 200_000_000
"""Maximum size in bytes of the rows' groups."""


@dataclass(frozen=True)
class Standing:
    """How sure a sweep's ranks are, on these validation rows; other seeds would differ by more.

    Attributes:
        intervals: Interval of the objective, by trial.
        scores: Intervals of all metrics by full name, by trial.
        tied: Trials that cannot be told from the first on these rows, in the order of their ranks; the first is rank
            1. All of them hold together at the level. Empty if the first could not be compared.
        cheapest: The one of them that saw the fewest examples; of equals, that of the smallest model, then of the best
            rank. None without a tie set.
        leads: Interval of how much better each trial is than the untuned default, in the objective's unit, positive if
            better. They hold together at the level, so also for a trial that was chosen among them. Empty without a
            default that was compared.
        rows: Number of validation rows.
        groups: Number of groups that were resampled as a whole, None if each row was by itself.
        absent: Ranked trials among the first ones of which no rows are kept, or others.
        why: Why there is no tie set; None if there is one.
    """

    intervals: Mapping[int, Interval] = field(default_factory=dict)
    scores: Mapping[int, Mapping[str, Interval]] = field(default_factory=dict)
    tied: tuple[int, ...] = ()
    cheapest: int | None = None
    leads: Mapping[int, Interval] = field(default_factory=dict)
    rows: int = 0
    groups: int | None = None
    absent: tuple[int, ...] = ()
    why: str | None = None


@dataclass(frozen=True, eq=False)
class _Kept:
    """Ranked trials with their metrics row by row, all on the same rows, best first."""

    records: list[TrialRecord]
    values: list[dict[str, np.ndarray]]
    rows: int


def read_standing(
    sweep_folder: SweepFolder, manifest: Manifest, ranked: Sequence[TrialRecord], baseline: TrialRecord | None
) -> Standing | None:
    """Compare the best trials on the rows that they were ranked on.

    Args:
        sweep_folder: The sweep's folder.
        manifest: The sweep's manifest.
        ranked: The ranked trials, best first.
        baseline: The untuned default, if it has ended.

    Returns:
        None if no trial keeps its rows: they are of an older version, or no trial ranks.
    """
    first = list(ranked[:MOST_COMPARED])
    if baseline is not None and baseline in ranked and baseline not in first:
        first.append(baseline)
    metric = manifest.spec.objective.metric
    kept = _read(sweep_folder, first, metric)
    if kept is None:
        return None
    trials = {record.trial for record in kept.records}
    absent = tuple(record.trial for record in first if record.trial not in trials)
    bare = Standing(rows=kept.rows, absent=absent)
    try:
        groups = _groups(sweep_folder, manifest, kept.rows)
    except ValueError as error:
        return _without(bare, str(error))
    units = kept.rows if groups is None else len(set(groups.tolist()))
    if units < LEAST_UNITS:
        counted = f"{units:,} {'row' if groups is None else 'group'}{'s' if units > 1 else ''}"
        return _without(bare, f"{counted} cannot stand for others; at least {LEAST_UNITS} are needed")
    return _compared(bare, kept, groups, metric, manifest.spec.direction, first[0], baseline)


def tied_trials(sweep_folder: SweepFolder) -> tuple[int, ...]:
    """Return the trials that cannot be told from the first, best first; none if that is not known.

    Raises:
        FolderError: The folder is no sweep's.
    """
    manifest = sweep_folder.manifest()
    best_first = in_order(sweep_folder.records(), manifest.spec.direction)
    standing = read_standing(sweep_folder, manifest, best_first, None)
    return standing.tied if standing is not None else ()


def _without(bare: Standing, why: str) -> Standing:
    return Standing(rows=bare.rows, absent=bare.absent, why=why)


def _compared(
    bare: Standing,
    kept: _Kept,
    groups: np.ndarray | None,
    metric: str,
    direction: Direction,
    first: TrialRecord,
    baseline: TrialRecord | None,
) -> Standing:
    import numpy as np

    places = [(number, name) for number, values in enumerate(kept.values) for name in values]
    resamples = Resamples.of(np.stack([kept.values[number][name] for number, name in places], axis=1), groups)
    scores: dict[int, dict[str, Interval]] = {record.trial: {} for record in kept.records}
    for (number, name), found in zip(places, bca(resamples), strict=True):
        values = kept.values[number][name]
        # A score whose rows are all 0, or all 1, has no spread to resample.
        is_share = groups is None and name.endswith(_SHARES) and bool(np.isin(values, (0.0, 1.0)).all())
        scores[kept.records[number].trial][name] = wilson(int(values.sum()), kept.rows) if is_share else found
    columns = [places.index((number, metric)) for number in range(len(kept.records)) if metric in kept.values[number]]
    losses = resamples.of_columns(columns, -1.0 if direction is Direction.MAXIMIZE else 1.0)
    ours = [record for record, values in zip(kept.records, kept.values, strict=True) if metric in values]
    tied: tuple[int, ...] = ()
    cheapest = why = None
    if ours and ours[0].trial == first.trial:
        tied = tuple(record.trial for record, is_tied in zip(ours, best_set(losses), strict=True) if is_tied)
        cheapest = min((record for record in ours if record.trial in tied), key=cost).trial
    elif not ours:
        why = f"{metric} is no mean over rows, so it has no interval"
    else:
        why = f"trial {first.trial}, the first, keeps no rows that could be compared"
    default = next((at for at, record in enumerate(ours) if baseline and record.trial == baseline.trial), None)
    ahead = leads(losses, default) if default is not None else []
    return Standing(
        intervals={trial: found[metric] for trial, found in scores.items() if metric in found},
        scores=scores,
        tied=tied,
        cheapest=cheapest,
        leads={record.trial: found for record, found in zip(ours, ahead, strict=False)},
        rows=kept.rows,
        groups=None if groups is None else len(set(groups.tolist())),
        absent=bare.absent,
        why=why,
    )


def to_take(
    sweep_folder: SweepFolder, best: TrialRecord | None, ranked: Sequence[TrialRecord], standing: Standing | None
) -> TrialRecord | None:
    """Return the cheapest tied trial whose weights are kept; rank 1 if no tie set is known.

    Args:
        sweep_folder: The sweep's folder.
        best: The trial of rank 1, None if none ranks.
        ranked: The ranked trials, best first.
        standing: How sure the ranks are.
    """
    tied = standing.tied if standing is not None else ()
    candidates = [record for record in ranked if record.trial in tied]
    kept = (one for one in candidates if one == best or sweep_folder.checkpoint(one.trial).is_dir())
    return min(kept, key=cost, default=best)


def _read(sweep_folder: SweepFolder, records: Sequence[TrialRecord], metric: str) -> _Kept | None:
    """Read the rows of trials; leave out a trial that keeps none, others than the first, or not those of its record."""
    import numpy as np

    found, values, labels, rows = [], [], None, 0
    for record in records:
        scores = sweep_folder.read_row_scores(record)
        if scores is None or (labels is not None and (scores.labels, scores.rows) != (labels, rows)):
            continue
        finite = {name: one for name, one in scores.arrays().items() if np.isfinite(one).all()}
        sound = {name: one for name, one in finite.items() if _is_mean(one, record.metrics.get(name))}
        if not sound or (metric in scores.values and metric not in sound):
            continue
        labels, rows = scores.labels, scores.rows
        found.append(record)
        values.append(sound)
    return _Kept(found, values, rows) if found else None


def _is_mean(values: np.ndarray, metric: float | None) -> bool:
    return metric is not None and bool(len(values)) and math.isclose(values.mean(), metric, rel_tol=_SAME, abs_tol=1e-6)


def _groups(sweep_folder: SweepFolder, manifest: Manifest, rows: int) -> np.ndarray | None:
    """Return the group of each validation row as a whole number, None if rows have no groups.

    Raises:
        ValueError: The folder does not say which rows belong together; the message says so.
    """
    if manifest.spec.data.group is None:
        return None
    import numpy as np
    import pyarrow

    try:
        with open_regular(sweep_folder.data / "validation.parquet") as stream:
            names, table = read_columns(stream, ["group"], _GROUP_BYTES)
        groups = np.asarray(table["group"].to_numpy()) if "group" in names else np.zeros(0, np.int64)
    except (pyarrow.ArrowException, OSError, Unreadable, ValueError):
        groups = np.zeros(0, np.int64)
    if len(groups) != rows or groups.dtype.kind not in "iu":
        raise ValueError("the folder does not say which validation rows are of one group")
    return groups
