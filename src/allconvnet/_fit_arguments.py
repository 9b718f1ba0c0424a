"""The arguments of `fit_cifar10` and `fit_cifar100`, checked."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from allconvnet._arrays import as_array
from allconvnet._backend import native_precision, processes
from allconvnet._errors import check_choice, check_number, checked_path, unknown
from allconvnet._files import sha256_of
from allconvnet._run import Run
from allconvnet._specs import Variant, get_spec
from allconvnet._weight_files import read_weights, user_file
from allconvnet._weights import CLASS_NAMES
from allconvnet.data import Split, load
from allconvnet.recipes import RECIPES, Recipe

Data = str | os.PathLike[str] | tuple[Split, Split] | None
Precision = Literal["auto", "float32", "mixed_bfloat16"]


@dataclass(frozen=True)
class FitArguments:
    dataset: str
    variant: Variant
    recipe: str | Recipe
    data: Data
    epochs: int | None
    seed: int
    output_dir: str | os.PathLike[str] | None
    precision: str
    held_out: int


def checked_recipe(call: FitArguments) -> Recipe:
    spec = get_spec(call.variant)
    if spec.side != 32:
        raise ValueError(f"{call.variant!r} is made for images of {spec.side}x{spec.side}, not for CIFAR's 32x32.")
    check_choice("precision", call.precision, get_args(Precision))
    check_number("seed", call.seed, 0, 2**32 - 1, whole=True)
    check_number("held_out", call.held_out, 0, whole=True)
    recipe = RECIPES.get(call.recipe) if isinstance(call.recipe, str) else call.recipe
    if not isinstance(recipe, Recipe):
        raise unknown("recipe", call.recipe, RECIPES)
    if recipe.start:
        try:
            found = read_weights(call.variant, recipe.start)
        except ValueError as error:
            raise ValueError(f"The recipe starts from {recipe.start!r}. {error}") from None
        classes, normalization = len(CLASS_NAMES[call.dataset]), spec.normalization_for(call.dataset)
        if found.classes != classes or not np.allclose(found.normalization, normalization):
            raise ValueError(f"The recipe starts from {recipe.start!r}. It must have {classes} classes, and normalize "
                             f"its input as nets for {call.dataset!r}. Received: {found.classes} classes.")  # fmt: skip
        if call.held_out and user_file(recipe.start) is None:
            raise ValueError(f"{recipe.start!r}, from which the recipe starts, is trained on all training images: "
                             f"none can be held out. Received: held_out={call.held_out}.")  # fmt: skip
    recipe = recipe if call.epochs is None else recipe.resized(call.epochs)
    if min(recipe.sides) < spec.min_side:
        raise ValueError(f"{call.variant!r} needs images of {spec.min_side}x{spec.min_side} or more. "
                         f"Received: phases={recipe.phases!r}.")  # fmt: skip
    return recipe


def new_run(call: FitArguments, recipe: Recipe, train: Split, test: Split) -> Run:
    writes = processes()[0] == 0
    label = call.recipe if isinstance(call.recipe, str) else "custom"
    options = {"epochs": call.epochs, "heldout": call.held_out}
    own = "".join(f"-{name}{value}" for name, value in options.items() if value)
    folder = Path(f"{call.variant}-{call.dataset}-{label}-seed{call.seed}{own}")
    if call.output_dir is not None:
        folder = checked_path("output_dir", call.output_dir)
    checksum = 0
    for part in (*train, *test):
        checksum = zlib.crc32(np.ascontiguousarray(part).data, checksum)
    if file := user_file(recipe.start):
        checksum = zlib.crc32(sha256_of(file).encode(), checksum)
    count = len(train[0]) - call.held_out
    if count < recipe.batch_size:
        received = f"{len(train[0])} training images, held_out={call.held_out}, batch_size={recipe.batch_size}"
        raise ValueError(f"Too few images are left to fill a batch. Received: {received}.")
    precision = native_precision() if call.precision == "auto" else call.precision
    return Run(call.dataset, call.variant, recipe, int(call.seed), count, precision, checksum, label, folder, writes)


def checked_data(call: FitArguments) -> list[Split]:
    """The training and the test images with their labels, `[N]`; `keras.datasets` has them as `[N, 1]`."""
    data = call.data
    if not isinstance(data, (tuple, list)):
        data = load(call.dataset, None if data is None else checked_path("data", data))
    if not all(isinstance(split, (tuple, list)) for split in data) or [len(split) for split in data] != [2, 2]:
        allowed = "((training images, labels), (test images, labels))"
        raise ValueError(f"The data are not two splits. Received: {len(data)} parts. Allowed: {allowed}.")
    classes, splits = len(CLASS_NAMES[call.dataset]), []
    for images, labels in ([as_array("data", part) for part in split] for split in data):
        fits = images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3) and labels.dtype.kind in "iu"
        if not fits or not len(images) == labels.size > 0:
            received = f"images {images.dtype} {images.shape}, labels {labels.dtype} {labels.shape}"
            raise ValueError(f"Not CIFAR images. Received: {received}. Allowed: uint8 [N, 32, 32, 3] and N integers.")
        check_labels(labels, classes)
        splits.append((images, np.ravel(labels).astype("int32")))
    return splits


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Raises ValueError unless the integers are 0 to `classes` - 1."""
    if np.min(labels) < 0 or np.max(labels) >= classes:
        received = f"{np.min(labels)} to {np.max(labels)}"
        raise ValueError(f"A label is out of range. Received: {received}. Allowed: 0 to {classes - 1}.")
