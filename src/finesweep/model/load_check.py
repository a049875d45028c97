"""Checks that a pretrained model loads whole: its files have every tensor that its config makes, and all are used.

Only the head may be new, and the pooler if a checkpoint lacks it. The library would draw a missing tensor at random,
and drop an encoder's tensor without a place in the config, both silently.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finesweep import activity
from finesweep.data import LoadedData
from finesweep.errors import Problem, SpecError
from finesweep.folder import Loading
from finesweep.model import head
from finesweep.model.folder_check import LAYERS, position_offset
from finesweep.model.remote_code import Fault
from finesweep.model.source import ResolvedModel
from finesweep.model.weights import FLOATS, WeightFiles, not_finite, read_weights
from finesweep.registry import TASKS
from finesweep.spec import KeyPath, ModelSpec, SweepSpec, YamlSource
from finesweep.text import clean, first_few
from finesweep.trial import Value

if TYPE_CHECKING:
    from finesweep.model.pretrained import Loaded

_CANNOT = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NotImplementedError)
CANNOT_BE_MADE = (*_CANNOT, OSError, RuntimeError, TypeError, ValueError)
"""Exceptions of the library for a config that no model can be made of, or a tokenizer that it cannot read."""

PREFIX = "model."
_SHOWN = 3
_ANOTHER = "config.json and weights belong to different models"
_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)")
_ADAPTED = re.compile(r"(^|\.)(lora_[A-Za-z_]+|base_layer|modules_to_save)\.")


def check(
    model: ResolvedModel, spec: SweepSpec, source: YamlSource, data: LoadedData | None, *, trusted: bool = False
) -> Loading:
    """Compare a model's files with the model that its config makes, and decide about its head.

    Args:
        model: A model whose folder has no fault by itself.
        spec: Has the task and ``keep_head``.
        source: Gives the place of ``model:``, for messages.
        data: The rows; None if they are unknown, and the head is not judged.
        trusted: Whether code that comes with the model may run.

    Raises:
        SpecError: The model does not load whole, or its head cannot be kept; lists every problem.
    """
    is_mapping = isinstance(source.values.get("model"), dict)
    where = source.where("model", "name") if is_mapping else source.where("model")
    asked = spec.model
    assert isinstance(asked, ModelSpec)
    activity.tell(f"comparing the weights of {model.name} with its config.json")
    try:
        task = TASKS.load(spec.task)()
        look = _Look(model, task.model_class, task.head(data.names) if data is not None else {}, trusted=trusted)
        chosen = look.choose_head(data.names, asked.keep_head) if data is not None else head.Head(None)
    except head.HeadFault as fault:
        raise SpecError.of(source.where("model", "keep_head"), str(fault), "leave keep_head out") from None
    except CANNOT_BE_MADE as error:
        raise SpecError.of(where, f"{model.name}: no model can be made of it: {_line(error)}") from None
    problems = [Problem(where, f"{model.name}: {fault.message}", fault.hint) for fault in look.faults()]
    if problems := problems or list(_setting_problems(look, spec, source)):
        raise SpecError(problems)
    rows = None if chosen.rows is None else list(chosen.rows)
    return Loading(list(look.output), rows, list(look.new()), [*look.notes, *_notes(look, chosen)])


class _Look:
    """Compares names and shapes of tensors; reads no weights.

    Attributes:
        output: The parameters of the head's last layer.
        head: All parameters of the head.
        notes: Remarks on the tokenizer.
    """

    def __init__(self, model: ResolvedModel, model_class: str, fields: Mapping[str, Any], *, trusted: bool) -> None:
        from finesweep.model import pretrained

        assert model.path is not None
        self.model, self.trusted, self._folder = model, trusted, model.path
        self._model_class, self._fields = model_class, fields
        self.weights = read_weights(self._folder)
        self._tokenizer = pretrained.load_tokenizer(self._folder, trusted=trusted)
        said = pretrained.load_config(self._folder, trusted=trusted)
        self._padding = list(_padding_faults(said, self._tokenizer))
        self.notes = tuple(_padding_notes(said, self._tokenizer))
        self.config = self._config()
        self.loaded = self._load()
        self.output = self._output()
        self.head = head_of(self.loaded.model, self.output)
        self.without: tuple[str, ...] = ()

    def _config(self, **settings: Value) -> Any:
        from finesweep.model import pretrained

        config = pretrained.load_config(self._folder, trusted=self.trusted, **self._fields, **settings)
        pretrained.settle_padding(config, self._tokenizer)
        return config

    def _load(self, config: Any = None, without: Collection[str] = ()) -> Loaded:
        from finesweep.model.pretrained import load_model

        made = config or self.config
        return load_model(self.weights, made, self._model_class, trusted=self.trusted, without=without, only_names=True)

    def _output(self) -> tuple[str, ...]:
        """Return the parameters whose shape depends on the number of labels."""
        from finesweep.model.pretrained import empty_model

        # Model types name the last layer of a head differently. So a second model is made with one more label: the
        # parameters whose shape differs are the layer.
        wider = copy.deepcopy(self.config)
        wider.num_labels = self.config.num_labels + 1
        others = dict(empty_model(wider, self._model_class, trusted=self.trusted).named_parameters())
        ours = self.loaded.model.named_parameters()
        return tuple(name for name, tensor in ours if name not in others or others[name].shape != tensor.shape)

    def choose_head(self, names: Sequence[str] | None, keep: bool | None) -> head.Head:
        """Decide about the checkpoint's head.

        Raises:
            HeadFault: The spec says to keep it, and it cannot be kept.
        """
        layer = ", ".join(_modules(self.output))
        chosen = head.choose(self.model.config, names, self.config.num_labels, self._rows_there(), keep, layer=layer)
        if chosen.rows is None and not self.loaded.new.issuperset(self.output):
            self.without = self.output
            self.loaded = self._load(without=self.output)
        return chosen

    def _rows_there(self) -> int | None:
        """Return the number of rows of the head's last layer in the files; None if the layer is missing."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.loaded.model.named_parameters()}
        shapes |= {name: there for name, (there, _) in self.loaded.mismatched.items()}
        theirs = {shapes[name][0] for name in self.output if name not in self.loaded.missing}
        return theirs.pop() if len(theirs) == 1 and not self.loaded.missing & set(self.output) else None

    def faults(self) -> Iterator[Fault]:
        """Yield everything that does not load whole."""
        yield from self._padding
        if self.without and (kept := sorted(set(self.output) - self.loaded.new)):
            yield Fault(f"its head cannot be made new: {_listed(kept)}", "name its base model")
        yield from encoder_faults(self.loaded, self.head, _cause(self.weights, self.loaded.model))
        yield from dropped_faults(self.loaded)
        yield from self._unfit_numbers()

    def _unfit_numbers(self) -> Iterator[Fault]:
        """Yield faults for loaded tensors whose numbers cannot be trained on."""
        used = {name: tensor for name, tensor in self.weights.tensors.items() if name in self.loaded.used}
        packed = [name for name in used if name.endswith((".weight", ".bias")) and used[name].dtype not in FLOATS]
        if packed:
            count = f"{len(packed):,} of the {len(used):,} tensors of its weights are of type {used[packed[0]].dtype}"
            yield Fault(f"{count}: {_listed(packed)}", "a quantized model cannot be trained; name the original model")
        activity.tell("looking for NaN in the weights")
        if broken := list(not_finite(used)):
            count = f"{len(broken):,} of the {len(used):,} tensors of its weights hold"
            yield Fault(
                f"{count} NaN or infinity: {_listed(broken)}", "copy or download it again, or name another model"
            )

    def with_setting(self, name: str, value: Value) -> Loaded:
        """Return what is loaded if a trial sets this field of the config."""
        return self._load(self._config(**{name: value}))

    def new(self) -> tuple[str, ...]:
        """Return all parameters that are drawn at random, in the model's order."""
        return tuple(name for name, _ in self.loaded.model.named_parameters() if name in self.loaded.new)


def changed(loaded: Loaded, loading: Loading | None, *, fewer_layers: bool = False) -> list[str]:
    """Return the differences from what was loaded when the model was checked; empty if there are none.

    Args:
        loaded: The model that a trial has loaded.
        loading: The result of the check; None in a folder of an earlier version, which does not have it.
        fewer_layers: Whether the trial asks for fewer layers than the checkpoint has.
    """
    faults = [*encoder_faults(loaded, head_of(loaded.model, loading.output if loading else ()))]
    faults += dropped_faults(loaded) if not fewer_layers else []
    said = [fault.message for fault in faults]
    if loading is not None and (more := sorted(loaded.new - set(loading.new))):
        said.append(f"when it was checked, these were in its weights, and now they are not: {_listed(more)}")
    return said


def head_of(model: Any, output: Iterable[str]) -> frozenset[str]:
    """Return the parameters of a model's head: those outside its base model.

    Args:
        model: A model with a head.
        output: The parameters of the head's last layer. If they lie in a module of the base model, all of that module
            counts as head.
    """
    names = [name for name, _ in model.named_parameters()]
    base = _base(model)
    parts = base.count(".") + 1
    inside = tuple({".".join(name.split(".")[:parts]) + "." for name in output if name.startswith(base)})
    return frozenset(name for name in names if not name.startswith(base) or name.startswith(inside))


def _base(model: Any) -> str:
    """Return the prefix of the base model's parameters; empty if no parameter has it."""
    base = f"{model.base_model_prefix}."
    return base if any(name.startswith(base) for name, _ in model.named_parameters()) else ""


def encoder_faults(loaded: Loaded, head_names: Collection[str], cause: str = "") -> Iterator[Fault]:
    """Yield faults for tensors of the encoder that would be drawn at random: they are missing or have another shape.

    Args:
        loaded: The loaded model.
        head_names: The parameters of the head.
        cause: Hint to give instead of the usual one.
    """
    encoder = [name for name, _ in loaded.model.named_parameters() if name not in head_names]
    missing = [name for name in encoder if name in loaded.missing and not _is_pooler(name)]
    if missing:
        count = f"{len(missing):,} of the {len(encoder):,} tensors of its encoder are"
        yield Fault(f"{count} not in its weights: {_listed(missing)}", cause or _ANOTHER)
    others = [(name, *loaded.mismatched[name]) for name in encoder if name in loaded.mismatched]
    if others:
        count = f"{len(others):,} of the {len(encoder):,} tensors of its encoder have"
        shown = [f"{name} is {_shape(there)}, config.json makes it {_shape(here)}" for name, there, here in others]
        yield Fault(f"{count} another shape in its weights: {_listed(shown)}", cause or _ANOTHER)


def dropped_faults(loaded: Loaded) -> Iterator[Fault]:
    """Yield faults for dropped tensors of the encoder: those of a further layer, or of a part of a layer."""
    base = _base(loaded.model)
    known = [name.removeprefix(base) for name, _ in loaded.model.named_parameters() if name.startswith(base)]
    patterns, layers = {_pattern(name) for name in known}, {name.rpartition(".")[0] for name in known}
    dropped = []
    for name in sorted(loaded.unexpected):
        bare = name.removeprefix(base)
        layer, _, part = bare.rpartition(".")
        if _pattern(bare) in patterns or (layer in layers and part in ("weight", "bias")):
            dropped.append(name)
    if dropped:
        count = f"{len(dropped):,} tensor{'s' if len(dropped) > 1 else ''} of its weights"
        yield Fault(f"config.json has no place for {count}, which would be left out: {_listed(dropped)}", _ANOTHER)


def _pattern(name: str) -> str:
    """Return a name with the numbers of layers replaced by ``*``."""
    return _NUMBER.sub("*", f".{name}")


def _is_pooler(name: str) -> bool:
    return "pooler" in name.split(".")


def _setting_problems(look: _Look, spec: SweepSpec, source: YamlSource) -> Iterator[Problem]:
    """Yield settings with which the model would no longer load whole; fewer layers are allowed."""
    for path, name, value in _settings(spec):
        try:
            loaded = look.with_setting(name, value)
        except CANNOT_BE_MADE as error:
            yield Problem(source.where(*path), f"no model can be made with {value!r}: {_line(error)}")
            continue
        faults = [*encoder_faults(loaded, look.head), *(dropped_faults(loaded) if name not in LAYERS else ())]
        for fault in faults:
            yield Problem(source.where(*path), f"with {value!r}, {fault.message}", "it belongs to the model's weights")


def _settings(spec: SweepSpec) -> Iterator[tuple[KeyPath, str, Value]]:
    """Yield every value of a ``model.*`` setting that can change the tensors; a float cannot."""
    settings: dict[tuple[str, str], Sequence[Value]] = {("fixed", name): (value,) for name, value in spec.fixed.items()}
    for name, parameter in spec.space.items():
        settings[("space", name)] = tuple(parameter.ends().values())
    for (section, dotted), values in settings.items():
        if dotted.startswith(PREFIX):
            for value in values:
                if not isinstance(value, float):
                    yield (section, dotted), dotted.removeprefix(PREFIX), value


def _padding_faults(config: Any, tokenizer: Any) -> Iterator[Fault]:
    there, here, size = config.pad_token_id, tokenizer.pad_token_id, getattr(config, "vocab_size", None)
    if isinstance(size, int) and here is not None and here >= size:
        hint = "tokenizer and model belong to different models"
        yield Fault(f"its tokenizer pads with token {here}, the model has only {size:,} tokens", hint)
    elif there is not None and here != there and position_offset(config.model_type, there):
        message = (
            f"its tokenizer pads with token {here}, but the model counts positions from its own padding id {there}"
        )
        yield Fault(message, "tokenizer and model belong to different models; else set pad_token_id in config.json")


def _padding_notes(config: Any, tokenizer: Any) -> Iterator[str]:
    there, here = config.pad_token_id, tokenizer.pad_token_id
    if there is not None and here is not None and there != here:
        yield f"The model's config pads with token {there}, its tokenizer with {here}; {here} is used by both."


def _cause(weights: WeightFiles, model: Any) -> str:
    """Return the origin of the weights, as the tensors' names show it; an empty string if they do not."""
    if any(_ADAPTED.search(name) for name in weights.tensors):
        return "these are the weights of an adapter (PEFT): call merge_and_unload(), and save the model that it returns"
    first, known = ({name.partition(".")[0] for name in names} for names in (weights.tensors, model.state_dict()))
    if len(first) != 1 or len(weights.tensors) == 1 or first & {*known, model.base_model_prefix}:
        return ""
    return f"all their names begin with {clean(first.pop(), 60)!r}; if that is a model around this one, save this one"


def _notes(look: _Look, chosen: head.Head) -> Iterator[str]:
    if chosen.note:
        yield chosen.note
    lacking = [name for name in look.new() if not (chosen.note and name in look.output)]
    of_head = [name for name in lacking if name in look.head]
    parts = {"the head": of_head, "the pooler": [name for name in lacking if name not in look.head]}
    told = [f"{part} ({', '.join(_modules(names))})" for part, names in parts.items() if names]
    if told:
        yield f"New, since the checkpoint lacks {'it' if len(told) == 1 else 'them'}: {' and '.join(told)}."


def _modules(names: Iterable[str]) -> Sequence[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] for name in names))


def _shape(lengths: Iterable[int]) -> str:
    return "x".join(map(str, lengths)) or "a single number"


def _listed(names: Sequence[str]) -> str:
    return first_few([clean(name, 200) for name in names], _SHOWN)


def _line(error: BaseException) -> str:
    return clean(error) or type(error).__name__
