"""CIFAR-10 as it lies on disk, read with an unpickler that allows only what its batches need."""

from __future__ import annotations

import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from allconvnet._errors import message
from allconvnet._fetch import fetch_cifar10
from allconvnet._weights import CIFAR10_CLASSES

__all__ = ["CIFAR10_CLASSES", "Split", "load_cifar10"]

# Images uint8 [N, 32, 32, 3], RGB; labels int32 [N].
Split = tuple[np.ndarray, np.ndarray]

_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_FOLDER = "cifar-10-batches-py"
# What the pickle of a NumPy array names; anything else in a batch could run code.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which has no place in a CIFAR batch")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_cifar10(source: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """CIFAR-10's training and test images.

    Args:
        source: the folder `cifar-10-batches-py`, one that contains it, or the archive `cifar-10-python.tar.gz`. None
            means the environment variable ALLCONVNET_CIFAR10, else the archive, downloaded once (170 MB).

    Returns:
        `(train_images, train_labels), (test_images, test_labels)`: uint8 `[N, 32, 32, 3]` RGB and int32 `[N]`, 50,000
        and 10,000 of them in the official order; label k is `CIFAR10_CLASSES[k]`.

    Raises:
        FileNotFoundError: there is no such folder, archive or batch.
        ValueError: a batch is not one of CIFAR-10's.
        OSError: the download failed.

    Example:
        >>> import allconvnet
        >>> (images, labels), _ = allconvnet.load_cifar10()
        >>> images.shape
        (50000, 32, 32, 3)
    """
    path = Path(source or os.environ.get("ALLCONVNET_CIFAR10") or fetch_cifar10()).expanduser()
    if path.is_file():
        with tarfile.open(path) as archive:
            return _splits(path, lambda name: _member(archive, name))
    if (path / _FOLDER).is_dir():
        path = path / _FOLDER
    return _splits(path, lambda name: (path / name).open("rb"))


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        file = archive.extractfile(f"{_FOLDER}/{name}")
    except KeyError:
        file = None
    if file is None:
        raise FileNotFoundError(name)
    return file


def _splits(path: Path, opener: Callable[[str], IO[bytes]]) -> tuple[Split, Split]:
    batches = [_read_batch(path, name, opener) for name in (*_TRAIN, "test_batch")]
    images, labels = zip(*batches[:-1], strict=True)
    return (np.concatenate(images), np.concatenate(labels)), batches[-1]


def _read_batch(path: Path, name: str, opener: Callable[[str], IO[bytes]]) -> Split:
    try:
        with opener(name) as file:
            batch = _Unpickler(file, encoding="bytes").load()
        images, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], np.int32)
    except FileNotFoundError:
        raise FileNotFoundError(
            message(
                "CIFAR-10 is not there",
                received=f"{str(path)!r}, without {name!r}",
                allowed=f"the folder {_FOLDER!r} of CIFAR-10's Python version, or its archive",
                next_step="Set ALLCONVNET_CIFAR10 to the folder, or unset it to download the archive.",
            )
        ) from None
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            message("This is not a CIFAR-10 batch", received=f"{name!r} of {str(path)!r}: {error}")
        ) from None
    if images.dtype != np.uint8 or images.shape != (len(labels), 3072) or not ((labels >= 0) & (labels < 10)).all():
        raise ValueError(
            message(
                "This is not a CIFAR-10 batch",
                received=f"{name!r} of {str(path)!r}: {images.dtype} {images.shape}, labels {labels.shape}",
                allowed="uint8 [N, 3072] with N labels from 0 to 9",
            )
        )
    return np.ascontiguousarray(images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels
