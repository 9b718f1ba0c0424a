"""The published weights: one record for each table of `weights/index.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allconvnet._errors import unknown
from allconvnet._specs import NORMALIZATION, Variant, get_spec

__all__ = ["Weights", "list_weights", "weights_info"]

FOLDER = Path(__file__).parent / "weights"
# The data sets that weights are trained on; each has a row in NORMALIZATION.
_CLASSES = tomllib.loads((FOLDER / "classes.toml").read_text(encoding="utf-8"))
CLASS_NAMES = {dataset: tuple(names) for dataset, names in _CLASSES.items()}
CIFAR10_CLASSES, CIFAR100_CLASSES = CLASS_NAMES["cifar10"], CLASS_NAMES["cifar100"]


@dataclass(frozen=True)
class Weights:
    """One published weights file.

    Attributes:
        variant: name of the net, one of `list_variants()`.
        tag: data set and version, such as "cifar10_v1". From version 1.2.0 on, a published tag never changes.
        sha256: SHA-256 of the file, hexadecimal.
        size: size of the file in bytes.
        params: number of parameters of the net.
        top1: top-1 accuracy in percent, single crop, no test-time augmentation.
        split: images on which `top1` was measured.
        images: number of those images.
        recipe: name of the training recipe, one of `RECIPES`.
        epochs: passes over the training images.
        cost: `epochs`, weighted by pixels: an epoch of 16x16 images counts as a quarter of one of 32x32.
        seconds: duration of the training; several runs may have shared the machine.
        machine: processor architecture, cores, instructions for bfloat16, and accelerators.
        seed: random seed of the training run.
        versions: libraries and precision of the training run.
        default: whether the data set's name alone, such as "cifar10", means these weights.
        license: license of the file.
    """

    variant: Variant
    tag: str
    sha256: str
    size: int
    params: int
    top1: float
    split: str
    images: int
    recipe: str
    epochs: int
    cost: float
    seconds: float
    machine: str
    seed: int
    versions: str
    default: bool = False
    license: str = "MIT"

    @property
    def name(self) -> str:
        """Full name, `variant.tag`."""
        return f"{self.variant}.{self.tag}"

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.name}.weights.h5"

    @property
    def dataset(self) -> str:
        """Name of the data set, "cifar10", "cifar100" or "transfer" (CIFAR-10 and 50 classes of CIFAR-100)."""
        return self.tag.partition("_")[0]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return CLASS_NAMES[self.dataset]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


_TABLES: dict[Any, Any] = tomllib.loads((FOLDER / "index.toml").read_text(encoding="utf-8"))
WEIGHTS: dict[str, Weights] = {name: Weights(*name.split("."), **table) for name, table in _TABLES.items()}


def list_weights(variant: str | None = None) -> list[str]:
    """Names of the published weights.

    Args:
        variant: only the weights of this net; None means all.

    Returns:
        Full names, `variant.tag`.

    Raises:
        ValueError: `variant` is not a net.

    Example:
        >>> import allconvnet
        >>> allconvnet.list_weights("model_a")
        ['model_a.cifar10_v1']
    """
    if variant is not None:
        get_spec(variant)
    return [name for name, record in WEIGHTS.items() if variant in (None, record.variant)]


def weights_info(name: str) -> Weights:
    """The record of published weights: size, hash, accuracy, recipe, license.

    Args:
        name: full name, `variant.tag`; without a version, as in "all_cnn_c.cifar10", the default for that data set.

    Returns:
        The record.

    Raises:
        ValueError: there are no such weights.

    Example:
        >>> import allconvnet
        >>> allconvnet.weights_info("all_cnn_c.cifar10").params
        1369738
    """
    names = WEIGHTS | {f"{record.variant}.{record.dataset}": record for record in WEIGHTS.values() if record.default}
    if not isinstance(name, str) or name not in names:
        raise unknown("weights", name, WEIGHTS)
    return names[name]


def attributes(weights: object) -> dict[str, tuple]:
    """`mean`, `std` and `class_names` of published weights, by data set, tag or full name."""
    tags = {tag for record in WEIGHTS.values() for tag in (record.dataset, record.tag)}
    names = {f"{record.variant}.{tag}" for record in WEIGHTS.values() for tag in (record.dataset, record.tag)}
    if not isinstance(weights, str) or weights not in tags | names:
        raise unknown("weights", weights, tags)
    variant, _, tag = weights.rpartition(".")
    dataset = tag.partition("_")[0]
    mean, std = get_spec(variant).normalization_for(dataset) if variant else NORMALIZATION[dataset]
    return {"mean": mean, "std": std, "class_names": CLASS_NAMES[dataset]}
