"""CIFAR-10 and CIFAR-100 from disk, read with an unpickler that allows only what their batches need."""

from __future__ import annotations

import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from allconvnet._fetch import fetch_dataset
from allconvnet._weights import CIFAR10_CLASSES, CIFAR100_CLASSES, CLASS_NAMES

__all__ = ["CIFAR10_CLASSES", "CIFAR100_CLASSES", "load_cifar10", "load_cifar100"]

# Images uint8 [N, 32, 32, 3], RGB; labels int32 [N].
Split = tuple[np.ndarray, np.ndarray]


class _Layout(NamedTuple):
    """A data set on disk."""

    title: str
    folder: str
    train: list[str]
    test: str
    labels: bytes


_BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
_LAYOUTS = {
    "cifar10": _Layout("CIFAR-10", "cifar-10-batches-py", _BATCHES, "test_batch", b"labels"),
    "cifar100": _Layout("CIFAR-100", "cifar-100-python", ["train"], "test", b"fine_labels"),
}
_MAX_BYTES = 1 << 28  # CIFAR-100's training batch has 155 million.
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
        source: the folder `cifar-10-batches-py`, a folder that contains it, or the archive `cifar-10-python.tar.gz`.
            None means the environment variable ALLCONVNET_CIFAR10, else the archive, downloaded once (170 MB).

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
        source: as in `load_cifar10`: `cifar-100-python`, `cifar-100-python.tar.gz`, ALLCONVNET_CIFAR100 (169 MB).

    Returns:
        As `load_cifar10`, which says what it raises, too; label k is `CIFAR100_CLASSES[k]`.

    Example:
        >>> import allconvnet
        >>> (images, labels), _ = allconvnet.load_cifar100()
        >>> images.shape
        (50000, 32, 32, 3)
    """
    return load("cifar100", source)


def load(name: str, source: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """The data set "cifar10" or "cifar100"."""
    layout = _LAYOUTS[name]
    path = Path(source or os.environ.get(f"ALLCONVNET_{name.upper()}") or fetch_dataset(name)).expanduser()
    if not path.is_file():
        path = path / layout.folder if (path / layout.folder).is_dir() else path
        return _splits(name, path, lambda batch: (path / batch).open("rb"))
    try:
        with tarfile.open(path) as archive:
            return _splits(name, path, lambda batch: _member(archive, f"{layout.folder}/{batch}"))
    except (tarfile.TarError, EOFError):
        raise ValueError(f"{str(path)!r} is not a tar archive of {layout.title}'s folder {layout.folder!r}.") from None


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    for path in (name, f"./{name}"):
        try:
            file = archive.extractfile(path)
        except KeyError:
            continue
        if file is not None:
            return file
    raise FileNotFoundError(name)


def _splits(name: str, path: Path, opener: Callable[[str], IO[bytes]]) -> tuple[Split, Split]:
    layout = _LAYOUTS[name]
    batches = [_read_batch(name, path, batch, opener) for batch in (*layout.train, layout.test)]
    images, labels = zip(*batches[:-1], strict=True)
    return (np.concatenate(images), np.concatenate(labels)), batches[-1]


def _read_batch(name: str, path: Path, batch: str, opener: Callable[[str], IO[bytes]]) -> Split:
    layout, count = _LAYOUTS[name], len(CLASS_NAMES[name])
    wrong = f"{batch!r} in {str(path)!r} is not a {layout.title} batch"
    try:
        with opener(batch) as file:
            size = file.seek(0, os.SEEK_END)
            if size > _MAX_BYTES:
                raise ValueError(f"it has {size:,} bytes")
            file.seek(0)
            content = _Unpickler(file, encoding="bytes").load()
        images, labels = np.asarray(content[b"data"]), np.asarray(content[layout.labels], np.int32)
    except FileNotFoundError:
        way_out = f"Pass the folder {layout.folder!r} or its archive, or set ALLCONVNET_{name.upper()}"
        raise FileNotFoundError(f"{layout.title} is not in {str(path)!r}: no {batch!r}. {way_out}.") from None
    except Exception as error:  # A damaged or hostile pickle can raise anything.
        raise ValueError(f"{wrong}: {error}.") from None
    if (
        images.dtype != np.uint8
        or images.shape != (*labels.shape, 3072)
        or not ((labels >= 0) & (labels < count)).all()
    ):
        received, allowed = f"{images.dtype} {images.shape}, labels {labels.shape}", f"labels, each 0 to {count - 1}"
        raise ValueError(f"{wrong}. Received: {received}. Allowed: uint8 [N, 3072] and N {allowed}.")
    return np.ascontiguousarray(images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels
