"""Reading CIFAR-10 and CIFAR-100: folder, parent folder, archive; and a pickle that tries to run code."""

import pickle
import tarfile

import numpy as np
import pytest

from allconvnet import CIFAR10_CLASSES, CIFAR100_CLASSES, data, load_cifar10, load_cifar100
from allconvnet._specs import NORMALIZATION

NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def write(folder, change=(), count=4):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        pixels = np.full((count, 3072), number, np.uint8)
        pixels[:, 1024:2048] = 100 + number
        batch = {b"batch_label": b"x", b"data": pixels, b"labels": [number] * count} | dict(change)
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
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


def test_folder_parent_and_variable(tmp_path, monkeypatch):
    folder = write(tmp_path / "cifar-10-batches-py")
    check(load_cifar10(folder))
    check(load_cifar10(str(tmp_path)))
    monkeypatch.setenv("ALLCONVNET_CIFAR10", str(folder))
    check(load_cifar10())


def test_archive(tmp_path):
    write(tmp_path / "cifar-10-batches-py")
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    check(load_cifar10(tmp_path / "cifar-10-python.tar.gz"))


class Attack:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({b"labels": Attack()}, r"names (__builtin__|builtins).print, which has no place in a CIFAR batch"),
        ({b"data": np.zeros((4, 100), np.uint8)}, r"uint8 \(4, 100\).*Allowed: uint8 \[N, 3072\]"),
        ({b"data": np.zeros((4, 3072))}, r"float64 \(4, 3072\)"),
        ({b"labels": [10] * 4}, r"N labels, each 0 to 9"),
        ({b"labels": [0] * 3}, r"labels \(3,\)"),
        ({b"labels": 7}, r"labels \(\)"),
        ({b"data": {}}, r"Received: object \(\)"),
    ],
)
def test_bad_batches(tmp_path, capsys, change, match):
    write(tmp_path, change)
    with pytest.raises(ValueError, match=match):
        load_cifar10(tmp_path)
    assert "code ran" not in capsys.readouterr().out


def test_huge_batch(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(data, "_MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"'data_batch_1' in .* is not a CIFAR-10 batch: it has [\d,]+ bytes"):
        load_cifar10(tmp_path)


def test_truncated_batch(tmp_path):
    write(tmp_path)
    (tmp_path / "data_batch_3").write_bytes((tmp_path / "data_batch_3").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"'data_batch_3' in .* is not a CIFAR-10 batch: "):
        load_cifar10(tmp_path)


def test_missing_batch(tmp_path):
    write(tmp_path)
    (tmp_path / "test_batch").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"CIFAR-10 is not in .*: no 'test_batch'. Pass the folder .* or set ALLCONVNET_CIFAR10"
    ):
        load_cifar10(tmp_path)


def test_archive_of_a_folder_with_a_dot(tmp_path):
    write(tmp_path / "cifar-10-batches-py")
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "./cifar-10-batches-py")
    check(load_cifar10(tmp_path / "x.tgz"))


def test_archive_that_was_cut(tmp_path):
    write(tmp_path / "cifar-10-batches-py")
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    content = (tmp_path / "x.tgz").read_bytes()
    for length in (0, 20, len(content) // 2):
        (tmp_path / "cut.tgz").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"is not a (tar archive of CIFAR-10|CIFAR-10 batch)"):
            load_cifar10(tmp_path / "cut.tgz")


def test_no_archive(tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"tar.gz' is not a tar archive of CIFAR-10's folder 'cifar-10-batches-py'"):
        load_cifar10(path)


def test_cifar100_has_fine_labels(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, fine in (("train", [99, 0, 5]), ("test", [7, 8, 9])):
        batch = {b"data": np.zeros((3, 3072), np.uint8), b"fine_labels": fine, b"coarse_labels": [1, 2, 3]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    monkeypatch.setenv("ALLCONVNET_CIFAR100", str(tmp_path))
    for (_, labels), (_, test_labels) in (load_cifar100(), load_cifar100(folder)):
        assert (labels.tolist(), test_labels.tolist()) == ([99, 0, 5], [7, 8, 9])
    (folder / "test").unlink()
    with pytest.raises(FileNotFoundError, match=r"no 'test'. Pass the folder .* or set ALLCONVNET_CIFAR100"):
        load_cifar100()


@pytest.mark.parametrize(("name", "classes"), [("cifar10", CIFAR10_CLASSES), ("cifar100", CIFAR100_CLASSES)])
def test_real_data(name, classes, request):
    (images, labels), (test_images, test_labels) = request.getfixturevalue(name)
    count = len(classes)
    assert images.shape == (50_000, 32, 32, 3)
    assert test_images.shape == (10_000, 32, 32, 3)
    assert np.bincount(labels).tolist() == [50_000 // count] * count
    assert np.bincount(test_labels).tolist() == [10_000 // count] * count
    # The constants by which pixels are normalized are those of the training images.
    for axis, values in zip(("mean", "std"), NORMALIZATION[name], strict=True):
        np.testing.assert_allclose(getattr(np, axis)(images, axis=(0, 1, 2), dtype="float64"), values, atol=5e-3)
