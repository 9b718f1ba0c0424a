"""Arrays from outside: arguments, and files as `numpy.savez` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def as_array(name: str, value: Any, *, whole: bool = False) -> np.ndarray:
    """The value of the argument as an array; ValueError unless it holds numbers (whole ones if `whole`)."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # A tensor of PyTorch.
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    try:
        array = np.asarray(value)
    except (NotImplementedError, TypeError, ValueError):  # Tensors in a tf.function, lists of several lengths.
        array = np.asarray(None)
    if array.dtype.name == "bfloat16":  # Not one of NumPy's types, but what Keras computes in mixed precision.
        array = array.astype("float32")
    if array.dtype.kind not in ("ui" if whole else "uif"):
        received, allowed = f"{type(value).__name__} of dtype {array.dtype}", "whole numbers" if whole else "numbers"
        raise ValueError(f"Invalid {name}. Received: {received}. Allowed: {allowed}.")
    return array


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays by name; ValueError names a file that is damaged. Takes no more memory than the file has bytes."""
    with path.open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as saved:
                if sum(member.file_size for member in saved.zip.infolist()) > path.stat().st_size:
                    raise ValueError("it is compressed")
                return {name: saved[name] for name in saved.files}
        except Exception as error:  # What a damaged file raises depends on the place of the damage.
            raise ValueError(f"{str(path)!r} is damaged: {error}.") from None
