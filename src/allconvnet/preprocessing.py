"""Images in, arrays out; labels back."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from allconvnet import _weights
from allconvnet._errors import message
from allconvnet._fetch import open_weights, own_file
from allconvnet._files import replacing

__all__ = [
    "ZCA",
    "decode_predictions",
    "global_contrast_normalize",
    "load_image",
    "load_images",
    "preprocess_input",
]

Source = str | os.PathLike[str] | bytes | np.ndarray
_FITS = ("resize", "crop")


def load_image(source: Source, *, size: tuple[int, int] | None = (32, 32), fit: str = "resize") -> np.ndarray:
    """A picture as the pixels that a net takes.

    EXIF orientation is applied, grayscale repeated to RGB, transparency laid on white, 16 bits brought to 8, CMYK
    converted. Shrinking averages areas, enlarging is cubic; a picture of the right size stays as it is, bit for bit.

    Args:
        source: a path, the bytes of an encoded file, or an array: uint8 (0..255) or uint16 (0..65535), `[H, W]`,
            `[H, W, 1]`, `[H, W, 3]` RGB or `[H, W, 4]` RGBA.
        size: `(height, width)` of the result in pixels; None keeps the picture's.
        fit: how a picture of another shape fits in: "resize" squeezes it, "crop" cuts the largest centred part.

    Returns:
        uint8 `[height, width, 3]`, RGB.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: the source is none of these.
        ValueError: it is not a picture, floats, or an argument is not one of those above.

    Example:
        >>> import allconvnet, numpy as np
        >>> allconvnet.load_image(np.zeros((48, 64), "uint8")).shape
        (32, 32, 3)
    """
    if fit not in _FITS:
        raise ValueError(message("Unknown fit", received=f"fit={fit!r}", allowed="'resize' or 'crop'"))
    if size is not None and (
        np.shape(size) != (2,) or not all(isinstance(side, (int, np.integer)) and side > 0 for side in size)
    ):
        raise ValueError(message("Bad size", received=f"size={size!r}", allowed="(height, width) in pixels, or None"))
    image = _rgb(_pixels(source))
    if size is None or image.shape[:2] == tuple(size):
        return image
    height, width = size
    if fit == "crop":
        rows, columns = image.shape[:2]
        scale = min(rows / height, columns / width)
        cut_rows, cut_columns = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (rows - cut_rows) // 2, (columns - cut_columns) // 2
        image = np.ascontiguousarray(image[top : top + cut_rows, left : left + cut_columns])
    # Sides that shrink first: cubic interpolation takes no averages, so that a thin picture would come out as noise.
    smaller = min(width, image.shape[1]), min(height, image.shape[0])
    image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)


def load_images(
    sources: Sequence[Source], *, size: tuple[int, int] | None = (32, 32), fit: str = "resize"
) -> np.ndarray:
    """Pictures as one batch.

    Args:
        sources: what `load_image` takes, one or more.
        size: as in `load_image`; with None all pictures must have one size.
        fit: as in `load_image`.

    Returns:
        uint8 `[N, height, width, 3]`, RGB.

    Raises:
        TypeError: a single path instead of a list.
        ValueError: nothing in the list, pictures of several sizes, or what `load_image` raises.

    Example:
        >>> import allconvnet, numpy as np
        >>> allconvnet.load_images([np.zeros((48, 64), "uint8"), np.zeros((8, 8, 3), "uint8")]).shape
        (2, 32, 32, 3)
    """
    one_array = isinstance(sources, np.ndarray) and sources.ndim == 3 and sources.shape[2] in (1, 3, 4)
    if isinstance(sources, (str, bytes, os.PathLike)) or one_array:
        raise TypeError(
            message(
                "load_images takes a list of pictures",
                received=f"sources={_shown(sources)}",
                next_step="Put it in a list, or use load_image.",
            )
        )
    images = [load_image(source, size=size, fit=fit) for source in sources]
    if not images:
        raise ValueError(message("There is no picture", received="an empty list", allowed="one or more"))
    if len({image.shape for image in images}) > 1:
        raise ValueError(
            message(
                "Pictures of several sizes make no batch",
                received=f"{sorted({image.shape for image in images})}",
                next_step="Pass size=(height, width).",
            )
        )
    return np.stack(images)


def _shown(source: Source) -> str:
    if isinstance(source, np.ndarray):
        return f"{source.dtype} {source.shape}"
    return f"{len(source)} bytes" if isinstance(source, bytes) else repr(os.fspath(source))


def _pixels(source: Source) -> np.ndarray:
    """uint8 or uint16, `[H, W]` or `[H, W, 1 | 3 | 4]`, RGB order, upright."""
    if isinstance(source, np.ndarray):
        if np.issubdtype(source.dtype, np.floating):
            _check_pixels(source)
        if source.dtype not in (np.uint8, np.uint16) or source.ndim not in (2, 3) or 0 in source.shape:
            allowed = "uint8 or uint16, [H, W] or [H, W, channels]"
            raise ValueError(message("Not a picture", received=f"{source.dtype} {source.shape}", allowed=allowed))
        if source.ndim == 3 and source.shape[2] not in (1, 3, 4):
            raise ValueError(message("Not a picture", received=f"shape {source.shape}", allowed="1, 3 or 4 channels"))
        return source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(message("There is no such picture", received=repr(os.fspath(source))))
        encoded = path.read_bytes()
    elif isinstance(source, bytes):
        encoded = source
    else:
        raise TypeError(
            message("Not a picture", received=type(source).__name__, allowed="a path, bytes or a NumPy array")
        )
    image = _decode(encoded)
    if image is None:
        raise ValueError(message("This file is not a picture that OpenCV can read", received=_shown(source)))
    return image


def _decode(encoded: bytes) -> np.ndarray | None:
    buffer = np.frombuffer(encoded, np.uint8)
    try:
        # IMREAD_UNCHANGED alone keeps transparency, but leaves EXIF orientation out: a picture without transparency
        # is decoded again in colour, which turns it upright and converts CMYK. OpenCV 4.10 turns no WebP.
        image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
        if image is not None and image.ndim == 3 and (image.shape[2] == 4 or encoded.startswith(b"RIFF")):
            image = _upright(image, _orientation(encoded))
        elif image is not None:
            image = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:  # So it answers an empty file; to any other that it cannot read, None.
        return None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        return None
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _orientation(encoded: bytes) -> int:
    """EXIF orientation of a PNG or WebP file; 1, upright, of any other and where there is none."""
    png = encoded.startswith(b"\x89PNG")
    if not png and not encoded.startswith(b"RIFF"):
        return 1
    place = 8 if png else 12
    try:
        while place + 8 <= len(encoded):
            head = struct.unpack_from(">I4s" if png else "<4sI", encoded, place)
            length, name = head if png else head[::-1]
            if name in (b"eXIf", b"EXIF"):
                return _tiff_orientation(encoded[place + 8 : place + 8 + length].removeprefix(b"Exif\0\0"))
            # PNG puts a checksum behind its blocks, WebP pads them to an even length.
            place += 8 + length + (4 if png else length % 2)
    except struct.error:  # A damaged block says nothing; the pixels were readable.
        pass
    return 1


def _tiff_orientation(block: bytes) -> int:
    order = "<" if block.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for entry in range(count):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", block, start + 2 + 12 * entry)
        if tag == 0x0112:
            return value
    return 1


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _rgb(image: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 3]`, a copy."""
    if image.ndim == 2:
        image = image[:, :, None]
    if image.dtype == np.uint16:
        image = np.rint(image / 257).astype(np.uint8)
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 4:
        alpha = image[:, :, 3:] / 255
        return np.rint(image[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return image.copy()


def _check_pixels(images: np.ndarray) -> None:
    """Refuses what is not raw pixels, above all floats that were divided by 255 already."""
    if images.size == 0:
        return
    low, high = float(np.min(images)), float(np.max(images))
    if np.isnan(low) or low < 0 or high > 255:
        wrong, next_step = "These are not raw pixels", "Pass them as load_image returns them, not normalised."
    elif 0 < high <= 1 and not np.issubdtype(images.dtype, np.integer):
        wrong, next_step = "These pixels look like 0..1", "Multiply by 255 what was divided by it; pass it as uint8."
    else:  # All zero is black on either scale.
        return
    raise ValueError(
        message(
            wrong,
            received=f"{images.dtype} from {low:g} to {high:g}",
            allowed="raw RGB pixels, 0..255; the model normalises them itself",
            next_step=next_step,
        )
    )


def preprocess_input(images: np.ndarray, weights: str | os.PathLike[str] = "cifar10") -> np.ndarray:
    """What a model does to its input itself, for one built with `include_preprocessing=False`.

    For published weights and files of `save_weights`; a net with other weights normalises as its row of the table of
    nets says (`all_conv_keras`: pixels divided by 255).

    Args:
        images: raw RGB pixels, 0..255 of any dtype, `[..., height, width, 3]`, or one channel, which is repeated.
        weights: whose mean and standard deviation are used: a tag, or a path or URL as `AllConvNet` takes it.

    Returns:
        float32 `[..., height, width, 3]`, a new array: `(images - mean) / std` in each channel.

    Raises:
        ValueError: no raw pixels, another number of channels, unknown weights, or a file that does not say them.
        OSError: the file is not there, or its download failed.

    Example:
        >>> import allconvnet, numpy as np
        >>> float(allconvnet.preprocess_input(np.full((1, 32, 32, 3), 125.307))[0, 0, 0, 0])
        0.0
    """
    images = np.asarray(images)
    _check_pixels(images)
    if images.ndim < 3 or images.shape[-1] not in (1, 3):
        raise ValueError(
            message("These are not images", received=f"shape {images.shape}", allowed="[..., height, width, 3 or 1]")
        )
    mean, std = _normalization(weights)
    return ((images - mean) / std).astype("float32")


def decode_predictions(
    predictions: np.ndarray,
    top: int | None = None,
    *,
    weights: str | os.PathLike[str] = "cifar10",
    class_names: Sequence[str] | None = None,
) -> list[list[tuple[str, float]]]:
    """The highest scores of each image, with the names of their classes.

    Args:
        predictions: `[N, classes]`, as the model returns them.
        top: how many classes of each image; None means 3, or all where there are fewer.
        weights: whose class names are used: a tag, or a path or URL as `AllConvNet` takes it.
        class_names: your own names, one for each column, instead.

    Returns:
        For each image `top` pairs `(name, score)`, highest first.

    Raises:
        ValueError: the number of columns is not that of the names, the file says no names, or `top` is not possible.
        OSError: the file is not there, or its download failed.

    Example:
        >>> import allconvnet, numpy as np
        >>> allconvnet.decode_predictions(np.array([[0.1, 0.7, 0.2]]), top=2, class_names=["cat", "dog", "ship"])
        [[('dog', 0.7), ('ship', 0.2)]]
    """
    # float64: the order below negates the scores, which unsigned integers of a quantised model do not survive.
    scores = np.asarray(predictions, "float64")
    names = tuple(class_names) if class_names is not None else _class_names(weights)
    if scores.ndim != 2 or scores.shape[1] != len(names):
        raise ValueError(
            message(
                "The predictions do not fit the class names",
                received=f"predictions of shape {scores.shape} for {len(names)} names",
                allowed=f"[N, {len(names)}]",
                next_step='Pass class_names=[...], one for each column, or the weights (such as "cifar100").',
            )
        )
    if not np.isfinite(scores).all():
        raise ValueError(message("The predictions are not finite", received="NaN or infinite scores"))
    top = min(3, len(names)) if top is None else top
    if not 1 <= top <= len(names):
        raise ValueError(
            message("There are not so many classes", received=f"top={top!r}", allowed=f"1 to {len(names)}")
        )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(names[k], float(row[k])) for k in best] for row, best in zip(scores, order, strict=True)]


def _class_names(weights: str | os.PathLike[str]) -> tuple[str, ...]:
    path = own_file(weights)
    if path is None:
        return _weights.class_names(weights)
    (names,) = _read_attributes(path, "class_names", next_step="Pass class_names=[...], one for each column.")
    return tuple(names)


def _normalization(weights: str | os.PathLike[str]) -> Sequence[np.ndarray]:
    path = own_file(weights)
    if path is None:
        return np.array(_weights.normalization(weights))
    return _read_attributes(path, "mean", "std", next_step="Build the model with include_preprocessing=True.")


def _read_attributes(path: Path, *names: str, next_step: str) -> list:
    with open_weights(path) as file:
        missing = [name for name in names if name not in file.attrs]
        if missing:
            raise ValueError(
                message(
                    f"The weights file does not say its {' and '.join(missing)}",
                    received=f"weights={str(path)!r}",
                    allowed="files of allconvnet.save_weights",
                    next_step=next_step,
                )
            )
        return [file.attrs[name] for name in names]


def global_contrast_normalize(images: np.ndarray, scale: float = 55.0, min_divisor: float = 1e-8) -> np.ndarray:
    """Global contrast normalisation as in pylearn2: for the paper's training recipe only, no published weights use it.

    Args:
        images: raw pixels, 0..255 of any dtype, `[N, height, width, channels]`.
        scale: the L2 norm of each image afterwards.
        min_divisor: images whose norm is below it are only centred.

    Returns:
        float32, the same shape: each image less its mean, divided by its L2 norm, times `scale`.

    Raises:
        ValueError: no raw pixels.

    Example:
        >>> import allconvnet, numpy as np
        >>> image = np.arange(192, dtype="uint8").reshape(1, 8, 8, 3)
        >>> round(float(np.linalg.norm(allconvnet.global_contrast_normalize(image))), 3)
        55.0
    """
    images = np.asarray(images)
    if images.ndim != 4:
        allowed = "[N, height, width, channels]; one image is image[None]"
        raise ValueError(message("This is no batch of images", received=f"shape {images.shape}", allowed=allowed))
    _check_pixels(images)
    flat = images.reshape(len(images), -1).astype("float64")
    flat -= flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True) / scale
    norms[norms < min_divisor] = 1
    return (flat / norms).astype("float32").reshape(images.shape)


@dataclass(frozen=True)
class ZCA:
    """ZCA whitening as in pylearn2: for the paper's training recipe only, no published weights use it.

    Attributes:
        mean: float64 `[D]`, of the images it was fitted on, D = height * width * channels.
        matrix: float64 `[D, D]`, `V diag(1 / sqrt(lambda + bias)) V^T` of their covariance.

    Example:
        >>> import allconvnet, numpy as np
        >>> images = np.random.default_rng(0).normal(size=(500, 4, 4, 1))
        >>> allconvnet.ZCA.fit(images).apply(images).shape
        (500, 4, 4, 1)
    """

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def fit(cls, images: np.ndarray, bias: float = 0.1) -> ZCA:
        """Whitening for images `[N, height, width, channels]`; `bias` is added to each eigenvalue."""
        flat = np.asarray(images, "float64").reshape(len(images), -1)
        mean = flat.mean(axis=0)
        values, vectors = np.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
        return cls(mean, vectors / np.sqrt(values + bias) @ vectors.T)

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Whitened images, float32, in the shape that came; ValueError if they have another size."""
        flat = np.asarray(images, "float64").reshape(len(images), -1)
        if flat.shape[1] != len(self.mean):
            raise ValueError(
                message(
                    "The images have another size than those it was fitted on",
                    received=f"{flat.shape[1]} values an image",
                    allowed=str(len(self.mean)),
                )
            )
        return ((flat - self.mean) @ self.matrix).astype("float32").reshape(np.shape(images))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an .npz file, whole or not at all."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, mean=self.mean, matrix=self.matrix)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ZCA:
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as saved:
            return cls(saved["mean"], saved["matrix"])
