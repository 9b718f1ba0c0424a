"""Checks of arguments, and the errors that they raise."""

from __future__ import annotations

import difflib
import math
import os
import sys
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any


def shortened(value: object) -> str:
    """A value in a message: one line, whatever it is."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # Such as that of an integer of 5,000 digits.
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 100 else f"{text[:97]}..."


def listed(names: Iterable[object]) -> str:
    """Names in a message, sorted: `'a', 'b' or 'c'`."""
    shown = sorted(map(repr, names))
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown) or "none"


def unknown(argument: str, value: object, names: Iterable[object]) -> ValueError:
    """The error for an argument that is none of `names`; it suggests the closest one."""
    names = list(names)
    texts = [name for name in names if isinstance(name, str)]
    close = difflib.get_close_matches(value[:100], texts, n=1) if isinstance(value, str) else []
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ValueError(f"Unknown {argument}. Received: {argument}={shortened(value)}.{hint} Allowed: {listed(names)}.")


def check_choice(argument: str, value: object, names: Iterable[object]) -> None:
    """Raises ValueError unless `value` is one of `names`, which are texts, numbers or None."""
    if not isinstance(value, (str, int, type(None))) or value not in (names := list(names)):
        raise unknown(argument, value, names)


def check_flag(name: str, value: object) -> None:
    """Raises ValueError unless `value` is True or False, of Python or of NumPy."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise ValueError(f"Invalid {name}. Received: {name}={shortened(value)}. Allowed: True or False.")


def checked_path(name: str, value: object, *, file: bool = False) -> Path:
    """The path, `~` expanded; ValueError unless `value` is one, and ends in a name if it is that of a `file`."""
    try:
        if isinstance(value, (str, os.PathLike)) and b"\0" not in os.fsencode(value):
            path = Path(value).expanduser()
            if path.name or not file:
                return path
    except (RuntimeError, TypeError, ValueError):  # No such user, a path of bytes, a lone surrogate.
        pass
    raise ValueError(f"Invalid {name}. Received: {name}={shortened(value)}. Allowed: a path.")


def check_number(name: str, value: Any, least: float, greatest: float = math.inf, *, whole: bool = False) -> None:
    """Raises ValueError unless `value` is a finite number (a whole one if `whole`) from `least` to `greatest`."""
    number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not number or not least <= value <= min(greatest, sys.float_info.max):
        allowed = f"{least} or more" if greatest == math.inf else f"{least} to {greatest}"
        kind = "a whole number, " if whole else ""
        raise ValueError(f"Invalid {name}. Received: {name}={shortened(value)}. Allowed: {kind}{allowed}.")
