"""Picks the model of a proposed spec: the user's, or one for the texts' language and this machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from finesweep.errors import Problem, SpecError
from finesweep.host.machine import Machine
from finesweep.model.folder_check import DEFAULT_TOKENS, TOKENIZERS_WITHOUT_FILES, inspect
from finesweep.model.text_length import Counter, bytes_of, estimated_tokens, tokenizer_counter
from finesweep.propose import starting_values
from finesweep.propose.starting_values import BaseModel
from finesweep.spec.yaml_source import expand

_FOREIGN_LETTERS = 0.01
"""Share of letters beyond A to Z above which texts are not taken for English."""


@dataclass(frozen=True)
class StartingModel:
    """The model, and its properties as far as they are known here.

    Attributes:
        base: Name and size.
        count: Counts tokens.
        counts_exactly: Whether its own tokenizer counts.
        max_tokens: Longest input in tokens.
        is_local: Whether it is a folder of the user.
        is_here: Whether its files are on this machine.
        why: Reason for the proposal, in a few words.
    """

    base: BaseModel
    count: Counter
    counts_exactly: bool
    max_tokens: int
    is_local: bool
    is_here: bool
    why: str


def pick(asked: str | None, texts: Iterable[str], machine: Machine) -> StartingModel:
    """Pick a model without downloading anything.

    Args:
        asked: Folder or Hub id that the user named.
        texts: Some of the texts.
        machine: Machine for the sweep.

    Raises:
        SpecError: The folder holds no usable model.
    """
    if asked is None:
        return _proposed(texts, machine)
    folder = expand(Path(asked))
    if _is_folder(folder):
        return _found(starting_values.of_config(asked, {}), folder, "as you asked", is_local=True)
    if asked.startswith((".", "/", "~")):
        raise SpecError.of(f"--model {asked}", "no such folder")
    return _on_the_hub(starting_values.of_config(asked, {}), "as you asked")


def is_english(texts: Iterable[str]) -> bool:
    """Return whether texts have almost no letter beyond A to Z, as English texts do."""
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    return sum(not letter.isascii() for letter in letters) <= _FOREIGN_LETTERS * len(letters)


def _proposed(texts: Iterable[str], machine: Machine) -> StartingModel:
    from huggingface_hub import is_offline_mode

    english = is_english(texts)
    device = starting_values.device(machine)
    best = (starting_values.ENGLISH if english else starting_values.MULTILINGUAL)[device]
    why = f"for texts in {'English' if english else 'other languages than English'}, on a {device}"
    if not is_offline_mode():
        return _on_the_hub(best, why)
    here = next((model for model in (best, *starting_values.KNOWN) if _cached(model.name) is not None), None)
    if here is None:
        return _on_the_hub(best, f"{why}; this machine is offline, so put it into its cache first")
    return _on_the_hub(
        here,
        why if here == best else f"the one in the cache of this machine, which is offline; {best.name} is better {why}",
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that no file system allows
        return False


def _on_the_hub(base: BaseModel, why: str) -> StartingModel:
    folder = _cached(base.name)
    if folder is not None:
        return _found(base, folder, why, is_local=False)
    return StartingModel(base, estimated_tokens, False, DEFAULT_TOKENS, False, False, why)


def _cached(name: str) -> Path | None:
    """Return the snapshot of a model in the Hugging Face cache; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError as error:
        raise SpecError.of("--model", f"no folder, and no id of the Hub: {error}") from None
    return Path(found).parent if isinstance(found, str) else None


def _found(base: BaseModel, folder: Path, why: str, *, is_local: bool) -> StartingModel:
    """Return a model from its folder; a folder of the user must be sound, since nothing replaces it."""
    found = inspect(folder)
    if found.faults and is_local:
        raise SpecError(Problem(str(folder), fault.message, fault.hint) for fault in found.faults)
    known = starting_values.of_config(base.name, found.config)
    is_of_bytes = found.tokenizer.get("tokenizer_class") in TOKENIZERS_WITHOUT_FILES
    count = bytes_of if is_of_bytes else tokenizer_counter(folder)
    sized = replace(base, layers=known.layers, memory_gb=known.memory_gb, download_gb=None)
    return StartingModel(sized, count or estimated_tokens, count is not None, found.max_tokens, is_local, True, why)
