"""CIFAR's batches: pickles read as data. Nothing in them is imported or called; pixels stay in the file at first."""

from __future__ import annotations

import codecs
import pickle
import reprlib
import struct
from typing import IO, NamedTuple

import numpy as np

# A training batch of CIFAR-100 has 50,000 images, each with two labels and a file name: ten opcodes at most.
_MAX_OPCODES = 600_000
_MAX_STRING = 100  # Bytes of a string that is read at once.

# The opcodes that Python 2 and 3 write for a dict of strings, lists and an array: first those with a number after them.
_FORMATS = {
    **dict.fromkeys([pickle.BININT1, pickle.SHORT_BINSTRING, pickle.SHORT_BINBYTES, pickle.SHORT_BINUNICODE], "<B"),
    **dict.fromkeys([pickle.BINPUT, pickle.BINGET, pickle.PROTO], "<B"),
    **dict.fromkeys(
        [pickle.BINSTRING, pickle.BINBYTES, pickle.BINUNICODE, pickle.LONG_BINPUT, pickle.LONG_BINGET], "<I"
    ),
    **dict.fromkeys([pickle.BINBYTES8, pickle.BINUNICODE8, pickle.FRAME], "<Q"),
    pickle.BININT2: "<H",
    pickle.BININT: "<i",
}
_NUMBERS = (pickle.BININT1, pickle.BININT2, pickle.BININT)
_BYTES = (pickle.SHORT_BINSTRING, pickle.BINSTRING, pickle.SHORT_BINBYTES, pickle.BINBYTES, pickle.BINBYTES8)
_TEXT = (pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8)
_PUTS = (pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE)
_CONSTANTS = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False, pickle.EMPTY_TUPLE: ()}
_NEW = {pickle.EMPTY_DICT: dict, pickle.EMPTY_LIST: list}
# Opcodes that take what is above the mark, or so many items, and append them to what is below.
_ITEMS = {
    **dict.fromkeys([pickle.TUPLE, pickle.APPENDS, pickle.SETITEMS], 0),
    **dict.fromkeys([pickle.TUPLE1, pickle.APPEND], 1),
    **dict.fromkeys([pickle.TUPLE2, pickle.SETITEM], 2),
    pickle.TUPLE3: 3,
}
# What the pickle of an array names, and what it means here.
_NAMES = {
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}


class _Blob(NamedTuple):
    """A long string that was not read: where it lies in the file, and whether it is text."""

    start: int
    size: int
    text: bool


class _Call:
    """A call that was not made."""

    def __init__(self, function: object, arguments: object) -> None:
        self.function, self.arguments, self.state = function, arguments, ()


class Batch(NamedTuple):
    """The labels of a batch, int32 `[N]`, and where its pixels lie."""

    labels: np.ndarray
    pixels: _Blob

    def read_images(self, file: IO[bytes]) -> np.ndarray:
        """The images, uint8 `[N, 32, 32, 3]`."""
        pixels, filled = np.empty(len(self.labels) * 3072, np.uint8), 0
        decoder = codecs.getincrementaldecoder("utf-8")()
        file.seek(self.pixels.start)
        for start in range(0, self.pixels.size, 1 << 20):
            chunk = file.read(min(1 << 20, self.pixels.size - start))
            if self.pixels.text:
                chunk = decoder.decode(chunk).encode("latin-1")
            part = pixels[filled : filled + len(chunk)]
            part[:] = np.frombuffer(chunk, np.uint8)[: len(part)]
            filled += len(chunk)
        if filled != pixels.size:
            raise ValueError(f"it has {filled:,} bytes of pixels, not {pixels.size:,}")
        return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def read_batch(file: IO[bytes], size: int, label_name: bytes, count: int, classes: int) -> Batch:
    """The batch of `count` images in the next `size` bytes of the file; ValueError says why it is none."""
    if not count * 3072 < size < count * 6500:  # Protocol 2 of Python 3 writes text: two bytes for some pixels.
        raise ValueError(f"it has {size:,} bytes, which are not those of {count:,} images")
    try:
        content = _read_pickle(file, file.tell() + size)
        labels, array = content[label_name], content[b"data"]
        _, shape, dtype, transposed, pixels = array.state
        plain = (array.function, dtype.function, transposed) == ("array", "dtype", False) and isinstance(pixels, _Blob)
        element = dtype.arguments[0]
    except (AttributeError, IndexError, KeyError, TypeError, UnicodeError, struct.error):
        raise ValueError("it is damaged, or not the pickle of a dict with an array and labels") from None
    if type(labels) is not list or len(labels) != count or {*map(type, labels)} != {int}:
        raise ValueError(f"received: labels {reprlib.repr(labels)}, allowed: a list of {count:,} integers")
    if min(labels) < 0 or max(labels) >= classes:
        raise ValueError(f"received: labels {min(labels)} to {max(labels)}, allowed: 0 to {classes - 1}")
    if not plain or element not in ("u1", b"u1") or shape != (count, 3072):
        received = f"{reprlib.repr(element)} {reprlib.repr(shape)}"
        raise ValueError(f"received: an array {received}, allowed: uint8 ({count}, 3072)")
    if not pixels.text and pixels.size != count * 3072:
        raise ValueError(f"it has {pixels.size:,} bytes of pixels, not {count * 3072:,}")
    return Batch(np.array(labels, np.int32), pixels)


def _read_pickle(file: IO[bytes], end: int):
    """The object of the pickle that ends at byte `end`, with `_Blob` for long strings and `_Call` for calls."""
    stack: list = []
    marks: list[int] = []
    memo: dict = {}
    for _ in range(_MAX_OPCODES):
        code = file.read(1)
        value = _number(file, _FORMATS[code]) if code in _FORMATS else len(memo)
        if code in _NUMBERS:
            stack.append(value)
        elif code in _BYTES or code in _TEXT:
            stack.append(_string(file, value, end, code in _TEXT))
        elif code in _PUTS:
            memo[value] = stack[-1]
        elif code in (pickle.BINGET, pickle.LONG_BINGET):
            stack.append(memo[value])
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _NEW:
            stack.append(_NEW[code]())
        elif code == pickle.MARK:
            marks.append(len(stack))
        elif code in _ITEMS:
            start = len(stack) - _ITEMS[code] if _ITEMS[code] else marks.pop()
            items, stack[start:] = stack[start:], []
            if code in (pickle.APPEND, pickle.APPENDS):
                stack[-1].extend(items)
            elif code in (pickle.SETITEM, pickle.SETITEMS):
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            else:
                stack.append(tuple(items))
        elif code == pickle.GLOBAL:
            stack.append(_named(file.readline(_MAX_STRING)[:-1].decode(), file.readline(_MAX_STRING)[:-1].decode()))
        elif code == pickle.STACK_GLOBAL:
            name, module = stack.pop(), stack.pop()
            stack.append(_named(module, name))
        elif code == pickle.REDUCE:
            arguments, function = stack.pop(), stack.pop()
            if function == "encode":  # How protocol 2 of Python 3 writes bytes.
                text = arguments[0]
                stack.append(text if isinstance(text, _Blob) else text.encode("latin-1"))
            else:
                stack.append(_Call(function, arguments))
        elif code == pickle.BUILD:
            state = stack.pop()
            stack[-1].state = state
        elif code == pickle.STOP:
            return stack.pop()
        elif code not in (pickle.PROTO, pickle.FRAME):
            raise ValueError(f"its opcode {code!r} has no place in a CIFAR batch" if code else "it ends early")
    raise ValueError("it has too many opcodes")


def _number(file: IO[bytes], form: str) -> int:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _string(file: IO[bytes], size: int, end: int, text: bool) -> str | bytes | _Blob:
    start = file.tell() if size > _MAX_STRING else 0
    if start:
        if start + size > end or file.seek(start + size) != start + size:
            raise ValueError("it ends early")
        return _Blob(start, size, text)
    content = file.read(size)
    if len(content) != size:
        raise ValueError("it ends early")
    return content.decode("utf-8", "surrogatepass") if text else content


def _named(module: object, name: object) -> str:
    if not isinstance(module, str) or not isinstance(name, str):
        raise TypeError("no name")
    if (meaning := _NAMES.get(f"{module} {name}")) is None:
        raise ValueError(f"it names {module}.{name}, which has no place in a CIFAR batch")
    return meaning
