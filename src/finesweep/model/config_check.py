"""Checks the fields of a model's config that a spec sets or searches.

Only the config classes list these fields completely. So transformers is imported here, but only if a spec has such
settings.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from finesweep.errors import Problem, SpecError, did_you_mean, lines_of
from finesweep.model.folder_check import LAYERS, SIZES, known_model_types, size_fault
from finesweep.model.source import ResolvedModel
from finesweep.spec import KeyPath, ScratchModelSpec, SweepSpec, YamlSource
from finesweep.spec.training_arguments import describe
from finesweep.trial import Value

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_PREFIX = "model."
_COMMON_TYPES = ("albert", "bert", "distilbert", "electra", "roberta")
_ACTIVATIONS = ("hidden_act", "activation", "activation_function", "hidden_activation")
_OWNED = (
    *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "sep_token_id", "vocab_size"),
    *("is_decoder", "add_cross_attention", "use_cache", "tie_word_embeddings"),
)
_SHAPES = frozenset(SIZES) - frozenset(LAYERS) | {"type_vocab_size", "num_hidden_groups", "inner_group_num"}
_MAX_PAIRS = 10_000
_SPREADS = ("initializer_range", "initializer_factor", "init_std", "embedding_init_std", "init_xavier_std")
_MOST_SPREAD = 10


def setting_defaults(model: ResolvedModel | ScratchModelSpec, spec: SweepSpec, source: YamlSource) -> dict[str, Value]:
    """Check every ``model.*`` setting, and every field of a model made from scratch.

    Returns:
        Value in the model's config of each searched or fixed setting, by dotted name.

    Raises:
        SpecError: A setting is unknown, or the config does not accept its value; lists every problem.
    """
    names = [name for name in (*spec.space, *spec.fixed) if name.startswith(_PREFIX)]
    if not names and not isinstance(model, ScratchModelSpec):
        return {}
    if isinstance(model, ResolvedModel) and "auto_map" in model.config:
        raise SpecError(_of_own_code(spec, names, source))
    check = _Check(_config_class(model, source), model, source)
    check.scratch_settings()
    check.settings(spec)
    if isinstance(model, ScratchModelSpec) and not check.problems:
        check.heads(spec)
    if check.problems:
        raise SpecError(check.problems)
    return {name: getattr(check.base, name.removeprefix(_PREFIX)) for name in names}


def _of_own_code(spec: SweepSpec, names: list[str], source: YamlSource) -> Iterator[Problem]:
    """Refuse each setting of a model with code of its own: without running the code its fields are unknown."""
    for name in names:
        where = source.where("space" if name in spec.space else "fixed", name)
        message = "the config of a model that comes with code of its own cannot be set here"
        yield Problem(where, message, "write it into the config.json of a copy of the model")


def _config_class(model: ResolvedModel | ScratchModelSpec, source: YamlSource) -> type[PreTrainedConfig]:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

    known = sorted(set(CLASSIFIERS) & known_model_types())
    if isinstance(model, ScratchModelSpec) and model.config not in known:
        hint = did_you_mean(model.config, known) or f"some are {', '.join(_COMMON_TYPES)}"
        where = source.where("model", "config")
        raise SpecError.of(where, f"no model type for classification is called {model.config!r}", hint)
    kind: type[PreTrainedConfig] = CONFIG_MAPPING[
        model.config if isinstance(model, ScratchModelSpec) else model.config["model_type"]
    ]
    return kind


class _Check:
    """Checks settings against one config class."""

    def __init__(
        self, kind: type[PreTrainedConfig], model: ResolvedModel | ScratchModelSpec, source: YamlSource
    ) -> None:
        from transformers import PreTrainedConfig

        self.kind, self.model, self.source = kind, model, source
        self.problems: list[Problem] = []
        general = {field.name for field in dataclasses.fields(PreTrainedConfig)}
        self.fields = {field.name: field for field in dataclasses.fields(kind) if field.name not in general}
        self.known = [name for name in (*self.fields, *kind.attribute_map) if name not in _OWNED]
        self.base: Any = kind() if isinstance(model, ScratchModelSpec) else self._pretrained(model)

    def _pretrained(self, model: ResolvedModel) -> Any:
        from huggingface_hub.errors import StrictDataclassError

        try:
            return self.kind.from_dict(dict(model.config))
        except (StrictDataclassError, ValueError, TypeError, KeyError) as error:
            message = f"{model.name}: config.json: {lines_of(error)[-1]}"
            raise SpecError.of(self.source.where("model"), message) from None

    def scratch_settings(self) -> None:
        """Check the fields of a model made from scratch, and set them in the base config."""
        if not isinstance(self.model, ScratchModelSpec):
            return
        for name, value in self.model.settings.items():
            path = ("model", name)
            if self._is_known(name, path) and self._takes(name, value, path):
                setattr(self.base, name, value)

    def settings(self, spec: SweepSpec) -> None:
        """Check every ``model.*`` in ``space`` and ``fixed``."""
        for dotted, value in spec.fixed.items():
            if dotted.startswith(_PREFIX):
                self._setting(dotted, {("fixed", dotted): value})
        for dotted, parameter in spec.space.items():
            if dotted.startswith(_PREFIX):
                ends = parameter.ends().items()
                self._setting(dotted, {("space", dotted, *place): value for place, value in ends})

    def _setting(self, dotted: str, values: Mapping[KeyPath, Value]) -> None:
        name, path = dotted.removeprefix(_PREFIX), next(iter(values))[:2]
        if not self._is_known(name, path):
            return
        if isinstance(self.model, ResolvedModel) and name in _SHAPES:
            self._add(path, "cannot be set", "it belongs to the model's weights")
            return
        for place, value in values.items():
            self._takes(name, value, place)

    def _is_known(self, name: str, path: KeyPath) -> bool:
        if name in self.known:
            return True
        kind = self.kind.model_type
        if name in _OWNED:
            self._add(path, "cannot be set", "it follows from the tokenizer and the task")
        else:
            hint = did_you_mean(name, self.known) or f"there are {', '.join(sorted(self.known))}"
            self._add(path, f"the config of {kind} has no such field", hint)
        return False

    def _takes(self, name: str, value: object, path: KeyPath) -> bool:
        problem, hint = self._fault(name, value)
        if problem:
            self._add(path, problem, hint)
        return not problem

    def _fault(self, name: str, value: object) -> tuple[str, str]:
        field = self.fields.get(self.kind.attribute_map.get(name, name))
        if field is not None and not self._has_type(field.name, value):
            return f"expected {_expected(field.type)}, found {describe(value)}", _spelling(field.type, value)
        if name in SIZES and value is not None and (problem := size_fault(name, value)):
            return problem, ""
        if name in LAYERS and isinstance(self.model, ResolvedModel) and _is_more(value, getattr(self.base, name)):
            return f"{value} is more than the {getattr(self.base, name)} layers of the model", ""
        if _is_share(name) and (_is_more(value, 1) or _is_more(0, value)):
            return f"{value} is outside 0 .. 1", ""
        if name in _SPREADS and (_is_more(value, _MOST_SPREAD) or _is_more(0, value)):
            return f"{value} is outside 0 .. {_MOST_SPREAD}", "weights are drawn with this standard deviation"
        return _activation_fault(value) if name in _ACTIVATIONS else ("", "")

    def _has_type(self, name: str, value: object) -> bool:
        from huggingface_hub.errors import StrictDataclassError, StrictDataclassFieldValidationError

        try:
            # Config classes are strict dataclasses: making one checks the types.
            self.kind(**{name: value})
        except StrictDataclassFieldValidationError:
            return False
        except (StrictDataclassError, ValueError, TypeError, ZeroDivisionError):
            return True  # it does not fit the other defaults, but its type is right
        return True

    def heads(self, spec: SweepSpec) -> None:
        """Check that every possible width is a multiple of every possible number of attention heads."""
        widths, heads = self._occurring("hidden_size", spec), self._occurring("num_attention_heads", spec)
        pairs = itertools.islice(itertools.product(widths, heads), _MAX_PAIRS)
        for (width, place), (count, other) in pairs:
            if width % count:
                message = f"hidden_size {width} is no multiple of num_attention_heads {count}"
                self._add(place or other or ("model",), message)
                return

    def _occurring(self, name: str, spec: SweepSpec) -> list[tuple[int, KeyPath | None]]:
        names = [name, *filter(None, [self.kind.attribute_map.get(name)])]
        for dotted in (_PREFIX + spelled for spelled in names):
            if dotted in spec.space and spec.space[dotted].countable:
                values = itertools.islice(spec.space[dotted].values(), _MAX_PAIRS)
                return [(value, ("space", dotted)) for value in values if type(value) is int]
            if dotted in spec.fixed:
                value = spec.fixed[dotted]
                return [(value, ("fixed", dotted))] if type(value) is int else []
        default = getattr(self.base, name, None)
        given = isinstance(self.model, ScratchModelSpec) and set(names) & set(self.model.settings)
        path = ("model", *sorted(given)) if given else None
        return [(default, path)] if type(default) is int and default > 0 else []

    def _add(self, path: KeyPath, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.source.where(*path), message, hint))


def _expected(kind: Any) -> str:
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    if kind in words:
        return words[kind]
    text = str(kind)
    named = [word for type_, word in words.items() if type_.__name__ in text]
    return " or ".join(dict.fromkeys(named)) or text


def _spelling(kind: Any, value: object) -> str:
    if kind is float and type(value) is int:
        return f"write {float(value)}"
    return "leave out the quotes" if isinstance(value, str) and value.replace(".", "", 1).isdigit() else ""


def _is_share(name: str) -> bool:
    return any(part in name for part in ("dropout", "_prob", "pdrop"))


def _is_more(value: object, limit: object) -> bool:
    return isinstance(value, int | float) and isinstance(limit, int | float) and value > limit


def _activation_fault(value: object) -> tuple[str, str]:
    from transformers.activations import ACT2FN

    if value in ACT2FN:
        return "", ""
    return f"no activation is called {value!r}; there are {', '.join(sorted(ACT2FN))}", did_you_mean(str(value), ACT2FN)
