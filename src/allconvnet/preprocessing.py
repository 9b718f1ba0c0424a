"""Reads pictures as arrays, normalizes pixels, and names the classes of predictions."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any, Literal

import cv2
import numpy as np

from allconvnet import _weights
from allconvnet._arrays import as_array
from allconvnet._decode import Source, check_pixels, described, pixels, rgb
from allconvnet._errors import check_choice, check_number, shortened
from allconvnet._picture_headers import max_pixels
from allconvnet._weight_files import is_list_of_names, open_file, read_attributes, user_file

__all__ = ["decode_predictions", "load_image", "load_images", "preprocess_input"]

Fit = Literal["resize", "crop"]


def load_image(source: Source, *, size: tuple[int, int] | None = (32, 32), fit: Fit = "resize") -> np.ndarray:
    """Reads a picture as the pixels that a model takes.

    Applies the EXIF orientation (except to files with an alpha channel), repeats grayscale to RGB, puts transparent
    pictures on white (not BMP, and not gray PNG files in which a single gray is transparent), and converts 16 bits to 8
    and CMYK to RGB. Shrinking averages areas, enlarging is cubic; the pixels of a picture of the right size are not
    changed.

    Files may be JPEG, PNG, WebP, GIF (the first picture), TIFF, BMP or PNM. The limit is 40 million pixels, or half as
    many for GIF, TIFF, PNM, progressive JPEG, animations and 16 bits, which take more memory. It is checked in the
    header of the file, before decoding. The environment variable ALLCONVNET_MAX_PIXELS changes it.

    Args:
        source: a path; the bytes of an encoded file, or a file object open for reading them; a PIL image; or an array,
            uint8 (0..255) or uint16 (0..65535), `[H, W]`, `[H, W, 1]`, `[H, W, 3]` RGB or `[H, W, 4]` RGBA.
        size: `(height, width)` of the result in pixels; None keeps the picture's.
        fit: how to treat a picture of another shape: "resize" squeezes it, "crop" cuts out the largest centered part.

    Returns:
        uint8 `[height, width, 3]`, RGB.

    Raises:
        OSError: the file cannot be read, or there is none; or a PIL image is damaged.
        TypeError: the source is none of these.
        ValueError: the source is not a picture, is damaged, too large or an array of floats, or an argument is invalid.

    Example:
        >>> import allconvnet, numpy as np
        >>> allconvnet.load_image(np.zeros((48, 64), "uint8")).shape
        (32, 32, 3)
    """
    _check_form(size, fit)
    image = rgb(pixels(source))
    if size is None or image.shape[:2] == tuple(size):
        return image
    height, width = size
    if fit == "crop":
        rows, columns = image.shape[:2]
        scale = min(rows / height, columns / width)
        cut_rows, cut_columns = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (rows - cut_rows) // 2, (columns - cut_columns) // 2
        image = image[top : top + cut_rows, left : left + cut_columns]
    # Sides that shrink first: cubic interpolation takes no averages, so that a thin picture would come out as noise.
    smaller = min(width, image.shape[1]), min(height, image.shape[0])
    image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)


def _check_form(size: Any, fit: object) -> None:
    check_choice("fit", fit, ("resize", "crop"))
    if size is None:
        return
    pair = isinstance(size, (tuple, list)) and len(size) == 2
    whole = pair and all(isinstance(side, Integral) and not isinstance(side, bool) and int(side) > 0 for side in size)
    if not whole or math.prod(map(int, size)) > max_pixels():
        allowed = f"(height, width), up to {max_pixels():,} pixels (ALLCONVNET_MAX_PIXELS changes this), or None"
        raise ValueError(f"Invalid size. Received: size={shortened(size)}. Allowed: {allowed}.")


def load_images(
    sources: Iterable[Source],
    *,
    size: tuple[int, int] | None = (32, 32),
    fit: Fit = "resize",
    on_error: Callable[[Source, Exception], object] | None = None,
) -> np.ndarray:
    """Reads pictures as one batch.

    Args:
        sources: one or more pictures, each as `load_image` takes it.
        size: as in `load_image`; with None all pictures must have one size.
        fit: as in `load_image`.
        on_error: called with the picture and the error for each picture that cannot be read, which is then left out
            of the batch. None raises the error.

    Returns:
        uint8 `[N, height, width, 3]`, RGB.

    Raises:
        TypeError: a single picture instead of a list, or `on_error` is not a function.
        ValueError: there is no picture, or there are pictures of several sizes; also the errors of `load_image`.

    Example:
        >>> import allconvnet, numpy as np
        >>> allconvnet.load_images([np.zeros((48, 64), "uint8"), np.zeros((8, 8, 3), "uint8")]).shape
        (2, 32, 32, 3)
    """
    one_array = isinstance(sources, np.ndarray) and sources.ndim == 3 and sources.shape[2] in (1, 3, 4)
    one = isinstance(sources, (str, bytes, os.PathLike)) or hasattr(sources, "read") or one_array
    if one or not isinstance(sources, Iterable) or (isinstance(sources, np.ndarray) and not sources.ndim):
        raise TypeError(f"load_images takes a list of pictures; load_image takes one. Received: {described(sources)}.")
    _check_form(size, fit)
    if on_error is not None and not callable(on_error):
        raise TypeError(f"on_error must be a function. Received: {shortened(on_error)}.")
    images = []
    for source in sources:
        try:
            images.append(load_image(source, size=size, fit=fit))
        except Exception as error:  # Decoders raise more than OSError and ValueError.
            if on_error is None:
                raise
            on_error(source, error)
    if not images:
        raise ValueError("There is no picture that can be read.")
    if len(shapes := {image.shape for image in images}) > 1:
        raise ValueError(f"Pictures of several sizes cannot be a batch; pass size=(height, width). Received: {shapes}.")
    return np.stack(images)


def preprocess_input(images: np.ndarray, weights: str | os.PathLike[str] = "cifar10") -> np.ndarray:
    """Normalizes pixels for a model that was built with `include_preprocessing=False`.

    Args:
        images: raw RGB pixels, 0..255 of any dtype, `[..., height, width, 3]`, or one channel, which is repeated.
        weights: the weights whose mean and standard deviation are used, as `AllConvNet` takes them: published weights
            (by their full name for `all_conv_keras`, which divides by 255), or the path or URL of a file of
            `save_weights`.

    Returns:
        float32 `[..., height, width, 3]`, a new array: `(images - mean) / std` in each channel.

    Raises:
        ValueError: the images are not raw pixels, the weights are unknown, or the file has no mean and deviation.
        OSError: the file is missing, or its download failed.

    Example:
        >>> import allconvnet, numpy as np
        >>> float(allconvnet.preprocess_input(np.full((1, 32, 32, 3), 125.307))[0, 0, 0, 0])
        0.0
    """
    images = as_array("images", images)
    check_pixels(images)
    if images.ndim < 3 or images.shape[-1] not in (1, 3):
        raise ValueError(f"Not images. Received: shape {images.shape}. Allowed: [..., height, width, 3 or 1].")
    mean, std = _attributes(weights, "mean", "std")
    return ((images - mean) / std).astype("float32")


def decode_predictions(
    predictions: np.ndarray,
    top: int | None = None,
    *,
    weights: str | os.PathLike[str] = "cifar10",
    class_names: Sequence[str] | np.ndarray | None = None,
) -> list[list[tuple[str, float]]]:
    """The highest scores of each image, with the names of their classes.

    Args:
        predictions: scores `[N, classes]`, as the model returns them.
        top: number of classes for each image; None means 3, or all if there are fewer.
        weights: the weights whose class names are used, as `AllConvNet` takes them.
        class_names: names to use instead, one for each column.

    Returns:
        For each image `top` pairs `(name, score)`, highest first.

    Raises:
        ValueError: the scores are not finite or not `[N, classes]`, the number of columns is not that of the names, the
            file has no class names, or `top` is out of range.
        OSError: the file is missing, or its download failed.

    Example:
        >>> import allconvnet, numpy as np
        >>> allconvnet.decode_predictions(np.array([[0.1, 0.7, 0.2]]), top=2, class_names=["cat", "dog", "ship"])
        [[('dog', 0.7), ('ship', 0.2)]]
    """
    # float64: the order below negates the scores, which unsigned integers of a quantized model do not survive.
    scores = as_array("predictions", predictions).astype("float64")
    if class_names is not None and not is_list_of_names(class_names):
        received = shortened(class_names)
        raise ValueError(f"class_names must be a list, a tuple or an array of strings. Received: {received}.")
    names = _attributes(weights, "class_names")[0] if class_names is None else class_names
    if scores.ndim != 2:
        raise ValueError(f"predictions must be [N, classes]: reshape them. Received: shape {scores.shape}.")
    if scores.shape[1] != len(names):
        way_out = 'Pass class_names, or the weights (such as "cifar100")'
        raise ValueError(f"{len(names)} class names do not fit predictions of shape {scores.shape}. {way_out}.")
    if not np.isfinite(scores).all():
        raise ValueError("The predictions are infinite or not a number.")
    top = min(3, len(names)) if top is None else top
    check_number("top", top, 1, len(names), whole=True)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(str(names[k]), float(row[k])) for k in best] for row, best in zip(scores, order, strict=True)]


def _attributes(weights: str | os.PathLike[str], *names: str) -> list:
    """Attributes of published weights, or of a file of `save_weights`."""
    if (path := user_file(weights)) is None:
        return [_weights.attributes(weights)[name] for name in names]
    with open_file(path) as file:
        return read_attributes(file, *names)
