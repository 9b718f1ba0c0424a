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
    weights: str | os.PathLike[str] | None = "cifar10",
    input_shape: Shape | None = None,
) -> keras.Model:
    """A model that returns feature vectors, to train a classifier on new classes or to search for similar pictures.

    A feature vector is the concatenation of the averages of the last four activation maps. On classes that the net was
    not trained on, a linear classifier on it is more accurate than on any single map (`docs/howto/transfer.md`).

    Args:
        variant: name of the net, one of `list_variants()`.
        weights: as in `AllConvNet`.
        input_shape: as in `AllConvNet`; with `(None, None, 3)` the model takes images of any size.

    Returns:
        A functional `keras.Model` from raw RGB pixels `[N, height, width, channels]` to float32 `[N, features]`; for
        all_cnn_c there are 768 features.

    Raises:
        ValueError: an argument is invalid, there are no such weights, or a file does not fit.
        OSError: a download failed, or the file cannot be read.

    Example:
        >>> import allconvnet, numpy as np
        >>> extractor = allconvnet.feature_extractor("all_cnn_c")
        >>> extractor.predict(np.zeros((2, 32, 32, 3), "uint8"), verbose=0).shape
        (2, 768)
    """
    body = AllConvNet(variant, weights=weights, include_top=False, input_shape=input_shape)
    maps = [layer.output for layer in body.layers if isinstance(layer, (layers.ReLU, layers.LeakyReLU))][-4:]
    averages = [layers.GlobalAveragePooling2D(dtype="float32")(each) for each in maps]
    features = layers.Concatenate(name="features", dtype="float32")(averages)
    return keras.Model(body.input, features, name=f"{variant}_features")
