"""Training on toy images: it learns, resumes after SIGKILL, refuses what it cannot do."""

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import keras
import numpy as np
import pytest

from allconvnet import RECIPES, AllConvNet, Recipe, evaluate_top1, fit_cifar10
from allconvnet.training import _Augment, _native_precision

# The smallest net for 32x32 images, in steps of 8 images.
TOY = Recipe(phases=((2, 24), (1, 32)), batch_size=8)
VARIANT = "strided_cnn_c"


def read_log(folder):
    with (folder / "log.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_cifar10):
    folder = tmp_path_factory.mktemp("run")
    return folder, fit_cifar10(VARIANT, recipe=TOY, data=toy_cifar10, output_dir=folder, precision="float32")


def test_folder(run):
    folder, result = run
    names = ["checkpoint.npz", "curve.png", "log.csv", "result.json", f"{VARIANT}.weights.h5"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert [row["side"] for row in read_log(folder)] == [24, 24, 32]
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((folder / "result.json").read_text())
    assert report["split"] == result.split == "test"
    assert report["test_images"] == result.images == 20
    assert report["recipe"]["batch_size"] == 8
    assert report["precision"] == "float32"
    assert report["params"] == 954_730


def test_result_is_the_plain_net(run, toy_cifar10):
    _, result = run
    assert result.model.count_params() == 954_730
    assert not [layer for layer in result.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    again = AllConvNet(VARIANT, weights=result.weights)
    images, labels = toy_cifar10[1]
    assert evaluate_top1(again, images, labels) == pytest.approx(result.top1)


def test_it_learns(tmp_path, toy_cifar10):
    recipe = replace(TOY, phases=((6, 24), (2, 32)))
    result = fit_cifar10(VARIANT, recipe=recipe, data=toy_cifar10, output_dir=tmp_path, precision="float32")
    assert result.history[-1]["loss"] < result.history[0]["loss"] - 0.3
    assert result.top1 >= 50


def test_finished_run_does_nothing(run, toy_cifar10):
    folder, result = run
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = fit_cifar10(VARIANT, recipe=TOY, data=toy_cifar10, output_dir=folder, precision="float32")
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert again.history == result.history
    assert again.top1 == result.top1


def test_another_run_in_the_same_folder(run, toy_cifar10):
    folder, _ = run
    with pytest.raises(ValueError, match=r"holds another run.*'seed': \(0, 1\)"):
        fit_cifar10(VARIANT, recipe=TOY, data=toy_cifar10, output_dir=folder, precision="float32", seed=1)


def test_resumes_after_sigkill(run, tmp_path, toy_cifar10):
    """Killed in the second epoch, started again: the log of the undisturbed run."""
    folder, _ = run
    (train_images, train_labels), (images, labels) = toy_cifar10
    np.savez(tmp_path / "toy.npz", a=train_images, b=train_labels, c=images, d=labels)
    code = (
        "import numpy, allconvnet\n"
        "toy = numpy.load('toy.npz')\n"
        f"recipe = allconvnet.{TOY!r}\n"
        "data = ((toy['a'], toy['b']), (toy['c'], toy['d']))\n"
        f"allconvnet.fit_cifar10({VARIANT!r}, recipe=recipe, data=data, output_dir='run', precision='float32')"
    )
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (tmp_path / "run/log.csv").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / f"run/{VARIANT}.weights.h5").exists()
    subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for mine, theirs in zip(read_log(tmp_path / "run"), read_log(folder), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert mine["accuracy"] == pytest.approx(theirs["accuracy"], abs=0.03)


def test_held_out_images_are_not_trained_on(tmp_path, toy_cifar10):
    result = fit_cifar10(VARIANT, recipe=TOY, data=toy_cifar10, epochs=1, output_dir=tmp_path, held_out=16)
    assert (result.split, result.images) == ("held out", 16)
    assert json.loads((tmp_path / "result.json").read_text())["images"] == 24
    assert len(result.history) == 1


def test_broken_loss_stops(tmp_path, toy_cifar10):
    broken = replace(TOY, muon_rate=1e30, sgd_rate=1e30, warmup=0.01)
    with pytest.raises(FloatingPointError, match=r"no longer finite in epoch \d.*Lower the recipe's muon_rate"):
        fit_cifar10(VARIANT, recipe=broken, data=toy_cifar10, output_dir=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"variant": "all_cnn_large"}, r"not made for CIFAR images.*126x126"),
        ({"recipe": "slow"}, r"Unknown recipe. Received: recipe='slow'. Allowed: 'fast'"),
        ({"epochs": 0}, r"There must be an epoch. Received: epochs=0"),
        (
            {"recipe": TOY, "held_out": 33},
            r"Too many images are held out. Received: held_out=33 of 40. Allowed: 0 to 32",
        ),
    ],
)
def test_bad_arguments(arguments, match, toy_cifar10, tmp_path):
    with pytest.raises(ValueError, match=match):
        fit_cifar10(**{"data": toy_cifar10, "output_dir": tmp_path} | arguments)


def test_bad_data(toy_cifar10, tmp_path):
    train, (images, labels) = toy_cifar10
    for bad, match in [
        ((images / 255, labels), r"images float64 \(20, 32, 32, 3\).*Allowed: uint8"),
        ((images, labels[:3]), r"labels \(3,\)"),
        ((images, labels + 1), r"A label is out of range. Received: 1 to 10"),
    ]:
        with pytest.raises(ValueError, match=match):
            fit_cifar10(VARIANT, recipe=TOY, data=(train, bad), output_dir=tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name):
    recipe = RECIPES[name]
    assert recipe.cost() <= recipe.epochs
    for epochs in (1, 2, recipe.epochs, 50):
        assert recipe.resized(epochs).epochs == epochs
    assert recipe.resized(recipe.epochs) == recipe


def test_cost_counts_pixels():
    assert Recipe(phases=((4, 16), (2, 32))).cost() == pytest.approx(3)


@pytest.mark.parametrize("side", [24, 32])
def test_augmentation_is_crop_and_flip(side):
    """Each result is one of the crops of the reflect-padded image or its mirror image, drawn for each image."""
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3))
    images = np.repeat(images, 64, axis=0).astype("uint8")
    augment = _Augment(32, side, 4)
    augment.seed(0, 0)
    results = keras.ops.convert_to_numpy(augment(images))
    padded = np.pad(images[0], ((4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    places, mirrored = set(), 0
    for result in results:
        found = [
            (tuple(place[:2]), flip) for flip in (0, 1) for place in places_of(windows, result[:, :: 1 - 2 * flip])
        ]
        assert len(found) == 1
        places.add(found[0][0])
        mirrored += found[0][1]
    assert len(places) > 30
    assert 15 < mirrored < 49
    assert {0, 40 - side} <= {row for row, _ in places} | {column for _, column in places}


def places_of(windows, result):
    return np.argwhere((windows == result).all(axis=(2, 3, 4)))


def test_augmentation_depends_on_seed_and_epoch():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype="uint8")
    augment = _Augment(32, 24, 4)

    def draw(seed, epoch):
        augment.seed(seed, epoch)
        return keras.ops.convert_to_numpy(augment(images))

    assert (draw(0, 3) == draw(0, 3)).all()
    assert not (draw(0, 3) == draw(0, 4)).all()
    assert not (draw(0, 3) == draw(1, 3)).all()


def test_precision_is_one_the_processor_has():
    assert _native_precision() in ("float32", "mixed_bfloat16")


def test_evaluation():
    class Scores:
        def predict(self, images, **_):
            return images

    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    assert evaluate_top1(Scores(), scores, np.array([1, 0, 0, 1])) == 75
    with pytest.raises(ValueError, match=r"one label an image. Received: 4 images, 3 labels"):
        evaluate_top1(Scores(), scores, np.array([1, 0, 0]))
