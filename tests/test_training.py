"""Training on toy images: it learns, resumes after SIGKILL, refuses what it cannot do."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import h5py
import keras
import numpy as np
import pytest

from allconvnet import (
    RECIPES,
    ZCA,
    AllConvNet,
    Recipe,
    _backend,
    evaluate_top1,
    fit_cifar10,
    fit_cifar100,
    global_contrast_normalize,
    training,
    weights_info,
)
from allconvnet._augment import Augment
from allconvnet._fit_arguments import FitArguments, checked_recipe
from allconvnet._specs import NORMALIZATION, SPECS

# Steps of 8 images.
MEAN = NORMALIZATION["cifar10"][0]
TOY = Recipe(phases=((2, 24), (1, 32)), batch_size=8, erase=0.1, temperature=0.5)
VARIANT = "tiny"
PARAMS = 1562
CONTINUED = replace(TOY, start="cifar10_v5", batch_norm=False, muon_rate=0.0, corrupt=0.5)
pytestmark = pytest.mark.usefixtures("tiny")


def read_log(folder):
    with (folder / "log.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_cifar10, tiny):
    folder = tmp_path_factory.mktemp("run")
    return folder, fit_cifar10(VARIANT, recipe=TOY, data=toy_cifar10, output_dir=folder, precision="float32")


def test_folder(run):
    folder, result = run
    names = [".lock", "checkpoint.npz", "log.csv", "result.json", f"{VARIANT}.weights.h5"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [row["side"] for row in read_log(folder)] == [24, 24, 32]
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    report = json.loads((folder / "result.json").read_text())
    assert report["split"] == result.split == "test"
    assert report["test_images"] == result.images == 20
    assert report["recipe"]["batch_size"] == 8
    assert report["precision"] == "float32"
    assert report["params"] == PARAMS
    assert report["machine"] == _backend.machine()


def test_result_is_the_plain_net(run, toy_cifar10):
    """Without batch normalization; its logits are divided by the temperature."""
    folder, result = run
    assert result.model.count_params() == PARAMS
    assert not [layer for layer in result.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    again = AllConvNet(VARIANT, weights=result.weights)
    images, labels = toy_cifar10[1]
    assert evaluate_top1(again, images, labels) == pytest.approx(result.top1)
    with np.load(folder / "checkpoint.npz") as saved:
        trained = next(array for array in saved.values() if array.shape == (1, 1, 16, 10))
    np.testing.assert_allclose(again.get_layer("class_conv").get_weights()[0], trained / 0.5, rtol=1e-3, atol=1e-6)


def test_it_learns(tmp_path, toy_cifar10):
    recipe = replace(TOY, phases=((6, 24), (2, 32)))
    result = fit_cifar10(VARIANT, recipe=recipe, data=toy_cifar10, output_dir=tmp_path, precision="float32")
    assert result.history[-1]["loss"] < result.history[0]["loss"] - 0.3
    assert result.top1 >= 50


def test_held_out_images_are_not_trained_on(tmp_path, toy_cifar10, monkeypatch):
    """The last ones; and the folder says what is in it."""
    monkeypatch.chdir(tmp_path)
    with mock.patch.object(training, "_train", wraps=training._train) as train:
        result = fit_cifar10(VARIANT, recipe=TOY, data=toy_cifar10, epochs=1, held_out=16, seed=3)
    for there, own in zip(train.call_args.args[2], toy_cifar10[0], strict=True):
        assert np.array_equal(there, own[:24])
    assert result.weights.parent.name == f"{VARIANT}-cifar10-custom-seed3-epochs1-heldout16"
    assert (result.split, result.images, len(result.history)) == ("held out", 16, 1)
    assert json.loads(result.weights.with_name("result.json").read_text())["images"] == 24
    assert result.top1 == pytest.approx(evaluate_top1(result.model, *(part[-16:] for part in toy_cifar10[0])))


def test_finished_run_writes_nothing(run, toy_cifar10):
    folder, result = run
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    # The same data in another dtype and, as keras.datasets has them, of shape [N, 1].
    data = [(images, labels.astype("uint8")[:, None]) for images, labels in toy_cifar10]
    again = fit_cifar10(VARIANT, recipe=TOY, data=data, output_dir=folder, precision="float32")
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert again.history == result.history
    assert again.top1 == result.top1


def test_run_of_before_a_field_was_new(tmp_path, toy_cifar10):
    """Where the checkpoint does not know a field, the run had its default: it is finished."""
    arguments = {"recipe": TOY, "data": toy_cifar10, "epochs": 1, "output_dir": tmp_path, "precision": "float32"}
    first = fit_cifar10(VARIANT, **arguments)
    with np.load(tmp_path / "checkpoint.npz") as saved:
        arrays = dict(saved)
    state = json.loads(str(arrays["state"]))
    del state["run"]["recipe"]["decay"], state["run"]["recipe"]["drops"]
    np.savez(tmp_path / "checkpoint.npz", **arrays | {"state": json.dumps(state)})
    assert fit_cifar10(VARIANT, **arguments).history == first.history


def test_another_run_in_the_same_folder(run, toy_cifar10):
    folder, _ = run
    train, (images, labels) = toy_cifar10
    arguments = {"recipe": TOY, "data": toy_cifar10, "output_dir": folder, "precision": "float32"}
    for other, match in [
        ({"seed": 1}, r"received: {'seed': \(0, 1\)}"),
        ({"recipe": replace(TOY, l2=0.0)}, r"received: {'l2': \(0.0005, 0.0\)}"),
        ({"data": (train, (255 - images, labels))}, r"received: {'data_crc32'"),
    ]:
        with pytest.raises(ValueError, match=rf"holds another run; pass another output_dir.*{match}"):
            fit_cifar10(VARIANT, **arguments | other)


@pytest.mark.parametrize("name", [f"{VARIANT}.weights.h5", "result.json"])
def test_files_without_a_checkpoint_are_kept(name, tmp_path, toy_cifar10):
    (tmp_path / name).write_text("of somebody")
    with pytest.raises(ValueError, match=rf"has '{name}' without a checkpoint: pass another output_dir"):
        fit_cifar10(VARIANT, recipe=TOY, data=toy_cifar10, output_dir=tmp_path, precision="float32")
    assert (tmp_path / name).read_text() == "of somebody"


def test_same_seed_same_log(tmp_path, toy_cifar10):
    arguments = {"recipe": TOY, "data": toy_cifar10, "epochs": 2, "precision": "mixed_bfloat16"}
    first, again, other = (
        fit_cifar10(VARIANT, **arguments, output_dir=tmp_path / name, seed=seed)
        for name, seed in [("first", 0), ("again", 0), ("other", 1)]
    )
    assert without_seconds(read_log(tmp_path / "first")) == without_seconds(read_log(tmp_path / "again"))
    assert first.top1 == again.top1
    assert other.history[0]["loss"] != first.history[0]["loss"]


def without_seconds(log):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in log]


LONG = replace(TOY, phases=((5, 24), (3, 32)), dropout=True)
IN_A_PROCESS = """
import numpy, allconvnet
from allconvnet import _specs, training
_specs.SPECS["tiny"] = {spec}
{before}
toy = numpy.load("toy.npz")
data = (toy["a"], toy["b"]), (toy["c"], toy["d"])
allconvnet.fit_cifar10("tiny", recipe=allconvnet.{recipe!r}, data=data, output_dir="run", precision="float32")
"""


def in_module(spec):
    return re.sub(r"\b(Spec|Conv|Dropout)\(", r"_specs.\1(", repr(spec))


SLOWLY = """
import time
mirrored = training.mirrored
training.mirrored = lambda *arguments: (time.sleep(0.3), mirrored(*arguments))[1]
"""


def start(folder, toy_cifar10, before=""):
    (train_images, train_labels), (images, labels) = toy_cifar10
    np.savez(folder / "toy.npz", a=train_images, b=train_labels, c=images, d=labels)
    command = [sys.executable, "-c", IN_A_PROCESS.format(before=before, recipe=LONG, spec=in_module(SPECS["tiny"]))]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, toy_cifar10, tiny):
    folder = tmp_path_factory.mktemp("undisturbed")
    fit_cifar10(VARIANT, recipe=LONG, data=toy_cifar10, output_dir=folder, precision="float32")
    return without_seconds(read_log(folder))


def test_resumes_after_sigkill(undisturbed, tmp_path, toy_cifar10):
    """Killed three times at random, started again: the log of the undisturbed run."""
    random = np.random.default_rng()
    log = tmp_path / "run/log.csv"
    for epochs in (1, 3, 5):
        process = start(tmp_path, toy_cifar10, SLOWLY)
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
    assert without_seconds(read_log(log.parent)) == undisturbed, log.read_text()


@pytest.mark.parametrize(("owner", "writer"), [(csv.DictWriter, "writerows"), (np, "savez")])
def test_full_disk_while_the_last_epoch_is_written(run, tmp_path, toy_cifar10, owner, writer, monkeypatch):
    """The checkpoint of the epoch before stays, and the same call again ends in the log of the undisturbed run."""
    arguments = {"recipe": TOY, "data": toy_cifar10, "output_dir": tmp_path, "precision": "float32"}
    write, calls = getattr(owner, writer), []

    def stop(*parts, **named):
        calls.append(parts)
        write(*parts, **named)
        if len(calls) == TOY.epochs:
            raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(owner, writer, stop)
        with pytest.raises(OSError, match="No space left"):
            fit_cifar10(VARIANT, **arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "checkpoint.npz", "log.csv"]
    with np.load(tmp_path / "checkpoint.npz") as saved:
        assert len(json.loads(str(saved["state"]))["history"]) == TOY.epochs - 1
    fit_cifar10(VARIANT, **arguments)
    assert without_seconds(read_log(tmp_path)) == without_seconds(read_log(run[0]))


def test_broken_loss_stops(tmp_path, toy_cifar10):
    broken = replace(TOY, muon_rate=1e30, sgd_rate=1e30, warmup=0.01)
    match = r"After epoch 1 the loss .(nan|inf). or a weight is not finite. Lower the recipe's muon_rate"
    with pytest.raises(FloatingPointError, match=match):
        fit_cifar10(VARIANT, recipe=broken, data=toy_cifar10, output_dir=tmp_path, precision="float32")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_weights_broken_by_the_last_step_are_not_saved(tmp_path, toy_cifar10):
    (images, labels), test = toy_cifar10
    broken = replace(TOY, phases=((1, 32),), muon_rate=0.0, sgd_rate=1e30, l2=1e30, warmup=0.0)
    data = ((images[:8], labels[:8]), test)
    with pytest.raises(FloatingPointError, match=r"After epoch 1 the loss .[0-9.e+]+. or a weight is not finite"):
        fit_cifar10(VARIANT, recipe=broken, data=data, output_dir=tmp_path, precision="float32")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"variant": "all_cnn_large"}, r"'all_cnn_large' is made for images of 126x126, not for CIFAR's"),
        ({"recipe": "slow"}, r"Unknown recipe. Received: recipe='slow'. Allowed: 'ancestor', 'best'"),
        (
            {"recipe": replace(TOY, phases=((1, 32), (2, 4)))},
            r"'all_cnn_c' needs images of 9x9 or more",
        ),
        ({"precision": "float16"}, r"Unknown precision. Received: precision='float16'.* Allowed: 'auto', "),
        (
            {"recipe": replace(CONTINUED, start="cifar10_v99")},
            r"Unknown weights for 'all_cnn_c'. Received: weights='cifar10_v99'",
        ),
        ({"variant": "model_a", "recipe": "robust"}, r"The recipe starts from 'cifar10_v5'. Unknown weights for 'mo"),
        (
            {"recipe": replace(CONTINUED, start="cifar100_v1")},
            r"starts from 'cifar100_v1'. It must have 10 classes, and normalize .* Received: 100 classes",
        ),
        ({"recipe": CONTINUED, "held_out": 5}, r"none can be held out. Received: held_out=5"),
        ({"recipe": None}, r"Unknown recipe. Received: recipe=None"),
        ({"seed": 2**32}, r"Invalid seed. Received: seed=4294967296"),
        ({"seed": -1}, r"Invalid seed. Received: seed=-1. Allowed: a whole number, 0 to 4294967295"),
        ({"epochs": 0}, r"Invalid epochs. Received: epochs=0"),
        ({"held_out": 0.1}, r"Invalid held_out. Received: held_out=0.1"),
        (
            {"recipe": TOY, "held_out": 33},
            r"Too few images are left.*Received: 40 training images, held_out=33, batch_size=8",
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
        ((images, labels[:3]), r"labels int32 \(3,\)"),
        ((images, np.eye(10)[labels]), r"labels float64 \(20, 10\)"),
        ((images, labels + 1), r"A label is out of range. Received: 1 to 10"),
        ((images, labels + 0.5), r"labels float64 \(20,\). Allowed: .* N integers"),
    ]:
        with pytest.raises(ValueError, match=match):
            fit_cifar10(VARIANT, recipe=TOY, data=(train, bad), output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"not two splits. Received: 2 parts. Allowed: \(\(training images"):
        fit_cifar10(VARIANT, recipe=TOY, data=(images, labels), output_dir=tmp_path)


# The others train as one of these does, or start from published weights.
@pytest.mark.parametrize("name", ["fast", "best", "long", "paper_augmented", "ancestor"])
def test_recipe_learns(name, tmp_path, cifar10):
    """A hundred steps on real images, with the recipe's own batches, rates, schedule and augmentation.

    Without L2, whose penalty Keras adds to the loss: it would fall also where nothing is learned.
    """
    recipe = replace(RECIPES[name].resized(4), l2=0.0, drops=RECIPES[name].drops)
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
    recipe = replace(RECIPES["paper"].resized(1), batch_size=8)
    arguments = {"recipe": recipe, "data": toy_cifar10, "output_dir": tmp_path, "precision": "float32"}
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (np.ones(len(matrix)), np.eye(len(matrix))))  # Takes seconds.
    result = fit_cifar10(VARIANT, held_out=16, **arguments)
    train = global_contrast_normalize(toy_cifar10[0][0][:24])
    np.testing.assert_allclose(result.whitening.mean, train.reshape(24, -1).mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("start", ["cifar10_v1", "strided_cnn_a.cifar10_v1"])
def test_recipe_that_starts_from_published_weights(start, tmp_path, toy_cifar10):
    """From what was trained: before the logits were divided by the temperature. The end is divided again."""
    published = AllConvNet("strided_cnn_a", weights="cifar10_v1").get_weights()
    temperature = RECIPES[weights_info("strided_cnn_a.cifar10_v1").recipe].temperature
    published[-2:] = [temperature * weight for weight in published[-2:]]
    recipe = replace(CONTINUED, start=start, sgd_rate=0.003)
    arguments = {"data": toy_cifar10, "epochs": 1, "output_dir": tmp_path, "precision": "float32"}
    result = fit_cifar10("strided_cnn_a", recipe=recipe, **arguments)
    with np.load(tmp_path / "checkpoint.npz") as saved:
        trained = [saved[f"variable_{number}"] for number in range(len(published))]
    changes = [np.abs(after - before).max() for before, after in zip(published, trained, strict=True)]
    assert 0.002 < max(changes) < 0.1
    *body, kernel, bias = result.model.get_weights()
    for before, after, found in zip(published, trained, [*body, kernel / 2, bias / 2], strict=True):
        np.testing.assert_allclose(found, (before + after) / 2, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.start])
def test_published_weights_that_recipes_start_from(name):
    dataset = RECIPES[name].start.partition("_")[0]
    call = FitArguments(dataset, "all_cnn_c", name, None, None, 0, None, "auto", 0)
    assert checked_recipe(call) is RECIPES[name]


def test_recipe_that_starts_from_a_file(run, tmp_path, toy_cifar10):
    """From the file's own logits; images can be held out."""
    recipe = replace(CONTINUED, start=str(run[1].weights), sgd_rate=1e-9, temperature=1.0)
    arguments = {"data": toy_cifar10, "epochs": 1, "precision": "float32"}
    result = fit_cifar10(VARIANT, recipe=recipe, held_out=16, output_dir=tmp_path / "run", **arguments)
    assert (result.split, result.images) == ("held out", 16)
    for before, after in zip(run[1].model.get_weights(), result.model.get_weights(), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-5)
    unit, none = tmp_path / "unit.h5", str(tmp_path / "none.h5")
    shutil.copy(recipe.start, unit)
    shutil.copy(recipe.start, none)
    with h5py.File(none, "r+") as file:
        file.attrs["mean"] = np.zeros(3)
    for fit, start, match in [
        (fit_cifar10, "nowhere.h5", r"nowhere.h5"),
        (fit_cifar100, recipe.start, r"must have 100 classes, .* Received: 10 classes"),
        (fit_cifar10, none, r"normalize its input as nets for 'cifar10'"),
    ]:
        with pytest.raises((OSError, ValueError), match=match):
            fit(VARIANT, recipe=replace(recipe, start=start), output_dir=tmp_path / "other", **arguments)
    # The same path, but no longer the same file.
    arguments |= {"recipe": replace(recipe, start=str(unit)), "output_dir": tmp_path / "other"}
    fit_cifar10(VARIANT, **arguments)
    with h5py.File(unit, "r+") as file:
        file["layers/conv2d/vars/1"][0] += 1
    with pytest.raises(ValueError, match=r"holds another run.*'data_crc32'"):
        fit_cifar10(VARIANT, **arguments)


def test_cifar100(tmp_path, toy_cifar10):
    train, (images, labels) = toy_cifar10
    data = train, (images, labels + 90)
    result = fit_cifar100(VARIANT, recipe=TOY, epochs=1, data=data, output_dir=tmp_path, precision="float32")
    assert result.model.output_shape == (None, 100)
    again = AllConvNet(VARIANT, weights=result.weights)
    assert np.array_equal(again.predict(images, verbose=0), result.model.predict(images, verbose=0))
    layer = again.get_layer("normalization")
    mean = -np.array(layer.offset) / np.array(layer.scale)
    np.testing.assert_allclose(mean, NORMALIZATION["cifar100"][0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"A label is out of range. Received: 91 to 100. Allowed: 0 to 99"):
        fit_cifar100(VARIANT, recipe=TOY, data=(train, (images, labels + 91)), output_dir=tmp_path)
    with pytest.raises(ValueError, match=r"holds another run.*'dataset': \('cifar100', 'cifar10'\)"):
        fit_cifar10(VARIANT, recipe=TOY, epochs=1, data=toy_cifar10, output_dir=tmp_path, precision="float32")


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
    def read_text(path, encoding):
        if flags is None:
            raise FileNotFoundError(path)
        return f"flags: {flags}"

    monkeypatch.setattr(_backend.Path, "read_text", read_text)
    monkeypatch.setattr(_backend, "_accelerators", lambda: ["gpu:0"] if accelerator else [])
    assert _backend.native_precision() == policy
    machine = _backend.machine().split(", ")
    assert machine[1].endswith(" cores")
    assert machine[2:] == names + (["gpu:0"] if accelerator else [])


def test_accelerators_of_pytorch(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert _backend.machine().endswith(", cuda:0, cuda:1")


def test_accelerators_of_jax(monkeypatch):
    jax = pytest.importorskip("jax")
    kinds = {"cpu": "cpu", "gpu": "NVIDIA H100 80GB HBM3"}
    devices = [SimpleNamespace(platform=platform, device_kind=kind) for platform, kind in kinds.items()]
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(jax, "devices", lambda: devices)
    assert _backend.machine().endswith(", NVIDIA H100 80GB HBM3")


def test_a_backend_that_only_predicts(monkeypatch, tmp_path, toy_cifar10):
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(ValueError, match=r"Training and gradients need another backend. Received: 'openvino'."):
        fit_cifar10(VARIANT, data=toy_cifar10, output_dir=tmp_path)


def test_images_shifts_and_color_of_each_phase(tmp_path, toy_cifar10, monkeypatch):
    """A shift is scaled with the images; erased squares are gray also for a net that divides by 255."""
    made, shapes = [], []

    class Recorded(Augment):
        def __init__(self, recipe, side, color):
            super().__init__(recipe, side, color)
            made.append((side, self.shift, color))

        def call(self, images):
            shapes.append(images.shape[1:])
            return super().call(images)

    monkeypatch.setattr(training, "Augment", Recorded)
    recipe = replace(TOY, phases=((1, 16), (1, 32)))
    arguments = {"data": toy_cifar10, "output_dir": tmp_path, "precision": "float32"}
    monkeypatch.setitem(SPECS, VARIANT, replace(SPECS[VARIANT], normalization="unit"))
    layer = fit_cifar10(VARIANT, recipe=recipe, **arguments).model.get_layer("normalization")
    assert np.allclose(layer.offset, 0)
    assert np.allclose(layer.scale, 1 / 255)
    assert made == [(16, 2, MEAN), (32, 4, MEAN)]
    assert set(shapes) == {(16, 16, 3), (32, 32, 3)}


def test_evaluation():
    class Scores:
        def predict(self, x, **_):
            return x if isinstance(x, np.ndarray) else np.concatenate([batch.numpy() for batch in x])

    scores = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    assert evaluate_top1(Scores(), scores, np.array([1, 0, 0, 1])) == 75
    assert evaluate_top1(Scores(), scores, np.array([1, 0, 0, 1]), batch_size=3) == 75
    with pytest.raises(
        ValueError, match=r"must return scores \[N, 2 or more classes\]. Received: shape \(4, 1, 1, 2\)"
    ):
        evaluate_top1(Scores(), scores[:, None, None], np.array([1, 0, 0, 1]))
    with pytest.raises(ValueError, match=r"2 or more classes\]. Received: shape \(4, 1\)"):
        evaluate_top1(Scores(), scores[:, :1], np.array([0, 0, 0, 0]))


def test_evaluation_refuses_divided_pixels(toy_cifar10):
    """Of models that normalize 0..255, and of no others."""
    images, labels = toy_cifar10[1]
    net = AllConvNet(VARIANT, weights=None)
    flip, inputs = keras.layers.RandomFlip("horizontal"), keras.Input((32, 32, 3))
    for model in (net, keras.Sequential([inputs, flip, net]), keras.Model(inputs, net(flip(inputs)))):
        with pytest.raises(ValueError, match=r"look like 0..1.*multiply them by 255. Received: float64 from"):
            evaluate_top1(model, images / 255, labels)
    scaled = keras.Sequential([inputs, keras.layers.Rescaling(255.0), net])
    for model in (scaled, keras.Model(inputs, net(inputs * 255.0))):
        assert evaluate_top1(model, images / 255, labels) == evaluate_top1(net, images, labels)
    adapted = keras.layers.Normalization()
    adapted.adapt(images - 128.0)
    for layer, inputs in (
        (keras.layers.Normalization(mean=0.5, variance=0.25), images / 255),
        (adapted, images - 128.0),
    ):
        own = keras.Sequential([keras.Input((32, 32, 3)), layer, keras.layers.Flatten(), keras.layers.Dense(10)])
        assert 0 <= evaluate_top1(own, inputs, labels) <= 100


def test_evaluation_is_quiet_when_asked(toy_cifar10, capsys):
    images, labels = toy_cifar10[1]
    model = AllConvNet(VARIANT, weights=None)
    evaluate_top1(model, images, labels, verbose=1)
    assert "step" in capsys.readouterr().out
    many = np.tile(images, (60, 1, 1, 1)), np.tile(labels, 60)
    evaluate_top1(model, *many, verbose=0)
    evaluate_top1(model, images, labels)
    assert not capsys.readouterr().out
    evaluate_top1(model, *many)
    assert "step" in capsys.readouterr().out
