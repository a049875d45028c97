"""Checks a model's folder: reads config, weights and tokenizer as data, without loading the model."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finesweep.errors import Unreadable, did_you_mean
from finesweep.files import read_bytes, read_text
from finesweep.files.regular_file import check_folder
from finesweep.model.remote_code import Fault, code_faults, code_files
from finesweep.model.weights import WeightFiles, WeightsFault, files_digest, read_weights
from finesweep.spec.training_arguments import describe

MAX_JSON = 200_000_000
"""Maximum size of a text file in bytes; the largest tokenizers have 40 million."""

_READ_WHOLE = frozenset((".json", ".txt", ".model", ".jinja", ".py"))
"""Suffixes of the files that libraries read as a whole; files with other suffixes may have any size."""

DEFAULT_TOKENS = 512
"""Longest input in tokens if neither config nor tokenizer has a limit."""

MAX_SANE_TOKENS = 10_000_000
"""Limit above which a tokenizer's maximum length is ignored: tokenizers without a limit write a number like 1e30."""

MIN_POSITIONS = 8
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")
LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
WIDTHS = ("hidden_size", "dim", "n_embd", "d_model", "embedding_size")
SIZES: Mapping[str, int] = {
    **dict.fromkeys((*WIDTHS, "intermediate_size", "hidden_dim", "n_inner", "d_ff"), 262_144),
    **dict.fromkeys(LAYERS, 1_000),
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "num_heads"), 4_096),
    "vocab_size": 10_000_000,
    **dict.fromkeys(POSITIONS, 100_000_000),
}
"""Largest sane value of each config field that decides the size of a tensor."""

# These types count positions from the padding id + 1, so the first rows of their position table are never used.
_OFFSET_TYPES = frozenset(
    (
        *("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "xmod", "mpnet", "ibert"),
        *("data2vec-text", "longformer", "lilt", "luke", "markuplm", "layoutlmv3", "esm"),
    )
)
TOKENIZERS_WITHOUT_FILES = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
"""Tokenizer classes that split texts into bytes or characters, and have no vocabulary file."""

_EMBEDDINGS = ("word_embeddings.weight", "embed_tokens.weight", "wte.weight", "tok_embeddings.weight", "shared.weight")
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt"),
)


@dataclass
class ModelFolder:
    """Contents and faults of a model's folder.

    Attributes:
        path: The folder.
        config: ``config.json``; empty if it cannot be read.
        weights: The weights files and their tensors.
        tokenizer: ``tokenizer_config.json``, or empty.
        code: The Python files that the model needs; none if the library itself has its code.
        faults: Everything that is wrong.
        notes: Remarks for the user.
    """

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    weights: WeightFiles = field(default_factory=lambda: WeightFiles((), {}))
    tokenizer: dict[str, Any] = field(default_factory=dict)
    code: Sequence[Path] = ()
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens, special tokens included."""
        said = self.tokenizer.get("model_max_length")
        sane = isinstance(said, int | float) and 0 < said < MAX_SANE_TOKENS
        if positions(self.config) is not None and (self.path / "evidence.json").is_file():
            sane = False  # an exported winner: its tokenizer has the length of the training, which is no limit
        limits = [positions(self.config), int(said) if said is not None and sane else None]
        return min((limit for limit in limits if limit is not None), default=DEFAULT_TOKENS)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are used."""
        return (self.path / "config.json", *self.weights.files, *_tokenizer_files(self.path), *self.code)

    def digest(self) -> str:
        """Return the SHA-256 over the names and contents of all files that are used."""
        return files_digest(self.files)


def inspect(path: Path, *, trusted: bool = False) -> ModelFolder:
    """List everything that is wrong with a model's folder.

    Args:
        path: The folder.
        trusted: Whether code that comes with the model may run.
    """
    found = ModelFolder(path, faults=list(_irregular(path)))
    if found.faults:
        return found
    if (path / "adapter_config.json").is_file():
        found.faults.append(Fault("this is an adapter (LoRA), no whole model", "merge it into its base model first"))
        return found
    _config(found)
    _weights(found)
    _tokenizer(found)
    _code(found, trusted=trusted)
    if found.config and found.weights.files and not found.faults:
        _shapes(found)
    return found


def foreign_code(path: Path, *, trusted: bool) -> list[Fault]:
    """Check a folder only for code that would run, right before it is loaded.

    Args:
        path: The folder; it may lack weights.
        trusted: Whether code that comes with the model may run.
    """
    found = ModelFolder(path, faults=list(_irregular(path)))
    if found.faults:
        return found.faults
    found.config = _json_object(found, "config.json") or {}
    found.tokenizer = _json_object(found, "tokenizer_config.json") or {}
    _code(found, trusted=trusted)
    return found.faults


def positions(config: Mapping[str, Any]) -> int | None:
    """Return the number of positions of a config, without unused rows; None if the config does not give it."""
    rows = next((config[name] for name in POSITIONS if type(config.get(name)) is int), None)
    if rows is None or rows < 1:
        return None
    return int(rows) - position_offset(config.get("model_type"), config.get("pad_token_id"))


def position_offset(model_type: object, pad_token_id: object) -> int:
    """Return the number of rows of the position table that a model type never uses."""
    if model_type not in _OFFSET_TYPES:
        return 0
    return (pad_token_id if isinstance(pad_token_id, int) else 1) + 1


@functools.cache
def known_model_types() -> frozenset[str]:
    """Return the model types of the installed transformers, without importing it; empty if they cannot be found."""
    package = importlib.util.find_spec("transformers")
    folder = Path((package.submodule_search_locations or [""])[0]) if package else Path()
    file = folder / "models" / "auto" / "auto_mappings.py"
    # The module with the table is loaded alone: importing transformers takes seconds.
    table = importlib.util.spec_from_file_location("_finesweep_auto_mappings", file)
    if table is None or table.loader is None or not file.is_file():
        return frozenset()
    module = importlib.util.module_from_spec(table)
    table.loader.exec_module(module)
    return frozenset(getattr(module, "CONFIG_MAPPING_NAMES", ()))


def size_fault(name: str, value: object) -> str:
    """Return what is wrong with a size in a config; an empty string if nothing is."""
    if type(value) is not int:
        return f"expected an integer, found {describe(value)}"
    low = MIN_POSITIONS if name in POSITIONS else 1
    if not low <= value <= SIZES[name]:
        return f"{value} is outside {low} .. {SIZES[name]}"
    return ""


def check_files(path: Path) -> None:
    """Check that a library may open every file of a model's folder.

    Raises:
        Unreadable: An entry is no regular file, or is too large.
    """
    check_folder(path, limit=MAX_JSON, limited=_READ_WHOLE)


def _irregular(path: Path) -> Iterator[Fault]:
    """Yield the first entry that no library may open; a library opens any file with the name that it looks for."""
    try:
        check_files(path)
    except Unreadable as error:
        yield Fault(f"{os.path.relpath(error.path, path)}: {error.reason}", "take it out of the folder")


def _config(found: ModelFolder) -> None:
    config = _json_object(found, "config.json")
    if config is None:
        if not (found.path / "config.json").exists():
            found.faults.append(Fault("no config.json in the folder", "name the folder that a model was saved to"))
        return
    found.config = config
    found.faults += _model_type(config)
    for name in SIZES:
        if config.get(name) is not None and (problem := size_fault(name, config[name])):
            found.faults.append(Fault(f"config.json: {name}: {problem}"))
    if "quantization_config" in config:
        found.faults.append(Fault("a quantized model cannot be trained", "name the original model"))
    if "transformers_weights" in config:
        found.faults.append(
            Fault("config.json: transformers_weights is not supported", "name the file model.safetensors")
        )


def _model_type(config: Mapping[str, Any]) -> Iterator[Fault]:
    kind, known = config.get("model_type"), known_model_types()
    if not isinstance(kind, str) or not kind:
        yield Fault("config.json has no model_type", "it is a word such as bert")
    elif known and kind not in known and "auto_map" not in config:
        yield Fault(f"config.json: transformers knows no model_type {kind!r}", did_you_mean(kind, known))


def _code(found: ModelFolder, *, trusted: bool) -> None:
    configs = {"config.json": found.config, "tokenizer_config.json": found.tokenizer}
    found.faults += code_faults(found.path, configs, known_model_types(), trusted=trusted)
    found.code = code_files(found.path, configs)
    if found.code:
        found.notes.append(f"Runs code that comes with the model: {', '.join(file.name for file in found.code)}.")


def _weights(found: ModelFolder) -> None:
    try:
        found.weights = read_weights(found.path)
    except WeightsFault as fault:
        found.faults.append(Fault(fault.message, fault.hint))


def _tokenizer(found: ModelFolder) -> None:
    files = {file.name for file in _tokenizer_files(found.path)}
    has_model = any(name.endswith(".model") for name in files)
    found.tokenizer = _json_object(found, "tokenizer_config.json") or {}
    needs_none = found.tokenizer.get("tokenizer_class") in TOKENIZERS_WITHOUT_FILES
    if not (
        files & {"tokenizer.json", "vocab.txt"} or {"vocab.json", "merges.txt"} <= files or has_model or needs_none
    ):
        hint = "save it there: AutoTokenizer.from_pretrained(...).save_pretrained(DIR)"
        found.faults.append(Fault("no tokenizer in the folder; expected tokenizer.json", hint))
        return
    vocabulary = _vocabulary(found, files)
    rows = found.config.get("vocab_size")
    if vocabulary is not None and type(rows) is int and vocabulary > rows:
        message = f"the tokenizer has {vocabulary:,} tokens, the model only {rows:,} (config.json: vocab_size)"
        found.faults.append(Fault(message, "tokenizer and model belong to different models"))
    special = _json_object(found, "special_tokens_map.json") or {}
    padded = {"pad_token"} & {*found.tokenizer, *special} or found.config.get("pad_token_id") is not None
    if not padded and found.config.get("eos_token_id") is not None:
        found.notes.append("The tokenizer has no padding token; its end-of-text token is used.")


def _vocabulary(found: ModelFolder, files: set[str]) -> int | None:
    """Return the highest token id + 1; None if it cannot be found cheaply."""
    if "tokenizer.json" in files:
        values = _json_object(found, "tokenizer.json")
        if values is None:
            return None
        ids = [item.get("id") for item in _list(values.get("added_tokens")) if isinstance(item, dict)]
        model = values.get("model")
        entries = model.get("vocab") if isinstance(model, dict) else None
        ids += entries.values() if isinstance(entries, dict) else [len(_list(entries)) - 1]
    elif "vocab.txt" in files:
        lines = read_bytes(found.path / "vocab.txt", MAX_JSON).rstrip(b"\r\n")
        ids = [lines.count(b"\n") if lines else -1]
    elif "vocab.json" in files:
        ids = list((_json_object(found, "vocab.json") or {}).values())
    else:
        return None
    highest = max((number for number in ids if type(number) is int), default=-1)
    if highest < 0 and not found.faults:
        found.faults.append(Fault("the tokenizer's vocabulary is empty", "copy or download it again"))
    return highest + 1


def _shapes(found: ModelFolder) -> None:
    """Compare the embedding's shape in the weights with the config; the library would replace it by a random one."""
    tensors = found.weights.tensors.items()
    shapes = [tensor.shape for name, tensor in tensors if name.endswith(_EMBEDDINGS) and len(tensor.shape) == 2]
    if not shapes:
        return
    rows, width = shapes[0]
    if (said := found.config.get("vocab_size")) not in (None, rows):
        hint = "config.json and weights belong to different models"
        found.faults.append(Fault(f"config.json: vocab_size is {said}, the weights have {rows} rows", hint))
    widths = {name: found.config[name] for name in WIDTHS if type(found.config.get(name)) is int}
    if widths and width not in widths.values():
        name, said = next(iter(widths.items()))
        hint = "config.json and weights belong to different models"
        found.faults.append(Fault(f"config.json: {name} is {said}, the weights are {width} wide", hint))


def _tokenizer_files(path: Path) -> Sequence[Path]:
    named = [path / name for name in _TOKENIZER_FILES]
    return [file for file in (*named, *sorted(path.glob("*.model"))) if file.is_file()]


def _json_object(found: ModelFolder, name: str) -> dict[str, Any] | None:
    try:
        values = json.loads(read_text(found.path / name, MAX_JSON, encoding="utf-8-sig"))
    except Unreadable as error:
        if not error.missing:
            found.faults.append(Fault(f"{name} cannot be read as JSON: {error.reason}", "copy or download it again"))
        return None
    except (ValueError, RecursionError) as error:
        found.faults.append(Fault(f"{name} cannot be read as JSON: {error}", "copy or download it again"))
        return None
    if not isinstance(values, dict):
        found.faults.append(Fault(f"{name} holds {describe(values)}; expected an object", "copy or download it again"))
        return None
    return values


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
