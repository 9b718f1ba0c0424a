"""Training: a table of recipes and one thin loop over `model.fit`."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import keras
import numpy as np
from keras import ops

from allconvnet import models
from allconvnet._backend import batches
from allconvnet._errors import listed, message
from allconvnet._files import replacing
from allconvnet._specs import NORMALIZATION, get_spec
from allconvnet.data import CIFAR10_CLASSES, Split, load_cifar10
from allconvnet.optimizers import ConvMuon, LinearWarmupDecay

__all__ = ["RECIPES", "FitResult", "Recipe", "evaluate_top1", "fit_cifar10"]


@dataclass(frozen=True)
class Recipe:
    """How a net is trained: batch normalisation, Muon on its convolutions, small crops first.

    Attributes:
        phases: (epochs, side of the random crops in pixels), in order.
        batch_size: images in a step; what is left over at the end of an epoch is left out.
        muon_rate: peak learning rate of the orthogonalised updates, on every kernel but the class convolution's.
        muon_momentum: their Nesterov momentum.
        sgd_rate: peak learning rate of all other variables.
        sgd_momentum: their Nesterov momentum.
        l2: L2 gradient on the class convolution's kernel.
        warmup: part of the steps in which the rates rise linearly from 0; they fall linearly to 0 in the rest.
        label_smoothing: weight of the uniform distribution in the targets.
        pad: pixels by which images are extended (by reflection) on each side before they are cropped.
    """

    phases: tuple[tuple[int, int], ...]
    batch_size: int = 256
    muon_rate: float = 0.15
    muon_momentum: float = 0.6
    sgd_rate: float = 0.2
    sgd_momentum: float = 0.9
    l2: float = 5e-4
    warmup: float = 0.2
    label_smoothing: float = 0.1
    pad: int = 4

    @property
    def epochs(self) -> int:
        """Passes over the training images."""
        return sum(epochs for epochs, _ in self.phases)

    def cost(self, side: int = 32) -> float:
        """The same in epochs of images of full size, by their pixels."""
        return sum(epochs * (crop / side) ** 2 for epochs, crop in self.phases)

    def resized(self, epochs: int) -> Recipe:
        """The recipe in another number of epochs, divided among the phases as before."""
        ends = [round(epochs * sum(n for n, _ in self.phases[: i + 1]) / self.epochs) for i in range(len(self.phases))]
        spans = zip(ends, [0, *ends], self.phases, strict=False)
        return replace(self, phases=tuple((end - start, side) for end, start, (_, side) in spans if end > start))


RECIPES: dict[str, Recipe] = {
    "fast": Recipe(phases=((4, 24), (3, 32))),
    "best": Recipe(phases=((6, 24), (3, 32))),
}

# What the data set decides, whatever the net.
_NET = {"normalization": NORMALIZATION["cifar10"], "input_shape": (None, None, 3), "classes": len(CIFAR10_CLASSES)}


@dataclass(frozen=True)
class FitResult:
    """What a run leaves behind.

    Attributes:
        model: the plain net of the paper, its weights as in `weights`.
        weights: the file, float16, for `AllConvNet(variant, weights=...)`.
        history: a row an epoch, as in `log.csv`.
        top1: accuracy on `split`, percent; single crop.
        split: "test", or "held out": the last training images.
        images: number of images in `split`.
    """

    model: keras.Model
    weights: Path
    history: list[dict[str, float]]
    top1: float
    split: str
    images: int


class _Augment(keras.layers.Layer):
    """A random crop of the reflect-padded image, drawn for each image, in a single gather.

    uint8 `[N, size, size, 3]` in, float32 `[N, side, side, 3]` out. (`keras.layers.RandomCrop` draws one offset for a
    whole batch.)
    """

    def __init__(self, size: int, side: int, pad: int) -> None:
        super().__init__(name="augment", dtype="float32")
        self.size, self.side, self.pad = size, side, pad
        self.random = keras.random.SeedGenerator(0)

    def seed(self, seed: int, epoch: int) -> None:
        """Draws depend on (seed, epoch) alone, so that a resumed run repeats them."""
        self.random.state.assign(np.array([seed, epoch << 20], "uint32"))

    def call(self, images):
        count = ops.shape(images)[0]
        low, high = -self.pad, self.size + self.pad - self.side + 1
        offsets = keras.random.randint((2, count, 1), low, high, seed=self.random)
        positions = offsets + ops.arange(self.side, dtype="int32")
        rows, columns = positions[0], positions[1]
        first = ops.arange(count, dtype="int32")[:, None, None] * self.size
        index = (first + self._reflect(rows)[:, :, None]) * self.size + self._reflect(columns)[:, None, :]
        return ops.cast(ops.take(ops.reshape(images, (-1, 3)), index, axis=0), "float32")

    def _reflect(self, position):
        last = self.size - 1
        return last - ops.abs(last - ops.abs(position))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.side, self.side, 3)


def fit_cifar10(
    variant: str = "all_cnn_c",
    *,
    recipe: str | Recipe = "best",
    data: str | os.PathLike[str] | tuple[Split, Split] | None = None,
    epochs: int | None = None,
    seed: int = 0,
    output_dir: str | os.PathLike[str] | None = None,
    precision: str = "auto",
    held_out: int = 0,
) -> FitResult:
    """Trains a CIFAR net of the paper and folds it into the paper's plain layers.

    The folder gets `log.csv` and `curve.png` after each epoch, `checkpoint.npz` from which a run that was stopped or
    killed goes on, and at the end `<variant>.weights.h5` and `result.json`. A finished run started again does nothing.

    Args:
        variant: a net for 32x32 images.
        recipe: a name of `RECIPES`, or a `Recipe`.
        data: what `load_cifar10` takes, or its result: uint8 images `[N, 32, 32, 3]` and labels 0..9.
        epochs: another number than the recipe's, divided among its phases as before.
        seed: of the initial weights, the order of the images and their augmentation.
        output_dir: folder of the run; None means `<variant>-<recipe>-seed<seed>` in the current folder.
        precision: a Keras dtype policy, or "auto": "mixed_bfloat16" where the processor computes it natively, else
            "float32".
        held_out: how many of the last training images to leave out of training and measure top-1 on, for choices
            that must not see the test images; 0 means to train on all and measure on the test images.

    Returns:
        The plain net, its file and its top-1 accuracy.

    Raises:
        ValueError: an argument is not one of those above, or the folder holds another run.
        FloatingPointError: the loss is no longer finite.
        OSError: the data cannot be read or downloaded, or the folder cannot be written.

    Example:
        >>> import allconvnet
        >>> result = allconvnet.fit_cifar10("all_cnn_c", recipe="fast", output_dir="runs/fast")
        >>> result.weights.name
        'all_cnn_c.weights.h5'
    """
    spec = get_spec(variant)
    if spec.side != 32:
        raise ValueError(
            message(
                "This net is not made for CIFAR images",
                received=f"variant={variant!r}, for {spec.side}x{spec.side}",
                allowed="the nets for 32x32 images",
            )
        )
    label = recipe if isinstance(recipe, str) else "custom"
    recipe = _recipe(recipe, epochs)
    train, test = data if isinstance(data, tuple) else load_cifar10(data)
    for split in (train, test):
        _check_split(split)
    if not 0 <= held_out <= len(train[0]) - recipe.batch_size:
        raise ValueError(
            message(
                "Too many images are held out",
                received=f"held_out={held_out} of {len(train[0])}",
                allowed=f"0 to {len(train[0]) - recipe.batch_size}, so that one batch of {recipe.batch_size} is left",
            )
        )
    policy = _native_precision() if precision == "auto" else keras.dtype_policies.get(precision).name
    folder = Path(output_dir or f"{variant}-{label}-seed{seed}").expanduser()
    if held_out:
        test = tuple(part[-held_out:] for part in train)
        train = tuple(part[:-held_out] for part in train)
    run = {
        "variant": variant,
        "recipe": asdict(recipe) | {"phases": [list(phase) for phase in recipe.phases]},
        "seed": seed,
        "images": len(train[0]),
        "precision": policy,
    }
    file = folder / f"{variant}.weights.h5"
    trained, history = _train(run, recipe, train, folder, file)
    if trained is not None:
        plain = models.build(spec, **_NET)
        models.fold_batch_norm(trained, plain)
        models.save_weights(plain, file, variant=variant, class_names=CIFAR10_CLASSES)
    model = models.AllConvNet(variant, weights=file)
    result = _result(folder / "result.json", run, recipe, label, model, test, "held out" if held_out else "test")
    return FitResult(model, file, history, result["top1"], result["split"], result["test_images"])


def evaluate_top1(model: keras.Model, images: np.ndarray, labels: np.ndarray, *, batch_size: int = 250) -> float:
    """Top-1 accuracy in percent: single crop, no test-time augmentation.

    Args:
        model: one score a class out.
        images: what the model takes, `[N, height, width, channels]`.
        labels: integers `[N]`.
        batch_size: images at a time; does not change the result.

    Returns:
        Percent of the images whose highest score is that of their label.

    Raises:
        ValueError: not one label an image.

    Example:
        >>> import allconvnet, numpy as np
        >>> model = allconvnet.AllConvNet("all_cnn_c")
        >>> evaluate_top1(model, np.zeros((2, 32, 32, 3), "uint8"), np.array([10, 10]))
        0.0
    """
    if len(images) != len(labels) or not len(images):
        raise ValueError(
            message("There must be one label an image", received=f"{len(images)} images, {len(labels)} labels")
        )
    scores = model.predict(images, batch_size=batch_size, verbose="auto" if len(images) > 1000 else 0)
    return 100 * float(np.mean(np.argmax(scores, axis=-1) == labels))


def _recipe(recipe: str | Recipe, epochs: int | None) -> Recipe:
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(message("Unknown recipe", received=f"recipe={recipe!r}", allowed=listed(RECIPES)))
        recipe = RECIPES[recipe]
    if epochs is None:
        return recipe
    if epochs < 1:
        raise ValueError(message("There must be an epoch", received=f"epochs={epochs!r}", allowed="1 or more"))
    return recipe.resized(epochs)


def _check_split(split: Split) -> None:
    images, labels = split
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3) or len(images) != len(labels) or not len(images):
        raise ValueError(
            message(
                "These are not CIFAR images with their labels",
                received=f"images {images.dtype} {images.shape}, labels {np.shape(labels)}",
                allowed="uint8 [N, 32, 32, 3], pixels 0..255, and N labels",
            )
        )
    if np.min(labels) < 0 or np.max(labels) >= len(CIFAR10_CLASSES):
        raise ValueError(
            message("A label is out of range", received=f"{np.min(labels)} to {np.max(labels)}", allowed="0 to 9")
        )


def _on_accelerator() -> bool:
    # Not list_devices("gpu"): with JAX it raises where there is none.
    return any(not device.lower().startswith("cpu") for device in keras.distribution.list_devices())


def _native_precision() -> str:
    """The dtype policy that the processor, or an accelerator if there is one, is fastest in."""
    if _on_accelerator():
        return "mixed_bfloat16"
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return "float32"
    return "mixed_bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def _train(
    run: dict, recipe: Recipe, train: Split, folder: Path, file: Path
) -> tuple[keras.Model | None, list[dict[str, float]]]:
    """Trains, or goes on training, in `folder`; no model when `file` is there already."""
    images, labels = train
    seed = run["seed"]
    steps = len(images) // recipe.batch_size
    keras.utils.set_random_seed(seed)
    trunk = models.build(
        get_spec(run["variant"]),
        **_NET,
        classifier_activation=None,
        batch_norm=True,
        dtype=run["precision"],
    )
    optimizer = ConvMuon(
        LinearWarmupDecay(recipe.muon_rate, recipe.epochs * steps, recipe.warmup),
        recipe.muon_momentum,
        sgd_ratio=recipe.sgd_rate / recipe.muon_rate,
        sgd_momentum=recipe.sgd_momentum,
        l2=recipe.l2,
        exclude=("class_conv",),
    )
    optimizer.build(trunk.trainable_variables)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    # On a CPU it depends on the processor whether XLA helps these nets, and it compiles for each size of crops.
    jit = False if keras.backend.backend() == "tensorflow" and not _on_accelerator() else "auto"
    checkpoint = folder / "checkpoint.npz"
    variables = [*trunk.variables, *optimizer.variables]
    history = _restore(checkpoint, run, variables)
    if file.exists() and len(history) == recipe.epochs:
        return None, history
    sides = [side for epochs, side in recipe.phases for _ in range(epochs)]
    model = None
    for epoch in range(len(history), recipe.epochs):
        if model is None or sides[epoch] != sides[epoch - 1]:
            augment = _Augment(images.shape[1], sides[epoch], recipe.pad)
            inputs = keras.Input(images.shape[1:], dtype="uint8")
            model = keras.Model(inputs, trunk(augment(inputs)))
            model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit)
        order = np.random.default_rng((seed, epoch)).permutation(len(images))[: steps * recipe.batch_size]
        augment.seed(seed, epoch)
        started = time.perf_counter()
        print(f"Epoch {epoch + 1}/{recipe.epochs}, {sides[epoch]}x{sides[epoch]}, {run['precision']}", flush=True)
        epoch_images = _alternating_flip(images, seed, epoch)[order]
        targets = keras.utils.to_categorical(labels[order], len(CIFAR10_CLASSES))
        logs = model.fit(**batches(epoch_images, targets, recipe.batch_size)).history
        row = {"epoch": epoch + 1, "side": sides[epoch], "loss": logs["loss"][0], "accuracy": logs["accuracy"][0]}
        history.append(row | {"seconds": round(time.perf_counter() - started, 1)})
        if not math.isfinite(row["loss"]):
            raise FloatingPointError(
                message(
                    f"The loss is no longer finite in epoch {epoch + 1}",
                    received=f"loss={row['loss']}",
                    next_step="Lower the recipe's muon_rate and sgd_rate; the epoch before is in the checkpoint.",
                )
            )
        _save(checkpoint, run, variables, history)
        _write_log(folder / "log.csv", history)
        _draw_curve(folder / "curve.png", history, run)
    return trunk, history


def _alternating_flip(images: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """A random half of the images mirrored; in the next epoch the other half."""
    mirrored = np.random.default_rng(seed).random(len(images)) < 0.5
    mirrored ^= bool(epoch % 2)
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def _save(path: Path, run: dict, variables: Sequence, history: list[dict]) -> None:
    values = {f"variable_{number}": ops.convert_to_numpy(variable) for number, variable in enumerate(variables)}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, state=json.dumps({"run": run, "history": history}), **values)


def _restore(path: Path, run: dict, variables: Sequence) -> list[dict]:
    """Fills the variables from a checkpoint and returns its history; [] when there is none."""
    if not path.exists():
        return []
    with np.load(path) as saved:
        state = json.loads(str(saved["state"]))
        different = {key: (state["run"].get(key), run[key]) for key in run if state["run"].get(key) != run[key]}
        if different:
            raise ValueError(
                message(
                    "The folder holds another run",
                    received=f"{str(path.parent)!r}, with (there, asked for) {different}",
                    next_step="Choose another output_dir, or delete that one.",
                )
            )
        for number, variable in enumerate(variables):
            variable.assign(saved[f"variable_{number}"])
    return state["history"]


def _write_log(path: Path, history: list[dict]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, history[0])
        writer.writeheader()
        writer.writerows(history)


def _result(path: Path, run: dict, recipe: Recipe, label: str, model: keras.Model, test: Split, split: str) -> dict:
    """Measures top-1 of a finished run, once: the file that says so is read the next time."""
    wanted = {"split": split, "test_images": len(test[0])}
    if path.exists():
        result = json.loads(path.read_text())
        if wanted.items() <= result.items():
            return result
    result = wanted | {
        "top1": round(evaluate_top1(model, *test), 4),
        "params": model.count_params(),
        "cost": recipe.cost(),
        "recipe_name": label,
        "versions": f"keras {keras.__version__}, {keras.backend.backend()}, {run['precision']}",
        "machine": platform.machine(),
        **run,
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _draw_curve(path: Path, history: list[dict], run: dict) -> None:
    """Loss and accuracy on the (augmented) training images against epochs, as a PNG."""
    width, height, left, top = 720, 300, 50, 40
    canvas = np.full((2 * height, width, 3), 255, np.uint8)

    def write(text: str, x: int, y: int) -> None:
        cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (60, 60, 60), 1, cv2.LINE_AA)

    for panel, (key, color) in enumerate((("loss", (40, 60, 200)), ("accuracy", (160, 90, 20)))):
        values = [row[key] for row in history]
        limit = 1.0 if key == "accuracy" else max(values) * 1.05
        base, span = (panel + 1) * height - 40, height - 40 - top
        for tick in range(5):
            y = round(base - span * tick / 4)
            cv2.line(canvas, (left, y), (width - 20, y), (225, 225, 225), 1)
            write(f"{limit * tick / 4:.2f}", 8, y + 4)
        x = np.linspace(left, width - 20, len(values) + 1)[1:] if len(values) > 1 else [width / 2]
        points = [(round(px), round(base - span * value / limit)) for px, value in zip(x, values, strict=True)]
        cv2.polylines(canvas, [np.array(points, np.int32)], False, color, 2, cv2.LINE_AA)
        for point, row in zip(points, history, strict=True):
            cv2.circle(canvas, point, 3, color, -1, cv2.LINE_AA)
            write(str(row["epoch"]), point[0] - 4, base + 18)
        write(f"{run['variant']}, seed {run['seed']}: training {key} by epoch", left, base - span - 14)
    _, encoded = cv2.imencode(".png", canvas)
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
