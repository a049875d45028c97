"""A packed file that unpacks to more than the limit is refused, whatever packed it."""

import bz2
import gzip
import io
import lzma
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from finesweep.data.packed_file import refuse_large
from finesweep.errors import Unreadable

LIMIT = 3_000_000


def zipped(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for half in (0, 1):
            archive.writestr(f"{half}.csv", data[half::2])
    return stream.getvalue()


PACKERS = [gzip.compress, bz2.compress, lzma.compress, zipped]
every_packer = pytest.mark.parametrize("pack", PACKERS, ids=["gzip", "bzip2", "xz", "zip"])


@every_packer
def test_packed_file_is_refused_only_beyond_the_limit(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "train.csv.packed"
    file.write_bytes(pack(b"a" * LIMIT))
    refuse_large(file, LIMIT)
    file.write_bytes(pack(b"a" * (LIMIT + 2)))
    assert file.stat().st_size < LIMIT / 100
    with pytest.raises(Unreadable, match="it unpacks to more than the 3,000,000 bytes that are read"):
        refuse_large(file, LIMIT)


@every_packer
def test_torn_packed_file_cannot_be_unpacked(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(os.urandom(1_000))
    (tmp_path / "torn").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(Unreadable, match="torn: cannot be unpacked: "):
        refuse_large(tmp_path / "torn", LIMIT)


def test_plain_file_may_have_as_many_bytes_as_the_limit(tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_bytes(b"a" * 10)
    refuse_large(tmp_path / "plain.csv", 10)
    with pytest.raises(Unreadable, match="10 bytes are more than the 9"):
        refuse_large(tmp_path / "plain.csv", 9)


def test_what_cannot_be_looked_into_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(10))
    with pytest.raises(Unreadable, match="packed with zstd; gzip, bzip2, xz and zip are unpacked"):
        refuse_large(tmp_path / "a.zst", LIMIT)
