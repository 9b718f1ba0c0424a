"""HDF5 files of strangers: what is in them is checked by its description before it is read."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import h5py
import numpy as np

_MAX_TEXT = 1 << 24  # Bytes of an attribute's texts.
_MAX_FILE = 1 << 30  # Bytes of a file in which text is looked for.


class WrongFile(Exception):  # noqa: N818 - not for users
    """What is wrong with a file; `open_file` makes it a ValueError that names the file."""


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file, open for reading; whatever is wrong with it becomes a ValueError."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {str(path)!r}.")
    path.open("rb").close()  # A file that may not be read is not a damaged one.
    _longest_text.cache_clear()  # Another file may lie at this path now.
    try:
        with h5py.File(path, "r") as file:
            yield file
    except WrongFile as error:
        raise ValueError(f"{str(path)!r} {error}") from None
    except BlockingIOError:
        raise OSError(f"{str(path)!r} is open for writing in another program: close it there first.") from None
    except Exception:  # Of many kinds: h5py's, wherever it meets what is damaged or missing.
        reason = "is not an HDF5 file, is damaged, or is not laid out as Keras writes weights"
        raise ValueError(f"{str(path)!r} {reason}.") from None


def read_channels(file: h5py.File, name: str) -> np.ndarray:
    """Three finite numbers of an attribute; none where it holds anything else."""
    kind = file.attrs.get_id(name) if name in file.attrs else None
    if kind is None or kind.shape != (3,) or kind.dtype.kind != "f":
        return np.zeros(0)
    return file.attrs[name] if np.isfinite(_float32(file.attrs[name])).all() else np.zeros(0)


def read_text(owner: h5py.Group, name: str) -> list[str]:
    """Text of an attribute; [] where there is none."""
    if name not in owner.attrs:
        return []
    kind = owner.attrs.get_id(name)
    text, count = h5py.check_string_dtype(kind.dtype), math.prod(kind.shape)
    if count == 0:
        return []
    if not text:
        raise WrongFile(f"has no valid attribute {name!r}, as files of save_weights have.")
    sizes = owner.file.id.get_create_plist().get_sizes()
    if count * (text.length or _longest_text(Path(owner.file.filename), sizes)) > _MAX_TEXT:
        raise WrongFile(f"has more than {_MAX_TEXT:,} bytes of text in its attribute {name!r}, or damaged text.")
    values = np.asarray(owner.attrs[name], object).ravel()
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


@functools.lru_cache(maxsize=1)  # Thousands of attributes can ask for it.
def _longest_text(path: Path, sizes: tuple[int, int]) -> float:
    """Bytes of the longest text of variable length in a file; infinity where that is not to be found out.

    Such texts lie in heaps, to which attributes refer: thousands of names can refer to the same megabytes.
    """
    longest, total = 1, 0
    if path.stat().st_size > _MAX_FILE or sizes != (8, 8):
        return math.inf
    with path.open("rb") as stream:
        for start in _positions(stream, b"GCOL\x01"):
            stream.seek(start + 8)
            (size,) = struct.unpack("<Q", stream.read(8))
            total += size
            if size < 16 or total > _MAX_TEXT:
                return math.inf
            heap, position = stream.read(size - 16), 0
            while position + 16 <= len(heap):
                index, length = struct.unpack_from("<H6xQ", heap, position)
                if index == length == 0:  # HDF5 would stay here for ever.
                    return math.inf
                longest = max(longest, length if index else 0)  # Index 0: space that is free.
                position += 16 + -(-length // 8) * 8 if index else length
    return longest


def _positions(stream: IO[bytes], signature: bytes) -> list[int]:
    """Where the signature stands in the file."""
    found, offset, block = [], 0, b""
    while chunk := stream.read(1 << 24):
        block = block[-len(signature) + 1 :] + chunk
        found += [offset + len(chunk) - len(block) + match.start() for match in re.finditer(signature, block)]
        offset += len(chunk)
    return found


def stores_plain_floats(data: h5py.Dataset) -> bool:
    """Whether the dataset holds floats as they are: not another file's, not packed, in chunks no larger than it."""
    whole = not data.external and not data.is_virtual and data.id.get_create_plist().get_nfilters() == 0
    chunks = data.chunks or data.shape
    fits = all(chunk <= side for chunk, side in zip(chunks, data.shape, strict=True))
    return whole and fits and data.dtype.kind == "f" and data.dtype.itemsize <= 8


def read_floats(data: h5py.Dataset) -> np.ndarray:
    """The dataset as float32; `WrongFile` unless all values are finite."""
    values = _float32(data[()])
    if not np.isfinite(values).all():
        raise WrongFile("holds weights that are infinite or not a number.")
    return values


def _float32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # What float32 cannot hold becomes infinite.
        return values.astype("float32")


def member(group: h5py.Group, path: str):
    """What lies at `path`, or None. Only hard links are followed: others can lead to another file."""
    for name in path.split("/"):
        links = group.id.links
        if not links.exists(name.encode()):
            return None
        if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise WrongFile("must store its own floating-point data: it has links to other places.")
        group = group[name]
    return group
