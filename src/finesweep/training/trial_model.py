"""Builds a trial's model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finesweep.errors import SweepError
from finesweep.folder import Manifest
from finesweep.model import load_check
from finesweep.model.folder_check import LAYERS
from finesweep.model.pretrained import load_config, load_model, new_model, put_rows, settle_padding
from finesweep.model.weights import WeightFiles, WeightsFault, read_weights
from finesweep.tasks import Task
from finesweep.trial import Params


def build_model(manifest: Manifest, task: Task, settings: Params, tokenizer: Any) -> Any:
    """Build a fresh model with the head that the task needs.

    Args:
        manifest: Tells where the weights are and how they are loaded, or that there are none.
        task: Defines the head.
        settings: Fields of the model's config that this trial sets.
        tokenizer: Has the padding token.

    Returns:
        The model, in single precision whatever precision its weights were saved in.

    Raises:
        SweepError: The folder has code of its own that is not trusted, or its weights are outside of it, or do not load
            as they did when the sweep was checked.
    """
    folder = manifest.model.folder
    fields = {**task.head(manifest.data.labels), **settings}
    config = load_config(folder, trusted=manifest.trusts_code, **fields)
    settle_padding(config, tokenizer)
    if manifest.model.from_scratch:
        return new_model(config, task.model_class)
    loading = manifest.model.loading
    without = loading.without if loading is not None else ()
    loaded = load_model(_weights(folder), config, task.model_class, trusted=manifest.trusts_code, without=without)
    fewer_layers = not settings.keys().isdisjoint(LAYERS)
    if faults := load_check.changed(loaded, loading, fewer_layers=fewer_layers):
        raise SweepError("\n".join(f"{folder}: {fault}" for fault in faults))
    if loading is not None and loading.rows is not None:
        put_rows(loaded.model, loading.output, loading.rows)
    return loaded.model


def padding_side(config: Any) -> str:
    """Return the side on which a model's shorter rows are padded, whatever its tokenizer says.

    Most heads read the first token, or the last one before the padding: the padding must come after these. A head with
    ``summary_type: last`` reads the last position: the padding must come before it.
    """
    return "left" if getattr(config, "summary_type", None) == "last" else "right"


def _weights(folder: Path) -> WeightFiles:
    try:
        return read_weights(folder)
    except WeightsFault as fault:
        raise SweepError(f"{folder}: {fault.message}") from None
