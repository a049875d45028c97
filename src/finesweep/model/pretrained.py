"""Loads a model's folder: its tokenizer, its config, and its weights into the model that the config makes.

Weights are read here and passed to the library as tensors. So only the safetensors files that were checked are loaded,
whatever else lies in the folder.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
import transformers

from finesweep.errors import SweepError
from finesweep.model.folder_check import foreign_code
from finesweep.model.weights import WeightFiles

_INSIDE = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_AROUND = ("module.", "model.")
_CLASSES: dict[tuple[type, str, bool], type] = {}
"""Class of the model with a head, by config class, name of the auto class, and whether its own code may run."""


@dataclass(frozen=True)
class Loaded:
    """A model with weights from files.

    Attributes:
        model: The model.
        missing: Its parameters that the files lack; they were drawn at random.
        mismatched: Its parameters whose shape in the files is another one; by name, the shape in the files and the
            model's. They were drawn at random too.
        unexpected: Tensors of the files without a place in the model, by the model's naming.
        used: Tensors of the files with a place in the model, by the files' naming; filled only with ``only_names``.
    """

    model: Any
    missing: frozenset[str]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    unexpected: frozenset[str]
    used: frozenset[str]

    @property
    def new(self) -> frozenset[str]:
        """The parameters that were drawn at random."""
        return self.missing | self.mismatched.keys()


def load_tokenizer(folder: Path, *, trusted: bool = False) -> Any:
    """Load a folder's tokenizer; one without a padding token pads with its end-of-text token.

    Args:
        folder: The model's folder.
        trusted: Whether code that comes with the model may run.

    Raises:
        SweepError: The tokenizer has code of its own that is not trusted.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **_local(folder, trusted=trusted))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(folder: Path, *, trusted: bool = False, **fields: Any) -> Any:
    """Load a folder's config.

    Args:
        folder: The model's folder.
        trusted: Whether code that comes with the model may run.
        fields: Replace fields of the file.

    Raises:
        SweepError: The folder has code of its own that is not trusted.
    """
    config = transformers.AutoConfig.from_pretrained(folder, **_local(folder, trusted=trusted), **fields)
    if not hasattr(config, "pad_token_id"):
        config.pad_token_id = None  # configs of composite models may lack a field that their heads read
    return config


def settle_padding(config: Any, tokenizer: Any) -> None:
    """Set the tokenizer's padding token in a config, because some heads read the last token before the padding."""
    if tokenizer.pad_token_id is not None:
        for part in {id(part): part for part in (config, config.get_text_config())}.values():
            part.pad_token_id = tokenizer.pad_token_id
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = config.pad_token_id  # as T5's is


def new_model(config: Any, model_class: str, *, trusted: bool = False) -> Any:
    """Make the model of a config, with a head; its weights are drawn at random.

    Args:
        config: The model's config.
        model_class: Name of the auto class of transformers that makes it.
        trusted: Whether code that comes with the model may run.
    """
    return getattr(transformers, model_class).from_config(config, trust_remote_code=trusted)


def empty_model(config: Any, model_class: str, *, trusted: bool = False) -> Any:
    """Make the same model on the meta device: with names and shapes, without numbers."""
    with torch.device("meta"):
        model = new_model(config, model_class, trusted=trusted)
    _CLASSES[type(config), model_class, trusted] = type(model)
    return model


def load_model(
    weights: WeightFiles,
    config: Any,
    model_class: str,
    *,
    trusted: bool = False,
    without: Collection[str] = (),
    only_names: bool = False,
) -> Loaded:
    """Make the model of a config, with a head, and fill it with tensors from files.

    The model is in single precision whatever the files hold, because the library would otherwise train in the files'
    precision. Tensors that are missing or have another shape are drawn at random; the caller judges that.

    Args:
        weights: The files.
        config: The config; the model gets a copy.
        model_class: Name of the auto class of transformers that makes the model.
        trusted: Whether code that comes with the model may run.
        without: Parameters that are drawn at random although the files have them.
        only_names: Read no weights: the model stays on the meta device, only names and shapes are compared.
    """
    known = _CLASSES.get((type(config), model_class, trusted))
    kind: Any = known or type(empty_model(config, model_class, trusted=trusted))
    used: set[str] = set()
    with contextlib.ExitStack() as files:
        files.enter_context(_quiet())
        tensors = _only_names(weights, used) if only_names else _slices(weights, files)
        make = functools.partial(empty_model, config, model_class, trusted=trusted)
        own = _own_names(tensors, kind.base_model_prefix, make)
        dropped = {*without, *(name.removeprefix(f"{kind.base_model_prefix}.") for name in without)}
        # Mismatched sizes are reported, not raised: the caller judges them.
        model, report = kind.from_pretrained(
            None,
            config=config,
            state_dict={own[name]: tensor for name, tensor in tensors.items() if own[name] not in dropped},
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
            device_map={"": "meta"} if only_names else None,
            output_loading_info=True,
            local_files_only=True,
        )
    mismatched = {name: (tuple(there), tuple(here)) for name, there, here in report["mismatched_keys"]}
    missing = frozenset(report["missing_keys"]) & {name for name, _ in model.named_parameters()}
    return Loaded(model, missing, mismatched, frozenset(report["unexpected_keys"]), frozenset(used))


def put_rows(model: Any, names: Sequence[str], rows: Sequence[int]) -> None:
    """Reorder the rows of parameters.

    Args:
        model: The model.
        names: Its parameters.
        rows: The old row of each new row.

    Raises:
        SweepError: A parameter has another number of rows, or ``rows`` is no permutation.
    """
    for name in names:
        parameter = model.get_parameter(name)
        if sorted(rows) != list(range(len(parameter))):
            raise SweepError(f"the {len(parameter)} rows of {name} cannot be put into the order {list(rows)[:10]}")
        parameter.data = parameter.data[list(rows)].clone()


def _own_names(names: Collection[str], prefix: str, make: Callable[[], Any]) -> Mapping[str, str]:
    """Return each tensor's name without the prefixes of a compiled model, or of a wrapper that was saved."""
    own = {name: _INSIDE.sub("", name) for name in names}
    if len(set(own.values())) < len(own):
        return {name: name for name in names}
    base = f"{prefix}."
    for around in _AROUND:
        # If the model itself has names with this prefix, only a doubled prefix shows a wrapper.
        prefix = around if around != base else 2 * around
        if all(name.startswith(prefix) for name in own.values()):
            bare = {name: value.removeprefix(around) for name, value in own.items()}
            known = make().state_dict().keys()
            if _known(bare, known, base) > _known(own, known, base):
                own = bare
    return own


def _known(own: Mapping[str, str], known: Collection[str], base: str) -> int:
    """Count the names that the model has, with or without the base model's prefix."""
    return sum(not {name, base + name, name.removeprefix(base)}.isdisjoint(known) for name in own.values())


class _OnlyName:
    """Stands for a tensor whose numbers are not needed; records that the library has taken it."""

    def __init__(self, name: str, shape: tuple[int, ...], used: set[str]) -> None:
        self.name, self.shape, self.used = name, shape, used

    def __getitem__(self, _: Any) -> torch.Tensor:
        self.used.add(self.name)
        return torch.empty(self.shape, device="meta")


def _only_names(weights: WeightFiles, used: set[str]) -> dict[str, Any]:
    return {name: _OnlyName(name, tensor.shape, used) for name, tensor in weights.tensors.items()}


def _slices(weights: WeightFiles, files: contextlib.ExitStack) -> dict[str, Any]:
    """Return lazily read tensors; they can be read as long as the files are open."""
    paths = {tensor.file for tensor in weights.tensors.values()}
    opened = {path: files.enter_context(safetensors.safe_open(path, framework="pt")) for path in sorted(paths)}
    return {name: opened[tensor.file].get_slice(name) for name, tensor in weights.tensors.items()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's progress bar and its report on loading."""
    logging = transformers.utils.logging
    verbosity, shows = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows:
            logging.enable_progress_bar()


def _local(folder: Path, *, trusted: bool) -> dict[str, bool]:
    """Return the options of a local load, after a check for code: the folder may have changed since it was checked."""
    if faults := foreign_code(folder, trusted=trusted):
        raise SweepError("\n".join(f"{folder}: {fault.message}" for fault in faults))
    return {"local_files_only": True, "trust_remote_code": trusted}
