"""The nets of the paper as one table of layer rows.

A net is data: rows of `Conv`, `MaxPool` and `Dropout`, interpreted by one loop in `models.py`. The twelve CIFAR nets of
the paper come from three bases and one pure function, `derive`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from allconvnet._errors import check_choice

__all__ = ["list_variants"]

# For type checkers; a test compares it with `SPECS`.
Variant = Literal[
    "model_a", "model_b", "model_c",
    "strided_cnn_a", "strided_cnn_b", "strided_cnn_c",
    "convpool_cnn_a", "convpool_cnn_b", "convpool_cnn_c",
    "all_cnn_a", "all_cnn_b", "all_cnn_c",
    "all_cnn_large", "all_cnn_b_imagenet", "all_conv_keras",
]  # fmt: skip


@dataclass(frozen=True)
class Conv:
    """A convolution with bias, followed by `activation` ("relu", "leaky_relu" or None)."""

    filters: int
    kernel: int
    stride: int = 1
    padding: str = "same"
    activation: str | None = "relu"


@dataclass(frozen=True)
class MaxPool:
    """3x3 max pooling, stride 2."""

    kernel: int = 3
    stride: int = 2
    padding: str = "same"


@dataclass(frozen=True)
class Dropout:
    """Where the paper drops units while training; built only on request."""

    rate: float


Row = Conv | MaxPool | Dropout

# Mean and standard deviation by which raw RGB pixels, 0..255, are normalized: those of the data set's training images.
Normalization = tuple[tuple[float, ...], tuple[float, ...]]
NORMALIZATION: dict[str, Normalization] = {
    "cifar10": ((125.307, 122.950, 113.865), (62.993, 62.089, 66.705)),
    "cifar100": ((129.304, 124.070, 112.434), (68.170, 65.392, 70.418)),
    "transfer": ((125.998, 123.135, 113.135), (64.976, 63.243, 68.207)),
    "imagenet": ((123.675, 116.280, 103.530), (58.395, 57.120, 57.375)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
}


@dataclass(frozen=True)
class Spec:
    """One net.

    Attributes:
        layers: all rows below the class convolution.
        classes: filters of the 1x1 class convolution that follows `layers`.
        side: height and width of the images the net was designed for, in pixels.
        normalization: key of `NORMALIZATION`, what a net without weights does to its pixels.
    """

    layers: tuple[Row, ...]
    classes: int
    side: int
    normalization: str = "cifar10"

    def normalization_for(self, dataset: str) -> Normalization:
        """What the net does to its pixels when it is trained on this data set."""
        return NORMALIZATION[dataset if self.normalization == "cifar10" else self.normalization]

    def rows_with_sizes(self, side: int, classes: int) -> list[tuple[Conv | MaxPool, int, int]]:
        """All rows but dropout, then the class convolution: row, side of its output, channels of its input.

        For a square image of `side` pixels; an output of side 0 means that the image is too small.
        """
        rows: list[tuple[Conv | MaxPool, int, int]] = []
        channels = 3
        for row in (*self.layers, Conv(classes, 1, padding="valid", activation=None)):
            if isinstance(row, Dropout):
                continue
            side = -(-side // row.stride) if row.padding == "same" else max(0, (side - row.kernel) // row.stride + 1)
            rows.append((row, side, channels))
            channels = row.filters if isinstance(row, Conv) else channels
        return rows

    def feature_side(self, side: int) -> int:
        """Side of the last feature map for a square image of `side` pixels; 0: the image is too small."""
        return self.rows_with_sizes(side, self.classes)[-1][1]

    @property
    def min_side(self) -> int:
        """Side of the smallest image the net can take, in pixels."""
        return next(side for side in range(1, self.side + 1) if self.feature_side(side) > 0)


_BASES: dict[str, tuple[Row, ...]] = {
    "a": (Conv(96, 5), MaxPool(), Conv(192, 5), MaxPool()),
    "b": (Conv(96, 5), Conv(96, 1), MaxPool(), Conv(192, 5), Conv(192, 1), MaxPool()),
    "c": (Conv(96, 3), Conv(96, 3), MaxPool(), Conv(192, 3), Conv(192, 3), MaxPool()),
}
# The 3x3 is valid, the one reading of the paper in which the class convolution averages over 6x6: 32, 16, 8, 6.
_HEAD: tuple[Row, ...] = (Conv(192, 3, padding="valid"), Conv(192, 1))


# What each family puts in place of a convolution and the max pooling behind it.
_DOWNSAMPLING: dict[str, Callable[..., list[Row]]] = {
    "model": lambda conv, pool: [conv, pool],
    "strided_cnn": lambda conv, pool: [replace(conv, stride=2)],
    "convpool_cnn": lambda conv, pool: [conv, Conv(conv.filters, 3), pool],
    "all_cnn": lambda conv, pool: [conv, Conv(conv.filters, 3, stride=2)],
}


def derive(base: tuple[Row, ...], family: str) -> tuple[Row, ...]:
    """Rows of a CIFAR net. Dropout is 20 % on the input, 50 % after each pooling or what replaces it."""
    rows: list[Row] = [Dropout(0.2)]
    for row in base:
        if isinstance(row, Conv):
            rows.append(row)
        else:
            rows[-1:] = [*_DOWNSAMPLING[family](rows[-1], row), Dropout(0.5)]
    return (*rows, *_HEAD)


# Slope of LeakyReLU in all_cnn_large, from Graham's DeepCNet, on which the net is based; the paper gives none.
LEAKY_SLOPE = 1 / 3


def _large() -> tuple[Row, ...]:
    rows: list[Row] = []
    for group, filters in enumerate((320, 640, 960, 1280, 1600)):
        for stride in (1, 1, 2):
            rows.append(Conv(filters, 2, stride, "valid", "leaky_relu"))
            if group > 0 and stride == 1:
                rows.append(Dropout(group / 10))
    top = [(Conv(1920, kernel, 1, "valid", "leaky_relu"), Dropout(0.5)) for kernel in (2, 1)]
    return (*rows, *top[0], *top[1])


def _imagenet() -> tuple[Row, ...]:
    rows: list[Row] = []
    for filters, kernel, stride in ((96, 11, 4), (256, 5, 1), (384, 3, 1)):
        rows += [Conv(filters, kernel, stride), Conv(filters, 1), Conv(filters, 3, 2, "valid")]
    return (*rows, Dropout(0.5), Conv(1024, 3), Conv(1024, 1))


def _conv_keras() -> tuple[Row, ...]:
    rows: list[Row] = []
    for filters in (96, 192):
        rows += [Conv(filters, 3), Conv(filters, 3), Conv(filters, 3, stride=2, activation=None), Dropout(0.5)]
    return (*rows, Conv(192, 3), Conv(192, 1))


SPECS: dict[str, Spec] = {
    f"{family}_{base}": Spec(derive(rows, family), 10, 32) for family in _DOWNSAMPLING for base, rows in _BASES.items()
} | {
    "all_cnn_large": Spec(_large(), 10, 126),
    "all_cnn_b_imagenet": Spec(_imagenet(), 1000, 224, "imagenet"),
    "all_conv_keras": Spec(_conv_keras(), 10, 32, "unit"),
}


def list_variants() -> list[Variant]:
    """Names of all nets, as `AllConvNet(variant=...)` takes them.

    Example:
        >>> import allconvnet
        >>> allconvnet.list_variants()[-3:]
        ['all_cnn_large', 'all_cnn_b_imagenet', 'all_conv_keras']
    """
    return list(get_args(Variant))


def get_spec(variant: str) -> Spec:
    """The row of `variant`; ValueError lists the names that exist."""
    check_choice("variant", variant, SPECS)
    return SPECS[variant]
