"""Weights files of strangers: they name other files, ask for all memory, or are damaged."""

import fcntl
import os
import random
import re
import zlib

import bounded
import h5py
import numpy as np
import pytest

from allconvnet._files import replacing
from allconvnet._specs import get_spec
from allconvnet._weight_files import kernel_shapes, read_weights

BIAS = "layers/conv2d/vars/1"
KERNEL = "layers/conv2d/vars/0"
SHAPE = (5, 5, 3, 96)


def write(path, change=None):
    """A file as `save_weights` writes it, changed by a stranger."""
    with h5py.File(path, "w") as file:
        for number, shape in enumerate(kernel_shapes(get_spec("model_a"), 10)):
            group = file.create_group(f"layers/conv2d{f'_{number}' if number else ''}/vars")
            group["0"], group["1"] = np.ones(shape, "float16"), np.ones(shape[-1:], "float16")
        file.attrs.update(variant="model_a", mean=[1.0, 2.0, 3.0], std=[1.0, 2.0, 3.0])
        file.attrs["class_names"] = [f"class {number}" for number in range(10)]
        if change:
            change(file)
    return path


def legacy(path, change=None):
    """A file as Keras 2 writes it, changed by a stranger."""
    with h5py.File(path, "w") as file:
        names = []
        for number, shape in enumerate(kernel_shapes(get_spec("model_a"), 10)):
            names.append(f"conv_{number}".encode())
            group = file.create_group(names[-1])
            group["conv/kernel:0"], group["conv/bias:0"] = np.ones(shape, "float32"), np.ones(shape[-1:], "float32")
            group.attrs["weight_names"] = [b"conv/kernel:0", b"conv/bias:0"]
        file.attrs["layer_names"] = names
        if change:
            change(file)
    return path


def replaced(name, value=None, **options):
    """A change: another dataset or link."""

    def change(file):
        del file[name]
        if options:
            file.create_dataset(name, **options)
        else:
            file[name] = value(file) if callable(value) else value

    return change


def attributes(**values):
    return lambda file: [file.attrs.__setitem__(name, value) for name, value in values.items()]


def virtual(source):
    def change(file):
        layout = h5py.VirtualLayout((96,), "float32")
        layout[:] = h5py.VirtualSource(source, BIAS, (96,))
        del file[BIAS]
        file.create_virtual_dataset(BIAS, layout)

    return change


def endless(file):
    """Layers without end, all of them the same."""
    for number in range(5, 2000):
        file[f"layers/conv2d_{number}"] = file["layers/conv2d"]


OTHER = "must store its own floating-point data"
DAMAGED = "is not laid out as Keras writes weights"
CASES = [
    *(
        (replaced(name, h5py.ExternalLink("other.h5", name)), OTHER)
        for name in (BIAS, "layers/conv2d/vars", "layers/conv2d_2", "layers")
    ),
    *((replaced(name, h5py.SoftLink("/layers/conv2d_1")), OTHER) for name in ("layers/conv2d", BIAS, "layers")),
    (replaced(BIAS, h5py.ExternalLink("pipe", BIAS)), OTHER),
    (replaced(BIAS, shape=(96,), dtype="float32", external=[("/etc/passwd", 0, 384)]), OTHER),
    (replaced(BIAS, shape=(96,), dtype="float32", external=[("pipe", 0, 384)]), OTHER),
    (virtual("other.h5"), OTHER),
    (virtual("."), OTHER),
    (replaced(KERNEL, shape=SHAPE, dtype="float32", compression="gzip"), OTHER),
    (replaced(KERNEL, shape=SHAPE, dtype="float32", chunks=SHAPE, fletcher32=True), OTHER),
    (replaced(KERNEL, shape=SHAPE, dtype="float32", maxshape=(None,) * 4, chunks=(90, 90, 30, 96)), OTHER),
    *((replaced(BIAS, np.ones(96, kind)), OTHER) for kind in ("int32", "complex64", "bool", "S8", "longdouble")),
    (replaced(BIAS, np.ones(96, [("a", "f4")])), OTHER),
    (replaced(BIAS, lambda file: np.array([file.ref] * 96, h5py.ref_dtype)), OTHER),
    (replaced(BIAS, shape=(96,), dtype=h5py.vlen_dtype("f4")), OTHER),
    (replaced(KERNEL, shape=(5, 5, 3, 1 << 40), dtype="float32", chunks=(5, 5, 3, 16)), "does not fit 'model_a'"),
    (replaced(BIAS, shape=(1 << 40,), dtype="float32", chunks=(16,)), r"does not fit 'model_a'\. Kernels: "),
    (replaced(BIAS, h5py.Empty("f4")), "does not fit"),
    (replaced(BIAS, np.float32(1)), "does not fit"),
    (endless, "does not fit"),
    (replaced(BIAS, np.dtype("f4")), DAMAGED),
    (lambda file: file["layers/conv2d/vars"].pop("1") and file.create_group(BIAS), DAMAGED),
    (replaced("layers/conv2d", np.ones(3)), DAMAGED),
    (replaced(BIAS, np.full(96, np.nan, "float32")), "infinite or not a number"),
    (replaced(KERNEL, np.full(SHAPE, -np.inf, "float16")), "infinite or not a number"),
    (replaced(KERNEL, np.full(SHAPE, 1e300)), "infinite or not a number"),
    (attributes(variant=3), "no valid attribute 'variant'"),
    (attributes(variant=[1, 2]), "no valid attribute 'variant'"),
    (attributes(variant="model_b"), r"holds weights of 'model_b'; use AllConvNet\('model_b'"),
    (attributes(variant="x" * 5000), r"holds weights of 'x{96}\.\.\.;"),
    *((attributes(mean=value), "no valid attribute 'mean'") for value in (1.0, [1.0, 2.0], [1, 2, 3], ["1"] * 3, "x")),
    *((attributes(mean=[1.0, 2.0, value]), "no valid attribute 'mean'") for value in (np.nan, np.inf, 1e39)),
    (attributes(mean=np.ones((3, 1000))), "no valid attribute 'mean'"),
    (attributes(mean=h5py.Empty("f8")), "no valid attribute 'mean'"),
    *((attributes(std=[1.0, 2.0, value]), "no valid attribute 'std'") for value in (0.0, -1.0, np.nan, np.inf, 1e-60)),
    (lambda file: file.attrs.pop("std"), "no valid attribute 'std'"),
    (lambda file: file.attrs.pop("mean"), "no valid attribute 'mean'"),
    (attributes(class_names=np.arange(10)), "no valid attribute 'class_names'"),
    (attributes(class_names=["a", "b"]), "has 2 class names for 10 classes"),
    (attributes(class_names=["a"] * 4000 + ["b"]), "no valid attribute 'class_names'"),
]
LEGACY = [
    (replaced("conv_1", h5py.ExternalLink("other.h5", "layers")), OTHER),
    (replaced("conv_1/conv", h5py.SoftLink("/conv_0/conv")), OTHER),
    (replaced("conv_1/conv/bias:0", shape=(192,), dtype="float32", external=[("/etc/passwd", 0, 768)]), OTHER),
    (
        replaced("conv_1/conv/kernel:0", shape=(5, 5, 96, 1 << 40), dtype="float32", chunks=(5, 5, 96, 1)),
        "does not fit",
    ),
    (attributes(layer_names=3), "no valid attribute 'layer_names'"),
    (attributes(layer_names=[b"none"] * 5), DAMAGED),
    (attributes(layer_names=[b"/"] * 5), DAMAGED),
    (attributes(layer_names=[b"\xff"] * 5), DAMAGED),
    (attributes(layer_names=np.array([b"x"] * 50_000)), DAMAGED),
    (attributes(layer_names=[b"conv_0"] * 4000), "does not fit"),
    (lambda file: file["conv_1"].attrs.update(weight_names=[1, 2]), "no valid attribute 'weight_names'"),
    (lambda file: file["conv_1"].attrs.update(weight_names=[b"..", b"."]), DAMAGED),
    (lambda file: file.create_group("model_weights") and file.attrs.pop("layer_names"), DAMAGED),
    (lambda file: file.__setitem__("model_weights", h5py.SoftLink("/")), OTHER),
]


@pytest.mark.parametrize(
    ("make", "change", "match"), [*((write, *case) for case in CASES), *((legacy, *case) for case in LEGACY)]
)
def test_hostile_file(tmp_path, monkeypatch, make, change, match):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "other.h5")
    os.mkfifo(tmp_path / "pipe")  # Reading it would never end.
    path = make(tmp_path / "x.weights.h5", change)
    with pytest.raises(ValueError, match=rf"^'{re.escape(str(path))}' .*{match}") as caught:
        read_weights("model_a", path)
    assert caught.type is ValueError


@pytest.mark.parametrize("make", [write, legacy])
def test_files_that_are_well(tmp_path, make):
    assert read_weights("model_a", make(tmp_path / "x.weights.h5")).classes == 10
    # What whole models have: text that is longer than any name.
    config = attributes(model_config=b"x" * 100_000)
    assert read_weights("model_a", make(tmp_path / "x.weights.h5", config)).classes == 10
    chunked = replaced(BIAS, np.ones(96), shape=(96,), dtype=">f8", chunks=(10,), maxshape=(None,), fillvalue=1)
    assert read_weights("model_a", write(tmp_path / "y.weights.h5", chunked)).convolutions[0][1].dtype == "float32"


def test_damaged_files(tmp_path):
    """Cut, or with other bytes: a file is read, or refused in one way."""
    content = write(tmp_path / "x.weights.h5").read_bytes()
    numbers = random.Random(0)  # noqa: S311 - which bytes are tried need not be a secret.
    damaged = [content[: len(content) * part // 20] for part in range(20)]
    described = [place for place in range(len(content)) if content[place : place + 2] != b"\x00\x3c"]
    for _ in range(150):
        changed = bytearray(content)
        for place in numbers.sample(described[:20_000], 3):
            changed[place] = numbers.randrange(256)
        damaged.append(bytes(changed))
    messages = []
    for number, content in enumerate(damaged):
        path = tmp_path / f"{number}.weights.h5"
        path.write_bytes(content)
        try:
            read_weights("model_a", path)
        except ValueError as error:
            messages.append((path, str(error)))
        path.unlink()
    assert len(messages) > 30
    assert all(message.startswith(f"'{path}' ") for path, message in messages)


def repeated(path):
    """Names of classes that all refer to one text of 5 million characters."""
    write(path, attributes(class_names=["x" * 5_000_000] + ["y"] * 3000))
    content = bytearray(path.read_bytes())
    place = content.index((5_000_000).to_bytes(4, "little"))
    content[place : place + 16 * 3001] = bytes(content[place : place + 16]) * 3001
    path.write_bytes(content)


def endless(path):
    """The heap of the texts has a part of no bytes, which HDF5 reads again and again."""
    write(path)
    content = bytearray(path.read_bytes())
    place = content.index(b"GCOL") + 16
    content[place : place + 16] = bytes(16)
    path.write_bytes(content)


def asks_for_text_often(path):
    """3,000 attributes whose texts lie in a heap, which is somewhere in 100 MB."""
    with h5py.File(path, "w") as file:
        names = [f"layer_{number}" for number in range(3000)]
        file.attrs["layer_names"] = names
        for name in names:
            file.create_group(name).attrs["weight_names"] = ["kernel"]
            file[name]["kernel"] = 0.0
        file["rest"] = np.zeros(25_000_000, "float32")


def test_memory_of_refusals(tmp_path):
    deflate = zlib.compressobj(1)
    bomb = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(500)) + deflate.flush()

    def packed(file):
        replaced(KERNEL, shape=SHAPE, dtype="float32", compression="gzip", chunks=SHAPE)(file)
        file[KERNEL].id.write_direct_chunk((0, 0, 0, 0), bomb)

    write(tmp_path / "packed.h5", packed)
    write(
        tmp_path / "chunk.h5", replaced(KERNEL, shape=SHAPE, dtype="f4", maxshape=(None,) * 4, chunks=(99, 99, 99, 999))
    )
    write(tmp_path / "shape.h5", replaced(KERNEL, shape=(5, 5, 3, 1 << 30), dtype="f4", chunks=(5, 5, 3, 16)))
    repeated(tmp_path / "text.h5")
    heap = b"GCOL\x01\0\0\0" + (8 << 20).to_bytes(8, "little")
    (tmp_path / "heaps.h5").write_bytes(write(tmp_path / "x.h5").read_bytes() + heap * 500_000)
    (tmp_path / "zeros.h5").write_bytes(bytes(300 << 20))
    endless(tmp_path / "endless.h5")
    asks_for_text_often(tmp_path / "names.h5")
    legacy(tmp_path / "layers.h5", attributes(layer_names=np.array([b"conv_0"] * 10_000)))
    files = [
        (("model_a"), tmp_path / f"{name}.h5")
        for name in ("packed", "chunk", "shape", "text", "heaps", "zeros", "endless", "names", "layers")
    ]
    for (_, path), error in zip(files, bounded.errors("_weight_files.read_weights", *files), strict=True):
        assert error.startswith(f"ValueError: '{path}' ")


def test_two_who_write_the_same_file(tmp_path):
    """Threads, or containers whose processes have the same number."""
    with replacing(tmp_path / "x") as first, replacing(tmp_path / "x") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "x").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_file_that_another_program_writes(tmp_path):
    path = tmp_path / "x.weights.h5"
    write(path)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OSError, match=r"x.weights.h5' is open for writing in another program: close it there"):
            read_weights("model_a", path)
    assert len(read_weights("model_a", path).convolutions) == 5
