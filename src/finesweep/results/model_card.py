"""Writes the winner's README.md: what the model is, how it was made, and how to use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from finesweep import __version__
from finesweep.folder import Manifest
from finesweep.registry import TASKS
from finesweep.results.choice import Choice
from finesweep.results.confirmation import Candidate
from finesweep.text import clean, metric
from finesweep.trial import TrialRecord

Scores = Mapping[str, float]
"""Metrics by name, with their ``eval_``."""


def model_card(
    manifest: Manifest,
    choice: Choice,
    cut: Sequence[str],
    validation: Scores,
    test: Scores,
    warnings: Sequence[str] = (),
    best: TrialRecord | None = None,
) -> str:
    """Write the model card of a winner.

    Args:
        manifest: The sweep's manifest.
        choice: The winning model.
        cut: Lines on texts that were too long.
        validation: Metrics of the exported model on the validation rows.
        test: Metrics on the test rows; empty without a test set.
        warnings: Sentences on the model's weaknesses.
        best: The trial of rank 1, if that may be another one.
    """
    parts = (
        _front_matter(manifest, validation, test),
        _origin(manifest, choice, cut, best),
        _scores(validation, test, warnings),
        _use(manifest),
    )
    return "\n".join(line for part in parts for line in part)


def _front_matter(manifest: Manifest, validation: Scores, test: Scores) -> Iterator[str]:
    """Yield the metadata for the Hub: the base model, the task, and the scores on each split."""
    from huggingface_hub import EvalResult, ModelCardData

    pipeline, sources = TASKS.load(manifest.spec.task).pipeline, manifest.data.sources
    results = []
    for split, scores in (("validation", validation), ("test", test)):
        place = _travelling(sources.get(split, sources["train"]).place)
        for name, value in scores.items():
            bare = name.removeprefix("eval_")
            results.append(EvalResult(pipeline, place, place, bare, value, dataset_split=split))
    data = ModelCardData(
        base_model=manifest.model.name if manifest.model.revision else None,
        library_name="transformers",
        pipeline_tag=pipeline,
        tags=["finesweep"],
        model_name=manifest.name,
        eval_results=results,
    )
    yield from ("---", data.to_yaml(), "---", "")


def _origin(manifest: Manifest, choice: Choice, cut: Sequence[str], best: TrialRecord | None) -> Iterator[str]:
    model, record = manifest.model, choice.record
    revision = f" at revision `{model.revision}`" if model.revision else ""
    rows = manifest.data.rows
    yield f"# {plain(manifest.name)}"
    yield ""
    name = plain(_travelling(model.name))
    yield f"`{name}`{revision}, fine-tuned for {manifest.spec.task} by finesweep {__version__}."
    is_confirmed = choice.candidate is not None
    why = "the best of its search by" if is_confirmed else _reason(record, best)
    yield f"It is trial {choice.trial} of the sweep `{plain(manifest.name)}`: {why}"
    if choice.candidate is not None:
        yield from _seeds(choice.candidate, manifest)
    else:
        yield f"{manifest.spec.objective.metric} on the validation rows, with the weights of"
    yield f"epoch {record.best_epoch:g} (step {record.best_step}), which need not be the last."
    yield ""
    if model.loading is not None and model.loading.notes:
        yield from (f"- {plain(note)}" for note in model.loading.notes)
        yield ""
    yield "## Data"
    yield ""
    for split, source in manifest.data.sources.items():
        yield f"- {split}: `{plain(_travelling(source.place))}` (`{source.digest[:16]}`)"
    if "validation" not in manifest.data.sources:
        yield f"- validation: {_split_off(manifest)}"
    yield f"- rows: {', '.join(f'{count:,} {split}' for split, count in rows.items())}"
    yield from _samples(manifest)
    yield from (f"- {line}" for line in cut)
    if manifest.data.labels:
        yield f"- labels: {', '.join(f'`{plain(name)}`' for name in manifest.data.labels)}"
    yield ""
    yield "## Hyperparameters"
    yield ""
    yield "| name | value | |"
    yield "|---|---|---|"
    for name, value in {**record.effective, **record.params}.items():
        yield f"| {plain(name)} | {plain(value)} | {_origin_of(name, manifest, record)} |"
    yield ""
    yield "Every training argument is in `training_args.json`."
    yield ""


def _reason(record: TrialRecord, best: TrialRecord | None) -> str:
    """Say why this trial is the winner."""
    if best is None or best.trial == record.trial:
        return "the best of its search by"
    return (
        f"the cheapest of those that cannot be told from the best (trial {best.trial}, {metric(best.objective)}; this "
        f"one {metric(record.objective)}) by"
    )


def _seeds(candidate: Candidate, manifest: Manifest) -> Iterator[str]:
    """Yield which seed's weights these are, and how the seeds differ."""
    assert candidate.best is not None
    assert candidate.mean is not None
    values, objective = candidate.values, manifest.spec.objective.metric
    yield f"its mean {objective} over {len(values)} fresh seeds on the validation rows, {metric(candidate.mean)}"
    yield f"({metric(min(values.values()))} to {metric(max(values.values()))}). The weights are those of its best fresh"
    yield f"seed by validation, {candidate.best.effective.get('seed')} with {metric(candidate.best.objective)}, at"


def _origin_of(name: str, manifest: Manifest, record: TrialRecord) -> str:
    if name in record.params:
        return "searched"
    in_data = name == "data.max_length" and manifest.spec.data.max_length is not None
    return "fixed" if in_data or name in manifest.spec.fixed else "chosen by finesweep"


def _split_off(manifest: Manifest) -> str:
    """Describe how the validation rows were split off from train."""
    data, task = manifest.spec.data, TASKS.load(manifest.spec.task)
    manner = [task.split_by] if task.split_by else []
    manner += [f"whole groups of `{plain(data.group)}`"] if data.group else []
    return ", ".join([f"{data.validation_fraction:.3g} of train, split off", *manner, _drawn(manifest)])


def _samples(manifest: Manifest) -> Iterator[str]:
    """Yield a line for each split that is a sample."""
    caps = {"train": "max_train_rows", "validation": "max_eval_rows", "test": "max_test_rows"}
    for split, count in manifest.data.rows.items():
        if getattr(manifest.spec.data, caps[split]) == count:
            yield f"- {split} is a sample of {count:,} rows, {_drawn(manifest)} (`{caps[split]}`)"


def _drawn(manifest: Manifest) -> str:
    return f"drawn with seed {manifest.spec.search.seed}"


def _scores(validation: Scores, test: Scores, warnings: Sequence[str]) -> Iterator[str]:
    yield "## Scores"
    yield ""
    yield from (line for warning in warnings for line in (f"**{plain(warning)}**", ""))
    yield "Measured on this folder, loaded again in a fresh process."
    yield ""
    yield "| metric | validation |" + (" test |" if test else "")
    yield "|---|---|" + ("---|" if test else "")
    for name, value in validation.items():
        yield f"| {name.removeprefix('eval_')} | {metric(value)} |" + (f" {metric(test[name])} |" if test else "")
    yield ""
    yield "The model was chosen by its validation score, so that score is optimistic" + (
        "; the test score is not." if test else ". No test rows were given."
    )
    yield ""


def _use(manifest: Manifest) -> Iterator[str]:
    pair = manifest.data.text_pair
    text = '{"text": "...", "text_pair": "..."}' if pair else '"..."'
    yield "## Use"
    yield ""
    yield "```python"
    yield "from transformers import pipeline"
    yield ""
    code = ", trust_remote_code=True" if manifest.trusts_code else ""
    task = TASKS.load(manifest.spec.task)
    options = "".join(f", {name}={value!r}" for name, value in task.pipeline_options.items())
    yield f'classify = pipeline("{task.pipeline}", "path/to/this/folder"{options}{code})'
    yield f"classify({text}, truncation=True)"
    yield "```"
    yield ""
    yield from (task.answer, "") if task.answer else ()
    if manifest.trusts_code:
        yield "The model runs code of its own: the Python files in this folder. Read them before you trust them."
        yield ""


def _travelling(place: str) -> str:
    """Shorten a path of this machine to its last part; a Hub id stays as it is."""
    return Path(place).name if Path(place).expanduser().is_absolute() else place


def plain(value: object) -> str:
    """Make a value safe inside Markdown: one printable line without table, code or HTML syntax."""
    return clean(value).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
