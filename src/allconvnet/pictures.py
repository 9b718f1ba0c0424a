"""Draws arrays as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from allconvnet._arrays import as_array
from allconvnet._errors import check_number, shortened

__all__ = ["to_picture"]

_GAP, _LINE, _BAR = 3, 20, 12  # Between cells; height of a line of text and of the color bar. In pixels.
_BLACK, _GRAY = (30, 30, 30), (110, 110, 110)
_NEGATIVE, _POSITIVE = np.array([30.0, 60.0, 200.0]), np.array([200.0, 30.0, 30.0])
# Perceptually uniform: equal steps of a map look equal. From dark blue, the lowest value, to yellow, the highest.
_PLASMA = cv2.applyColorMap(np.arange(256, dtype="uint8"), cv2.COLORMAP_PLASMA).reshape(256, 3)[:, ::-1]


def to_picture(
    arrays: np.ndarray,
    *,
    images: np.ndarray | None = None,
    caption: str = "",
    labels: Sequence[str] | None = None,
    columns: int | None = None,
    cell: int = 128,
) -> np.ndarray:
    """Draws arrays as one picture: a grid with a caption, labels and, for maps, a color bar.

    Each gradient has its own scale, symmetric about zero, which is gray. All maps share one scale, which the color bar
    shows: from blue (negative) through white to red (positive); with `images`, from blue (zero) to yellow, over the
    images in gray.

    Args:
        arrays: uint8 `[N, height, width, 3]` images, shown as they are; float `[N, height, width, 3]` gradients; or
            float `[N, rows, columns]` maps.
        images: uint8 `[N, height, width, 3]`, over which the positive part of the maps is drawn.
        caption: text above the grid, such as net, layer and target.
        labels: text below each cell, `N` strings of one or more lines; lines that are too long are shortened.
        columns: cells in a row; None means all, but at most 8.
        cell: side of a cell in pixels.

    Returns:
        uint8 `[height, width, 3]`, RGB; `cv2.imwrite(path, picture[..., ::-1])` writes it.

    Raises:
        ValueError: the arrays are not of these types, or the images or labels do not fit them.

    Example:
        >>> import allconvnet, numpy as np
        >>> allconvnet.to_picture(np.zeros((3, 32, 32, 3), "float32"), caption="all_cnn_c, relu6").shape
        (160, 396, 3)
    """
    arrays, columns = as_array("arrays", arrays), 8 if columns is None else columns
    check_number("columns", columns, 1, whole=True)
    check_number("cell", cell, 1, 1024, whole=True)
    if not isinstance(caption, str):
        raise TypeError(f"caption must be a string. Received: {type(caption).__name__}.")
    images = None if images is None else as_array("images", images)
    _check_arrays(arrays, images, labels)
    if arrays.dtype.kind == "f":
        arrays = arrays.astype("float64")  # What is divided below can be too large for smaller types.
    columns = min(len(arrays), columns)
    texts = [label.split("\n") for label in labels or [""] * len(arrays)]
    below = _LINE * max(map(len, texts)) + 8 if labels else 0
    head, foot = 26 if caption else 0, _BAR + _LINE + _GAP if arrays.ndim == 3 else 0
    high, wide = cell + below + _GAP, cell + _GAP
    canvas = np.full((head + -(-len(arrays) // columns) * high + _GAP + foot, columns * wide + _GAP, 3), 255, np.uint8)
    _write(canvas, caption, _GAP + 2, 18, canvas.shape[1])
    limit = max(0.0, float((np.abs(arrays) if images is None else arrays).max())) if foot else 0.0
    for number, array in enumerate(arrays):
        top, left = head + _GAP + number // columns * high, _GAP + number % columns * wide
        picture = _colored(array, None if images is None else images[number], limit, cell)
        canvas[top : top + cell, left : left + cell] = _resized(picture, cell)
        for line, text in enumerate(texts[number]):
            color = _GRAY if line else _BLACK
            _write(canvas, text, left + 1, top + cell + 16 + _LINE * line, cell - 1, color)
    if foot:
        _write_color_bar(canvas[-foot:], images is None, limit)
    return canvas


def _check_arrays(arrays: np.ndarray, images: np.ndarray | None, labels: Sequence[str] | None) -> None:
    received = f"{arrays.dtype} {arrays.shape}"
    colors = arrays.ndim == 4 and arrays.shape[3] == 3 and (arrays.dtype == np.uint8 or arrays.dtype.kind == "f")
    if not arrays.size or not (colors or (arrays.ndim == 3 and arrays.dtype.kind == "f")):
        allowed = "uint8 or float [N, height, width, 3], or float [N, rows, columns]"
        raise ValueError(f"These arrays cannot be drawn. Received: {received}. Allowed: {allowed}.")
    if not np.isfinite(arrays).all():
        raise ValueError("The arrays are infinite or not a number.")
    if images is not None:
        fits = images.dtype == np.uint8 and images.ndim == 4 and images.shape[::3] == (len(arrays), 3) and images.size
        if colors or not fits:
            received += f" with images {images.dtype} {images.shape}"
            raise ValueError(f"images must be uint8 [N, height, width, 3] for float maps. Received: {received}.")
    texts = isinstance(labels, (list, tuple)) and all(isinstance(label, str) for label in labels)
    if labels is not None and not (texts and len(labels) == len(arrays)):
        received = f"labels={shortened(labels)}"
        raise ValueError(f"There must be one label for each of {len(arrays)} arrays. Received: {received}.")


def _write(canvas: np.ndarray, text: str, left: int, base: int, room: int, color: tuple[int, ...] = _BLACK) -> None:
    """Text on a base line; its end becomes dots where there is no room for it."""
    text = text[:2000].encode("utf-8", "replace").decode()  # OpenCV crashes on a lone surrogate.
    shown = text
    while shown and _width(shown) > room:
        text = text[:-1]
        shown = f"{text}..." if text else ""
    cv2.putText(canvas, shown, (left, base), cv2.FONT_HERSHEY_SIMPLEX, 0.48, color, 1, cv2.LINE_AA)


def _width(text: str) -> int:
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.48, 1)[0][0]


def _write_color_bar(canvas: np.ndarray, signed: bool, high: float) -> None:
    """The colors from -`high`, or from 0, to `high`, with both numbers below their ends."""
    width = canvas.shape[1] - 2 * _GAP
    scale = np.linspace(-1 if signed else 0, 1, width)
    canvas[:_BAR, _GAP:-_GAP] = _diverging(scale) if signed else _over_gray(scale, np.full(width, 127.5))
    least, greatest = f"{0 - high if signed else 0:.3g}", f"{high:.3g}"
    if _width(least + greatest) < width:
        _write(canvas, least, _GAP, _BAR + 16, width)
        _write(canvas, greatest, _GAP + width - _width(greatest), _BAR + 16, width)


def _colored(array: np.ndarray, image: np.ndarray | None, limit: float, cell: int) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.ndim == 3:
        return np.round(127.5 + 127.5 * (array / max(float(np.abs(array).max()), 1e-12))).astype("uint8")
    limit = max(limit, 1e-12)
    scaled = np.maximum(array, -1e6 * limit) / limit  # Beyond this nothing is drawn, and interpolation could overflow.
    if image is None:
        return np.round(_diverging(scaled)).astype("uint8")
    scaled = np.clip(cv2.resize(scaled.astype("float32"), (cell, cell), interpolation=cv2.INTER_CUBIC), 0, 1)
    return np.round(_over_gray(scaled, cv2.cvtColor(_resized(image, cell), cv2.COLOR_RGB2GRAY))).astype("uint8")


def _over_gray(scaled: np.ndarray, gray: np.ndarray) -> np.ndarray:
    """Colors for 0 to 1 over a gray image, whose own colors would be mistaken for those of the map."""
    return 0.6 * _PLASMA[np.round(255 * scaled).astype(int)] + 0.4 * gray[..., None]


def _diverging(scaled: np.ndarray) -> np.ndarray:
    """Blue, white and red for -1, 0 and 1."""
    scaled = scaled[..., None]
    return 255 + np.abs(scaled) * (np.where(scaled > 0, _POSITIVE, _NEGATIVE) - 255)


def _resized(picture: np.ndarray, cell: int) -> np.ndarray:
    way = cv2.INTER_AREA if max(picture.shape[:2]) > cell else cv2.INTER_NEAREST
    return cv2.resize(picture, (cell, cell), interpolation=way)
