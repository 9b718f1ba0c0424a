"""Training: one loop over `model.fit` that reads from top to bottom."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from allconvnet import _backend
from allconvnet._arrays import as_array
from allconvnet._augment import Augment, corrupted, epoch_images, mirrored, scaled
from allconvnet._batch_norm import fold_batch_norm
from allconvnet._errors import check_choice, check_number
from allconvnet._fit_arguments import Data, FitArguments, Precision, check_labels, checked_data, checked_recipe, new_run
from allconvnet._graph import check_model_pixels
from allconvnet._run import Run
from allconvnet._specs import NORMALIZATION, Variant, get_spec
from allconvnet._weight_files import read_weights, save_weights, user_file
from allconvnet._weights import CLASS_NAMES, weights_info
from allconvnet.data import Split
from allconvnet.models import AllConvNet, Form, build
from allconvnet.recipes import RECIPES, Recipe
from allconvnet.whitening import ZCA, global_contrast_normalize

__all__ = ["FitResult", "evaluate_top1", "fit_cifar10", "fit_cifar100"]


@dataclass(frozen=True)
class FitResult:
    """Result of a training run.

    Attributes:
        model: the net of the paper, without batch normalization, with the weights of the file.
        weights: path of the weights file, float16, for `AllConvNet(variant, weights=...)`.
        history: one row per epoch, as in `log.csv`.
        top1: top-1 accuracy on `split` in percent, single crop.
        split: "test", or "held out" for training images that were held out.
        images: number of images in `split`.
        whitening: for a recipe with `whiten`, the whitening fitted to the training images (also in `zca.npz`, written
            with the weights): `model` takes `whitening.apply(global_contrast_normalize(images))`. Otherwise None.
    """

    model: keras.Model
    weights: Path
    history: list[dict[str, float]]
    top1: float
    split: str
    images: int
    whitening: ZCA | None = None


def fit_cifar10(
    variant: Variant = "all_cnn_c",
    *,
    recipe: str | Recipe = "best",
    data: Data = None,
    epochs: int | None = None,
    seed: int = 0,
    output_dir: str | os.PathLike[str] | None = None,
    precision: Precision = "auto",
    held_out: int = 0,
) -> FitResult:
    """Trains a CIFAR net of the paper on CIFAR-10.

    After each epoch, `log.csv` and `checkpoint.npz` are written to the folder of the run, at the end also
    `<variant>.weights.h5` and `result.json`. A run that was stopped or killed continues from its checkpoint when the
    same call is made again; a finished run is not trained again, only measured.

    On JAX, several processes of `keras.distribution` can train one net: each makes the same call, with a folder that
    all can access, and computes a part of every batch (`examples/train_distributed.py`).

    Args:
        variant: name of a net for 32x32 images.
        recipe: a name of `RECIPES`, or a `Recipe`.
        data: the source for `load_cifar10`, or its result, or that of `keras.datasets.cifar10.load_data()`.
        epochs: number of epochs, divided among the phases of the recipe; None means the recipe's own.
        seed: random seed of the initial weights, the order of the images and their augmentation. The call sets the
            random seeds of Python, NumPy and Keras (`keras.utils.set_random_seed`).
        output_dir: folder of the run; None means `<variant>-<data set>-<recipe>-seed<seed>` in the current folder,
            with `-epochs<epochs>` and `-heldout<held_out>` if given. A `Recipe` of your own is called "custom".
        precision: "float32", "mixed_bfloat16", or "auto": mixed bfloat16 on accelerators and on processors with
            instructions for it, else float32.
        held_out: number of training images, the last ones, that are not trained on. Top-1 is measured on them instead
            of on the test images. Use this to choose settings.

    Returns:
        The trained net, its weights file and its top-1 accuracy.

    Raises:
        ValueError: an argument is invalid, the folder has another run, or weights or a result without a checkpoint,
            another run is training in it, or its checkpoint or weights are damaged.
        FloatingPointError: the loss is no longer finite.
        OSError: the data cannot be read or downloaded, or the folder cannot be written.

    Example:
        >>> import allconvnet
        >>> result = allconvnet.fit_cifar10("all_cnn_c", recipe="fast", output_dir="runs/fast")
        >>> result.weights.name
        'all_cnn_c.weights.h5'
    """
    return _fit(FitArguments("cifar10", variant, recipe, data, epochs, seed, output_dir, precision, held_out))


def fit_cifar100(
    variant: Variant = "all_cnn_c",
    *,
    recipe: str | Recipe = "cifar100",
    data: Data = None,
    epochs: int | None = None,
    seed: int = 0,
    output_dir: str | os.PathLike[str] | None = None,
    precision: Precision = "auto",
    held_out: int = 0,
) -> FitResult:
    """Trains a CIFAR net of the paper on CIFAR-100, with its fine labels.

    Arguments, result and errors are those of `fit_cifar10`; `data` is the source for `load_cifar100`, or its result.
    The recipe "cifar100" is "best" with other rates and temperature. The temperatures of the recipes without "cifar100"
    in their names are for CIFAR-10.

    Example:
        >>> import allconvnet
        >>> result = allconvnet.fit_cifar100("all_cnn_c", recipe="fast", output_dir="runs/cifar100")
        >>> result.model.count_params()
        1387108
    """
    return _fit(FitArguments("cifar100", variant, recipe, data, epochs, seed, output_dir, precision, held_out))


def evaluate_top1(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray | Sequence[int],
    *,
    batch_size: int = 250,
    verbose: Literal["auto", 0, 1, 2] = "auto",
) -> float:
    """Top-1 accuracy in percent: single crop, no test-time augmentation.

    Args:
        model: a model that returns one score per class.
        images: what the model takes, `[N, height, width, channels]`.
        labels: integers `[N]` or `[N, 1]`.
        batch_size: images at a time; does not change the result.
        verbose: progress, as in `keras.Model.predict`: 0 none, 1 a bar, 2 a line; "auto" a bar for over 1,000 images.

    Returns:
        Percentage of the images whose highest score is that of their label.

    Raises:
        TypeError: the model cannot predict.
        ValueError: there is not one label per image, a label is out of range, the pixels seem to be divided by 255, or
            the scores are not finite or fewer than two per image.

    Example:
        >>> import allconvnet, numpy as np
        >>> model = allconvnet.AllConvNet("all_cnn_c")
        >>> allconvnet.evaluate_top1(model, np.zeros((10, 32, 32, 3), "uint8"), np.arange(10))
        10.0
    """
    images, labels = as_array("images", images), as_array("labels", labels, whole=True)
    check_number("batch_size", batch_size, 1, whole=True)
    check_choice("verbose", verbose, ["auto", 0, 1, 2])
    count = len(images) if images.ndim else 0
    if not count or labels.shape not in ((count,), (count, 1)):
        received = f"{count} images, {labels.size} labels of shape {labels.shape}"
        raise ValueError(f"There must be one label per image. Received: {received}.")
    check_model_pixels(model, images)
    progress = int(len(images) > 1000) if verbose == "auto" else verbose
    scores = model.predict(**_backend.prediction_batches(images, batch_size), verbose=progress)
    shape = getattr(scores, "shape", None)  # None: several outputs.
    if not shape or len(shape) != 2 or shape[1] < 2:
        received = f"shape {shape}" if shape else type(scores).__name__
        raise ValueError(f"The model must return scores [N, 2 or more classes]. Received: {received}.")
    if not np.isfinite(scores).all():
        raise ValueError("The scores of the model are infinite or not a number.")
    check_labels(labels, scores.shape[1])
    return 100 * float(np.mean(np.argmax(scores, axis=-1) == np.ravel(labels)))


def _fit(call: FitArguments) -> FitResult:
    _backend.check_gradients()
    recipe = checked_recipe(call)
    train, test = checked_data(call)
    run = new_run(call, recipe, train, test)
    with run.locked():
        return _fit_in_folder(run, train, test, call.held_out)


def _fit_in_folder(run: Run, train: Split, test: Split, held_out: int) -> FitResult:
    recipe, spec = run.recipe, get_spec(run.variant)
    split = "held out" if held_out else "test"
    if held_out:
        test = train[0][-held_out:], train[1][-held_out:]
        train = train[0][:-held_out], train[1][:-held_out]
    whitening = ZCA.fit(global_contrast_normalize(train[0])) if recipe.whiten else None
    if whitening:
        train, test = ((whitening.apply(global_contrast_normalize(images)), labels) for images, labels in (train, test))
    classes = CLASS_NAMES[run.dataset]
    normalization = NORMALIZATION["none"] if recipe.whiten else spec.normalization_for(run.dataset)
    form = Form((None, None, 3), normalization, len(classes))
    trained, history = _train(run, form, train)
    with _backend.undistributed():
        if trained is not None and run.writes:
            if whitening:
                whitening.save(run.folder / "zca.npz")
            plain = build(spec, form)
            fold_batch_norm(trained, plain)
            if recipe.start:
                # Halfway between both, a net keeps more of what it could before (arXiv:2109.01903).
                pairs = zip(_start(run), plain.get_weights(), strict=True)
                plain.set_weights([(before + after) / 2 for before, after in pairs])
            end = plain.get_layer("class_conv")
            end.set_weights([part / recipe.temperature for part in end.get_weights()])
            save_weights(plain, run.weights, variant=run.variant, class_names=classes)
    _backend.wait_for_others()
    with _backend.undistributed():
        model = AllConvNet(run.variant, weights=run.weights)
        top1 = round(evaluate_top1(model, *test), 4)
        if run.writes and (trained is not None or not run.result.exists()):
            run.write_result(split, len(test[0]), top1, model.count_params())
    return FitResult(model, run.weights, history, top1, split, len(test[0]), whitening)


def _train(run: Run, form: Form, train: Split) -> tuple[keras.Model | None, list[dict[str, float]]]:
    """Trains, or goes on training, in the folder of the run; no model when its weights are there already."""
    images, labels = train
    recipe, seed, steps = run.recipe, run.seed, len(images) // run.recipe.batch_size
    keras.utils.set_random_seed(seed)
    net, optimizer = _net(run, form), recipe.optimizer(steps)
    optimizer.build(net.trainable_variables)
    variables = [*net.variables, *optimizer.variables]
    history = run.restore(variables)
    if run.weights.exists() and len(history) == recipe.epochs:
        return None, history
    targets = keras.utils.to_categorical(labels, form.classes)
    # The mean color of the data set, by which erased squares are gray also for a net that divides by 255.
    color = NORMALIZATION["none" if recipe.whiten else run.dataset][0]
    model = None
    for epoch in range(len(history), recipe.epochs):
        started, side = time.perf_counter(), recipe.sides[epoch]
        if model is None or side != recipe.sides[epoch - 1]:
            small, augment = scaled(images, side), Augment(recipe, side, color)
            inputs = keras.Input(small.shape[1:], dtype=small.dtype.name)
            model = keras.Model(inputs, net(augment(inputs)))
            loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
            model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=_backend.jit_compile())
        order = np.random.default_rng((seed, epoch)).permutation(len(images))[: steps * recipe.batch_size]
        augment.seed(seed, epoch)
        print(f"Epoch {epoch + 1}/{recipe.epochs}, {side}x{side}, {run.precision}", flush=True)
        if recipe.corrupt:
            small = scaled(corrupted(images, recipe.corrupt, seed, epoch), side)
        shown = epoch_images(small, order, mirrored(recipe.flip, len(images), seed, epoch))
        callbacks = [keras.callbacks.TerminateOnNaN()]
        logs = model.fit(**_backend.batches(shown, targets[order], recipe.batch_size), callbacks=callbacks).history
        row = {"epoch": epoch + 1, "side": side, "loss": logs["loss"][0], "accuracy": logs["accuracy"][0]}
        history.append(row | {"seconds": round(time.perf_counter() - started, 1)})
        run.save(variables, history)
    return net, history


def _net(run: Run, form: Form) -> keras.Model:
    """The net as it is trained: logits, batch normalization, dropout and weight decay of the recipe."""
    recipe = run.recipe
    # Keras' penalty is l2 / 2 times the square; ConvMuon adds its gradient itself.
    l2 = keras.regularizers.L2(recipe.l2 / 2) if recipe.l2 and not recipe.muon_rate else None
    form = replace(form, classifier_activation=None, batch_norm=recipe.batch_norm, dropout=recipe.dropout)
    net = build(get_spec(run.variant), replace(form, regularizer=l2, dtype=run.precision))
    if recipe.start:
        net.set_weights(_start(run))
    return net


def _start(run: Run) -> list[np.ndarray]:
    """The weights that the recipe starts from; published ones as they were before the logits were divided."""
    variant, start, temperature = run.variant, run.recipe.start, 1.0
    if user_file(start) is None:
        name = f"{variant}.{start.removeprefix(f'{variant}.')}"
        temperature = RECIPES[weights_info(name).recipe].temperature
    *body, kernel, bias = (part for pair in read_weights(variant, start).convolutions for part in pair)
    return [*body, temperature * kernel, temperature * bias]
