"""Feature vectors of pictures."""

from __future__ import annotations

import os

import keras
from keras import layers

from allconvnet._specs import Variant
from allconvnet.models import AllConvNet, Shape

__all__ = ["feature_extractor"]


def feature_extractor(
    variant: Variant = "all_cnn_c",
    *,
    weights: str | os.PathLike[str] | None = "transfer",
    input_shape: Shape | None = None,
) -> keras.Model:
    """A model that returns feature vectors, to train a classifier on new classes or to search for similar pictures.

    A feature vector holds the averages of the four quadrants of up to five feature maps, the last ones. On classes that
    the net was not trained on, a linear classifier on it is more accurate than on averages of whole maps
    (`docs/howto/transfer.md` in the repository).

    Args:
        variant: name of the net, one of `list_variants()`.
        weights: as in `AllConvNet`. "transfer", the best for new classes, is only for all_cnn_c; for other nets, pass
            "cifar10".
        input_shape: as in `AllConvNet`, but height and width must be numbers.

    Returns:
        A functional `keras.Model` from raw RGB pixels `[N, height, width, channels]` to float32 `[N, features]`; for
        all_cnn_c there are 3,840 features.

    Raises:
        ValueError, OSError: as in `AllConvNet`; or height or width is None.

    Example:
        >>> import allconvnet, numpy as np
        >>> extractor = allconvnet.feature_extractor("all_cnn_c")
        >>> extractor.predict(np.zeros((2, 32, 32, 3), "uint8"), verbose=0).shape
        (2, 3840)
    """
    body = AllConvNet(variant, weights=weights, include_top=False, input_shape=input_shape)
    if None in body.input_shape[1:]:
        raise ValueError(f"Features need a fixed size. Received: input_shape={input_shape}. Allowed: numbers.")
    maps = [layer.output for layer in body.layers if isinstance(layer, (layers.ReLU, layers.LeakyReLU))][-5:]
    features = layers.Concatenate(name="features", dtype="float32")([_quadrants(each) for each in maps])
    return keras.Model(body.input, features, name=f"{variant}_features")


def _quadrants(x):
    """The averages of the four quadrants of a map, which share its middle row and column where its sides are odd."""
    _, height, width, _ = x.shape
    size, strides = (-(-height // 2), -(-width // 2)), (max(1, height // 2), max(1, width // 2))
    return layers.Flatten(dtype="float32")(layers.AveragePooling2D(size, strides, dtype="float32")(x))
