"""Reads the headers of safetensors files without loading them: which tensors there are and whether files are whole."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesweep.errors import Unreadable
from finesweep.files import open_regular, read_text

MAX_HEADER = 100_000_000
"""Maximum size of a header in bytes, as in the safetensors library."""

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}\.safetensors\Z")
_LFS = b"version https://git-lfs"


CHUNK = 16_000_000
"""Bytes of a tensor that are checked at a time."""

_EXPONENTS = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
"""By type: the unsigned integer of that size, and the exponent bits, which are all set in NaN and infinity only."""

FLOATS = frozenset(_EXPONENTS)
"""Types that weights can be trained from."""

_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_BYTES |= {"I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file, as its header describes it.

    Attributes:
        file: The file.
        dtype: Type in the format's notation, as ``F32``.
        shape: Lengths of its dimensions.
        start: Offset of its first byte in the file.
        end: Offset after its last byte.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class WeightFiles:
    """The weights in a folder.

    Attributes:
        files: The index, if any, and every file with tensors.
        tensors: Each tensor by its name.
    """

    files: tuple[Path, ...]
    tensors: Mapping[str, Tensor]


class WeightsFault(ValueError):
    """Weights that are missing, damaged or unsafe.

    Attributes:
        message: What was found and what is allowed.
        hint: The nearest fix.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = message, hint
        super().__init__(message)


def read_weights(folder: Path) -> WeightFiles:
    """Find a folder's weights and read their headers.

    Raises:
        WeightsFault: There are none in the safetensors format, a file is missing or damaged, or the index names a file
            outside the folder.
    """
    if (folder / SINGLE).is_file():
        return WeightFiles((folder / SINGLE,), tensors_in(folder / SINGLE))
    if not (folder / INDEX).is_file():
        raise _missing(folder)
    shards = _shards(folder)
    tensors = {name: tensor for shard in shards for name, tensor in tensors_in(shard).items()}
    return WeightFiles((folder / INDEX, *shards), tensors)


def not_finite(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield the name of each tensor that holds NaN or infinity; reads every byte, ``CHUNK`` at a time.

    Raises:
        OSError: A file cannot be read.
    """
    import numpy as np

    buffer = memoryview(bytearray(CHUNK))
    for name, tensor in tensors.items():
        if tensor.dtype not in _EXPONENTS:
            continue
        kind, exponent = _EXPONENTS[tensor.dtype]
        with _opened(tensor.file) as stream:
            stream.seek(tensor.start)
            for start in range(tensor.start, tensor.end, CHUNK):
                count = stream.readinto(buffer[: min(tensor.end - start, CHUNK)])
                numbers = np.frombuffer(buffer[:count], kind)
                # Compared as integers: bfloat16 has no type in numpy, and a conversion to floats would take memory and
                # time.
                if ((numbers & exponent) == exponent).any():
                    yield name
                    break


def digest(folder: Path) -> str:
    """Return the SHA-256 over the names and contents of a folder's weights.

    Raises:
        WeightsFault: There are none, or a file is missing or cut off.
        Unreadable: A file cannot be read.
    """
    return files_digest(read_weights(folder).files)


def files_digest(files: Iterable[Path]) -> str:
    """Return the SHA-256 over the names and contents of files, in the order given."""
    total = hashlib.sha256()
    for file in files:
        with open_regular(file) as stream:
            total.update(f"{file.name}\n{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def tensors_in(file: Path) -> dict[str, Tensor]:
    """Read the header of a safetensors file.

    The file consists of eight bytes with the header's length, the header as JSON, and the tensors without gaps
    (https://github.com/huggingface/safetensors, "Format").

    Raises:
        WeightsFault: Sizes do not add up, or the header is damaged.
    """
    with _opened(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(8)
        if (start + stream.read(len(_LFS) - 8)).startswith(_LFS):
            raise WeightsFault(f"{file.name} is a Git LFS pointer, not the weights", "run `git lfs pull` in the folder")
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > MAX_HEADER or 8 + length > size:
            expected = f"{8 + length:,} or more" if len(start) == 8 else "8 or more"
            raise _damaged(file, size, expected)
        stream.seek(8)
        header = stream.read(length)
    tensors = _tensors(file, header)
    expected_size = max((tensor.end for tensor in tensors.values()), default=8 + length)
    if expected_size != size:
        raise _damaged(file, size, f"{expected_size:,}")
    return tensors


def _opened(file: Path) -> io.BufferedReader:
    try:
        return open_regular(file)
    except Unreadable as error:
        raise WeightsFault(f"{file.name}: {error.reason}", _AGAIN) from None


def _tensors(file: Path, header: bytes) -> dict[str, Tensor]:
    try:
        entries = json.loads(header)
        found = {
            name: _tensor(file, 8 + len(header), entry) for name, entry in entries.items() if name != "__metadata__"
        }
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise WeightsFault(f"weights file damaged: the header of {file.name} cannot be read", _AGAIN) from None
    for name, tensor in found.items():
        bytes_each = _BYTES.get(tensor.dtype)
        if bytes_each is not None and tensor.end - tensor.start != bytes_each * math.prod(tensor.shape):
            raise WeightsFault(f"weights file damaged: {name} in {file.name} has another size than its shape", _AGAIN)
    return found


def _tensor(file: Path, data: int, entry: Mapping[str, Any]) -> Tensor:
    start, end = (int(offset) for offset in entry["data_offsets"])
    if not 0 <= start <= end:
        raise ValueError("offsets")
    return Tensor(file, str(entry["dtype"]), tuple(int(length) for length in entry["shape"]), data + start, data + end)


_AGAIN = "copy or download it again"


def _damaged(file: Path, size: int, expected: str) -> WeightsFault:
    return WeightsFault(f"weights file damaged: {file.name} has {size:,} bytes, expected {expected}", _AGAIN)


def _shards(folder: Path) -> list[Path]:
    try:
        index: Any = json.loads(read_text(folder / INDEX, MAX_HEADER))
        names = sorted(set(index["weight_map"].values()))
    except (Unreadable, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise WeightsFault(f"{INDEX} cannot be read", _AGAIN) from None
    for name in names:
        if not isinstance(name, str) or not _SHARD.match(name):
            raise WeightsFault(f"{INDEX} names {name!r}; only files of the folder itself are read")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise WeightsFault(
            f"{len(missing)} of {len(names)} weights files are missing: {', '.join(missing[:3])}", _AGAIN
        )
    return [folder / name for name in names]


def _missing(folder: Path) -> WeightsFault:
    if next(folder.glob("*.gguf"), None) is not None:
        return WeightsFault("a GGUF file cannot be trained", "name the original model, in safetensors")
    pickles = [*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt"), *folder.glob("*.h5")]
    if pickles:
        message = f"the weights are in {pickles[0].name}, which can hold code; only safetensors are read"
        hint = "if you trust it, convert: AutoModel.from_pretrained(DIR, use_safetensors=False).save_pretrained(DIR)"
        return WeightsFault(message, hint)
    return WeightsFault(f"no weights in the folder; expected {SINGLE}")
