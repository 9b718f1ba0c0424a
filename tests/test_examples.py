"""The example scripts, run as a user runs them."""

import importlib.util
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

import allconvnet

EXAMPLES = Path(__file__).parents[1] / "examples"


# Runs a script with a data set of 300 and 60 images, which counts as whole.
SMALL = """
import runpy, sys
from allconvnet import data
data._IMAGES = (300, 60)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(script, folder, *arguments, options=()):
    command = [sys.executable, *options, str(EXAMPLES / script), *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()


def test_mark_photograph(tmp_path):
    lines = run("mark_photograph.py", tmp_path, "--weights", "cifar100", "--at-least", "0")
    assert lines[1].split()[0] in allconvnet.CIFAR100_CLASSES
    lines = run("mark_photograph.py", tmp_path)
    assert lines[0] == "96x64 pixels, 17x9 windows"
    assert lines[1].startswith("cat ")
    assert lines[-1] == "marked.png"
    assert cv2.imread(str(tmp_path / "marked.png")).shape == (320, 480, 3)


def test_train_and_evaluate(tmp_path, monkeypatch):
    monkeypatch.setattr(allconvnet.data, "_IMAGES", (300, 60))
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {b"data": random.integers(0, 256, (60, 3072), "uint8"), b"labels": list(range(10)) * 6}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    arguments = ["--recipe", "fast", "--variant", "model_a", "--epochs", "1", "--held-out", "20", "--data", str(folder)]
    lines = run("train_cifar10.py", tmp_path, *arguments, options=["-c", SMALL])
    weights = Path("model_a-cifar10-fast-seed0-epochs1-heldout20/model_a.weights.h5")
    images, labels = allconvnet.load_cifar10(folder)[0]
    model = allconvnet.AllConvNet("model_a", weights=tmp_path / weights)
    top1 = allconvnet.evaluate_top1(model, images[-20:], labels[-20:])
    assert lines[-1] == f"top-1 on 20 held out images: {top1:.2f} %; weights: {weights}"
    arguments = ["model_a.cifar10_v1", "--data", str(folder)]
    lines = run("evaluate_cifar10.py", tmp_path, *arguments, options=["-c", SMALL])
    top1 = allconvnet.evaluate_top1(allconvnet.AllConvNet("model_a"), *allconvnet.load_cifar10(folder)[1])
    assert lines[0] == f"model_a.cifar10_v1: top-1 {top1:.2f} % on 60 images; published 90.89 %"


def test_recipe_with_changed_fields(tmp_path):
    command = [sys.executable, str(EXAMPLES / "train_cifar10.py"), "--set", "erase=2"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "Invalid erase. Received: erase=2. Allowed: 0 to 1" in ended.stderr


def test_curves(tmp_path):
    """In a copy of a run's folder: a picture with three sizes of images, two of them after a line."""
    curves = load(EXAMPLES.parent / "docs/curves.py")
    shutil.copytree(EXAMPLES.parent / "docs/runs/fast.seed0", tmp_path / "run")
    with mock.patch.object(curves.plt, "close"):
        path = curves.draw(tmp_path / "run")
    figure = curves.plt.gcf()
    assert [text.get_text() for text in figure.axes[0].texts] == ["16x16", "24x24", "32x32"]
    assert [line.get_xdata()[0] for line in figure.axes[0].lines[1:]] == [3.5, 5.5]
    assert "top-1 90.96 % on 10,000 test images" in figure.get_suptitle()
    assert all(tick == int(tick) for tick in figure.axes[1].get_xticks())
    curves.plt.close()
    assert cv2.imread(str(path)).shape == (400, 560, 3)


def test_transfer_learning(tmp_path):
    """Bright and dark pictures are told apart; an unreadable one is left out and named."""
    for name, pixel in (("dark", 40), ("light", 200)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(10):
            cv2.imwrite(
                str(tmp_path / "pictures" / name / f"{number}.png"), np.full((40, 32, 3), pixel + number, np.uint8)
            )
    (tmp_path / "pictures/dark/bad.png").write_bytes(b"bad")
    lines = run("transfer_learning.py", tmp_path, "pictures", "--epochs", "3")
    assert lines[0].startswith("Left out: pictures/dark/bad.png: OpenCV cannot read this as a picture")
    assert lines[1] == "16 training pictures, 2 classes, 4 test pictures"
    assert lines[2] == "Linear probe: 100.0 % of the test pictures"
    assert any(line.startswith("Fine-tuning: ") and line.endswith(" is better here.") for line in lines)
    assert cv2.imread(str(tmp_path / "transfer.png")).shape == (700, 700, 3)
    model = allconvnet.AllConvNet("all_cnn_c", weights=tmp_path / "transfer.weights.h5")
    scores = model.predict(np.zeros((1, 32, 32, 3), "uint8"), verbose=0)
    assert {name for name, _ in allconvnet.decode_predictions(scores, weights=tmp_path / "transfer.weights.h5")[0]} == {
        "dark",
        "light",
    }


def test_transfer_learning_without_cifar100(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLCONVNET_CIFAR100", "")
    monkeypatch.setenv("ALLCONVNET_CIFAR100_URL", "http://127.0.0.1:9/none")
    monkeypatch.setenv("ALLCONVNET_CACHE_DIR", str(tmp_path))
    lines = run("transfer_learning.py", tmp_path, "--epochs", "1")
    assert any(line.startswith("Without CIFAR-100: handwritten digits") for line in lines)
    assert "1437 training pictures, 10 classes, 360 test pictures" in lines


def test_tasks_of_the_transfer_benchmark():
    """Ten tasks that share no class; the first pictures of each class, and all test pictures."""
    transfer = load(EXAMPLES.parent / "benchmarks/transfer.py")
    labels = np.arange(2000) % 100
    images = np.broadcast_to(labels[:, None, None, None], (2000, 32, 32, 3)).astype("uint8")
    seen = []
    for choose in (False, True):
        for (train, train_labels), (test, test_labels) in transfer.tasks(
            ((images, labels), (images, labels)), choose, 5
        ):
            assert np.bincount(train_labels).tolist() == [5] * 10
            assert np.bincount(test_labels).tolist() == [20] * 10
            classes = {number: {*train[train_labels == number][:, 0, 0, 0].tolist()} for number in range(10)}
            assert classes == {number: {*test[test_labels == number][:, 0, 0, 0].tolist()} for number in range(10)}
            seen += [label for labels_of_class in classes.values() for label in labels_of_class]
    assert sorted(seen) == list(range(100))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_errors_of_arguments(tmp_path):
    cv2.imwrite(str(tmp_path / "narrow.png"), np.zeros((300, 120, 3), np.uint8))
    for script, arguments, match in [
        ("mark_photograph.py", ["narrow.png"], "this photograph would be 26x64: a larger --height"),
        (
            "visualize_units.py",
            ["--variant", "model_a", "--layers", "relu6"],
            "model_a has no --layers relu6; it has relu1",
        ),
        (
            "transfer_learning.py",
            ["nowhere"],
            "nowhere must hold a folder of pictures for each of two classes or more; found []",
        ),
        ("classify_image.py", ["--output", "sheet"], "--output sheet has no ending that OpenCV writes, as .png"),
        ("mark_photograph.py", ["--output", "marked.txt"], "--output marked.txt has no ending that OpenCV writes"),
    ]:
        command = [sys.executable, str(EXAMPLES / script), *arguments]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode
        assert match in result.stderr


def test_feature_extraction(tmp_path):
    lines = run("feature_extraction.py", tmp_path, "--output", "features.npy")
    assert len(lines) == 10
    assert all(" is most like " in line for line in lines)
    assert np.load(tmp_path / "features.npy").shape == (10, 768)


def test_visualize_units(tmp_path, cifar10):
    lines = run("visualize_units.py", tmp_path, "--layers", "relu3", "--channels", "3", "--count", "2")
    assert lines == ["units_relu3.png", "class_maps.png", "methods.png"]
    assert cv2.imread(str(tmp_path / "methods.png")).shape[1] == 8 * 99 + 3
    # The leftmost patch of a row is the 7x7 window of the test image where that channel is strongest.
    import keras

    net = allconvnet.AllConvNet("all_cnn_c")
    maps = keras.Model(net.inputs, net.get_layer("relu3").output)
    images = cifar10[1][0]
    values = [maps.predict_on_batch(images[i : i + 500])[..., :3] for i in range(0, len(images), 500)]
    picture = cv2.imread(str(tmp_path / "units_relu3.png"))[..., ::-1]
    inside = 0
    for channel in range(3):
        one = np.concatenate([value[..., channel] for value in values])
        image, row, column = np.unravel_index(one.argmax(), one.shape)
        y, x = 2 * row - 2, 2 * column - 2
        if min(y, x) < 0 or max(y, x) + 7 > 32:
            continue  # It hangs over the border.
        inside += 1
        top = 26 + 3 + 67 * channel
        patch = cv2.resize(images[image, y : y + 7, x : x + 7], (64, 64), interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(picture[top : top + 64, 3 : 3 + 64], patch)
    assert inside
