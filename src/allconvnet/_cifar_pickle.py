"""CIFAR's batches: pickles read as a row of strings and numbers. Nothing in them is imported, called or built."""

from __future__ import annotations

import itertools
import pickle
import reprlib
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numpy as np

# A training batch of CIFAR-100 has 50,000 images, each with two labels and a file name: ten opcodes at most.
_MAX_OPCODES = 600_000
_MAX_SHORT = 100  # Bytes; a longer string can only be the pixels.
# What Python 2 (protocol 2) and 3 (3 and 4) write for a dict of strings, lists and an array: opcodes by the size of
# their number.
_SIZES = {
    0: "NONE NEWTRUE NEWFALSE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE MARK APPEND APPENDS SETITEM SETITEMS TUPLE TUPLE1 "
    "TUPLE2 TUPLE3 GLOBAL STACK_GLOBAL REDUCE BUILD MEMOIZE",
    1: "PROTO BINPUT BINGET BININT1 SHORT_BINSTRING SHORT_BINBYTES SHORT_BINUNICODE",
    2: "BININT2",
    4: "LONG_BINPUT LONG_BINGET BININT BINSTRING BINBYTES BINUNICODE",
    8: "FRAME",
}
_OPCODES = {getattr(pickle, name): (name, size) for size, names in _SIZES.items() for name in names.split()}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# What makes an array.
_NAMES = {"numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_reconstruct", "ndarray", "dtype"}


class Batch(NamedTuple):
    """Labels, int32 `[N]`, and the place of the pixels in the file.

    NumPy writes an array that is the transpose of another column by column.
    """

    labels: np.ndarray
    start: int
    by_columns: bool

    def read_images(self, file: IO[bytes]) -> np.ndarray:
        """The images, uint8 `[N, 32, 32, 3]`."""
        file.seek(self.start)
        pixels = np.frombuffer(file.read(len(self.labels) * 3072), np.uint8)
        rows = pixels.reshape((-1, 3072), order="F" if self.by_columns else "C")
        return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def read_batch(file: IO[bytes], size: int, label_name: str, count: int, classes: int) -> Batch:
    """The batch of `count` images in the next `size` bytes of the file; ValueError says why it is none."""
    if not count * 3072 < size < count * 3500:
        raise ValueError(f"it has {size:,} bytes, which are not those of {count:,} images")
    tokens = [*_tokens(file, file.tell() + size)]
    places = [place for place, token in enumerate(tokens) if isinstance(token, tuple)]
    if len(places) != 1 or tokens.count(label_name) != 1:
        raise ValueError(f"it is damaged, or not the pickle of a dict with one array and one list {label_name!r}")
    after = tokens[tokens.index(label_name) + 1 :]
    labels = [*itertools.takewhile(lambda token: not isinstance(token, str | tuple), after)]
    wrong = [label for label in labels if type(label) is not int or not 0 <= label < classes]
    if wrong or len(labels) != count:
        received = f"{len(labels):,} labels, such as {reprlib.repr(wrong or labels)}"
        raise ValueError(f"received: {received}, allowed: {count:,} integers from 0 to {classes - 1}")
    # What NumPy writes before the bytes: version, shape, type and its state, and then whether they go by columns.
    header = [1, count, 3072, "u1", 0, 1, 3, "|", None, None, None, -1, -1, 0]
    *array, by_columns = tokens[: places[0]][-len(header) - 1 :]
    start, size = tokens[places[0]]
    if array != header or not isinstance(by_columns, bool) or size != count * 3072:
        raise ValueError(f"received: an array {reprlib.repr(array)}, {size:,} bytes, allowed: uint8 ({count}, 3072)")
    return Batch(np.array(labels, np.int32), start, by_columns)


def _tokens(file: IO[bytes], end: int) -> Iterator[Any]:
    """Strings, integers and constants of the pickle that ends at byte `end`; of the pixels, (start, size).

    The names in `_NAMES` are left out.
    """
    text = ""
    for number, code in enumerate(iter(lambda: file.read(1), pickle.STOP)):
        if code not in _OPCODES or number == _MAX_OPCODES:
            raise ValueError(f"its opcode {number:,}, {code!r}, is not allowed" if code else "it ends early")
        name, size = _OPCODES[code]
        value = int.from_bytes(file.read(size), "little", signed=name == "BININT")
        if name in _CONSTANTS or "BININT" in name:
            yield _CONSTANTS.get(name, value)
        elif "GLOBAL" in name:
            names = [text] if "STACK" in name else [file.readline(_MAX_SHORT)[:-1].decode("latin-1") for _ in "12"]
            if not _NAMES.issuperset(names):
                raise ValueError(f"it names {reprlib.repr('.'.join(names))}, which is not allowed")
        elif name.endswith(("STRING", "BYTES", "UNICODE")):
            if value <= _MAX_SHORT and (text := file.read(value).decode("latin-1")) not in _NAMES:
                yield text
            elif value > _MAX_SHORT:
                if (start := file.tell()) + value > end:
                    raise ValueError("it ends early")
                yield start, value
                file.seek(start + value)
