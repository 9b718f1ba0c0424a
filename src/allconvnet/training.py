"""Training: a table of recipes and one thin loop over `model.fit`."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from numbers import Integral
from pathlib import Path

import cv2
import keras
import numpy as np
from keras import ops
from keras.optimizers import schedules

from allconvnet import models
from allconvnet._backend import batches, processes, undistributed, wait_for_others, whole
from allconvnet._errors import check_number, listed, message
from allconvnet._files import replacing
from allconvnet._specs import NORMALIZATION, Spec, get_spec
from allconvnet._weights import WEIGHTS, class_names, weights_info
from allconvnet.data import Split, load
from allconvnet.optimizers import ConvMuon, LinearWarmupDecay
from allconvnet.preprocessing import ZCA, global_contrast_normalize

__all__ = ["RECIPES", "FitResult", "Recipe", "evaluate_top1", "fit_cifar10", "fit_cifar100"]


@dataclass(frozen=True)
class Recipe:
    """How a net is trained.

    Attributes:
        source: where the numbers come from.
        phases: (epochs, side to which images are scaled, in pixels), in order.
        batch_size: images in a step; what is left over at the end of an epoch is left out.
        batch_norm: whether batch normalisation stands behind each convolution; it is folded into it at the end.
        dropout: whether the paper's dropout layers act.
        whiten: whether images go through global contrast normalisation (to a norm of 55) and ZCA whitening first.
        flip: which images are mirrored: "none", a "random" half in each epoch, or "alternating": a random half in even
            epochs, the other half in odd ones.
        shift: pixels of a 32x32 image by which images are shifted at most, up or down and left or right.
        fill: what comes in from outside: their "reflect"ion or their "edge".
        erase: part of the area of each image that is covered by a grey square of the mean brightness, 0 to 1.
        muon_rate: peak learning rate of the orthogonalised updates, on every kernel but the class convolution's; 0 for
            SGD on all variables.
        muon_momentum: their Nesterov momentum.
        sgd_rate: peak learning rate of all other variables.
        sgd_momentum: their momentum.
        nesterov: whether it is Nesterov's; Muon's always is.
        l2: L2 gradient, on the kernels that SGD treats: gradient plus `l2` times the kernel.
        schedule: of the rates: "linear", "steps" or "inverse_time".
        warmup: linear: part of the steps in which they rise linearly from 0, to fall linearly to 0 in the rest; 0 to 1.
        drops: steps: epochs after which they are multiplied by 0.1.
        decay: inverse_time: they are divided by 1 + `decay` times the number of steps done.
        label_smoothing: weight of the uniform distribution in the targets, 0 to 1.
        start: published weights of the net that training starts from, such as "all_cnn_c.cifar10_v4"; "" for fresh
            ones.
        teachers: published weights of any nets, whose mean answer to a training image takes the place of its label: to
            the image and to its mirror image, each shifted at random once. The accuracy in the log then counts how
            often the net and its teachers agree.
    """

    source: str
    phases: tuple[tuple[int, int], ...]
    batch_size: int = 256
    batch_norm: bool = True
    dropout: bool = False
    whiten: bool = False
    flip: str = "alternating"
    shift: int = 4
    fill: str = "reflect"
    erase: float = 0.0
    muon_rate: float = 0.15
    muon_momentum: float = 0.6
    sgd_rate: float = 0.2
    sgd_momentum: float = 0.9
    nesterov: bool = True
    l2: float = 5e-4
    schedule: str = "linear"
    warmup: float = 0.1
    drops: tuple[int, ...] = ()
    decay: float = 0.0
    label_smoothing: float = 0.1
    start: str = ""
    teachers: tuple[str, ...] = ()

    @property
    def epochs(self) -> int:
        """Passes over the training images."""
        return sum(epochs for epochs, _ in self.phases)

    @property
    def _built_on(self) -> list[str]:
        """The published weights in `start` and `teachers`, each once."""
        return [name for name in dict.fromkeys((self.start, *self.teachers)) if name]

    def cost(self, variant: str = "all_cnn_c") -> float:
        """The same in epochs of 32x32 images, by their pixels, for that net.

        With it count what the weights in `start` and `teachers` have cost, by the multiplications of their nets, and
        the teachers' two answers to each image, a third of a training step each.
        """
        cost = sum(epochs * (side / 32) ** 2 for epochs, side in self.phases)
        for name in self._built_on:
            record = weights_info(name)
            nets = get_spec(record.variant).multiplications / get_spec(variant).multiplications
            cost += nets * (record.cost + (2 / 3 if name in self.teachers else 0))
        return cost

    def resized(self, epochs: int) -> Recipe:
        """The recipe in another number of epochs, divided among the phases as before, the last of which stay."""
        check_number("epochs", epochs, 1, whole=True)
        phases, left, before = [], epochs, self.epochs
        for number, side in self.phases:
            before -= number
            # Of few epochs the last phases get theirs first: they show images as large as those that are classified.
            later = min(left, max(round(epochs * before / self.epochs), len(self.phases) - len(phases) - 1))
            phases.append((left - later, side))
            left = later
        return replace(
            self,
            phases=tuple((number, side) for number, side in phases if number),
            drops=tuple(round(drop * epochs / self.epochs) for drop in self.drops),
        )


_OURS = "chosen on the last 5,000 training images, trained on the others"
_PAPER = Recipe(
    source="the paper; the rate (best of 0.25, 0.1, 0.05, 0.01 there) and the batch size are those of reproductions",
    phases=((350, 32),),
    batch_size=128,
    batch_norm=False,
    dropout=True,
    whiten=True,
    flip="none",
    shift=0,
    muon_rate=0.0,
    sgd_rate=0.05,
    nesterov=False,
    l2=1e-3,
    schedule="steps",
    drops=(200, 250, 300),
    label_smoothing=0.0,
)
RECIPES: dict[str, Recipe] = {
    "ancestor": Recipe(
        source="the code of All-CNN-Keras, for its net all_conv_keras; shifts of 10 % of 32 pixels",
        phases=((350, 32),),
        batch_size=32,
        batch_norm=False,
        dropout=True,
        flip="random",
        shift=3,
        fill="edge",
        muon_rate=0.0,
        sgd_rate=0.01,
        l2=0.0,
        schedule="inverse_time",
        decay=1e-6,
        label_smoothing=0.0,
    ),
    "paper": _PAPER,
    "paper_augmented": replace(
        _PAPER, source=f"{_PAPER.source}; flips and shifts of up to 5 pixels", flip="random", shift=5
    ),
    "fast": Recipe(source=_OURS, phases=((3, 16), (2, 24), (1, 32)), shift=2),
    "best": Recipe(source=_OURS, phases=((8, 20), (6, 24), (8, 32)), shift=3),
    "long": Recipe(
        source='as "best" at eight times the cost, wider shifts, erased squares; written down beforehand, not tuned',
        phases=((20, 20), (24, 24), (90, 32)),
        shift=4,
        erase=0.16,
    ),
    "distilled": Recipe(
        source='from weights of "long" at 0.4 of its rates, taught by four nets; written down beforehand, not tuned',
        phases=((26, 32),),
        shift=4,
        erase=0.12,
        muon_rate=0.06,
        sgd_rate=0.08,
        label_smoothing=0.0,
        start="all_cnn_c.cifar10_v4",
        teachers=(
            "all_cnn_c.cifar10_v4",
            "all_cnn_c.cifar10_v5",
            "convpool_cnn_b.cifar10_v1",
            "convpool_cnn_c.cifar10_v1",
        ),
    ),
}

_SCHEDULES = {
    "linear": lambda recipe, rate, steps: LinearWarmupDecay(rate, recipe.epochs * steps, recipe.warmup),
    "steps": lambda recipe, rate, steps: schedules.PiecewiseConstantDecay(
        # Keras counts the step at a boundary to what is before it.
        [drop * steps - 1 for drop in recipe.drops],
        [rate * 0.1**number for number in range(len(recipe.drops) + 1)],
    ),
    "inverse_time": lambda recipe, rate, steps: schedules.InverseTimeDecay(rate, 1, recipe.decay),
}


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
        whitening: for a recipe that whitens: `model` takes `whitening.apply(global_contrast_normalize(images))`; also
            in the folder, as `zca.npz`. Else None: `model` takes pixels 0..255.
    """

    model: keras.Model
    weights: Path
    history: list[dict[str, float]]
    top1: float
    split: str
    images: int
    whitening: ZCA | None = None


# Where a pixel outside comes from.
_FILLS = {
    "reflect": lambda position, size: size - 1 - ops.abs(size - 1 - ops.abs(position)),
    "edge": lambda position, size: ops.clip(position, 0, size - 1),
}
_FLIPS = ("none", "random", "alternating")
_PRECISIONS = ("float32", "mixed_bfloat16")
# Least and greatest number of a recipe's fields.
_RANGES = {
    "batch_size": (1, math.inf),
    "shift": (0, 31),
    "erase": (0, 1),
    "muon_rate": (0, math.inf),
    "muon_momentum": (0, 1),
    "sgd_rate": (0, math.inf),
    "sgd_momentum": (0, 1),
    "l2": (0, math.inf),
    "warmup": (0, 1),
    "decay": (0, math.inf),
    "label_smoothing": (0, 1),
}


class _Augment(keras.layers.Layer):
    """A random shift and erasure, drawn for each image: `[N, side, side, 3]` in, float32 of that shape out.

    The shift is a single gather. (`keras.layers.RandomCrop` draws one offset for a whole batch.)
    """

    def __init__(self, side: int, shift: int, fill: str, erase: float, color: Sequence[float]) -> None:
        super().__init__(name="augment", dtype="float32")
        self.erase = None
        if erase:
            # One number, not a colour: with JAX Keras 3.15 cannot fill with three.
            grey = float(np.mean(color))
            self.erase = keras.layers.RandomErasing((1, 1), (erase, erase), grey, dtype="float32")
        self.side, self.shift = side, shift
        self.inside = _FILLS[fill]
        self.random = keras.random.SeedGenerator(0)

    def seed(self, seed: int, epoch: int) -> None:
        """Draws depend on (seed, epoch) alone, so that a resumed run repeats them."""
        generators = [self.random, *([self.erase.generator] if self.erase else [])]
        for number, generator in enumerate(generators):
            generator.state.assign(np.array([seed, (epoch << 20) + (number << 19)], "uint32"))

    def call(self, images):
        count = ops.shape(images)[0]
        offsets = keras.random.randint((2, count, 1), -self.shift, self.shift + 1, seed=self.random)
        positions = offsets + ops.arange(self.side, dtype="int32")
        rows, columns = positions[0], positions[1]
        first = ops.arange(count, dtype="int32")[:, None, None] * self.side
        rows, columns = self.inside(rows, self.side), self.inside(columns, self.side)
        index = (first + rows[:, :, None]) * self.side + columns[:, None, :]
        shifted = ops.cast(ops.take(ops.reshape(images, (-1, 3)), index, axis=0), "float32")
        return self.erase(shifted, training=True) if self.erase else shifted

    def compute_output_shape(self, input_shape):
        return input_shape


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
    """Trains a CIFAR net of the paper on CIFAR-10 and folds it into the paper's plain layers.

    The folder gets `log.csv` and `curve.png` after each epoch, `checkpoint.npz` from which a run that was stopped or
    killed goes on, and at the end `<variant>.weights.h5` and `result.json`. A finished run started again does nothing.
    A recipe with whitening or teachers adds `zca.npz` or `answers.npy`, what is computed before the first epoch.

    On JAX it trains in as many processes as `keras.distribution` joins (`examples/train_distributed.py`): each is
    called with the same arguments and a folder that all see, takes its part of each batch, and the first writes.

    Args:
        variant: a net for 32x32 images.
        recipe: a name of `RECIPES`, or a `Recipe`.
        data: what `load_cifar10` takes, or its result: uint8 images `[N, 32, 32, 3]` and labels 0..9, `[N]` or `[N, 1]`
            (so `keras.datasets.cifar10.load_data()` does).
        epochs: another number than the recipe's, divided among its phases as before.
        seed: of the initial weights, the order of the images and their augmentation.
        output_dir: folder of the run; None means `<variant>-<data set>-<recipe>-seed<seed>` in the current folder, with
            `-epochs<epochs>` and `-heldout<held_out>` where they are given. A `Recipe` of your own is called "custom".
        precision: "float32", "mixed_bfloat16", or "auto": the latter on accelerators and on processors with
            instructions for bfloat16, else the former.
        held_out: how many of the last training images to leave out of training and measure top-1 on, for choices
            that must not see the test images; 0 means to train on all and measure on the test images. Not with a
            recipe that builds on published weights, which have seen them.

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
    return _fit("cifar10", variant, recipe, data, epochs, seed, output_dir, precision, held_out)


def fit_cifar100(
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
    """Trains a CIFAR net of the paper on CIFAR-100, with its fine labels, as `fit_cifar10` does on CIFAR-10.

    Args:
        variant: a net for 32x32 images.
        recipe: a name of `RECIPES`, or a `Recipe`.
        data: what `load_cifar100` takes, or its result: uint8 images `[N, 32, 32, 3]` and labels 0..99, `[N]` or
            `[N, 1]`.
        epochs: as in `fit_cifar10`, and so are the others.
        seed: the same.
        output_dir: the same.
        precision: the same.
        held_out: the same.

    Returns:
        The plain net with 100 classes, its file and its top-1 accuracy.

    Raises:
        ValueError: an argument is not one of those above, or the folder holds another run.
        FloatingPointError: the loss is no longer finite.
        OSError: the data cannot be read or downloaded, or the folder cannot be written.

    Example:
        >>> import allconvnet
        >>> result = allconvnet.fit_cifar100("all_cnn_c", recipe="fast", output_dir="runs/cifar100")
        >>> result.model.count_params()
        1387108
    """
    return _fit("cifar100", variant, recipe, data, epochs, seed, output_dir, precision, held_out)


def _fit(
    dataset: str,
    variant: str,
    recipe: str | Recipe,
    data,
    epochs: int | None,
    seed: int,
    output_dir,
    precision,
    held_out,
) -> FitResult:
    spec = get_spec(variant)
    if spec.side != 32:
        raise ValueError(
            message(
                "This net is not made for CIFAR images",
                received=f"variant={variant!r}, for {spec.side}x{spec.side}",
                allowed="the nets for 32x32 images",
            )
        )
    if precision not in ("auto", *_PRECISIONS):
        allowed = listed(("auto", *_PRECISIONS))
        raise ValueError(message("Unknown precision", received=f"precision={precision!r}", allowed=allowed))
    for name, value, least in (
        ("epochs", 1 if epochs is None else epochs, 1),
        ("seed", seed, 0),
        ("held_out", held_out, 0),
    ):
        check_number(name, value, least, whole=True)
    epochs, seed, held_out = epochs and int(epochs), int(seed), int(held_out)
    process, _ = processes()
    classes = class_names(dataset)
    label = recipe if isinstance(recipe, str) else "custom"
    recipe = _recipe(recipe, epochs, spec)
    _check_built_on(recipe, dataset, variant, held_out)
    train, test = _checked(data if isinstance(data, (tuple, list)) else load(dataset, data), len(classes))
    if len(train[0]) - held_out < recipe.batch_size:
        raise ValueError(
            message(
                "Too few images are left to train on",
                received=f"{len(train[0])} training images, held_out={held_out}",
                allowed=f"a batch of {recipe.batch_size} or more besides those held out",
                next_step="Pass more images, hold out fewer, or use a recipe with a smaller batch_size.",
            )
        )
    policy = _native_precision() if precision == "auto" else precision
    own = f"{f'-epochs{epochs}' if epochs else ''}{f'-heldout{held_out}' if held_out else ''}"
    folder = Path(output_dir or f"{variant}-{dataset}-{label}-seed{seed}{own}").expanduser()
    checksum = 0
    for part in (*train, *test):
        checksum = zlib.crc32(np.ascontiguousarray(part), checksum)
    if held_out:
        test = tuple(part[-held_out:] for part in train)
        train = tuple(part[:-held_out] for part in train)
    run = {
        "dataset": dataset,
        "variant": variant,
        "recipe": json.loads(json.dumps(asdict(replace(recipe, source="")))),
        "seed": seed,
        "images": len(train[0]),
        "precision": policy,
        "backend": keras.backend.backend(),
        "data_crc32": checksum,
    }
    # A net whose own table row normalises otherwise keeps to it: the ancestor divides by 255.
    constants = dataset if spec.normalization == "cifar10" else spec.normalization
    net = {
        "normalization": NORMALIZATION["none" if recipe.whiten else constants],
        "input_shape": (None, None, 3),
        "classes": len(classes),
    }
    whitening = None
    if recipe.whiten:
        whitening = _whitening(folder, train[0])
        train, test = ((whitening.apply(global_contrast_normalize(images)), labels) for images, labels in (train, test))
    file = folder / f"{variant}.weights.h5"
    trained, history = _train(run, recipe, net, train, folder, file)
    with undistributed():
        if trained is not None and process == 0:
            plain = models.build(spec, **net)
            models.fold_batch_norm(trained, plain)
            models.save_weights(plain, file, variant=variant, class_names=classes)
    wait_for_others()
    with undistributed():
        model = models.AllConvNet(variant, weights=file)
        split = "held out" if held_out else "test"
        result = _result(folder / "result.json", run, recipe, label, model, test, split, process)
    return FitResult(model, file, history, result["top1"], result["split"], result["test_images"], whitening)


def _completed(recipe: dict) -> dict:
    """A recipe in a file of a run, with the defaults of those fields that are newer than the file."""
    return json.loads(json.dumps(asdict(Recipe(source="", phases=())))) | recipe


def _whitening(folder: Path, images: np.ndarray) -> ZCA:
    """That of the run in the folder, else fitted to the images."""
    path = folder / "zca.npz"
    if path.exists() and (folder / "checkpoint.npz").exists():  # Which says whose it is.
        return ZCA.load(path)
    whitening = ZCA.fit(global_contrast_normalize(images))
    if processes()[0] == 0:
        folder.mkdir(parents=True, exist_ok=True)
        whitening.save(path)
    return whitening


def _is_phase(phase: tuple[int, int], least: int) -> bool:
    pair = isinstance(phase, (tuple, list)) and len(phase) == 2 and all(isinstance(part, Integral) for part in phase)
    return pair and phase[0] >= 1 and phase[1] >= least


def evaluate_top1(model: keras.Model, images: np.ndarray, labels: np.ndarray, *, batch_size: int = 250) -> float:
    """Top-1 accuracy in percent: single crop, no test-time augmentation.

    Args:
        model: one score a class out.
        images: what the model takes, `[N, height, width, channels]`.
        labels: integers `[N]` or `[N, 1]`.
        batch_size: images at a time; does not change the result.

    Returns:
        Percent of the images whose highest score is that of their label.

    Raises:
        ValueError: not one label an image.

    Example:
        >>> import allconvnet, numpy as np
        >>> model = allconvnet.AllConvNet("all_cnn_c")
        >>> allconvnet.evaluate_top1(model, np.zeros((2, 32, 32, 3), "uint8"), np.array([10, 10]))
        0.0
    """
    if len(images) != np.size(labels) or not len(images):
        raise ValueError(
            message("There must be one label an image", received=f"{len(images)} images, {np.size(labels)} labels")
        )
    scores = model.predict(**whole(images, batch_size), verbose="auto" if len(images) > 1000 else 0)
    return 100 * float(np.mean(np.argmax(scores, axis=-1) == np.ravel(labels)))


def _recipe(recipe: str | Recipe, epochs: int | None, spec: Spec) -> Recipe:
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(message("Unknown recipe", received=f"recipe={recipe!r}", allowed=listed(RECIPES)))
        recipe = RECIPES[recipe]
    for field, table in (("schedule", _SCHEDULES), ("fill", _FILLS), ("flip", _FLIPS)):
        if getattr(recipe, field) not in table:
            raise ValueError(
                message(f"Unknown {field}", received=f"{field}={getattr(recipe, field)!r}", allowed=listed(table))
            )
    defaults = {field.name: field.default for field in fields(Recipe)}
    for field, (least, greatest) in _RANGES.items():
        check_number(field, getattr(recipe, field), least, greatest, whole=isinstance(defaults[field], int))
    if not recipe.phases or not all(_is_phase(phase, spec.min_side) for phase in recipe.phases):
        raise ValueError(
            message(
                "Impossible phases",
                received=f"phases={recipe.phases!r}",
                allowed=f"((epochs, side), ...), an epoch or more, images of {spec.min_side}x{spec.min_side} or more",
            )
        )
    if recipe.muon_rate and not (recipe.batch_norm and recipe.nesterov):
        raise ValueError(
            message(
                "Muon rescales kernels, and its momentum is Nesterov's",
                received=f"muon_rate={recipe.muon_rate}, batch_norm={recipe.batch_norm}, nesterov={recipe.nesterov}",
                allowed="batch_norm=True and nesterov=True with it",
                next_step="Use muon_rate=0 for SGD on all variables.",
            )
        )
    drops = list(recipe.drops)
    if recipe.schedule == "steps" and (not drops or drops[0] < 1 or drops != sorted(drops)):
        raise ValueError(
            message(
                "Impossible drops",
                received=f"drops={recipe.drops!r}",
                allowed='with schedule="steps" one or more numbers of epochs, 1 or more, in order',
            )
        )
    return recipe if epochs is None else recipe.resized(epochs)


def _check_built_on(recipe: Recipe, dataset: str, variant: str, held_out: int) -> None:
    """Published weights take pixels of one data set, and have seen all of its training images."""
    for field, names in (("start", [] if recipe.start == "" else [recipe.start]), ("teachers", recipe.teachers)):
        if (
            not isinstance(names, (tuple, list))
            or not all(isinstance(name, str) and name in WEIGHTS for name in names)
            or len(set(names)) < len(names)
        ):
            raise ValueError(
                message(
                    f"Impossible {field}",
                    received=f"{field}={getattr(recipe, field)!r}",
                    allowed={"start": "'' or a name", "teachers": "a tuple of names, each once,"}[field]
                    + " of list_weights(), such as 'all_cnn_c.cifar10_v4'",
                )
            )
    records = [WEIGHTS[name] for name in recipe._built_on]
    received = listed(recipe._built_on)
    objections = {
        "Training starts from weights of the same net": (
            recipe.start and records[0].variant != variant,
            f"start={recipe.start!r}, variant={variant!r}",
        ),
        "A recipe builds on weights of the data set that it trains on": (
            any(record.dataset != dataset for record in records),
            f"{received} for {dataset!r}",
        ),
        "Published weights take pixels, not whitened images": (
            recipe.whiten and records,
            f"whiten=True with {received}",
        ),
        "Published weights have been trained on the images held out": (
            held_out and records,
            f"held_out={held_out} with {received}",
        ),
    }
    next_step = 'Change that, or use a recipe with start="" and teachers=().'
    for wrong, (holds, what) in objections.items():
        if holds:
            raise ValueError(message(wrong, received=what, next_step=next_step))


def _checked(data: Sequence[Split], classes: int) -> list[Split]:
    """The training and the test images with their labels, `[N]`; `keras.datasets` has them as `[N, 1]`."""
    if [len(split) for split in data] != [2, 2]:
        raise ValueError(
            message(
                "The data are not two splits",
                received=f"{len(data)} parts of {[len(part) for part in data]}",
                allowed="(training images, their labels), (test images, their labels)",
            )
        )
    return [_checked_split(np.asarray(images), np.asarray(labels), classes) for images, labels in data]


def _checked_split(images: np.ndarray, labels: np.ndarray, classes: int) -> Split:
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3) or len(images) != np.size(labels) or not len(images):
        raise ValueError(
            message(
                "These are not CIFAR images with their labels",
                received=f"images {images.dtype} {images.shape}, labels {np.shape(labels)}",
                allowed="uint8 [N, 32, 32, 3], pixels 0..255, and N labels",
            )
        )
    if np.min(labels) < 0 or np.max(labels) >= classes:
        raise ValueError(
            message(
                "A label is out of range",
                received=f"{np.min(labels)} to {np.max(labels)}",
                allowed=f"0 to {classes - 1}",
            )
        )
    return images, np.ravel(labels)


def _on_accelerator() -> bool:
    # Not list_devices("gpu"): with JAX it raises where there is none.
    return any(not device.lower().startswith("cpu") for device in keras.distribution.list_devices())


def _bfloat16_instructions() -> list[str]:
    """What the processor computes bfloat16 products with, by their names in /proc/cpuinfo."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return []
    return sorted({"avx512_bf16", "amx_bf16"} & set(flags))


def _machine() -> str:
    """Processor, cores that may be used, instructions for bfloat16, accelerators."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    accelerators = keras.distribution.list_devices() if _on_accelerator() else []
    return ", ".join([platform.machine(), f"{cores} cores", *_bfloat16_instructions(), *accelerators])


def _native_precision() -> str:
    """The dtype policy that the processor, or an accelerator if there is one, is fastest in."""
    return "mixed_bfloat16" if _on_accelerator() or _bfloat16_instructions() else "float32"


def _optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    schedule = _SCHEDULES[recipe.schedule]
    if not recipe.muon_rate:
        return keras.optimizers.SGD(schedule(recipe, recipe.sgd_rate, steps), recipe.sgd_momentum, recipe.nesterov)
    return ConvMuon(
        schedule(recipe, recipe.muon_rate, steps),
        recipe.muon_momentum,
        sgd_ratio=recipe.sgd_rate / recipe.muon_rate,
        sgd_momentum=recipe.sgd_momentum,
        l2=recipe.l2,
        exclude=("class_conv",),
    )


def _not_finite(what: str, received: str) -> FloatingPointError:
    next_step = "Lower the recipe's muon_rate and sgd_rate, and train it in another output_dir."
    return FloatingPointError(message(f"{what} no longer finite", received=received, next_step=next_step))


class _StopAtNaN(keras.callbacks.Callback):
    """Ends the run in the step in which the loss is no longer finite."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise _not_finite(f"In step {batch + 1} of epoch {self.epoch} the loss is", f"loss={loss}")


def _train(
    run: dict, recipe: Recipe, net: dict, train: Split, folder: Path, file: Path
) -> tuple[keras.Model | None, list[dict[str, float]]]:
    """Trains, or goes on training, in `folder`; no model when `file` is there already."""
    images, labels = train
    seed = run["seed"]
    steps = len(images) // recipe.batch_size
    keras.utils.set_random_seed(seed)
    trunk = models.build(
        get_spec(run["variant"]),
        **net,
        classifier_activation=None,
        batch_norm=recipe.batch_norm,
        dropout=recipe.dropout,
        # Keras' penalty is l2 / 2 times the square; ConvMuon adds its gradient itself.
        l2=0.0 if recipe.muon_rate else recipe.l2 / 2,
        dtype=run["precision"],
    )
    optimizer = _optimizer(recipe, steps)
    optimizer.build(trunk.trainable_variables)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    # On a CPU XLA makes a step slower (benchmarks/training.py), and it compiles for each size of images.
    jit = False if keras.backend.backend() == "tensorflow" and not _on_accelerator() else "auto"
    checkpoint = folder / "checkpoint.npz"
    variables = [*trunk.variables, *optimizer.variables]
    history = _restore(checkpoint, run, variables)
    if not history and processes()[0] == 0:
        file.unlink(missing_ok=True)  # Another run's, whose checkpoint is gone: it must not be taken for this one's.
    if file.exists() and len(history) == recipe.epochs:
        return None, history
    if recipe.start and not history:
        with undistributed():
            models.unfold_batch_norm(_published(recipe.start), trunk, images[:256])
    if recipe.teachers:
        targets = _answers(folder, recipe, images, seed, run["precision"])
    else:
        targets = keras.utils.to_categorical(labels, net["classes"])
    sides = [side for epochs, side in recipe.phases for _ in range(epochs)]
    model = None
    for epoch in range(len(history), recipe.epochs):
        started = time.perf_counter()
        if model is None or sides[epoch] != sides[epoch - 1]:
            side = sides[epoch]
            scaled = _scaled(images, side)
            color = NORMALIZATION["none" if recipe.whiten else run["dataset"]][0]
            augment = _Augment(side, round(recipe.shift * side / 32), recipe.fill, recipe.erase, color)
            inputs = keras.Input(scaled.shape[1:], dtype=scaled.dtype.name)
            model = keras.Model(inputs, trunk(augment(inputs)))
            model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit)
        order = np.random.default_rng((seed, epoch)).permutation(len(images))[: steps * recipe.batch_size]
        augment.seed(seed, epoch)
        print(f"Epoch {epoch + 1}/{recipe.epochs}, {sides[epoch]}x{sides[epoch]}, {run['precision']}", flush=True)
        shown = _shown(scaled, order, _mirrored(recipe.flip, len(images), seed, epoch))
        callbacks = [_StopAtNaN(epoch + 1)]
        logs = model.fit(**batches(shown, targets[order], recipe.batch_size), callbacks=callbacks).history
        row = {"epoch": epoch + 1, "side": sides[epoch], "loss": logs["loss"][0], "accuracy": logs["accuracy"][0]}
        history.append(row | {"seconds": round(time.perf_counter() - started, 1)})
        values = [ops.convert_to_numpy(variable) for variable in variables]
        if not all(np.isfinite(value).all() for value in values):
            raise _not_finite(f"After the last step of epoch {epoch + 1} the weights are", f"loss={row['loss']}")
        if processes()[0] == 0:
            # The checkpoint is the last: what it counts is in the log.
            _write_log(folder / "log.csv", history)
            _draw_curve(folder / "curve.png", history, run)
            _save(checkpoint, run, values, history)
    return trunk, history


def _published(name: str) -> keras.Model:
    record = weights_info(name)
    return models.AllConvNet(record.variant, weights=record.tag, name=name.replace(".", "_"))


def _answers(folder: Path, recipe: Recipe, images: np.ndarray, seed: int, precision: str) -> np.ndarray:
    """The teachers' mean answers: those in the folder of the run, else computed; float32 `[N, classes]`."""
    path = folder / "answers.npy"
    if path.exists() and (folder / "checkpoint.npz").exists():  # Which says whose they are.
        return np.load(path)
    with undistributed():
        inputs = keras.Input(images.shape[1:], dtype=images.dtype.name)
        augment = _Augment(images.shape[1], recipe.shift, recipe.fill, 0.0, ())
        shifted, outputs = augment(inputs), []
        for name in recipe.teachers:
            record, plain = weights_info(name), _published(name)
            net = {"normalization": NORMALIZATION[record.dataset], "input_shape": plain.input_shape[1:]}
            # As `plain`, in the precision that is fast.
            teacher = models.build(
                get_spec(record.variant), **net, classes=record.classes, dtype=precision, name=plain.name
            )
            teacher.set_weights(plain.get_weights())
            outputs.append(teacher(shifted))
        model = keras.Model(inputs, ops.mean(ops.stack(outputs), axis=0))
        answers = np.zeros((len(images), outputs[0].shape[-1]), "float32")
        views = (images, images[:, :, ::-1])
        for number, view in enumerate(views):
            print(f"Answers of {len(outputs)} teachers, {number + 1}/{len(views)}", flush=True)
            augment.seed(seed, recipe.epochs + number)
            answers += model.predict(**whole(view, 250)) / len(views)
    if processes()[0] == 0:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, answers)
    return answers


def _scaled(images: np.ndarray, side: int) -> np.ndarray:
    """The images at another size, each pixel the mean of what it covers."""
    if images.shape[1] == side:
        return images
    return np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images])


def _mirrored(flip: str, count: int, seed: int, epoch: int) -> np.ndarray:
    """Which images are mirrored in an epoch: bool `[count]`."""
    if flip == "none":
        return np.zeros(count, bool)
    if flip == "random":
        return np.random.default_rng((seed, epoch, 1)).random(count) < 0.5
    return (np.random.default_rng(seed).random(count) < 0.5) ^ bool(epoch % 2)


def _shown(images: np.ndarray, order: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """The images in the order of an epoch, some of them mirrored."""
    shown, mirrored = images[order], mirrored[order]
    shown[mirrored] = shown[mirrored, :, ::-1]
    return shown


def _save(path: Path, run: dict, values: Sequence[np.ndarray], history: list[dict]) -> None:
    arrays = {f"variable_{number}": value for number, value in enumerate(values)}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, state=json.dumps({"run": run, "history": history}), **arrays)


def _restore(path: Path, run: dict, variables: Sequence) -> list[dict]:
    """Fills the variables from a checkpoint and returns its history; [] when there is none."""
    if not path.exists():
        return []
    with np.load(path) as saved:
        state = json.loads(str(saved["state"]))
        there, wanted = ({**one, **_completed(one["recipe"]), "recipe": None} for one in (state["run"], run))
        different = {key: (there.get(key), wanted[key]) for key in wanted if there.get(key) != wanted[key]}
        if different:
            raise ValueError(
                message(
                    "The folder holds another run",
                    received=f"{str(path.parent)!r}, with (there, asked for) {different}",
                    next_step="Pass what is there (such as precision=...) to go on with it, or another output_dir.",
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


def _result(
    path: Path, run: dict, recipe: Recipe, label: str, model: keras.Model, test: Split, split: str, process: int
) -> dict:
    """Measures top-1 of a finished run, once: the file that says so is read the next time."""
    wanted = {"split": split, "test_images": len(test[0]), **run}
    if path.exists():
        result = json.loads(path.read_text())
        if wanted.items() <= (result | {"recipe": _completed(result["recipe"])}).items():
            return result
    result = wanted | {
        "top1": round(evaluate_top1(model, *test), 4),
        "params": model.count_params(),
        "cost": round(recipe.cost(run["variant"]), 4),
        "recipe_name": label,
        "versions": ", ".join([*(f"{name} {version(name)}" for name in ("keras", run["backend"])), run["precision"]]),
        "machine": _machine(),
    }
    if process == 0:
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
