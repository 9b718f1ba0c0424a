"""What error messages share: lists of names, the closest name, ranges of numbers."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real


def listed(names: Iterable[object]) -> str:
    """Names in a message, sorted: `'a', 'b' or 'c'`."""
    shown = sorted(map(repr, names))
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown) or "none"


def unknown(argument: str, value: object, names: Iterable[object]) -> ValueError:
    """The error for an argument that is none of `names`; it suggests the closest one."""
    names = list(names)
    close = difflib.get_close_matches(str(value), [name for name in names if isinstance(name, str)], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return ValueError(f"Unknown {argument}. Received: {argument}={value!r}.{hint} Allowed: {listed(names)}.")


def check_number(name: str, value: object, least: float, greatest: float = math.inf, *, whole: bool = False) -> None:
    """Raises ValueError unless `value` is a number (a whole one if `whole`) from `least` to `greatest`."""
    if not isinstance(value, Integral if whole else Real) or not least <= value <= greatest:
        allowed = f"{least} or more" if greatest == math.inf else f"{least} to {greatest}"
        kind = "a whole number, " if whole else ""
        raise ValueError(f"Invalid {name}. Received: {name}={value!r}. Allowed: {kind}{allowed}.")
