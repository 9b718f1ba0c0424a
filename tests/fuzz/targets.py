"""Reads mutated files until the time is over: `python targets.py <target> <seconds> <folder>`.

The process may take 200 MB above the loaded library and 5 seconds of computing for a file. A file is written to the
folder before it is read: after a crash it is there.
"""

import io
import os
import pickle
import resource
import signal
import struct
import sys
import tarfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import allconvnet
from allconvnet import _specs, data

NET = _specs.Spec((_specs.Conv(4, 3, 2), _specs.Conv(4, 3, 2)), 2, 32)
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
IMAGE = np.random.default_rng(0).integers(0, 256, (16, 16, 4), "uint8")


def pictures():
    kinds = [(".jpg", 3), (".png", 3), (".png", 4), (".webp", 4), (".gif", 3), (".bmp", 3), (".tiff", 3), (".ppm", 3)]
    files = [cv2.imencode(kind, IMAGE[:, :, :channels])[1].tobytes() for kind, channels in kinds]
    options = {".jpg": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], ".webp": [cv2.IMWRITE_WEBP_QUALITY, 50]}
    files += [cv2.imencode(kind, IMAGE[:, :, :3], option)[1].tobytes() for kind, option in options.items()]
    return [*files, cv2.imencode(".png", IMAGE[:, :, 0].astype("uint16") * 257)[1].tobytes()]


def weights():
    """As `save_weights` writes them, and as Keras 2 did."""
    path = Path("written.weights.h5")
    model = allconvnet.AllConvNet("fuzzed", weights=None)
    allconvnet.save_weights(model, path, variant="fuzzed", class_names=["a", "b"])
    with h5py.File("old.h5", "w") as file:
        pairs = [layer.get_weights() for layer in model.layers if layer.get_weights()]
        file.attrs["layer_names"] = [f"conv{number}" for number in range(len(pairs))]
        for number, pair in enumerate(pairs):
            group = file.create_group(f"conv{number}")
            group.attrs["weight_names"] = ["kernel", "bias"]
            for name, values in zip(("kernel", "bias"), pair, strict=True):
                group[name] = values
    return [path.read_bytes(), Path("old.h5").read_bytes()]


def batches():
    """The folder has the other batches."""
    batch = {b"data": np.zeros((4, 3072), "uint8"), b"labels": [0, 1, 2, 9]}
    for name in BATCHES:
        Path("cifar-10-batches-py", name).write_bytes(pickle.dumps(batch, 4))
    return [pickle.dumps(batch, protocol) for protocol in (3, 4)]


def archives():
    files = []
    for mode in ("w:gz", "w"):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode) as archive:
            for name in BATCHES:
                content = batches()[1]
                member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        files.append(file.getvalue())
    return files


def arrays():
    file = io.BytesIO()
    np.savez(file, mean=np.zeros(4), matrix=np.eye(4))
    return [file.getvalue()]


def read_weights(path):
    allconvnet.AllConvNet("fuzzed", weights=path)
    allconvnet.preprocess_input(IMAGE[:, :, :3], weights=path)
    allconvnet.decode_predictions([[0.5, 0.5]], weights=path)


# By target: the corpus, the name of the file, what reads it.
TARGETS: dict[str, tuple[Callable[[], list[bytes]], str, Callable[[Path], object]]] = {
    "pictures": (pictures, "picture", allconvnet.load_image),
    "weights": (weights, "fuzzed.weights.h5", read_weights),
    "batches": (batches, "cifar-10-batches-py/data_batch_1", lambda path: allconvnet.load_cifar10(path.parent)),
    "archives": (archives, "cifar-10-python.tar.gz", allconvnet.load_cifar10),
    "arrays": (arrays, "zca.npz", allconvnet.ZCA.load),
}
_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
BLOCKS = st.binary(min_size=1, max_size=8) | st.builds(
    lambda number, order: struct.pack(f"{order}I", number), st.sampled_from(_NUMBERS), st.sampled_from("<>")
)


@st.composite
def mutated(draw, corpus: list[bytes]) -> bytes:
    """A file of the corpus with some bytes changed, inserted or left out, or parts of it repeated."""
    data = draw(st.sampled_from(corpus))
    for _ in range(draw(st.integers(1, 4))):
        start, length = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
        head, part, tail = data[:start], data[start : start + length], data[start + length :]
        block = draw(BLOCKS)
        data = draw(
            st.sampled_from([head, head + tail, head + block + data[start:], head + block + data[start + len(block) :],
                             head + part * 50 + tail])
        )  # fmt: skip
    return with_checksums(data) if draw(st.booleans()) else data


def with_checksums(png: bytes) -> bytes:
    """A PNG whose checksums are those of its chunks, so that what reads them gets to see the changes."""
    if png[:4] != b"\x89PNG":
        return png
    result, at = png[:8], 8
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, at)
        chunk = png[at + 4 : at + 8 + length]
        result += struct.pack(">I", length) + chunk + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + length
    return result


def main(name: str, seconds: float, folder: str) -> None:
    os.chdir(folder)
    _specs.SPECS["fuzzed"], data._IMAGES = NET, (20, 4)
    Path("cifar-10-batches-py").mkdir()
    make, file, read = TARGETS[name]
    corpus, path = make(), Path(folder, file)
    # Loads what reading needs; a corpus of which nothing can be read would test nothing.
    accepted = [attempt(read, path, content) for content in corpus]
    assert any(accepted)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
    start, count, ended = time.time_ns() % 2**32, 0, time.monotonic() + seconds
    while time.monotonic() < ended:

        @seed(start + count)
        @settings(max_examples=50, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(mutated(corpus))
        def check(content):
            attempt(read, path, content)

        check()
        count += 50
    print(f"{name}: {count} files, seed {start}")


def attempt(read: Callable[[Path], object], path: Path, content: bytes) -> bool:
    """Whether the file can be read."""
    path.write_bytes(content)
    signal.setitimer(signal.ITIMER_PROF, 5)  # Its signal ends the process.
    try:
        read(path)
        return True
    except (ValueError, OSError):
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
