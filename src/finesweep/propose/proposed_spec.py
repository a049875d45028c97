"""Writes the spec that ``sweep init`` proposes for a data file, with the reason for every choice."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from finesweep import activity
from finesweep.errors import printable
from finesweep.host.machine import Machine
from finesweep.model.truncation_report import percent, shares_cut
from finesweep.propose import data_look, starting_model, starting_values
from finesweep.propose.data_look import DataLook, relative_path
from finesweep.propose.starting_model import StartingModel
from finesweep.propose.starting_values import Proposal, ProposalFacts
from finesweep.registry import TASKS
from finesweep.spec import is_name
from finesweep.spec.yaml_source import expand, parse_value
from finesweep.tasks import LabelKind
from finesweep.tasks.label_column import is_number
from finesweep.trial import Direction

_PLAIN = re.compile(r"[A-Za-z_.][A-Za-z0-9_./-]*\Z")
_SCRATCH = "{config: bert, hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 2}"
_MOST = 0.5
"""Share of texts longer than the model's limit above which a note is shown on the screen too."""


@dataclass(frozen=True)
class InitSpec:
    """A spec that loads as it is.

    Attributes:
        text: The YAML.
        notes: Notes for the screen.
    """

    text: str
    notes: tuple[str, ...]


def propose(data: Path, target: Path, model: str | None = None, machine: Machine | None = None) -> InitSpec:
    """Write a commented spec for a data file.

    Args:
        data: CSV, TSV, JSON lines or Parquet.
        target: Path of the future YAML; paths in it are relative to its folder.
        model: Folder or Hub id to be trained; None for a model that fits texts and machine.
        machine: Machine for the sweep; None for this machine.

    Raises:
        SpecError: The file cannot be read or learned from, or the model's folder is unusable.
    """
    path, machine = expand(data), machine or Machine.probe()
    look = data_look.look(path, str(data))
    chosen = starting_model.pick(model, (text for row in look.texts for text in row), machine)
    activity.tell(f"counting the tokens of {len(look.texts):,} rows")
    facts = ProposalFacts(
        rows=look.rows,
        classes=None if look.guess.label.label.is_measure else len(look.guess.label.labels),
        lengths=[chosen.count(row) for row in look.texts],
        max_tokens=chosen.max_tokens,
        machine=machine,
        model=chosen.base,
    )
    writer = _Writer(look, chosen, facts, starting_values.propose(facts), path, expand(target))
    return InitSpec("\n".join(writer.lines()) + "\n", tuple(writer.notes()))


@dataclass(frozen=True)
class _Writer:
    """Writes the sections one after the other."""

    look: DataLook
    model: StartingModel
    facts: ProposalFacts
    chosen: Proposal
    path: Path
    target: Path

    def notes(self) -> Iterator[str]:
        """Yield the notes for the screen."""
        if self.look.columns:
            evidence = printable(self.look.no_header, 120)
            names = ", ".join(self.look.columns)
            yield f"{printable(self.path.name, 100)} has no header: {evidence}. Its columns are called {names} now."
        if shares_cut(self.facts.lengths, self.facts.max_tokens)[0] > _MOST:
            yield self._too_long()

    def lines(self) -> Iterator[str]:
        """Yield the YAML's lines."""
        yield from self._head()
        yield ""
        yield from self._task()
        yield ""
        yield from self._model()
        yield ""
        yield from self._data()
        yield ""
        yield from self._search()

    def _head(self) -> Iterator[str]:
        yield "# yaml-language-server: $schema=sweep.schema.json"
        yield f"# A proposal for {printable(self.path.name, 200)} ({self.look.rows:,} rows). Look at it, then:"
        yield f"#     sweep run {printable(shlex.quote(str(self.target)), 1_000)}"
        yield "# An editor completes and checks this file once the schema lies beside it:"
        yield "#     sweep schema > sweep.schema.json"
        if not is_name(self.target.stem):
            yield ""
            yield f"name: {_slug(self.target.stem)}  # of the folder under results/"

    def _task(self) -> Iterator[str]:
        label, task = self.look.guess.label, self.look.task
        if label.label.is_measure:
            yield f"task: {task}  # {printable(label.label.reason, 80)}: a measure"
            return
        shown = ", ".join(printable(value, 20) for value in _sorted(label.labels)[:6])
        more = ", ..." if len(label.labels) > 6 else ""
        yield f"task: {task}  # {len(label.labels)} labels: {shown}{more}"
        if label.label.kind is LabelKind.SEVERAL:
            yield f"# {printable(_sentence(label.label.reason), 120)}: a text has any number of labels, or none."

    def _model(self) -> Iterator[str]:
        yield f"# {_sentence(self.model.why)}."
        yield f"# {_sentence(_model_facts(self.model))}{self._too_large()}."
        yield f"model: {_quoted(self._model_name())}"
        yield "# Any Hub id will do, or a local folder (as ./my-model, with config.json, weights and tokenizer)."
        yield "# Without any download, a small model made from scratch, which wants learning rates from 1e-4 to 3e-3:"
        yield f"# model: {_SCRATCH}"

    def _too_large(self) -> str:
        needed, there = self.model.base.memory_gb, self.facts.machine.memory_gb
        return f", more than the {there:.1f} GB of this machine" if needed > there else ""

    def _model_name(self) -> str:
        name = self.model.base.name
        return _as_folder(relative_path(expand(Path(name)), self.target.parent)) if self.model.is_local else name

    def _data(self) -> Iterator[str]:
        guess, keys = self.look.guess, self.look.data_keys(self.path, self.target.parent)
        yield "data:"
        yield f"  train: {_quoted(keys['train'])}  # a relative path starts from this file's folder"
        yield from self._evaluation_files(keys)
        if self.look.columns:
            yield f"  # The first line is no header: {printable(self.look.no_header, 120)}. These names are made up;"
            yield "  # if it is a header all the same, write `header: true` instead."
            yield f"  columns: [{', '.join(map(_quoted, self.look.columns))}]"
        yield f"  text: {_quoted(keys['text'])}"
        if guess.pair is not None:
            yield f"  text_pair: {_quoted(keys['text_pair'])}"
        elif guess.second is not None:
            yield f"  # text_pair: {_quoted(guess.second.name)}  # another text, if the two belong together"
        flags = ", ".join(map(_quoted, guess.flags))
        yield f"  label: [{flags}]" if flags else f"  label: {_quoted(keys['label'])}"
        yield from self._length()
        yield from self._train_rows()

    def _evaluation_files(self, keys: dict[str, str]) -> Iterator[str]:
        if "validation" in keys:
            yield f"  validation: {_quoted(keys['validation'])}  # it lies beside, with the same columns"
        else:
            yield "  # validation: dev.csv  # without one, a tenth of the training rows is split off"
        if "test" in keys:
            yield f"  test: {_quoted(keys['test'])}  # evaluated once, with the winner"
        for file, reason in self.look.unused.items():
            yield f"  # {printable(file.name, 100)} lies beside, but is not used: {printable(reason, 200)}"

    def _length(self) -> Iterator[str]:
        texts, tokens = shares_cut(self.facts.lengths, self.chosen.max_length)
        how = "the model's own" if self.model.counts_exactly else "estimated"
        if shares_cut(self.facts.lengths, self.facts.max_tokens)[0] > _MOST:
            yield f"  # {self._too_long()}"
        cut = f"cuts {percent(texts)} of the texts, {percent(tokens)} of all tokens" if texts else "cuts no text"
        yield f"  max_length: {self.chosen.max_length}  # {how} tokens; {cut}"

    def _too_long(self) -> str:
        texts, tokens = shares_cut(self.facts.lengths, self.facts.max_tokens)
        return (
            f"{percent(texts)} of the texts are longer than the {self.facts.max_tokens} tokens that the model reads, "
            f"and {percent(tokens)} of all tokens are cut off; {starting_values.LONG} reads 8,192."
        )

    def _train_rows(self) -> Iterator[str]:
        if (rows := self.chosen.max_train_rows) is not None:
            yield f"  max_train_rows: {rows}  # all rows would take about {_hours(self.chosen.all_hours)} here"

    def _search(self) -> Iterator[str]:
        chosen, machine = self.chosen, self.facts.machine
        metrics = TASKS.load(self.look.task).metrics
        others = ", ".join(name for name, direction in metrics.items() if direction is Direction.MAXIMIZE)
        yield f"objective: {{metric: eval_loss, direction: minimize}}  # or {others}, to maximize"
        what = f"{len(machine.gpus)} GPU" if machine.gpus else f"{machine.cores} CPU cores"
        yield f"# About {_hours(chosen.hours)} on the {what} of this machine; `sweep plan` measures it."
        yield f"budget: {{trials: {chosen.trials}, hours: {chosen.budget_hours}}}"
        yield "search: {backend: optuna, sampler: auto, pruner: halving, seed: 0}"
        yield ""
        yield "space:"
        low, high = chosen.learning_rate
        yield f"  learning_rate: {{low: {low}, high: {high}, log: true}}  # {self._why_rates()}"
        epochs = f"{{low: {chosen.epochs[0]}, high: {chosen.epochs[1]}}}"
        yield f"  num_train_epochs: {epochs}  # few rows want more; a trial ends once its loss rises"
        sizes = ", ".join(map(str, chosen.batches))
        yield f"  per_device_train_batch_size: {{choices: [{sizes}]}}  # for {self.look.rows:,} rows"
        yield "fixed: {weight_decay: 0.01}"

    def _why_rates(self) -> str:
        size = f"for {_parameters(self.facts.model.layers)} parameters beside the embeddings"
        many = f", and {self.facts.classes} classes: wider" if starting_values.has_many_classes(self.facts) else ""
        return f"{size}{many}"


def _sorted(labels: Sequence[str]) -> list[str]:
    """Sort numbers by value, other texts alphabetically."""
    return sorted(labels, key=float) if all(map(is_number, labels)) else sorted(labels)


def _model_facts(model: StartingModel) -> str:
    base = model.base
    memory = f"about {base.memory_gb:.1f} GB of memory a trial"
    if model.is_here:
        return f"it is on this machine, {memory}"
    size = f"{base.what}, a download of {base.download_gb:g} GB" if base.download_gb else "to be downloaded"
    return f"{size}, {memory}" if base.what else f"{size}; {memory} if it is as large as BERT-base"


def _parameters(millions: float) -> str:
    return f"{millions:.3g} million" if millions >= 1 else f"{millions * 1e6:,.0f}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _as_folder(path: str) -> str:
    """Return a relative path in a form that cannot be taken for a Hub id."""
    return path if path.startswith((".", "/", "~")) else f"./{path}"


def _hours(hours: float) -> str:
    minutes = max(2, round(hours * 60))
    return f"{minutes} minutes" if minutes < 90 else f"{hours:,.0f} hours"


def _slug(stem: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._")[:100]
    return _quoted(slug if is_name(slug) else "sweep")


def _quoted(text: str) -> str:
    """Write a text as YAML: plain if it is read back unchanged, else in double quotes."""
    if _PLAIN.match(text) and parse_value(text, "") == text:
        return text
    escapes = {'"': '\\"', "\\": "\\\\"}
    inner = "".join(escapes.get(c) or (c if c.isprintable() else ascii(c)[1:-1]) for c in text)
    return f'"{inner}"'
