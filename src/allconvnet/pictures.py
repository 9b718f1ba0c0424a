"""Arrays as pictures."""

from __future__ import annotations

import cv2
import numpy as np

from allconvnet._arrays import numbers
from allconvnet._errors import check_number

__all__ = ["to_picture"]


def to_picture(
    arrays: np.ndarray,
    *,
    images: np.ndarray | None = None,
    caption: str = "",
    columns: int | None = None,
    cell: int = 128,
) -> np.ndarray:
    """Arrays as one picture: a grid with a caption.

    Gradients are shown around gray, maps from blue (negative) to red (positive). Both have a scale symmetric about
    zero that ends at the largest magnitude of each array.

    Args:
        arrays: uint8 `[N, height, width, 3]` images, shown as they are; float `[N, height, width, 3]` gradients; or
            float `[N, rows, columns]` maps.
        images: uint8 `[N, height, width, 3]`, on which the positive part of maps is laid.
        caption: text above the grid, such as net, layer and target.
        columns: cells in a row; None means all up to 8.
        cell: side of a cell in pixels.

    Returns:
        uint8 `[height, width, 3]`, RGB; `cv2.imwrite(path, picture[..., ::-1])` writes it.

    Raises:
        ValueError: the arrays are none of these, or the images do not fit them.

    Example:
        >>> import allconvnet, numpy as np
        >>> allconvnet.to_picture(np.zeros((3, 32, 32, 3), "float32"), caption="all_cnn_c, relu6").shape
        (160, 396, 3)
    """
    arrays, columns = numbers("arrays", arrays), 8 if columns is None else columns
    check_number("columns", columns, 1, whole=True)
    check_number("cell", cell, 1, whole=True)
    received = f"{arrays.dtype} {arrays.shape}"
    colors = arrays.ndim == 4 and arrays.shape[3] == 3 and (arrays.dtype == np.uint8 or arrays.dtype.kind == "f")
    if not arrays.size or not (colors or (arrays.ndim == 3 and arrays.dtype.kind == "f")):
        allowed = "uint8 or float [N, height, width, 3], or float [N, rows, columns]"
        raise ValueError(f"These arrays make no picture. Received: {received}. Allowed: {allowed}.")
    if not np.isfinite(arrays).all():
        raise ValueError("The arrays are infinite or not a number.")
    if images is not None and (colors or len(images) != len(arrays) or np.asarray(images).dtype != np.uint8):
        received += f" with images {np.asarray(images).dtype} {np.shape(images)}"
        raise ValueError(f"images must be uint8 [N, height, width, 3] for float maps. Received: {received}.")
    columns = min(len(arrays), columns)
    gap, head = 3, 26 if caption else 0
    rows = -(-len(arrays) // columns)
    canvas = np.full((head + rows * (cell + gap) + gap, columns * (cell + gap) + gap, 3), 255, np.uint8)
    if caption:
        cv2.putText(canvas, caption, (gap + 2, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    for number, array in enumerate(arrays):
        top = head + gap + (number // columns) * (cell + gap)
        left = gap + (number % columns) * (cell + gap)
        picture = _colored(array, None if images is None else images[number])
        way = cv2.INTER_AREA if max(picture.shape[:2]) > cell else cv2.INTER_NEAREST
        canvas[top : top + cell, left : left + cell] = cv2.resize(picture, (cell, cell), interpolation=way)
    return canvas


def _colored(array: np.ndarray, image: np.ndarray | None) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    scaled = array / max(float(np.abs(array).max()), 1e-12)
    if array.ndim == 3:
        return np.round(127.5 + 127.5 * scaled).astype("uint8")
    red, blue = np.array([200.0, 30.0, 30.0]), np.array([30.0, 60.0, 200.0])
    if image is None:
        scaled = scaled[..., None]
        return np.round(255 + np.abs(scaled) * (np.where(scaled > 0, red, blue) - 255)).astype("uint8")
    scaled = cv2.resize(scaled.astype("float32"), image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    weight = 0.7 * np.clip(scaled, 0, 1)[..., None]
    return np.round((1 - weight) * image + weight * red).astype("uint8")
