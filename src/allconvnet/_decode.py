"""Pictures of any source as pixels: files, bytes, PIL images, arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from allconvnet._errors import checked_path, shortened
from allconvnet._picture_headers import check_header, check_pixel_count, max_bytes

# A path, the bytes of a file, an array, a PIL image, or a file object open for reading bytes.
Source = str | os.PathLike[str] | bytes | np.ndarray | Any


def described(source: Source) -> str:
    if isinstance(source, np.ndarray):
        return f"{source.dtype} {source.shape}"
    return f"{len(source)} bytes" if isinstance(source, bytes) else shortened(source)


def pixels(source: Source) -> np.ndarray:
    """uint8 or uint16, `[H, W]` or `[H, W, 1 | 3 | 4]`, RGB order."""
    if any(kind.__module__.startswith("PIL.") for kind in type(source).__mro__):  # PIL need not be installed.
        source = _pil_pixels(source)
    if isinstance(source, np.ndarray):
        if np.issubdtype(source.dtype, np.floating):
            check_pixels(source)
        is_2d = source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (1, 3, 4))
        if source.dtype not in (np.uint8, np.uint16) or not is_2d or 0 in source.shape:
            allowed = "uint8 or uint16, [H, W] or [H, W, channels] with 1, 3 or 4 channels"
            raise ValueError(f"Not a picture. Received: {source.dtype} {source.shape}. Allowed: {allowed}.")
        return source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        path = path if path.is_file() else checked_path("picture", source)  # A name can begin with "~".
        if not path.is_file():
            raise FileNotFoundError(f"There is no picture {shortened(os.fspath(source))}.")
        with path.open("rb") as file:
            encoded = _read(file)
    else:
        encoded = _read(source) if hasattr(source, "read") else _checked_bytes(source)
    try:
        check_header(encoded)
        return _decode(encoded)
    except ValueError as error:
        if isinstance(source, (str, os.PathLike)):
            error.add_note(f"Picture: {os.fspath(source)}")
        raise


def _read(file: Any) -> bytes:
    """All that is in the file, or as much as shows that it is too large."""
    encoded, limit = b"", max_bytes()
    while len(encoded) <= limit and (part := file.read(limit + 1 - len(encoded))):
        encoded += _checked_bytes(part)
    return encoded


def _checked_bytes(encoded: object) -> bytes:
    if not isinstance(encoded, bytes):
        allowed = "a path, bytes, a file open for reading bytes, a PIL image or a NumPy array"
        raise TypeError(f"Not a picture. Received: {type(encoded).__name__}. Allowed: {allowed}.")
    return encoded


def _pil_pixels(image) -> np.ndarray:
    from PIL import ImageOps

    check_pixel_count(*image.size)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype("uint16")
    if image.mode in ("I", "F"):  # Their numbers may be 0..1, 0..255 or 0..65535.
        raise ValueError(f'PIL images of mode {image.mode!r} have no fixed range: convert to "L" or "I;16" first.')
    transparent = "a" in image.mode.lower() or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if transparent else "RGB"))


def _decode(encoded: bytes) -> np.ndarray:
    buffer, image = np.frombuffer(encoded, np.uint8), None
    try:
        # IMREAD_UNCHANGED keeps transparency. Without it the picture is decoded again in color, which converts CMYK and
        # applies the EXIF orientation. So is a BMP, in which the fourth byte of a pixel is usually no alpha.
        image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
        if image is not None and (image.ndim == 2 or image.shape[2] != 4 or encoded[:2] == b"BM"):
            image = None  # Its memory is free for the next one.
            image = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:  # Raised for an empty file; other unreadable files give None.
        pass
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"OpenCV cannot read this as a picture. Received: {len(encoded):,} bytes.")
    if image.shape[2] == 4 and image.dtype == np.uint8 and encoded[:2] in (b"II", b"MM"):
        # OpenCV has multiplied the colors of a TIFF by alpha.
        image = cv2.add(image[..., :3], cv2.cvtColor(255 - image[..., 3], cv2.COLOR_GRAY2BGR))
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def rgb(image: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 3]`, a copy."""
    channels = image.shape[2] if image.ndim == 3 else 1
    result, flat = np.empty((*image.shape[:2], 3), np.uint8), image.reshape(-1, channels)
    # Parts, because floating-point numbers take many times the memory of the picture.
    for start in range(0, len(flat), 1 << 16):
        part = slice(start, start + (1 << 16))
        result.reshape(-1, 3)[part] = _blended(flat[part])
    return result


def _blended(colors: np.ndarray) -> np.ndarray:
    """uint8 `[N, 3 or 1]`; transparent colors lie on white."""
    if colors.dtype == np.uint16:
        colors = np.rint(colors / 257).astype(np.uint8)
    if colors.shape[1] < 4:
        return colors
    alpha = colors[:, 3:] / 255
    return np.rint(colors[:, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def check_pixels(images: np.ndarray) -> None:
    """Raises ValueError for what is not raw pixels, above all floats that were divided by 255 already."""
    if images.size == 0:
        return
    low, high = float(np.min(images)), float(np.max(images))
    received = f"Received: {images.dtype} from {low:g} to {high:g}."
    if np.isnan(low) or low < 0 or high > 255:
        raise ValueError(f"These are not raw pixels, 0..255: the model normalizes them itself. {received}")
    # All zero is black on either scale.
    if 0 < high <= 1 and not np.issubdtype(images.dtype, np.integer):
        raise ValueError(f"These pixels look like 0..1, but the model takes 0..255: multiply them by 255. {received}")
