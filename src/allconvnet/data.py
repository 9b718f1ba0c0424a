"""CIFAR-10 and CIFAR-100 as they lie on disk, read with an unpickler that allows only what their batches need."""

from __future__ import annotations

import os
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from allconvnet._errors import message
from allconvnet._fetch import fetch_dataset
from allconvnet._weights import CIFAR10_CLASSES, CIFAR100_CLASSES

__all__ = ["CIFAR10_CLASSES", "CIFAR100_CLASSES", "Split", "load_cifar10", "load_cifar100"]

# Images uint8 [N, 32, 32, 3], RGB; labels int32 [N].
Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _DataSet:
    """A data set as it lies on disk."""

    title: str
    folder: str
    train: tuple[str, ...]
    test: str
    labels: bytes
    classes: tuple[str, ...]


_SETS = {
    "cifar10": _DataSet(
        "CIFAR-10",
        "cifar-10-batches-py",
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test_batch",
        b"labels",
        CIFAR10_CLASSES,
    ),
    "cifar100": _DataSet("CIFAR-100", "cifar-100-python", ("train",), "test", b"fine_labels", CIFAR100_CLASSES),
}
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
    return load("cifar10", source)


def load_cifar100(source: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """CIFAR-100's training and test images, with their fine labels.

    Args:
        source: the folder `cifar-100-python`, one that contains it, or the archive `cifar-100-python.tar.gz`. None
            means the environment variable ALLCONVNET_CIFAR100, else the archive, downloaded once (169 MB).

    Returns:
        `(train_images, train_labels), (test_images, test_labels)`: uint8 `[N, 32, 32, 3]` RGB and int32 `[N]`, 50,000
        and 10,000 of them in the official order; label k is `CIFAR100_CLASSES[k]`.

    Raises:
        FileNotFoundError: there is no such folder, archive or batch.
        ValueError: a batch is not one of CIFAR-100's.
        OSError: the download failed.

    Example:
        >>> import allconvnet
        >>> (images, labels), _ = allconvnet.load_cifar100()
        >>> images.shape
        (50000, 32, 32, 3)
    """
    return load("cifar100", source)


def load(name: str, source: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """The data set "cifar10" or "cifar100"."""
    wanted = _SETS[name]
    path = Path(source or os.environ.get(f"ALLCONVNET_{name.upper()}") or fetch_dataset(name)).expanduser()
    if path.is_file():
        try:
            with tarfile.open(path) as archive:
                return _splits(wanted, path, lambda file: _member(archive, f"{wanted.folder}/{file}"))
        except tarfile.TarError:
            raise ValueError(
                message(
                    f"This is not the archive of {wanted.title}",
                    received=repr(str(path)),
                    allowed=f"a tar archive of the folder {wanted.folder!r}, or that folder",
                )
            ) from None
    if (path / wanted.folder).is_dir():
        path = path / wanted.folder
    return _splits(wanted, path, lambda file: (path / file).open("rb"))


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise FileNotFoundError(name)
    return file


def _splits(wanted: _DataSet, path: Path, opener: Callable[[str], IO[bytes]]) -> tuple[Split, Split]:
    batches = [_read_batch(wanted, path, name, opener) for name in (*wanted.train, wanted.test)]
    images, labels = zip(*batches[:-1], strict=True)
    return (np.concatenate(images), np.concatenate(labels)), batches[-1]


def _read_batch(wanted: _DataSet, path: Path, name: str, opener: Callable[[str], IO[bytes]]) -> Split:
    count = len(wanted.classes)
    try:
        with opener(name) as file:
            batch = _Unpickler(file, encoding="bytes").load()
        images, labels = np.asarray(batch[b"data"]), np.asarray(batch[wanted.labels], np.int32)
    except FileNotFoundError:
        raise FileNotFoundError(
            message(
                f"{wanted.title} is not there",
                received=f"{str(path)!r}, without {name!r}",
                allowed=f"the folder {wanted.folder!r} of {wanted.title}'s Python version, or its archive",
                next_step=f"Pass that, or set ALLCONVNET_{wanted.title.replace('-', '')} to it; without either it is "
                "downloaded.",
            )
        ) from None
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            message(f"This is not a {wanted.title} batch", received=f"{name!r} of {str(path)!r}: {error}")
        ) from None
    if images.dtype != np.uint8 or images.shape != (len(labels), 3072) or not ((labels >= 0) & (labels < count)).all():
        raise ValueError(
            message(
                f"This is not a {wanted.title} batch",
                received=f"{name!r} of {str(path)!r}: {images.dtype} {images.shape}, labels {labels.shape}",
                allowed=f"uint8 [N, 3072] with N labels from 0 to {count - 1}",
            )
        )
    return np.ascontiguousarray(images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels
