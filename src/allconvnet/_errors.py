"""How an error is worded: what is wrong, what was received, what is allowed, what to do next."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real


def listed(names: Iterable[object]) -> str:
    """Names as they stand in a message: `'a', 'b' or 'c'`."""
    shown = [repr(name) for name in names]
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown) or "none"


def message(wrong: str, *, received: object, allowed: str = "", next_step: str = "") -> str:
    """One error text. `received` is written as it stands: pass `f"name={value!r}"`."""
    parts = [f"{wrong}.", f"Received: {received}."]
    if allowed:
        parts.append(f"Allowed: {allowed}.")
    if next_step:
        parts.append(next_step)
    return " ".join(parts)


def check_number(name: str, value: float, least: float, greatest: float = math.inf, *, whole: bool = False) -> None:
    """Raises ValueError for what is no number, or not whole where it must be, or out of its range."""
    if not isinstance(value, Integral if whole else Real) or not least <= value <= greatest:
        allowed = f"{least} or more" if greatest == math.inf else f"{least} to {greatest}"
        kind = "a whole number, " if whole else ""
        raise ValueError(message(f"Impossible {name}", received=f"{name}={value!r}", allowed=f"{kind}{allowed}"))
