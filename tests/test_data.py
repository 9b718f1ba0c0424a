"""Reading CIFAR-10 and CIFAR-100: folder, parent folder, archive; and what must not be read."""

import gzip
import io
import os
import pickle
import random
import re
import struct
import tarfile

import bounded
import numpy as np
import pytest

from allconvnet import CIFAR10_CLASSES, CIFAR100_CLASSES, data, load_cifar10, load_cifar100
from allconvnet._specs import NORMALIZATION
from allconvnet._weights import CLASS_NAMES

NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


@pytest.fixture
def small(monkeypatch):
    """A data set of 20 and 4 images counts as whole."""
    monkeypatch.setattr(data, "_IMAGES", (20, 4))


def write(folder, change=(), count=4, noise=False):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        pixels = np.full((count, 3072), number, np.uint8)
        pixels[:, 1024:2048] = 100 + number
        if noise:  # Which gzip cannot shorten.
            pixels[:] = np.random.default_rng(number).integers(0, 256, pixels.shape)
        batch = {b"batch_label": b"x", b"data": pixels, b"labels": [number] * count} | dict(change)
        (folder / name).write_bytes(pickle.dumps(batch, protocol=4))
    return folder


def check(splits):
    (images, labels), (test_images, test_labels) = splits
    assert images.shape == (20, 32, 32, 3)
    assert images.dtype == np.uint8
    assert labels.tolist() == [number for number in range(5) for _ in range(4)]
    assert test_images.shape == (4, 32, 32, 3)
    assert test_labels.tolist() == [5] * 4
    # Channels last: the planes of red and green have become the first two channels.
    assert (images[..., 0] == labels[:, None, None]).all()
    assert (images[..., 1] == 100 + labels[:, None, None]).all()


def test_folder_parent_and_variable(tmp_path, monkeypatch, small):
    folder = write(tmp_path / "cifar-10-batches-py")
    check(load_cifar10(folder))
    check(load_cifar10(str(tmp_path)))
    monkeypatch.setenv("ALLCONVNET_CIFAR10", str(folder))
    check(load_cifar10())


def test_array_by_columns(tmp_path, small):
    pixels = np.random.default_rng(0).integers(0, 256, (3072, 4), "uint8")
    write(tmp_path, {b"data": pixels.T})
    (images, _), _ = load_cifar10(tmp_path)
    np.testing.assert_array_equal(images[:4], pixels.T.reshape(4, 3, 32, 32).transpose(0, 2, 3, 1))


def archive(tmp_path, arcname="cifar-10-batches-py", noise=True):
    """A small data set, packed."""
    write(tmp_path / "cifar-10-batches-py", noise=noise)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "cifar-10-batches-py", arcname)
    return tmp_path / "x.tar.gz"


@pytest.mark.parametrize("arcname", ["cifar-10-batches-py", "./cifar-10-batches-py"])
def test_archive(tmp_path, small, arcname):
    check(load_cifar10(archive(tmp_path, arcname, noise=False)))


class Attack:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({b"labels": Attack()}, r"names 'print', which is not allowed"),
        (
            {b"data": np.zeros((4, 3080), np.uint8)},
            r"an array \[1, 4, 3080, 'u1', .*, 12,320 bytes, allowed: uint8 \(4, 3072\)",
        ),
        ({b"data": np.zeros((4, 1, 3072), np.uint8)}, r"received: an array \[4, 1, 3072, 'u1', "),
        ({b"data": np.zeros((4, 768), "float32")}, r"received: an array \[1, 4, 768, 'f4', "),
        ({b"data": np.zeros((4, 1536), object)}, r"damaged, or not the pickle of a dict with one array"),
        ({b"data": bytes(12288)}, r"received: an array \[.*\], 12,288 bytes"),
        ({b"data": bytes(200)}, r"it has [\d,]+ bytes, which are not those of 4 images"),
        ({b"pixels": bytes(200)}, r"damaged, or not the pickle of a dict with one array and one list 'labels'"),
        ({b"labels": [10] * 4}, r"received: 4 labels, such as \[10, 10, 10, 10\], allowed: 4 integers from 0 to 9"),
        ({b"labels": [0, -1, 2, 3]}, r"received: 4 labels, such as \[-1\]"),
        ({b"labels": [0] * 3}, r"received: 3 labels, such as \[0, 0, 0\]"),
        ({b"labels": [0] * 5}, r"received: 5 labels, such as \[0, 0, 0, 0, 0\]"),
        ({b"labels": [0, 1, 2, 3, True]}, r"received: 5 labels, such as \[True\]"),
        ({b"labels": [0, True, 2, 3]}, r"received: 4 labels, such as \[True\]"),
        ({b"labels": [0, None, 2, 3]}, r"received: 4 labels, such as \[None\]"),
        ({b"labels": [[0, 1], [2, 3], 4, 5]}, r"received: 6 labels"),
        ({b"labels": 7}, r"received: 1 labels"),
        ({b"labels": np.arange(4)}, r"received: "),
        ({b"labels": [0, 1, 2, 3.0]}, r"its opcode \d+, b'G', is not allowed"),
        ({"labels": [0] * 4}, r"damaged, or not the pickle of a dict with one array and one list 'labels'"),
    ],
)
def test_bad_batches(tmp_path, small, capsys, change, match):
    write(tmp_path, change)
    with pytest.raises(ValueError, match=rf"'data_batch_1' in .* is not a CIFAR-10 batch: .*{match}"):
        load_cifar10(tmp_path)
    assert "code ran" not in capsys.readouterr().out


def python2(count, labels=None, classes=10, name=b"labels"):
    """A batch as the official archives have it, in two parts: the pixels stand between them."""
    labels = bytes(number % classes for number in range(count)) if labels is None else labels
    before = (
        b"\x80\x02}q\x01(U" + bytes([len(name)]) + name + b"q\x02]q\x03("
        + b"".join(b"K%c" % label for label in labels)
        + b"eU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85q\x07U\x01bq\x08"
        + b"\x87q\x09Rq\x0a(K\x01" + struct.pack("<cicH", b"J", count, b"M", 3072) + b"\x86q\x0bcnumpy\ndtype\nq\x0c"
        + b"U\x02u1q\x0dK\x00K\x01\x87q\x0eRq\x0f(K\x03U\x01|q\x10NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x11b"
        + struct.pack("<cci", b"\x89", b"T", count * 3072)
    )  # fmt: skip
    return before, b"tq\x12bu."


def test_batch_of_python_2(tmp_path, small):
    write(tmp_path)
    before, after = python2(4)
    pixels = np.arange(4 * 3072).astype(np.uint8)
    (tmp_path / "data_batch_2").write_bytes(before + pixels.tobytes() + after)
    (images, labels), _ = load_cifar10(tmp_path)
    assert labels[4:8].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(images[4:8], pixels.reshape(4, 3, 32, 32).transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        # NumPy's own functions, with arguments of the file's choice: an array of objects over given bytes is a pointer.
        (b"U\x02u1", b"U\x02O8", r"an array \[1, 4, 3072, 'O8', "),
        (b"U\x02u1", b"U\x04V9x9", r"an array \[1, 4, 3072, 'V9x9', "),
        (b"K\x00\x85q\x07", b"J\xff\xff\xff\x7f\x85q\x07", None),  # An array of 2 GB is asked for, and not made.
        (b"cnumpy\nndarray", b"cnumpy\nmemmap", r"names 'numpy.memmap'"),
        (b"cnumpy\nndarray", b"cnumpy.lib.npyio\nload", r"names 'numpy.lib.npyio.load'"),
        (b"cnumpy.core.multiarray\n_reconstruct", b"cnumpy\nndarray", None),  # Nothing is called.
        (b"cnumpy\nndarray\nq\x06K\x00", b"cnumpy\nndarray\nr\xff\xff\xff\x7fK\x00", None),  # A memo of 2 billion.
        (b"M\x00\x0c", b"M\x00\x0d", r"an array \[1, 4, 3328, 'u1', "),
        (b"J\x04\x00\x00\x00M", b"J\xff\xff\xff\x7fM", r"an array \[1, 2147483647, 3072, 'u1', "),
        (b"\x89T\x00\x30\x00\x00", b"\x89T\xff\x30\x00\x00", "it ends early"),
        (b"\x89T\x00\x30\x00\x00", b"\x89T\xff\xff\xff\x7f", "it ends early"),
        (b"\x89T\x00\x30\x00\x00", b"\x89T\x00\x2f\x00\x00", "its opcode"),
        (b"\x89T\x00\x30\x00\x00", b"NT\x00\x30\x00\x00", "received: an array"),
        (b"K\x03U\x01|", b"K\x03c__builtin__\neval\n", "names '__builtin__.eval'"),
        (b"\x80\x02}", b"\x80\x02I" + b"9" * 30, r"its opcode \d+, b'I', is not allowed"),
        (b"q\x02]", b"q\x02P1\n]", r"its opcode \d+, b'P', is not allowed"),
        (b"]q\x03(", b"]q\x03" + b"(" * 9, None),  # Lists and marks are not made.
        (b"]q\x03(", b")q\x03(", None),
        (b"]q\x03(", b"h\x01q\x03(", None),
        (b"]q\x03(K\x00K", b"]q\x03(h\x03K", "received: 3 labels"),
        (b"q\x01(U", b"0" + b"q\x01(U", r"its opcode \d+, b'0', is not allowed"),
        (b"bq\x08\x87", b"bq\x08\x87bbbbb", None),
        (b"U\x04data", b"U\x06labels(K\x00K\x01K\x02K\x03eU\x04data", "damaged, or not"),
        (b"U\x06labels", b"U\x06labels" * 2, "damaged, or not"),
        (b"U\x04data", b"U\x04dataT\xc8\0\0\0" + b"x" * 200, "damaged, or not"),
        (b"U\x02u1", b"U\x02u1U\x02f4", r"an array \[4, 3072, 'u1', 'f4', "),
    ],
)
def test_hostile_pickle(tmp_path, small, old, new, match):
    write(tmp_path)
    before, after = python2(4)
    assert before.count(old) == 1
    (tmp_path / "data_batch_1").write_bytes(before.replace(old, new) + bytes(4 * 3072) + after)
    if match is None:  # Arguments that nothing is made of do no harm.
        assert load_cifar10(tmp_path)[0][1].tolist()[:4] == [0, 1, 2, 3]
        return
    with pytest.raises(ValueError, match=rf"'data_batch_1' in .* is not a CIFAR-10 batch: .*({match})"):
        load_cifar10(tmp_path)


def test_any_changed_byte(tmp_path, small):
    """Of the pickle around the pixels: what still loads has its pixels and labels in range; errors are of one kind."""
    write(tmp_path)
    before, after = python2(4)
    numbers = random.Random(0)  # noqa: S311 - which bytes are tried need not be a secret.
    messages = []
    for position in range(len(before + after)):
        changed = bytearray(before + after)
        changed[position] = numbers.randrange(256)
        content = changed[: len(before)] + b"\xee" * (4 * 3072) + changed[len(before) :]
        (tmp_path / "data_batch_1").write_bytes(content)
        try:
            (images, labels), _ = load_cifar10(tmp_path)
        except ValueError as error:
            messages.append(str(error))
        else:
            assert (images[:4] == 0xEE).all()
            assert 0 <= labels.min() <= labels.max() < 10
    assert 0 < len(messages) < len(before + after)
    assert all(re.fullmatch("'data_batch_1' in .{1,500}", message) for message in messages)


def test_batches_of_any_size(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match=r"'data_batch_1' .*: it has 12,\d+ bytes, which are not those of 10,000"):
        load_cifar10(tmp_path)


def sparse(path, before, size, after):
    """A file with `size` zeros in it that take no disk."""
    with path.open("wb") as file:
        file.write(before)
        file.seek(size, 1)
        file.write(after)


def test_memory_of_refusals(tmp_path):
    """Files of a real batch's size, and archives, that ask for gigabytes."""
    size = 10_000 * 3072
    before, after = python2(10_000)
    good = tmp_path / "good/cifar-10-batches-py"
    good.mkdir(parents=True)
    for name in NAMES:
        sparse(good / name, before, size, after)
    cases = {}
    for number, opcode in enumerate([b"]", b"}", b"(", b"K\x00", b")\x85", b"U\x64" + b"x" * 100, b"]\x94"]):
        expected = "its opcode 600,000, " if len(opcode) < 100 else "it ends early"
        cases[f"opcode{number}"] = b"\x80\x04" + opcode * (size // len(opcode) + 10), expected
    cases["memo"] = b"\x80\x04}r\xff\xff\xff\xff." + bytes(size), "damaged"
    cases["string"] = b"\x80\x04B" + b"\xff" * 4 + bytes(size), "it ends early"
    cases["line"] = b"c" + b"x" * (size + 10), "names 'xxx"
    cases["frame"] = b"\x80\x04\x95" + b"\xff" * 8 + b"." + bytes(size), "damaged"
    for name, (content, _) in cases.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "data_batch_1").write_bytes(content)
    # All is well but the last batch.
    cases["last"] = None, "10,000 labels, such as [10, 10, 10, 10, 10, 10, ...], allowed: 10,000 integers from 0 to 9"
    (tmp_path / "last").mkdir()
    for name in NAMES[:-1]:
        os.link(good / name, tmp_path / "last" / name)
    sparse(tmp_path / "last/test_batch", *(python2(10_000, classes=11)[0], size, after))
    for (_, expected), error in zip(
        cases.values(), bounded.errors("data.load_cifar10", *((tmp_path / name,) for name in cases)), strict=True
    ):
        assert error.startswith("ValueError: '")
        assert expected in error


def test_memory_of_refused_archives(tmp_path):
    def tar(*members):
        buffer = io.BytesIO()
        for name, size, kind, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = size, kind
            buffer.write(member.tobuf(tarfile.GNU_FORMAT) + content)
        return buffer.getvalue()

    big, name = 8 << 30, "cifar-10-batches-py/data_batch_1"
    zeros = gzip.compress(bytes(1 << 20)) * 600
    cases = {
        "bomb": gzip.compress(tar(("readme.html", 380_000_000, tarfile.REGTYPE, b""))) + zeros,
        "pax": gzip.compress(tar(("x", big, tarfile.XHDTYPE, bytes(1000)))),
        "long name": gzip.compress(tar(("x", big, tarfile.GNUTYPE_LONGNAME, bytes(1000)))),
        "big": gzip.compress(tar(("readme.html", big, tarfile.REGTYPE, b""))) + zeros * 8,
        "negative": gzip.compress(tar((name, -(1 << 20), tarfile.REGTYPE, bytes(1000)))),
        "cut": gzip.compress(tar((name, 31 << 20, tarfile.REGTYPE, bytes(1000)))),
        "short": gzip.compress(tar((name, 1 << 10, tarfile.REGTYPE, bytes(1024)))),
        "many": gzip.compress(tar(*[("x", 0, tarfile.REGTYPE, b"")] * 100_000)),
        "not gzip": tar((name, 4, tarfile.REGTYPE, bytes(512))),
    }
    for case, content in cases.items():
        (tmp_path / case).write_bytes(content)
    for case, error in zip(
        cases, bounded.errors("data.load_cifar10", *((tmp_path / case,) for case in cases)), strict=True
    ):
        assert error.startswith("ValueError: '")
        assert f"{tmp_path / case}" in error


def test_named_pipe(tmp_path):
    os.mkfifo(tmp_path / "data_batch_1")
    for path in (tmp_path, tmp_path / "data_batch_1"):
        with pytest.raises(FileNotFoundError, match=r"CIFAR-10 is not in .*: no 'data_batch_1'"):
            load_cifar10(path)


def test_flipped_bits(tmp_path, small):
    """In an archive: an error, or the same data."""
    path = archive(tmp_path)
    content, whole = path.read_bytes(), load_cifar10(path)
    numbers = random.Random(0)  # noqa: S311 - as above
    places = [*range(16 * 8), *numbers.sample(range(16 * 8, len(content) * 8 - 64), 200)]
    messages = []
    for place in [*places, *range(len(content) * 8 - 64, len(content) * 8)]:
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            loaded = load_cifar10(path)
        except ValueError as error:
            messages.append(str(error))
        else:  # A bit of the archive's own name or time, or one that fills a byte before an uncompressed block.
            for mine, theirs in zip(loaded, whole, strict=True):
                np.testing.assert_array_equal(mine[0], theirs[0])
                np.testing.assert_array_equal(mine[1], theirs[1])
    assert len(messages) >= 250
    assert all(str(path) in message for message in messages)


def test_archive_with_something_after_it(tmp_path, small):
    path = archive(tmp_path)
    path.write_bytes(path.read_bytes() + b"something")
    with pytest.raises(ValueError, match=r"x.tar.gz' is damaged, or not an archive \(.tar.gz\) of CIFAR-10's folder"):
        load_cifar10(path)


def test_truncated_batch(tmp_path, small):
    write(tmp_path)
    content = (tmp_path / "data_batch_3").read_bytes()
    for length in (0, 100, len(content) - 1):
        (tmp_path / "data_batch_3").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"'data_batch_3' in .* is not a CIFAR-10 batch: "):
            load_cifar10(tmp_path)


def test_missing_batch(tmp_path, small):
    write(tmp_path)
    (tmp_path / "test_batch").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"CIFAR-10 is not in .*: no 'test_batch'. Pass the folder .* or set ALLCONVNET_CIFAR10"
    ):
        load_cifar10(tmp_path)


def test_archive_that_was_cut(tmp_path, small):
    path = archive(tmp_path)
    content = path.read_bytes()
    for length in (0, 1, 20, len(content) // 2, len(content) - 8, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"x.tar.gz' is (damaged, or not an archive|not a CIFAR-10 batch)"):
            load_cifar10(path)


def test_cifar100_has_fine_labels(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, fine in (("train", [99, 0, 5]), ("test", [7, 8, 9])):
        batch = {b"data": np.zeros((3, 3072), np.uint8), b"fine_labels": fine, b"coarse_labels": [1, 2, 3]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=4))
    monkeypatch.setenv("ALLCONVNET_CIFAR100", str(tmp_path))
    monkeypatch.setattr(data, "_IMAGES", (3, 3))
    for (_, labels), (_, test_labels) in (load_cifar100(), load_cifar100(folder)):
        assert (labels.tolist(), test_labels.tolist()) == ([99, 0, 5], [7, 8, 9])
    (folder / "test").unlink()
    with pytest.raises(FileNotFoundError, match=r"no 'test'. Pass the folder .* or set ALLCONVNET_CIFAR100"):
        load_cifar100()


def test_transfer_is_cifar10_and_half_of_the_classes_of_cifar100(monkeypatch):
    """Those of the last five tasks of `benchmarks/transfer.py`, which are for choices."""
    seen = np.sort(np.random.default_rng(0).permutation(100)[50:])
    assert CLASS_NAMES["transfer"] == (*CIFAR10_CLASSES, *(CIFAR100_CLASSES[label] for label in seen))
    for name, count in (("cifar10", 10), ("cifar100", 100)):
        labels = np.arange(count, dtype="int32")
        images = (labels[:, None, None, None] + np.zeros((1, 32, 32, 3))).astype("uint8")
        sources = {"both": ((images, labels), (images, labels))}
        monkeypatch.setattr(data, f"load_{name}", sources.__getitem__)
    for images, labels in data.load_transfer("both"):
        assert labels.tolist() == list(range(60))
        assert images[:, 0, 0, 0].tolist() == [*range(10), *seen]


@pytest.mark.parametrize(
    ("name", "counts"),
    [("cifar10", [5000] * 10), ("cifar100", [500] * 100), ("transfer", [5000] * 10 + [500] * 50)],
)
def test_real_data(name, counts, request):
    (images, labels), (test_images, test_labels) = request.getfixturevalue(name)
    assert images.shape == (sum(counts), 32, 32, 3)
    assert test_images.shape == (sum(counts) // 5, 32, 32, 3)
    assert np.bincount(labels).tolist() == counts
    assert (5 * np.bincount(test_labels)).tolist() == counts
    # The constants by which pixels are normalized are those of the training images.
    for axis, values in zip(("mean", "std"), NORMALIZATION[name], strict=True):
        np.testing.assert_allclose(getattr(np, axis)(images, axis=(0, 1, 2), dtype="float64"), values, atol=5e-3)
