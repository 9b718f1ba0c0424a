"""Arguments that are arrays."""

from __future__ import annotations

import numpy as np


def numbers(name: str, value: object, kinds: str = "uif") -> np.ndarray:
    """The value of the argument as an array; ValueError unless its dtype is of one of the kinds."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # Such as lists of several lengths.
        array = np.asarray(None)
    if array.dtype.kind not in kinds:
        names = {"u": "unsigned integers", "i": "integers", "f": "floats"}
        received = f"{type(value).__name__} of dtype {array.dtype}"
        raise ValueError(f"Invalid {name}. Received: {received}. Allowed: {' or '.join(map(names.get, kinds))}.")
    return array
