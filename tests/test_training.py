"""Training on toy images: it learns, resumes after SIGKILL, refuses what it cannot do."""

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from unittest import mock

import keras
import numpy as np
import pytest

from allconvnet import (
    RECIPES,
    ZCA,
    AllConvNet,
    Recipe,
    evaluate_top1,
    fit_cifar10,
    fit_cifar100,
    global_contrast_normalize,
    training,
    weights_info,
)
from allconvnet._backend import batches
from allconvnet._specs import NORMALIZATION, SPECS
from allconvnet.training import _SCHEDULES, _Augment, _mirrored, _native_precision, _scaled, _StopAtNaN

# The smallest net for 32x32 images, in steps of 8 images.
MEAN = NORMALIZATION["cifar10"][0]
TOY = Recipe(source="", phases=((2, 24), (1, 32)), batch_size=8, erase=0.1)
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
    assert report["machine"] == training._machine()


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


def test_labels_as_keras_datasets_has_them(run, tmp_path, toy_cifar10):
    _, result = run
    data = tuple((images, labels[:, None]) for images, labels in toy_cifar10)
    again = fit_cifar10(VARIANT, recipe=TOY, data=data, output_dir=tmp_path, precision="float32")
    assert again.top1 == result.top1
    assert without_seconds(again.history) == without_seconds(result.history)


def test_folder_says_what_is_in_it(tmp_path, toy_cifar10, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = fit_cifar10(VARIANT, recipe=TOY, data=toy_cifar10, epochs=1, held_out=16, seed=3)
    assert result.weights.parent.name == f"{VARIANT}-cifar10-custom-seed3-epochs1-heldout16"


def test_finished_run_does_nothing(run, toy_cifar10):
    folder, result = run
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = fit_cifar10(VARIANT, recipe=TOY, data=toy_cifar10, output_dir=folder, precision="float32")
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert again.history == result.history
    assert again.top1 == result.top1


def test_run_of_before_a_field_was_new(tmp_path, toy_cifar10):
    """Where a file does not know a field, the run had its default: it is finished, and not measured again."""
    arguments = {"recipe": TOY, "data": toy_cifar10, "epochs": 1, "output_dir": tmp_path, "precision": "float32"}
    first = fit_cifar10(VARIANT, **arguments)
    report = json.loads((tmp_path / "result.json").read_text())
    del report["recipe"]["start"], report["recipe"]["teachers"]
    (tmp_path / "result.json").write_text(json.dumps(report | {"top1": 12.0}))
    with np.load(tmp_path / "checkpoint.npz") as saved:
        arrays = dict(saved)
    state = json.loads(str(arrays["state"]))
    del state["run"]["recipe"]["start"], state["run"]["recipe"]["teachers"]
    np.savez(tmp_path / "checkpoint.npz", **arrays | {"state": json.dumps(state)})
    again = fit_cifar10(VARIANT, **arguments)
    assert again.history == first.history
    assert again.top1 == 12.0


def test_another_run_in_the_same_folder(run, toy_cifar10):
    folder, _ = run
    train, (images, labels) = toy_cifar10
    arguments = {"recipe": TOY, "data": toy_cifar10, "output_dir": folder, "precision": "float32"}
    for other, match in [
        ({"seed": 1}, r"with \(there, asked for\) {'seed': \(0, 1\)}"),
        ({"recipe": replace(TOY, l2=0.0)}, r"with \(there, asked for\) {'l2': \(0.0005, 0.0\)}"),
        ({"data": (train, (255 - images, labels))}, r"asked for\) {'data_crc32'"),
    ]:
        with pytest.raises(ValueError, match=rf"holds another run.*{match}"):
            fit_cifar10(VARIANT, **arguments | other)


def test_result_of_another_run_is_not_this_ones(tmp_path, toy_cifar10):
    """Without its checkpoint a finished run is trained and measured again."""
    arguments = {"recipe": TOY, "data": toy_cifar10, "epochs": 1, "output_dir": tmp_path, "precision": "float32"}
    fit_cifar10(VARIANT, **arguments)
    (tmp_path / "checkpoint.npz").unlink()
    result = fit_cifar10(VARIANT, seed=5, **arguments)
    report = json.loads((tmp_path / "result.json").read_text())
    assert report["seed"] == 5
    assert report["top1"] == result.top1 == pytest.approx(evaluate_top1(result.model, *toy_cifar10[1]))


def test_weights_of_another_run_are_not_this_ones(tmp_path, toy_cifar10):
    """A run that is stopped between its last checkpoint and its weights, where another run's lie."""
    arguments = {"recipe": TOY, "data": toy_cifar10, "epochs": 1, "output_dir": tmp_path, "precision": "float32"}
    first = fit_cifar10(VARIANT, **arguments)
    (tmp_path / "checkpoint.npz").unlink()
    stopped = mock.patch.object(training.models, "save_weights", side_effect=KeyboardInterrupt("here"))
    with stopped, pytest.raises(KeyboardInterrupt, match="here"):
        fit_cifar10(VARIANT, seed=5, **arguments)
    second = fit_cifar10(VARIANT, seed=5, **arguments)
    assert not np.array_equal(first.model.get_weights()[0], second.model.get_weights()[0])


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_same_seed_same_log(tmp_path, toy_cifar10, precision):
    arguments = {"recipe": TOY, "data": toy_cifar10, "epochs": 2, "precision": precision}
    first, again, other = (
        fit_cifar10(VARIANT, **arguments, output_dir=tmp_path / name, seed=seed)
        for name, seed in [("first", 0), ("again", 0), ("other", 1)]
    )
    assert without_seconds(read_log(tmp_path / "first")) == without_seconds(read_log(tmp_path / "again"))
    assert first.top1 == again.top1
    assert other.history[0]["loss"] != first.history[0]["loss"]


def without_seconds(log):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in log]


LONG = replace(TOY, phases=((5, 24), (3, 32)))
IN_A_PROCESS = f"""
import resource, signal
import numpy, allconvnet
from allconvnet import training
{{before}}
toy = numpy.load("toy.npz")
data = (toy["a"], toy["b"]), (toy["c"], toy["d"])
allconvnet.fit_cifar10({VARIANT!r}, recipe=allconvnet.{LONG!r}, data=data, output_dir="run", precision="float32")
"""


def start(folder, toy_cifar10, before=""):
    (train_images, train_labels), (images, labels) = toy_cifar10
    np.savez(folder / "toy.npz", a=train_images, b=train_labels, c=images, d=labels)
    command = [sys.executable, "-c", IN_A_PROCESS.format(before=before)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, toy_cifar10):
    folder = tmp_path_factory.mktemp("undisturbed")
    fit_cifar10(VARIANT, recipe=LONG, data=toy_cifar10, output_dir=folder, precision="float32")
    return without_seconds(read_log(folder))


def test_resumes_after_sigkill(undisturbed, tmp_path, toy_cifar10):
    """Killed three times at random, started again: the log of the undisturbed run."""
    random = np.random.default_rng()
    log = tmp_path / "run/log.csv"
    for epochs in (1, 3, 5):
        process = start(tmp_path, toy_cifar10)
        deadline = time.monotonic() + 300
        while not (log.exists() and len(read_log(log.parent)) >= epochs):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = start(tmp_path, toy_cifar10)
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    assert without_seconds(read_log(log.parent)) == undisturbed


def test_full_disk_leaves_the_checkpoint(undisturbed, tmp_path, toy_cifar10):
    """Files may grow to 100 kB only, once the first epoch is on disk."""
    before = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "save = training._save\n"
        "def fill(*arguments):\n"
        "    save(*arguments)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "training._save = fill"
    )
    process = start(tmp_path, toy_cifar10, before)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "OSError" in errors
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.npz", "curve.png", "log.csv"]
    with np.load(folder / "checkpoint.npz") as saved:
        assert len(json.loads(str(saved["state"]))["history"]) == 1
    process = start(tmp_path, toy_cifar10)
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    assert without_seconds(read_log(folder)) == undisturbed


@pytest.mark.parametrize("writer", ["_write_log", "_draw_curve", "_save"])
def test_stopped_while_the_last_epoch_is_written(run, tmp_path, toy_cifar10, writer, monkeypatch):
    """Whatever of it is on disk, the same call again ends in the log of the undisturbed run."""
    arguments = {"recipe": TOY, "data": toy_cifar10, "output_dir": tmp_path, "precision": "float32"}
    write = getattr(training, writer)

    def stop(*parts):
        if any(isinstance(part, list) and len(part) == TOY.epochs for part in parts):
            raise OSError("No space left on device")
        write(*parts)

    with monkeypatch.context() as patch:
        patch.setattr(training, writer, stop)
        with pytest.raises(OSError, match="No space left"):
            fit_cifar10(VARIANT, **arguments)
    fit_cifar10(VARIANT, **arguments)
    assert without_seconds(read_log(tmp_path)) == without_seconds(read_log(run[0]))


def test_held_out_images_are_not_trained_on(tmp_path, toy_cifar10):
    result = fit_cifar10(VARIANT, recipe=TOY, data=toy_cifar10, epochs=1, output_dir=tmp_path, held_out=16)
    assert (result.split, result.images) == ("held out", 16)
    assert json.loads((tmp_path / "result.json").read_text())["images"] == 24
    assert len(result.history) == 1


def test_broken_loss_stops(tmp_path, toy_cifar10):
    broken = replace(TOY, muon_rate=1e30, sgd_rate=1e30, warmup=0.01)
    match = (
        r"In step \d of epoch 1 the loss is no longer finite. Received: loss=(nan|inf). Lower the recipe's muon_rate"
    )
    with pytest.raises(FloatingPointError, match=match):
        fit_cifar10(VARIANT, recipe=broken, data=toy_cifar10, output_dir=tmp_path, precision="float32")
    assert not list(tmp_path.iterdir())


def test_broken_loss_is_that_of_its_step():
    stop = _StopAtNaN(7)
    stop.on_train_batch_end(0, {"loss": 2.3})
    with pytest.raises(
        FloatingPointError, match=r"In step 2 of epoch 7 the loss is no longer finite. Received: loss=nan"
    ):
        stop.on_train_batch_end(1, {"loss": float("nan")})


def test_weights_broken_by_the_last_step_are_not_saved(tmp_path, toy_cifar10):
    (images, labels), test = toy_cifar10
    broken = replace(TOY, phases=((1, 32),), muon_rate=0.0, sgd_rate=1e30, l2=1e30, warmup=0.0)
    data = ((images[:8], labels[:8]), test)
    with pytest.raises(FloatingPointError, match=r"After the last step of epoch 1 the weights are no longer finite"):
        fit_cifar10(VARIANT, recipe=broken, data=data, output_dir=tmp_path, precision="float32")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"variant": "all_cnn_large"}, r"not made for CIFAR images.*126x126"),
        ({"recipe": "slow"}, r"Unknown recipe. Received: recipe='slow'. Allowed: 'ancestor', 'paper'"),
        (
            {"recipe": replace(TOY, schedule="cosine")},
            r"Unknown schedule. Received: schedule='cosine'. Allowed: 'linear'",
        ),
        ({"recipe": replace(TOY, flip="up")}, r"Unknown flip. Received: flip='up'. Allowed: 'none', 'random'"),
        ({"recipe": replace(TOY, fill="zero")}, r"Unknown fill. Received: fill='zero'. Allowed: 'reflect' or 'edge'"),
        (
            {"recipe": replace(TOY, schedule="steps")},
            r"Impossible drops. Received: drops=\(\). Allowed: with schedule=\"steps\" one or more",
        ),
        ({"recipe": replace(TOY, schedule="steps", drops=(3, 2))}, r"Impossible drops. Received: drops=\(3, 2\)"),
        ({"precision": "mixed_float16"}, r"Unknown precision.*'mixed_float16'. Allowed: 'auto', 'float32' or 'mixed_b"),
        ({"epochs": 0}, r"Impossible epochs. Received: epochs=0. Allowed: a whole number, 1 or more"),
        ({"epochs": 2.5}, r"Impossible epochs. Received: epochs=2.5"),
        ({"seed": None}, r"Impossible seed. Received: seed=None. Allowed: a whole number, 0 or more"),
        ({"seed": -1}, r"Impossible seed. Received: seed=-1. Allowed: a whole number, 0 or more"),
        ({"held_out": -1}, r"Impossible held_out. Received: held_out=-1"),
        ({"recipe": replace(TOY, batch_size=8.0)}, r"batch_size=8.0. Allowed: a whole number, 1 or more"),
        ({"recipe": replace(TOY, warmup=1.5)}, r"Impossible warmup. Received: warmup=1.5. Allowed: 0 to 1"),
        ({"recipe": replace(TOY, shift=32)}, r"Impossible shift. Received: shift=32. Allowed: a whole number, 0 to 31"),
        ({"recipe": replace(TOY, batch_size=0)}, r"Impossible batch_size. Received: batch_size=0. Allowed: a whole"),
        ({"recipe": replace(TOY, phases=((1.5, 16),))}, r"Impossible phases. Received: phases=\(\(1.5, 16\),\)"),
        ({"recipe": replace(TOY, phases=())}, r"Impossible phases. Received: phases=\(\)"),
        ({"recipe": replace(TOY, phases=((1, 32), (2, 4)))}, r"Impossible phases.*images of 9x9 or more"),
        ({"recipe": replace(TOY, batch_norm=False)}, r"Muon rescales kernels.*batch_norm=False.*muon_rate=0"),
        ({"recipe": replace(TOY, nesterov=False)}, r"Muon rescales kernels.*nesterov=False"),
        (
            {"recipe": replace(TOY, teachers=("all_cnn_c.cifar10_v99",))},
            r"Impossible teachers. Received: teachers=\('all_cnn_c.cifar10_v99',\). Allowed: a tuple of names, each",
        ),
        ({"recipe": replace(TOY, teachers="model_c.cifar10_v1")}, r"Impossible teachers. Received: teachers='model_c"),
        ({"recipe": replace(TOY, teachers=("model_c.cifar10",))}, r"Impossible teachers.*'model_c.cifar10'"),
        ({"recipe": replace(TOY, teachers=("model_c.cifar10_v1",) * 2)}, r"Impossible teachers.*each once"),
        (
            {"recipe": replace(TOY, start=None)},
            r"Impossible start. Received: start=None. Allowed: '' or a name of",
        ),
        (
            {"recipe": replace(TOY, start="model_c.cifar10_v1", teachers=("all_cnn_c.cifar10_v1",))},
            r"weights of the same net. Received: start='model_c.cifar10_v1', variant='all_cnn_c'. Change that, or use",
        ),
        (
            {"recipe": replace(TOY, teachers=("model_c.cifar10_v1", "all_cnn_c.cifar100_v1"))},
            r"data set that it trains on. Received: 'model_c.cifar10_v1' or 'all_cnn_c.cifar100_v1' for 'cifar10'",
        ),
        (
            {"recipe": replace(RECIPES["paper"], batch_size=8, start="all_cnn_c.cifar10_v1")},
            r"take pixels, not whitened images. Received: whiten=True with 'all_cnn_c.cifar10_v1'",
        ),
        (
            {"recipe": replace(TOY, teachers=("model_c.cifar10_v1",)), "held_out": 8},
            r"trained on the images held out. Received: held_out=8 with 'model_c.cifar10_v1'.*teachers=\(\)",
        ),
        (
            {"recipe": TOY, "held_out": 33},
            r"Too few images are left.*Received: 40 training images, held_out=33. Allowed: a batch of 8 or more",
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
        ((images, np.eye(10)[labels]), r"labels \(20, 10\)"),
        ((images, labels + 1), r"A label is out of range. Received: 1 to 10"),
    ]:
        with pytest.raises(ValueError, match=match):
            fit_cifar10(VARIANT, recipe=TOY, data=(train, bad), output_dir=tmp_path)
    with pytest.raises(
        ValueError, match=r"not two splits. Received: 2 parts of \[20, 20\]. Allowed: \(training images"
    ):
        fit_cifar10(VARIANT, recipe=TOY, data=(images, labels), output_dir=tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name):
    recipe = RECIPES[name]
    assert recipe.cost() <= recipe.epochs + sum(weights_info(name).cost * 2 for name in recipe.teachers)
    for epochs in (1, 2, recipe.epochs, 50):
        resized = recipe.resized(epochs)
        assert resized.epochs == epochs
        assert all(number for number, _ in resized.phases)
        assert [side for _, side in resized.phases] == [side for _, side in recipe.phases][-epochs:]
    assert recipe.resized(recipe.epochs) == recipe
    with pytest.raises(ValueError, match=r"Impossible epochs. Received: epochs=0"):
        recipe.resized(0)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_learns_in_100_steps(name, tmp_path, cifar10):
    """Four epochs of 25 steps on real images, with the recipe's own rates, schedule and augmentation.

    From fresh weights, and without L2, whose penalty Keras adds to the loss: it would fall also where nothing is
    learned. The paper's nets, on whitened images and with dropout, need their own batches to be seen learning so early,
    and their rate drops later.
    """
    recipe = RECIPES[name]
    recipe = replace(
        recipe.resized(4), batch_size=recipe.batch_size if recipe.whiten else 32, l2=0.0, drops=recipe.drops, start=""
    )
    (images, labels), _ = cifar10
    count = 25 * recipe.batch_size
    data = (images[:count], labels[:count]), (images[count : count + 64], labels[count : count + 64])
    result = fit_cifar10(VARIANT, recipe=recipe, data=data, output_dir=tmp_path, precision="float32")
    losses = [row["loss"] for row in result.history]
    assert len(losses) == 4
    assert losses[-1] < min(losses[0], np.log(10)) - 0.01


def test_whitening_recipe(tmp_path, toy_cifar10):
    """The images go in whitened, and what whitens them is part of the result."""
    recipe = replace(RECIPES["paper"].resized(2), batch_size=8)
    result = fit_cifar10(VARIANT, recipe=recipe, data=toy_cifar10, output_dir=tmp_path, precision="float32")
    (train_images, _), (images, labels) = toy_cifar10
    mean = global_contrast_normalize(train_images).reshape(len(train_images), -1).mean(axis=0)
    np.testing.assert_allclose(result.whitening.mean, mean, atol=1e-4)
    assert np.array_equal(ZCA.load(tmp_path / "zca.npz").mean, result.whitening.mean)
    whitened = result.whitening.apply(global_contrast_normalize(images))
    assert evaluate_top1(result.model, whitened, labels) == pytest.approx(result.top1)
    again = fit_cifar10(VARIANT, recipe=recipe, data=toy_cifar10, output_dir=tmp_path, precision="float32")
    assert again.top1 == result.top1
    assert np.array_equal(again.whitening.mean, result.whitening.mean)


def test_whitening_is_of_the_images_trained_on(tmp_path, toy_cifar10, monkeypatch):
    """Also where a run on others stopped before its first checkpoint."""
    recipe = replace(RECIPES["paper"].resized(1), batch_size=8)
    arguments = {"recipe": recipe, "data": toy_cifar10, "output_dir": tmp_path, "precision": "float32"}
    with monkeypatch.context() as patch:
        patch.setattr(training, "_train", mock.Mock(side_effect=RuntimeError("stopped")))
        with pytest.raises(RuntimeError, match="stopped"):
            fit_cifar10(VARIANT, **arguments)
    result = fit_cifar10(VARIANT, held_out=16, **arguments)
    train = global_contrast_normalize(toy_cifar10[0][0][:24])
    np.testing.assert_allclose(result.whitening.mean, train.reshape(24, -1).mean(axis=0), atol=1e-4)


def test_rates_drop_after_the_epochs_of_the_recipe():
    schedule = _SCHEDULES["steps"](RECIPES["paper"], 1.0, 10)
    steps = (0, 1999, 2000, 2499, 2500, 2999, 3000)
    assert [float(schedule(step)) for step in steps] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001])


def test_ancestor_divides_by_255(tmp_path, toy_cifar10):
    arguments = {"data": toy_cifar10, "epochs": 1, "output_dir": tmp_path, "precision": "float32"}
    result = fit_cifar10("all_conv_keras", recipe="ancestor", **arguments)
    layer = result.model.get_layer("normalization")
    assert np.allclose(keras.ops.convert_to_numpy(layer.mean), 0)
    assert np.allclose(keras.ops.convert_to_numpy(layer.variance), 255**2)


def test_cifar100(tmp_path, toy_cifar10):
    train, (images, labels) = toy_cifar10
    data = train, (images, labels + 90)
    result = fit_cifar100(VARIANT, recipe=TOY, epochs=1, data=data, output_dir=tmp_path, precision="float32")
    assert result.model.output_shape == (None, 100)
    again = AllConvNet(VARIANT, weights=result.weights)
    assert np.array_equal(again.predict(images, verbose=0), result.model.predict(images, verbose=0))
    mean = keras.ops.convert_to_numpy(again.get_layer("normalization").mean)
    np.testing.assert_allclose(mean.ravel(), NORMALIZATION["cifar100"][0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"A label is out of range. Received: 91 to 100. Allowed: 0 to 99"):
        fit_cifar100(VARIANT, recipe=TOY, data=(train, (images, labels + 91)), output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"holds another run.*'dataset': \('cifar100', 'cifar10'\)"):
        fit_cifar10(VARIANT, recipe=TOY, epochs=1, data=toy_cifar10, output_dir=tmp_path, precision="float32")


def test_cost_counts_pixels():
    assert Recipe(source="", phases=((4, 16), (2, 32))).cost() == pytest.approx(3)


def test_cost_counts_what_a_recipe_builds_on():
    """Weights once, by the multiplications of their net; of each teacher two answers, a third of a step each."""
    start, teacher = "all_cnn_c.cifar10_v3", "convpool_cnn_c.cifar10_v1"
    recipe = Recipe(source="", phases=((2, 32),), start=start)
    assert recipe.cost("all_cnn_c") == pytest.approx(2 + 14.5)
    assert replace(recipe, teachers=(start,)).cost("all_cnn_c") == pytest.approx(2 + 14.5 + 2 / 3)
    larger = SPECS["convpool_cnn_c"].multiplications / SPECS["all_cnn_c"].multiplications
    cost = replace(recipe, teachers=(teacher,)).cost("all_cnn_c")
    assert cost == pytest.approx(2 + 14.5 + larger * (14.5 + 2 / 3))


def test_training_goes_on_from_published_weights(tmp_path, toy_cifar10):
    """At a rate of 0 each filter is still the published one, but for the scale that batch normalisation gives it."""
    recipe = replace(TOY, phases=((1, 32),), muon_rate=0.0, sgd_rate=0.0, start=f"{VARIANT}.cifar10_v1")
    result = fit_cifar10(VARIANT, recipe=recipe, data=toy_cifar10, output_dir=tmp_path, precision="float32")
    for layer, published in zip(result.model.layers, AllConvNet(VARIANT).layers, strict=True):
        if isinstance(layer, keras.layers.Conv2D):
            filters = [keras.ops.convert_to_numpy(one.kernel).reshape(-1, layer.filters) for one in (layer, published)]
            ours, theirs = (values / np.linalg.norm(values, axis=0) for values in filters)
            assert (ours * theirs).sum(axis=0).min() > 0.999


def test_muon_goes_on_from_published_weights(tmp_path, cifar10):
    """Ten steps in, the net still knows real images; from fresh weights it would guess."""
    recipe = replace(RECIPES["distilled"], phases=((1, 32),), batch_size=32, teachers=())
    (images, labels), _ = cifar10
    data = (images[:320], labels[:320]), (images[320:384], labels[320:384])
    result = fit_cifar10(recipe=recipe, data=data, output_dir=tmp_path, precision="float32")
    assert result.history[0]["accuracy"] > 0.6


@pytest.mark.parametrize("shift", [0, 4])
def test_teachers_answer_in_place_of_the_labels(tmp_path, toy_cifar10, monkeypatch, shift):
    """The mean over teachers, images and mirror images; the answers of another run are not taken for this one's."""
    teachers = ("strided_cnn_a.cifar10_v1", "model_a.cifar10_v1")
    seen = []
    monkeypatch.setattr(training, "batches", lambda *arguments: seen.append(arguments[1]) or batches(*arguments))
    np.save(tmp_path / "answers.npy", np.zeros((40, 10), "float32"))
    recipe = replace(TOY, phases=((1, 24), (1, 32)), shift=shift, teachers=teachers)
    fit_cifar10(VARIANT, recipe=recipe, data=toy_cifar10, output_dir=tmp_path, precision="float32")
    images, _ = toy_cifar10[0]
    augment, answers = _Augment(32, shift, "reflect", 0, MEAN), []
    for number, view in enumerate((images, images[:, :, ::-1])):
        augment.seed(0, recipe.epochs + number)
        shifted = keras.ops.convert_to_numpy(augment(view))
        for name in teachers:
            variant, tag = name.split(".")
            answers.append(AllConvNet(variant, weights=tag).predict(shifted, verbose=0))
    assert len(seen) == 2
    for epoch, targets in enumerate(seen):
        order = np.random.default_rng((0, epoch)).permutation(40)
        np.testing.assert_allclose(targets, np.mean(answers, axis=0)[order], atol=1e-5)


def test_a_taught_run_goes_on_where_it_was(tmp_path, toy_cifar10, monkeypatch):
    """Neither from the weights that it started from nor with other answers, which are not computed again."""
    recipe = replace(TOY, start=f"{VARIANT}.cifar10_v1", teachers=("model_a.cifar10_v1",))
    arguments = {"recipe": recipe, "data": toy_cifar10, "precision": "float32"}
    whole = fit_cifar10(VARIANT, **arguments, output_dir=tmp_path / "whole")
    write = training._save

    def stop(path, run, values, history):
        write(path, run, values, history)
        raise KeyboardInterrupt("here")

    with monkeypatch.context() as patch:
        patch.setattr(training, "_save", stop)
        with pytest.raises(KeyboardInterrupt, match="here"):
            fit_cifar10(VARIANT, **arguments, output_dir=tmp_path / "stopped")
    monkeypatch.setattr(training, "_published", mock.Mock(side_effect=AssertionError("loaded again")))
    again = fit_cifar10(VARIANT, **arguments, output_dir=tmp_path / "stopped")
    assert without_seconds(again.history) == without_seconds(whole.history)


@pytest.mark.parametrize("fill", ["reflect", "edge"])
@pytest.mark.parametrize("side", [24, 32])
def test_augmentation_is_a_shift(side, fill):
    """Each result is one of the windows of the padded image, drawn for each image."""
    images = np.random.default_rng(0).integers(0, 256, (1, side, side, 3))
    images = np.repeat(images, 64, axis=0).astype("uint8")
    augment = _Augment(side, 4, fill, 0, MEAN)
    augment.seed(0, 0)
    results = keras.ops.convert_to_numpy(augment(images))
    padded = np.pad(images[0], ((4, 4), (4, 4), (0, 0)), mode=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    places = set()
    for result in results:
        found = places_of(windows, result)
        assert len(found) == 1
        places.add(tuple(found[0]))
    assert len(places) > 30
    assert {0, 8} <= {row for row, _ in places} | {column for _, column in places}


def test_each_image_loses_a_grey_square():
    images = np.random.default_rng(0).integers(200, 256, (32, 32, 32, 3), dtype="uint8")
    augment = _Augment(32, 0, "reflect", 0.25, (1.0, 2.0, 3.0))
    augment.seed(0, 0)
    results = keras.ops.convert_to_numpy(augment(images))
    places = set()
    for image, result in zip(images, results, strict=True):
        erased = (result == 2).all(axis=-1)
        assert np.array_equal(result[~erased], image[~erased])
        rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
        assert erased.sum() == len(rows) * len(columns)
        assert {len(rows), len(columns)} <= {15, 16, 17}
        places.add((rows[0], columns[0]))
    assert len(places) > 20


def test_without_shift_nothing_changes():
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")
    assert np.array_equal(keras.ops.convert_to_numpy(_Augment(32, 0, "reflect", 0, MEAN)(images)), images)


def test_a_pixel_of_a_scaled_image_is_the_mean_of_what_it_covers():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    blocks = images.reshape(4, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(_scaled(images, 16), blocks, atol=1e-3)
    np.testing.assert_allclose(_scaled(images, 24).mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=1e-2)
    assert _scaled(images, 32) is images
    assert _scaled(images.astype("uint8"), 24).dtype == np.uint8


def test_flips():
    assert not _mirrored("none", 1000, 0, 0).any()
    even, odd, again = (_mirrored("alternating", 1000, 0, epoch) for epoch in (0, 1, 2))
    assert np.array_equal(even, ~odd)
    assert np.array_equal(even, again)
    assert 450 < even.sum() < 550
    first, second = (_mirrored("random", 1000, 0, epoch) for epoch in (0, 1))
    assert 450 < first.sum() < 550
    assert 450 < (first ^ second).sum() < 550
    assert not np.array_equal(even, _mirrored("alternating", 1000, 1, 0))


def places_of(windows, result):
    return np.argwhere((windows == result).all(axis=(2, 3, 4)))


@pytest.mark.parametrize(("shift", "erase"), [(4, 0), (0, 0.1)])
def test_augmentation_depends_on_seed_and_epoch(shift, erase):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype="uint8")
    augment = _Augment(32, shift, "reflect", erase, MEAN)

    def draw(seed, epoch):
        augment.seed(seed, epoch)
        return keras.ops.convert_to_numpy(augment(images))

    assert (draw(0, 3) == draw(0, 3)).all()
    assert not (draw(0, 3) == draw(0, 4)).all()
    assert not (draw(0, 3) == draw(1, 3)).all()


@pytest.mark.parametrize(
    ("flags", "accelerator", "names", "policy"),
    [
        ("fpu avx2", False, [], "float32"),
        ("fpu avx512_bf16 amx_bf16", False, ["amx_bf16", "avx512_bf16"], "mixed_bfloat16"),
        ("fpu avx2", True, [], "mixed_bfloat16"),
        (None, False, [], "float32"),
    ],
)
def test_precision_is_what_the_processor_has(flags, accelerator, names, policy, monkeypatch):
    def read_text(path):
        if flags is None:
            raise FileNotFoundError(path)
        return f"flags: {flags}"

    monkeypatch.setattr(training.Path, "read_text", read_text)
    monkeypatch.setattr(training, "_on_accelerator", lambda: accelerator)
    assert _native_precision() == policy
    machine = training._machine().split(", ")
    assert machine[1].endswith(" cores")
    assert machine[2:] == names + ([*keras.distribution.list_devices()] if accelerator else [])


def test_images_shifts_and_colour_of_each_phase(tmp_path, toy_cifar10, monkeypatch):
    """A shift is scaled with the images; what is erased is grey also for the net that divides by 255."""
    made, shapes = [], []

    class Recorded(_Augment):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

        def call(self, images):
            shapes.append(images.shape[1:])
            return super().call(images)

    monkeypatch.setattr(training, "_Augment", Recorded)
    recipe = replace(TOY, phases=((1, 16), (1, 32)))
    arguments = {"data": toy_cifar10, "output_dir": tmp_path, "precision": "float32"}
    fit_cifar10("all_conv_keras", recipe=recipe, **arguments)
    assert made == [(16, 2, "reflect", 0.1, MEAN), (32, 4, "reflect", 0.1, MEAN)]
    assert set(shapes) == {(16, 16, 3), (32, 32, 3)}


def test_evaluation():
    class Scores:
        def predict(self, x, **_):
            return x if isinstance(x, np.ndarray) else np.concatenate([batch.numpy() for batch in x])

    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    assert evaluate_top1(Scores(), scores, np.array([1, 0, 0, 1])) == 75
    assert evaluate_top1(Scores(), scores, np.array([1, 0, 0, 1]), batch_size=3) == 75
    with pytest.raises(ValueError, match=r"one label an image. Received: 4 images, 3 labels"):
        evaluate_top1(Scores(), scores, np.array([1, 0, 0]))
    assert evaluate_top1(Scores(), scores, np.array([[1], [0], [0], [1]])) == 75
