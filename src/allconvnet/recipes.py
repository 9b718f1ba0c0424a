"""Training recipes as a table: `RECIPES`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal

import keras
from keras.optimizers import schedules

from allconvnet._errors import check_choice, check_flag, check_number, shortened
from allconvnet._optimizers import ConvMuon, LinearWarmupDecay

__all__ = ["RECIPES", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """How a net is trained. A recipe with invalid values raises ValueError when it is created.

    Attributes:
        start: weights to start from: the tag of published ones, which are taken without their temperature, or the path
            of a file, as a string; "" means random weights. With a start, the result is the mean of these and the
            trained weights (https://arxiv.org/abs/2109.01903).
        phases: pairs (epochs, side of the images in pixels), in order; the images are scaled to that side.
        batch_size: images in a step. An incomplete last batch of an epoch is dropped.
        batch_norm: whether to train with batch normalization after each convolution; it is folded away at the end.
        dropout: whether to train with the paper's dropout layers.
        whiten: whether to apply global contrast normalization (to a norm of 55) and ZCA whitening to the images.
        flip: which images are mirrored: "none"; "random", a random half in each epoch; or "alternating", a random half
            in even epochs and the other half in odd ones.
        shift: largest shift up, down, left and right, in pixels of a 32x32 image.
        fill: what fills the border of a shifted image: "reflect" for its reflection, "edge" for its edge pixels.
        erase: fraction of the image area covered by a gray square, 0 to 1.
        corrupt: probability, 0 to 1, of each of blur, noise and JPEG compression, drawn independently for an image.
        muon_rate: peak learning rate of Muon, for all kernels except that of the class convolution; 0 means only SGD.
        muon_momentum: Nesterov momentum of Muon.
        sgd_rate: peak learning rate of SGD, for all other variables.
        sgd_momentum: momentum of SGD.
        nesterov: whether the momentum of SGD is Nesterov's.
        l2: L2 regularization of the kernels that SGD trains: `l2` times the kernel is added to its gradient.
        schedule: how the learning rates change: "linear", "steps" or "inverse_time".
        warmup: for "linear": fraction of the steps, 0 to 1, in which the rates rise from 0; then they fall to 0.
        drops: for "steps": epochs after which the rates are multiplied by 0.1.
        decay: for "inverse_time": the rates are divided by 1 + `decay` times the number of steps done.
        label_smoothing: weight of the uniform distribution in the targets, 0 to 1.
        temperature: the class convolution of the trained net is divided by it, so that probabilities match accuracies
            (https://arxiv.org/abs/1706.04599). The right value depends on the data set and on the other
            fields, most on `label_smoothing`.

    Example:
        >>> import allconvnet, dataclasses
        >>> recipe = dataclasses.replace(allconvnet.RECIPES["fast"], batch_size=128)
        >>> recipe.epochs
        6
    """

    phases: tuple[tuple[int, int], ...]
    start: str = ""
    batch_size: int = 256
    batch_norm: bool = True
    dropout: bool = False
    whiten: bool = False
    flip: Literal["none", "random", "alternating"] = "alternating"
    shift: int = 4
    fill: Literal["reflect", "edge"] = "reflect"
    erase: float = 0.0
    corrupt: float = 0.0
    muon_rate: float = 0.15
    muon_momentum: float = 0.6
    sgd_rate: float = 0.2
    sgd_momentum: float = 0.9
    nesterov: bool = True
    l2: float = 5e-4
    schedule: Literal["linear", "steps", "inverse_time"] = "linear"
    warmup: float = 0.1
    drops: tuple[int, ...] = ()
    decay: float = 0.0
    label_smoothing: float = 0.1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for field, allowed in _CHOICES.items():
            check_choice(field, getattr(self, field), allowed)
        for field in ("batch_norm", "dropout", "whiten", "nesterov"):
            check_flag(field, getattr(self, field))
        for limits, names in _RANGES.items():
            for field in names:
                check_number(field, getattr(self, field), *limits, whole=isinstance(getattr(Recipe, field), int))
        if not isinstance(self.phases, (tuple, list)) or not self.phases or not all(map(_is_phase, self.phases)):
            allowed = f"((epochs, side), ...), whole numbers from 1 to {_LARGEST}"
            raise ValueError(f"Invalid phases. Received: phases={shortened(self.phases)}. Allowed: {allowed}.")
        if self.muon_rate and not (self.batch_norm and self.nesterov):
            raise ValueError("Muon needs batch_norm=True and nesterov=True. Use muon_rate=0 for SGD everywhere.")
        if self.whiten and self.corrupt:
            raise ValueError(f"Whitened images cannot be corrupted. Received: whiten=True, corrupt={self.corrupt}.")
        if not isinstance(self.start, str) or "://" in self.start or (self.start and (self.whiten or self.batch_norm)):
            received = f"{type(self.start).__name__}, whiten={self.whiten}, batch_norm={self.batch_norm}"
            raise ValueError("start must be a tag or a path, as a string and not a URL, and needs whiten=False and "
                             f"batch_norm=False. Received: {received}.")  # fmt: skip
        drops = list(self.drops) if isinstance(self.drops, (tuple, list)) else [0]
        whole = all(isinstance(drop, Integral) and drop >= 1 for drop in drops)
        if not whole or drops != sorted(drops) or (self.schedule == "steps" and not drops):
            received = f"drops={shortened(self.drops)}"
            raise ValueError(f'schedule="steps" needs drops of 1 or more, in order. Received: {received}.')

    @property
    def epochs(self) -> int:
        """Passes over the training images."""
        return sum(epochs for epochs, _ in self.phases)

    @property
    def sides(self) -> list[int]:
        """Side of the images in each epoch, in pixels."""
        return [int(side) for epochs, side in self.phases for _ in range(epochs)]

    def cost(self) -> float:
        """Number of epochs, weighted by pixels: an epoch of 16x16 images counts as a quarter of one of 32x32."""
        return sum((side / 32) ** 2 for side in self.sides)

    def resized(self, epochs: int) -> Recipe:
        """The recipe with another number of epochs, divided among the phases as before; if few, the last are kept."""
        check_number("epochs", epochs, 1, _LARGEST, whole=True)
        left, before = int(epochs), self.epochs
        phases: list[tuple[int, int]] = []
        for number, side in self.phases:
            before -= number
            # With few epochs, the last phases are filled first: their images have the size of the test images.
            later = min(left, max(round(epochs * before / self.epochs), len(self.phases) - len(phases) - 1))
            phases.append((left - later, side))
            left = later
        drops = tuple(max(1, round(drop * epochs / self.epochs)) for drop in self.drops)
        return replace(self, phases=tuple((number, side) for number, side in phases if number), drops=drops)

    def optimizer(self, steps: int) -> keras.Optimizer:
        """A new optimizer, for epochs of `steps` steps."""
        schedule = _SCHEDULES[self.schedule]
        if not self.muon_rate:
            return keras.optimizers.SGD(schedule(self, self.sgd_rate, steps), self.sgd_momentum, self.nesterov)
        rates, ratio = schedule(self, self.muon_rate, steps), self.sgd_rate / self.muon_rate
        return ConvMuon(rates, self.muon_momentum, ratio, self.sgd_momentum, self.l2)


_LARGEST = 10_000  # Epochs of a recipe, and side of its images.


def _is_phase(phase: Any) -> bool:
    pair = isinstance(phase, (tuple, list)) and len(phase) == 2
    return pair and all(isinstance(part, Integral) and 1 <= int(part) <= _LARGEST for part in phase)


# Learning rate schedules, from a recipe, its peak rate and the steps of an epoch.
_SCHEDULES: dict[str, Callable[[Recipe, float, int], schedules.LearningRateSchedule]] = {
    "linear": lambda recipe, rate, steps: LinearWarmupDecay(rate, recipe.epochs * steps, recipe.warmup),
    "steps": lambda recipe, rate, steps: schedules.PiecewiseConstantDecay(
        # Keras counts the step at a boundary to what is before it.
        [drop * steps - 1 for drop in recipe.drops],
        [rate * 0.1**number for number in range(len(recipe.drops) + 1)],
    ),
    "inverse_time": lambda recipe, rate, steps: schedules.InverseTimeDecay(rate, 1, recipe.decay),
}
_CHOICES = {"schedule": _SCHEDULES, "flip": ("none", "random", "alternating"), "fill": ("reflect", "edge")}
# Least and greatest value of fields.
_RANGES: dict[tuple[float, float], tuple[str, ...]] = {
    (1, math.inf): ("batch_size",),
    (0.01, 100): ("temperature",),
    (0, 31): ("shift",),
    (0, 1): ("erase", "corrupt", "muon_momentum", "sgd_momentum", "warmup", "label_smoothing"),
    (0, math.inf): ("muon_rate", "sgd_rate", "l2", "decay"),
}

# The rate (the paper: the best of 0.25, 0.1, 0.05 and 0.01) and the batch size are those of reproductions.
_PAPER = Recipe(
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
# "fast" and "best" were chosen on the last 5,000 training images, as were rates and temperature of "cifar100".
_BEST = Recipe(phases=((8, 20), (6, 24), (8, 32)), shift=3, muon_rate=0.1, sgd_rate=0.133, temperature=0.64)
_LONG = replace(_BEST, phases=((36, 20), (36, 24), (48, 32)), shift=4, erase=0.12, muon_rate=0.06, sgd_rate=0.08)
# The rate and the batch size were chosen on training images.
_ROBUST = Recipe(
    phases=((8, 32),),
    start="cifar10_v5",
    batch_size=64,
    batch_norm=False,
    erase=0.12,
    corrupt=0.3,
    muon_rate=0.0,
    sgd_rate=0.003,
    l2=0.0,
    label_smoothing=0.0,
)
RECIPES: dict[str, Recipe] = {
    # The code of All-CNN-Keras, for its net all_conv_keras.
    "ancestor": Recipe(
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
    "paper_augmented": replace(_PAPER, flip="random", shift=5),
    "fast": Recipe(phases=((3, 16), (2, 24), (1, 32)), shift=2, temperature=0.6),
    "best": _BEST,
    "cifar100": replace(_BEST, muon_rate=0.15, sgd_rate=0.2, temperature=0.76),
    # "long" is not tuned. The temperatures of "long_cifar100" and "robust_cifar100" are.
    "long": _LONG,
    "long_cifar100": replace(_LONG, temperature=0.89),
    "robust": _ROBUST,
    "robust_cifar100": replace(_ROBUST, start="cifar100_v2", temperature=1.23),
}
