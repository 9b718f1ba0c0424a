"""The example scripts, run as a user runs them."""

import ast
import csv
import itertools
import os
import re
import runpy
import shutil
import subprocess
import sys
import termios
from pathlib import Path
from unittest import mock

import cv2
import keras
import numpy as np
import pytest
import test_data

import allconvnet
from allconvnet._specs import SPECS

EXAMPLES = Path(__file__).parents[1] / "examples"
DOCS = EXAMPLES.parent / "docs"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("[!_]*.py"))


# Runs a script with a data set of 300 and 60 images, which counts as whole.
SMALL = """
import pathlib, runpy, sys
from allconvnet import data
data._IMAGES = (300, 60)
sys.argv = sys.argv[1:]
sys.path.insert(0, str(pathlib.Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(script, folder, *arguments, options=()):
    command = [sys.executable, *options, str(EXAMPLES / script), *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "absl::InitializeLog" not in result.stderr, "TensorFlow's start-up messages"
    return result.stdout.splitlines()


@pytest.mark.parametrize("script", SCRIPTS)
def test_examples_fit_a_gallery(script):
    """A title and its line begin the docstring; a gallery defines no `__file__`."""
    text = (EXAMPLES / script).read_text()
    _, title, line, empty, *_ = ast.get_docstring(ast.parse(text), clean=False).split("\n")
    assert line == "=" * len(title)
    assert not empty
    assert "__file__" not in text


def test_classify_image(tmp_path):
    """Two of four pictures cannot be read: they are listed at the end, the others are in the table."""
    shutil.copy(EXAMPLES / "pictures/cat.jpg", tmp_path)
    latin1 = os.fsdecode(b"ship\xe9.png")
    shutil.copy(EXAMPLES / "pictures/ship.png", tmp_path / latin1)
    (tmp_path / "bad.png").write_bytes(b"bad")
    options = [".", "nowhere.jpg", "--csv", "labels.csv", "--no-sheet", "--top", "2"]
    seen, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    command = [sys.executable, str(EXAMPLES / "classify_image.py"), *options]
    # As in most locales: Python is less strict in those that are called C.
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=terminal, text=True, check=False
    )
    os.close(terminal)
    messages = os.read(seen, 1 << 16).decode()
    os.close(seen)
    assert result.returncode == 1
    assert re.fullmatch(r"cat.jpg {6}cat (9\d|100)\.\d %  [a-z]+ \d\.\d %", result.stdout.splitlines()[0])
    assert result.stdout.splitlines()[1].startswith(r"ship\udce9.png")
    assert "0/4 [00:00<?, ? pictures/s]" in messages, "progress"
    *_, head, bad, nowhere = messages.splitlines()
    assert head.endswith("2 of 4 pictures could not be read:")
    assert bad.startswith("  bad.png: OpenCV cannot read this as a picture.")
    assert nowhere.startswith("  nowhere.jpg: There is no picture")
    assert "absl" not in messages
    table = (tmp_path / "labels.csv").read_text("utf-8", errors="surrogateescape")
    rows = list(csv.DictReader(table.splitlines()))
    assert [(row["file"], row["label"]) for row in rows] == [("cat.jpg", "cat"), (latin1, "ship")]
    assert float(rows[0]["score"]) > 0.9 > float(rows[0]["score_2"])
    assert not (tmp_path / "contact_sheet.png").exists()


def test_contact_sheet(tmp_path):
    """No more cells than `CELLS`; texts are gray, since nobody knows whether a label is right."""
    import classify_image as classify

    paths = [tmp_path / f"{number}.png" for number in range(classify.CELLS + 1)]
    for path in paths:
        cv2.imwrite(str(path), np.full((9, 9, 3), 255, np.uint8))
    labels = {path: [("a_very_long_label", 0.5), ("cat", 0.3)] for path in paths}
    few, many = (classify.contact_sheet(dict(itertools.islice(labels.items(), n)), "crop") for n in (4, len(paths)))
    row = classify.SIDE + 3 * 20 + 8 + 3
    assert few.shape == (row + 3, 4 * (classify.SIDE + 3) + 3, 3)
    assert many.shape == (26 + row * classify.CELLS // 4 + 3, few.shape[1], 3)
    assert few.min() < 100
    assert np.ptp(few.astype(int), axis=2).max() == 0


def test_mark_photograph(tmp_path):
    lines = run("mark_photograph.py", tmp_path, "--weights", "cifar100", "--at-least", "0", "--top", "2")
    assert lines[1].split()[0] in allconvnet.CIFAR100_CLASSES
    assert len(lines) == 2 + 2
    lines = run("mark_photograph.py", tmp_path)
    assert lines[0] == "96x64 pixels, 17x9 windows"
    assert lines[1].startswith("cat ")
    assert lines[-1] == "marked.png"
    assert cv2.imread(str(tmp_path / "marked.png")).shape == (320, 480, 3)


def test_marks_do_not_overlap():
    """From the strongest window on, as long as there is one beside all before it."""
    import mark_photograph as mark

    scores = np.random.default_rng(0).uniform(0, 0.9, (30, 40, 10))
    scores[7, 9, 3] = 0.99
    found = mark.find(scores, "cifar10", top=99, at_least=0.0)
    assert found[0] == (7, 9, "cat", 0.99)
    boxes = np.zeros((30 * 4 + 32, 40 * 4 + 32), int)
    for row, column, _, _ in found:
        boxes[row * 4 : row * 4 + 32, column * 4 : column * 4 + 32] += 1
    assert boxes.max() == 1
    assert [score for *_, score in found] == sorted((score for *_, score in found), reverse=True)
    assert len(found) > 6
    assert len(mark.find(scores, "cifar10", top=3, at_least=0.0)) == 3
    assert len(mark.find(scores, "cifar10", top=99, at_least=0.95)) == 1


@pytest.fixture
def noise(tmp_path, monkeypatch):
    """A data set of noise for scripts that run with SMALL, and for this process."""
    monkeypatch.setattr(allconvnet.data, "_IMAGES", (300, 60))
    return test_data.write(tmp_path / "cifar-10-batches-py", {b"labels": [*range(10)] * 6}, count=60, noise=True)


def test_train_and_evaluate(tmp_path, noise, monkeypatch, capsys):
    import evaluate_cifar10

    arguments = ["--recipe", "fast", "--variant", "model_a", "--epochs", "1", "--held-out", "20", "--data", str(noise)]
    lines = run("train_cifar10.py", tmp_path, *arguments, options=["-c", SMALL])
    weights = Path("model_a-cifar10-fast-seed0-epochs1-heldout20/model_a.weights.h5")
    images, labels = allconvnet.load_cifar10(noise)[0]
    model = allconvnet.AllConvNet("model_a", weights=tmp_path / weights)
    top1 = allconvnet.evaluate_top1(model, images[-20:], labels[-20:])
    assert lines[-1] == f"top-1 on 20 held out images: {top1:.2f} %; weights: {weights}"
    lines = run("evaluate_cifar10.py", tmp_path, "--data", str(noise), options=["-c", SMALL])
    top1 = allconvnet.evaluate_top1(allconvnet.AllConvNet("all_cnn_c"), *allconvnet.load_cifar10(noise)[1])
    record = allconvnet.weights_info("all_cnn_c.cifar10")
    assert lines[-1] == f"{record.name}: top-1 {top1:.2f} % on 60 images; published {record.top1:.2f} %"
    monkeypatch.setattr(sys, "argv", ["evaluate_cifar10.py", "model_a.cifar10_v1", "--data", str(noise)])
    evaluate_cifar10.main()
    assert "model_a.cifar10_v1: top-1 " in capsys.readouterr().out


def test_curves(tmp_path):
    """In a copy of a run's folder: three sizes of images, two of them after a line, and the accuracy measured."""
    import curves

    shutil.copytree(DOCS / "runs/fast.seed0", tmp_path / "run")
    with mock.patch.object(curves.plt, "close"):
        path = curves.draw(tmp_path / "run")
    figure = curves.plt.gcf()
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["16x16", "24x24", "32x32"]
    assert [line.get_xdata()[0] for line in figure.axes[0].lines[1:]] == [3.5, 5.5]
    _, measured, *_ = figure.axes[1].lines
    assert (*measured.get_xdata(), *measured.get_ydata()) == (6, 0.9096)
    assert measured.get_label() == "10,000 test images: 90.96 %"
    assert all(tick == int(tick) for tick in figure.axes[1].get_xticks())
    for tick in (*figure.axes[0].get_yticks(), *figure.axes[1].get_yticks()):
        assert tick * 10 == pytest.approx(round(tick * 10))
    curves.plt.close()
    assert cv2.imread(str(path)).shape == (704, 800, 3)


def test_comparison():
    """A row for each of the twelve nets, none on another."""
    import comparison

    with mock.patch.object(comparison, "save") as save:
        comparison.main()
    (figure, _), _ = save.call_args
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == comparison.VARIANTS
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axis.get_yticklabels()]
    assert all(low.y1 < high.y0 for high, low in itertools.pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0
    comparison.plt.close(figure)


@pytest.mark.parametrize("variant", ["model_b", "strided_cnn_a", "all_cnn_c", "all_cnn_b_imagenet", "all_conv_keras"])
def test_blocks_of_a_diagram(variant):
    """They are the feature maps of the net as it is built."""
    import diagrams

    blocks = diagrams.blocks(SPECS[variant])
    layers = allconvnet.AllConvNet(variant, weights=None, classifier_activation=None).layers
    maps = [layer for layer in layers if isinstance(layer, keras.layers.Conv2D | keras.layers.MaxPooling2D)]
    shapes = [(SPECS[variant].side, 3), *((layer.output.shape[1], layer.output.shape[3]) for layer in maps)]
    assert [block[2:] for block in blocks[:-1]] == shapes
    assert blocks[-1] == ("class", "average", 1, SPECS[variant].classes)
    for (kind, text, *_), layer in zip(blocks[1:], maps, strict=False):
        assert (kind in ("strided", "pool")) == (layer.strides[0] > 1) == ("stride" in text)
        assert (kind == "pool") == isinstance(layer, keras.layers.MaxPooling2D) == ("max pool" in text)
        assert "{0}x{0}".format(getattr(layer, "kernel_size", None) or layer.pool_size)[1] in text


def test_diagrams():
    """One for each net, small; none of the sizes of maps is written on another."""
    import diagrams

    assert {path.stem for path in diagrams.FOLDER.glob("*.png")} == set(SPECS)
    assert max(path.stat().st_size for path in diagrams.FOLDER.glob("*.png")) < 30_000
    for variant in SPECS:
        with mock.patch.object(diagrams, "save") as save:
            diagrams.draw(variant)
        (figure, _), _ = save.call_args
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)), variant
        assert max(box.x1 for box in boxes) <= 500, variant
        assert min(*(box.x0 for box in boxes), *(box.y0 for box in boxes)) >= 0, variant
        diagrams.plt.close(figure)


def test_transfer_learning(tmp_path):
    """Bright and dark pictures are told apart; an unreadable one is left out and named."""
    for name, pixel in (("dark", 40), ("light", 200)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(10):
            cv2.imwrite(
                str(tmp_path / "pictures" / name / f"{number}.png"), np.full((40, 32, 3), pixel + number, np.uint8)
            )
    (tmp_path / "pictures/dark/bad.png").write_bytes(b"bad")
    (tmp_path / "pictures/.ipynb_checkpoints").mkdir()
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


def test_transfer_learning_without_cifar100(tmp_path, monkeypatch, capsys):
    import transfer_learning

    monkeypatch.setenv("ALLCONVNET_CIFAR100", "")
    monkeypatch.setenv("ALLCONVNET_CIFAR100_URL", "http://127.0.0.1:9/none")
    monkeypatch.setenv("ALLCONVNET_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["transfer_learning.py"])
    monkeypatch.setattr(transfer_learning, "linear_probe", mock.Mock(side_effect=KeyboardInterrupt("enough")))
    with pytest.raises(KeyboardInterrupt, match="enough"):
        transfer_learning.main()
    *_, fallback, counts = capsys.readouterr().out.splitlines()
    assert fallback.startswith("CIFAR-100 is not available: using handwritten digits")
    assert counts == "1437 training pictures, 10 classes, 360 test pictures"
    (images, labels), _, names = transfer_learning.digits()
    assert (images.dtype, images.max(), sorted(set(labels))) == ("uint8", 255, list(range(10)))
    assert names == list("0123456789")


@pytest.mark.parametrize(
    ("script", "package", "message"),
    [
        ("transfer_learning.py", "sklearn", "this example needs scikit-learn and matplotlib: pip install scikit-learn"),
        ("transfer_learning.py", "matplotlib", "this example needs scikit-learn and matplotlib: pip install"),
        ("train_distributed.py", "jax", "This example needs JAX: pip install jax"),
        ("classify_many.py", "pyarrow", 'this example needs Ray Data: pip install "ray[data]"'),
    ],
)
def test_missing_package_is_one_line(tmp_path, script, package, message):
    code = f"import sys, runpy; sys.modules[{package!r}] = None; sys.path.insert(0, {str(EXAMPLES)!r})"
    code += f"; runpy.run_path({str(EXAMPLES / script)!r}, run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("script", "arguments", "match"),
    [
        ("classify_image", "narrow.png --top 11", "Invalid top. Received: top=11. Allowed: a whole number, 1 to 10"),
        ("classify_image", "--output sheet", "--output sheet must end in .png, .jpg or another format"),
        ("classify_image", "--csv nowhere/labels.csv", "must be a file in a folder that exists"),
        ("classify_image", "--csv folders", "must be a file in a folder that exists"),
        ("evaluate_cifar10", "--all model_a.cifar10_v1", "pass either --all or names of weights"),
        ("evaluate_cifar10", "model_x", "Unknown weights. Received: weights='model_x'."),
        ("evaluate_cifar10", "--data nowhere", "CIFAR-10 is not in 'nowhere'"),
        ("mark_photograph", "narrow.png", "this photograph would be 26x64: use a larger --height"),
        ("feature_extraction", "nowhere.png narrow.png", "There is no picture 'nowhere.png'"),
        ("mark_photograph", "nowhere.png", "There is no picture 'nowhere.png'"),
        ("mark_photograph", "--output marked.txt", "--output marked.txt must end in .png"),
        ("train_cifar10", "--set x", "argument --set: invalid change value: 'x'"),
        ("train_cifar10", "--set erase=2", "Invalid erase. Received: erase=2. Allowed: 0 to 1"),
        ("train_cifar10", "--set flip=both", "Unknown flip. Received: flip='both'. Allowed: 'alternating'"),
        ("transfer_learning", "nowhere", "nowhere must have a subfolder of pictures for each of two or more classes"),
        ("transfer_learning", "folders", "folders/b: There is no picture that can be read."),
        ("transfer_learning", "few", "few has too few pictures: "),
        ("transfer_learning", "few --output nowhere/few.weights.h5", "must be in a folder that exists"),
        ("train_distributed", "--processes 0", "--processes must be at least 1"),
        ("train_distributed", "--process 0", "--process needs --address"),
        ("visualize_units", "--output nowhere", "--output nowhere must be a folder that exists"),
        ("visualize_units", "--weights cifar", "Unknown weights. Received: weights='all_cnn_c.cifar'."),
        ("visualize_units", "--variant model_a --layers relu6", "model_a has no --layers relu6; it has relu1"),
    ],
)
def test_errors_of_arguments(script, arguments, match, tmp_path, monkeypatch, capsys):
    for name in ("narrow.png", "folders/a/1.png", "few/a/1.png", "few/b/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((300, 120, 3), np.uint8))
    (tmp_path / "folders/b").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())  # train_distributed.py changes it for its processes.
    path = str(EXAMPLES / f"{script}.py")
    monkeypatch.setattr(sys, "argv", [path, *arguments.split()])
    with pytest.raises(SystemExit, match=r"^(2|\D)") as ended:
        runpy.run_path(path, run_name="__main__")
    assert match in f"{ended.value.code}{capsys.readouterr().err}"
    assert ended.value.code


def test_feature_extraction(tmp_path):
    lines = run("feature_extraction.py", tmp_path, "--output", "features.npy")
    assert len(lines) == 10
    assert all(" is most like " in line for line in lines)
    # Two pictures are alike to a degree; centered vectors of two would be opposite whatever they show.
    pictures = [str(EXAMPLES / "pictures" / name) for name in ("cat.jpg", "dog.png")]
    likeness = [float(line.split()[-1]) for line in run("feature_extraction.py", tmp_path, *pictures)]
    assert likeness[0] == likeness[1]
    assert 0 < likeness[0] < 1
    assert np.load(tmp_path / "features.npy").shape == (10, 3840)


def test_visualize_units_without_cifar10(tmp_path, monkeypatch):
    monkeypatch.setenv("ALLCONVNET_CIFAR10", "")
    monkeypatch.setenv("ALLCONVNET_CIFAR10_URL", "http://127.0.0.1:9/none")
    monkeypatch.setenv("ALLCONVNET_CACHE_DIR", str(tmp_path))
    lines = run("visualize_units.py", tmp_path, "--layers", "relu3", "--channels", "3", "--count", "2")
    assert lines[-4:] == [
        "The data set is not available: using the ten pictures in examples/pictures.",
        "units_relu3.png",
        "class_maps.png",
        "methods.png",
    ]


def test_visualize_units(tmp_path, noise):
    arguments = ["--layers", "relu3", "--channels", "3", "--count", "2", "--data", str(noise)]
    lines = run("visualize_units.py", tmp_path, *arguments, options=["-c", SMALL])
    assert lines == ["units_relu3.png", "class_maps.png", "methods.png"]
    assert cv2.imread(str(tmp_path / "methods.png")).shape[1] == 4 * 131 + 3
    # The leftmost patch of a row is the 7x7 window of the test image where that channel is strongest.
    net = allconvnet.AllConvNet("all_cnn_c")
    maps = keras.Model(net.inputs, net.get_layer("relu3").output)
    images = allconvnet.load_cifar10(noise)[1][0]
    values = maps.predict_on_batch(images)[..., :3]
    picture = cv2.imread(str(tmp_path / "units_relu3.png"))[..., ::-1]
    inside = 0
    for channel in range(3):
        one = values[..., channel]
        image, row, column = np.unravel_index(one.argmax(), one.shape)
        y, x = 2 * row - 2, 2 * column - 2
        if min(y, x) < 0 or max(y, x) + 7 > 32:
            continue  # It hangs over the border.
        inside += 1
        top = 26 + 3 + 51 * channel
        patch = cv2.resize(images[image, y : y + 7, x : x + 7], (48, 48), interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(picture[top : top + 48, 3 : 3 + 48], patch)
    assert inside
