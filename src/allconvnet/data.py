"""CIFAR-10 and CIFAR-100 from disk: all is checked before the pixels are read."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from allconvnet._cifar_pickle import Batch, read_batch
from allconvnet._errors import checked_path
from allconvnet._fetch import fetch_dataset
from allconvnet._weights import CIFAR10_CLASSES, CIFAR100_CLASSES, CLASS_NAMES

__all__ = ["CIFAR10_CLASSES", "CIFAR100_CLASSES", "load_cifar10", "load_cifar100", "load_transfer"]

# Images uint8 [N, 32, 32, 3], RGB; labels int32 [N].
Split = tuple[np.ndarray, np.ndarray]


class _Layout(NamedTuple):
    """A data set on disk: names of its batches, the test images' last, and of their labels."""

    title: str
    folder: str
    batches: list[str]
    labels: str


_BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
_LAYOUTS = {
    "cifar10": _Layout("CIFAR-10", "cifar-10-batches-py", _BATCHES, "labels"),
    "cifar100": _Layout("CIFAR-100", "cifar-100-python", ["train", "test"], "fine_labels"),
}
_IMAGES = (50_000, 10_000)  # Training and test.
# About twice as much as is published: an archive holds 186 million bytes in ten members.
_MAX_BYTES, _MAX_MEMBERS = 400_000_000, 100


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
        ValueError: a batch is not a CIFAR-10 batch or has the wrong number of images, or the archive is damaged.
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
        As for `load_cifar10`, but label k is `CIFAR100_CLASSES[k]`. The errors are the same, too.

    Example:
        >>> import allconvnet
        >>> (images, labels), _ = allconvnet.load_cifar100()
        >>> images.shape
        (50000, 32, 32, 3)
    """
    return load("cifar100", source)


def load_transfer(source: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """The images that the weights "transfer" are trained and measured on: CIFAR-10, then 50 classes of CIFAR-100.

    Args:
        source: a folder that contains `cifar-10-batches-py` and `cifar-100-python`. With None, each data set is found
            as by `load_cifar10` and `load_cifar100`.

    Returns:
        As for `load_cifar10`, with 75,000 and 15,000 images of 60 classes; label k is
        `weights_info("all_cnn_c.transfer").class_names[k]`. The errors are the same, too.

    Example:
        >>> import allconvnet
        >>> (images, labels), _ = allconvnet.load_transfer()
        >>> images.shape
        (75000, 32, 32, 3)
    """
    classes, splits = CLASS_NAMES["transfer"], []
    number = np.array([classes.index(name) if name in classes else -1 for name in CIFAR100_CLASSES], "int32")
    for (images, labels), (more, fine) in zip(load_cifar10(source), load_cifar100(source), strict=True):
        new = number[fine]
        splits.append((np.concatenate([images, more[new >= 0]]), np.concatenate([labels, new[new >= 0]])))
    return splits[0], splits[1]


def load(name: str, source: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """The data set "cifar10", "cifar100" or "transfer"."""
    if name == "transfer":
        return load_transfer(source)
    layout, classes = _LAYOUTS[name], len(CLASS_NAMES[name])
    source = (os.environ.get(f"ALLCONVNET_{name.upper()}") or None) if source is None else source
    path = fetch_dataset(name) if source is None else checked_path("source", source)
    counts = dict.fromkeys(layout.batches, _IMAGES[0] // (len(layout.batches) - 1)) | {layout.batches[-1]: _IMAGES[1]}
    found: dict[str, tuple[IO[bytes], Batch]] = {}
    batch = ""
    try:
        with contextlib.ExitStack() as stack:
            for batch, file, size in (_archive if path.is_file() else _folder)(layout, path, stack):
                found[batch] = file, read_batch(file, size, layout.labels, counts[batch], classes)
            if missing := [batch for batch in layout.batches if batch not in found]:
                way_out = f"Pass the folder {layout.folder!r} or its archive, or set ALLCONVNET_{name.upper()}"
                raise FileNotFoundError(f"{layout.title} is not in {str(path)!r}: no {missing[0]!r}. {way_out}.")
            train, test = (np.empty((count, 32, 32, 3), np.uint8) for count in _IMAGES)
            places = dict(zip(layout.batches, [*np.split(train, len(layout.batches) - 1), test], strict=True))
            # In the order of an archive, which can only be read forward.
            for batch, (file, content) in sorted(found.items(), key=lambda item: item[1][1].start):
                places[batch][:] = content.read_images(file)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        archive = f"an archive (.tar.gz) of {layout.title}'s folder {layout.folder!r}"
        raise ValueError(f"{str(path)!r} is damaged, or not {archive}: {error}.") from None
    except ValueError as error:
        raise ValueError(f"{batch!r} in {str(path)!r} is not a {layout.title} batch: {error}.") from None
    labels = [found[batch][1].labels for batch in layout.batches]
    return (train, np.concatenate(labels[:-1])), (test, labels[-1])


def _folder(layout: _Layout, path: Path, stack: contextlib.ExitStack) -> Iterator[tuple[str, IO[bytes], int]]:
    """The batches in a folder: name, file, and number of bytes."""
    path = path / layout.folder if (path / layout.folder).is_dir() else path
    for batch in layout.batches:
        if (path / batch).is_file():
            yield batch, stack.enter_context((path / batch).open("rb")), (path / batch).stat().st_size


def _archive(layout: _Layout, path: Path, stack: contextlib.ExitStack) -> Iterator[tuple[str, IO[bytes], int]]:
    """The batches in an archive: each starts where the file stands; after the last, the archive's checksum is right."""
    packed = gzip.open(path)  # noqa: SIM115 - closed with the reader of the next line
    file = stack.enter_context(io.BufferedReader(packed))
    # Not by tarfile.open: it allocates what the headers say.
    for _ in range(_MAX_MEMBERS):
        header = file.read(tarfile.BLOCKSIZE)
        if header == bytes(tarfile.BLOCKSIZE):
            break
        member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        end = file.tell() + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        if not file.tell() <= end <= _MAX_BYTES:
            raise tarfile.ReadError(f"a member has {member.size:,} bytes")
        folder, _, batch = member.name.removeprefix("./").rpartition("/")
        if member.isreg() and folder == layout.folder and batch in layout.batches:
            yield batch, file, member.size
        file.seek(end)
    else:
        raise tarfile.ReadError(f"it has more than {_MAX_MEMBERS} members")
    if file.seek(_MAX_BYTES) == _MAX_BYTES:  # The file ends before, where gzip compares its checksum.
        raise tarfile.ReadError(f"it unpacks to more than {_MAX_BYTES:,} bytes")
