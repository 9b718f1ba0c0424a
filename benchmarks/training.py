"""The ancestor's way to train and ours, side by side on the same number of images.

Both train on CIFAR-10's training images but the last 5,000, on which accuracy is measured at the end. "ancestor" is the
recipe and the net of All-CNN-Keras: no normalization layers, SGD, batches of 32; ours is "fast" with all_cnn_c. Where
PyTorch is installed, the images a second of a plain PyTorch ALL-CNN-C stand beside them, as do those of single steps of
ours with and without XLA and with Keras' own batch normalization. Augmentation (order, flips, shifts) is timed alone.

python benchmarks/training.py --images 90000
"""

import argparse
import importlib.util
import os
import tempfile
import time
from pathlib import Path
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import allconvnet
from allconvnet import models
from allconvnet._augment import Augment, epoch_images, mirrored
from allconvnet._backend import native_precision
from allconvnet._specs import NORMALIZATION, get_spec

HELD_OUT = 5000


def train(label: str, recipe: allconvnet.Recipe, variant: str, data: tuple, precision: str) -> float:
    """32x32 images a second, by pixels: the median of the epochs; prints the accuracy on the held-out images."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"data": data, "output_dir": folder, "held_out": HELD_OUT, "precision": precision}
        result = allconvnet.fit_cifar10(variant, recipe=recipe, **arguments)
        count = len(data[0][0]) - HELD_OUT
        speed = [count * (row["side"] / 32) ** 2 / row["seconds"] for row in result.history]
        print(f"{label:36} {recipe.epochs} epochs, cost {recipe.cost():.2f}: {result.top1:.2f} % held out", flush=True)
        return float(np.median(speed))


def augmentation(recipe: allconvnet.Recipe, images: np.ndarray) -> float:
    """Seconds for a batch: its part of an epoch's order and flips, and the shifts."""
    import keras

    augment = Augment(recipe, 32, NORMALIZATION["cifar10"][0])
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    model = keras.Model(inputs, augment(inputs))
    batch = images[: recipe.batch_size]
    model.predict_on_batch(batch)
    started = time.perf_counter()
    for _ in range(20):
        model.predict_on_batch(batch)
    shifts = (time.perf_counter() - started) / 20
    started = time.perf_counter()
    order = np.random.default_rng(0).permutation(len(images))
    epoch_images(images, order, mirrored(recipe.flip, len(images), seed=0, epoch=0))
    return shifts + (time.perf_counter() - started) * recipe.batch_size / len(images)


def keras_speed(recipe: allconvnet.Recipe, precision: str, xla: bool = False, fused: bool = True) -> float:
    """Images a second of a step as `fit_cifar10` takes it: with or without XLA, with Keras' own batch normalization."""
    import keras

    normalize = models.BatchNormalization if fused else keras.layers.BatchNormalization
    with mock.patch.object(models, "BatchNormalization", normalize):
        options = {"classifier_activation": None, "batch_norm": True, "dtype": precision}
        model = models.build(get_spec("all_cnn_c"), models.Form((32, 32, 3), NORMALIZATION["cifar10"], 10, **options))
    model.compile(recipe.optimizer(100), keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=xla)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (recipe.batch_size, 32, 32, 3)).astype("float32")
    targets = keras.utils.to_categorical(random.integers(0, 10, recipe.batch_size), 10)
    for _ in range(2):
        model.train_on_batch(images, targets)
    started = time.perf_counter()
    for _ in range(10):
        model.train_on_batch(images, targets)
    return 10 * recipe.batch_size / (time.perf_counter() - started)


def pytorch_speed(batch_size: int, bfloat16: bool) -> float:
    """Images a second of ALL-CNN-C with batch normalization and SGD in plain PyTorch, channels last."""
    import torch
    from torch import nn

    layers = []
    for row, _, inputs in get_spec("all_cnn_c").rows_with_sizes(32, 10)[:-1]:
        padding = row.kernel // 2 if row.padding == "same" else 0
        convolution = nn.Conv2d(inputs, row.filters, row.kernel, row.stride, padding, bias=False)
        layers += [convolution, nn.BatchNorm2d(row.filters), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(192, 10, 1)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, nesterov=True)
    images = torch.randn(batch_size, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(images).float().mean((2, 3))
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()

    step()
    started = time.perf_counter()
    for _ in range(10):
        step()
    return 10 * batch_size / (time.perf_counter() - started)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the ancestor's way and ours.")
    parser.add_argument("--images", type=int, default=90_000, help="images each way sees (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="cifar-10-batches-py (default: $ALLCONVNET_CIFAR10, else a download)")
    parser.add_argument("--precision", default=native_precision(), help="default: the processor's, %(default)s")
    arguments = parser.parse_args()
    data = allconvnet.load_cifar10(arguments.data)
    epochs = max(1, round(arguments.images / (len(data[0][0]) - HELD_OUT)))
    ours = allconvnet.RECIPES["fast"].resized(epochs)
    ways = {
        "ancestor, float32": (allconvnet.RECIPES["ancestor"].resized(epochs), "all_conv_keras", "float32"),
        f"fast, {arguments.precision}": (ours, "all_cnn_c", arguments.precision),
    }
    speeds = {}
    for label, (recipe, variant, precision) in ways.items():
        speeds[label] = train(label, recipe, variant, data, precision)
    unit = next(iter(speeds.values()))
    for precision in dict.fromkeys(("float32", arguments.precision)):
        speeds[f"ours, {precision}"] = keras_speed(ours, precision)
        speeds[f"ours, {precision}, XLA"] = keras_speed(ours, precision, xla=True)
        speeds[f"ours, {precision}, Keras' BN"] = keras_speed(ours, precision, fused=False)
    if importlib.util.find_spec("torch"):
        for bfloat16 in (False, True):
            label = f"plain PyTorch, {'bfloat16' if bfloat16 else 'float32'}"
            speeds[label] = pytorch_speed(ours.batch_size, bfloat16)
    print("\nimages of 32x32 a second, by pixels; and how many times the ancestor's")
    for label, speed in speeds.items():
        print(f"{label:36} {speed:6.0f}  {speed / unit:5.2f}")
    step = ours.batch_size / speeds[f"fast, {arguments.precision}"]
    share = augmentation(ours, data[0][0]) / step
    print(f"\naugmentation: {100 * share:.1f} % of a step of {ours.batch_size} images")


if __name__ == "__main__":
    main()
