"""Receptive fields of the units of a feature map."""

from __future__ import annotations

import keras
from keras import layers

from allconvnet._graph import (
    Call,
    activation_of,
    call_of_layer,
    calls_of,
    chain_to,
    check_functional,
    is_activation_argument,
)

__all__ = ["receptive_field"]

_WINDOWS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D,
            layers.MaxPooling2D, layers.AveragePooling2D, layers.ZeroPadding2D)  # fmt: skip
# A unit of these sees the pixel at its own place; so does one of any activation.
_ELEMENTWISE = (layers.BatchNormalization, layers.Normalization, layers.Rescaling, layers.Activation,
                layers.Dropout, layers.SpatialDropout2D, layers.GaussianDropout, layers.GaussianNoise)  # fmt: skip


def receptive_field(model: keras.Model, layer: str) -> tuple[int, int, int]:
    """Receptive field of the units of a feature map, as a window of the image.

    Args:
        model: a functional `keras.Model`, a single chain of layers up to `layer`.
        layer: name of a convolution, pooling, normalization, dropout or activation layer.

    Returns:
        `(side, stride, offset)` in pixels: the receptive field of unit (row, column) has `side` rows, starting at row
        `offset + stride * row` of the image, and likewise columns. Parts of it may be in the padding, outside the
        image. With "same" padding the offset depends on the input size of the model; an unknown size counts as even.

    Raises:
        ValueError: there is no such layer, it sees the whole image, a layer of another kind comes before it, the model
            branches, or rows and columns differ (in their kernels or their padding).
        TypeError: the model is not functional.

    Example:
        >>> import allconvnet
        >>> allconvnet.receptive_field(allconvnet.AllConvNet("all_cnn_c"), "conv3")
        (7, 2, -2)
    """
    check_functional(model)
    _, calls = calls_of(model)
    chain = chain_to(calls, call_of_layer(calls, layer))
    for call in chain:
        operation = call.operation
        if isinstance(operation, (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)):
            raise ValueError(f"{layer!r} sees the whole image: name a layer with a feature map.")
        if not _is_local(operation):
            kind = f"{type(operation).__name__} {operation.name!r}"
            raise ValueError(f"The receptive field cannot be computed: {kind} comes before {layer!r}.")
    rows, columns = (_window(chain, axis) for axis in (0, 1))
    if rows != columns:
        raise ValueError(f"Rows and columns of the window differ. Received: {rows} and {columns} in {layer!r}.")
    return rows


def _is_local(operation) -> bool:
    if isinstance(operation, layers.Concatenate):  # Of one tensor, as `chain_to` allows: gray as red, green, blue.
        return operation.axis in (-1, 3)
    known = isinstance(operation, (*_WINDOWS, *_ELEMENTWISE)) or (
        activation_of(operation) and not is_activation_argument(operation) and getattr(operation, "axis", -1) in (-1, 3)
    )
    return bool(known) and getattr(operation, "data_format", "channels_last") == "channels_last"


def _window(chain: list[Call], axis: int) -> tuple[int, int, int]:
    """`receptive_field` along rows (0) or columns (1)."""
    side, stride, offset = 1, 1, 0
    for call in chain:
        operation = call.operation
        if isinstance(operation, layers.ZeroPadding2D):
            offset -= stride * operation.padding[axis][0]
        elif isinstance(operation, _WINDOWS):
            size = call.inputs[0].shape[1 + axis] or 1 << 10  # Even where the model does not say.
            step = operation.strides[axis]
            kernel = (getattr(operation, "kernel_size", None) or operation.pool_size)[axis]
            kernel = (kernel - 1) * getattr(operation, "dilation_rate", (1, 1))[axis] + 1
            if operation.padding == "same":
                offset -= stride * (max((-(-size // step) - 1) * step + kernel - size, 0) // 2)
            side += (kernel - 1) * stride
            stride *= step
    return side, stride, offset
