"""Converts nested values that hold tensors into JSON and tensors, and back, exactly.

Unlike a pickle, the result is only lists, tuples, dictionaries, tensors and scalars, and nothing is run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]


def split(value: Any) -> tuple[Any, Tensors]:
    """Convert a nested value into JSON that refers to tensors, and the tensors.

    Args:
        value: Lists, tuples, dictionaries with scalar keys, tensors, and scalars: None, booleans, integers, text,
            numbers (NaN and infinity too).

    Returns:
        Values for JSON, and the tensors by name, on the CPU.

    Raises:
        TypeError: It holds a value of another type.
    """
    tensors: Tensors = {}
    return _plain(value, tensors), tensors


def join(plain: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Rebuild the value that ``split`` was given.

    Raises:
        ValueError: The JSON is no result of ``split``, or a tensor is missing.
    """
    if isinstance(plain, list):
        return [join(item, tensors) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) != 1:
        raise ValueError(f"expected one of {', '.join(_KINDS)}, found {', '.join(map(str, plain)) or 'nothing'}")
    ((kind, content),) = plain.items()
    try:
        return _joined(kind, content, tensors)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{kind!r} holds what it cannot hold ({type(error).__name__}: {error})") from None


_KINDS = ("tuple", "dict", "float", "tensor")


def _plain(value: Any, tensors: Tensors) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, list):
        return [_plain(item, tensors) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(item, tensors) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": [[_plain(key, tensors), _plain(item, tensors)] for key, item in value.items()]}
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON and tensors")


def _joined(kind: str, content: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if kind == "tuple":
        return tuple(join(item, tensors) for item in content)
    if kind == "dict":
        return {join(key, tensors): join(item, tensors) for key, item in content}
    if kind == "float":
        return float(content)
    if kind == "tensor":
        return tensors[content]
    raise KeyError(kind)
