"""Global contrast normalization and ZCA whitening: for the paper's training recipe only."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from allconvnet._arrays import as_array, read_npz
from allconvnet._decode import check_pixels
from allconvnet._errors import check_number, checked_path
from allconvnet._files import replacing

__all__ = ["ZCA", "global_contrast_normalize"]


_MAX_VALUES = 20_000  # Of an image: the matrix has the square of them.


def global_contrast_normalize(images: np.ndarray) -> np.ndarray:
    """Global contrast normalization as in pylearn2. No published weights use it.

    Args:
        images: raw pixels, 0..255 of any dtype, `[N, height, width, channels]`.

    Returns:
        float32, the same shape: each image minus its mean, scaled to an L2 norm of 55. Images of one color become 0.

    Raises:
        ValueError: the images are not raw pixels.

    Example:
        >>> import allconvnet, numpy as np
        >>> image = np.arange(192, dtype="uint8").reshape(1, 8, 8, 3)
        >>> round(float(np.linalg.norm(allconvnet.global_contrast_normalize(image))), 3)
        55.0
    """
    images = as_array("images", images)
    if images.ndim != 4:
        raise ValueError(f"Not a batch of images. Received: shape {images.shape}. Allowed: [N, H, W, channels].")
    check_pixels(images)
    if not images.size:
        return images.astype("float32")
    flat = images.reshape(len(images), -1).astype("float64")
    flat -= flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True) / 55  # As in pylearn2.
    norms[norms < 1e-8] = 1
    return (flat / norms).astype("float32").reshape(images.shape)


def _flat(images: object) -> np.ndarray:
    """float64 `[N, values]`, a copy."""
    array = as_array("images", images)
    flat = array.reshape(len(array), -1).astype("float64") if array.ndim and array.size else np.full(1, np.nan)
    if not (flat.min() > -1e30 and flat.max() < 1e30):
        raise ValueError(f"Invalid images. Received: {array.dtype} {array.shape}. Allowed: [N, ...], finite.")
    return flat


@dataclass(frozen=True)
class ZCA:
    """ZCA whitening as in pylearn2. No published weights use it.

    Attributes:
        mean: float64 `[D]`, mean of the images it was fitted on; D = height * width * channels.
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
        flat = _flat(images)
        check_number("bias", bias, 1e-9)
        if flat.shape[1] > _MAX_VALUES:
            raise ValueError(f"images must have at most {_MAX_VALUES:,} values each. Received: {flat.shape[1]:,}.")
        mean = flat.mean(axis=0)
        flat -= mean
        values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
        # Rounding makes eigenvalues of 0 slightly negative.
        return cls(mean, vectors / np.sqrt(np.maximum(values, 0) + bias) @ vectors.T)

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Whitened images, float32, in the shape received; ValueError if they have another size."""
        flat = _flat(images)
        if flat.shape[1] != len(self.mean):
            raise ValueError(f"Fitted on images of {len(self.mean)} values. Received: {flat.shape[1]} values each.")
        flat -= self.mean
        return (flat @ self.matrix).astype("float32").reshape(np.shape(images))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an .npz file, whole or not at all."""
        with replacing(checked_path("path", path, file=True)) as temporary, temporary.open("wb") as file:
            np.savez(file, mean=self.mean, matrix=self.matrix)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ZCA:
        """Reads a file of `save`; ValueError if it is damaged."""
        path = checked_path("path", path)
        saved = read_npz(path)
        mean, matrix = (saved.get(name, np.zeros(0, bool)) for name in ("mean", "matrix"))
        finite = all(part.dtype.kind == "f" and np.isfinite(part).all() for part in (mean, matrix))
        if not finite or mean.ndim != 1 or matrix.shape != 2 * mean.shape:
            raise ValueError(f"{str(path)!r} is damaged: mean {mean.shape}, matrix {matrix.shape}.")
        return cls(mean, matrix)
