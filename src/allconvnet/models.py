"""One loop that turns a row of the table into a `keras.Model`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import keras
from keras import layers

from allconvnet._batch_norm import BatchNormalization
from allconvnet._errors import check_choice, check_flag, check_number, shortened
from allconvnet._specs import LEAKY_SLOPE, NORMALIZATION, Conv, Dropout, MaxPool, Normalization, Spec, Variant, get_spec
from allconvnet._weight_files import read_weights

__all__ = ["AllConvNet"]

Shape = tuple[int | None, int | None, int]
_POOLING = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}


def AllConvNet(  # noqa: N802 - the name of a model, as in keras.applications
    variant: Variant = "all_cnn_c",
    *,
    weights: str | os.PathLike[str] | None = "cifar10",
    include_top: bool = True,
    classes: int | None = None,
    fresh_head: bool = False,
    input_shape: Shape | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classifier_activation: str | None = "softmax",
    include_preprocessing: bool = True,
    class_relu: bool = False,
    dropout: bool = False,
    dense_prediction: bool = False,
    name: str | None = None,
) -> keras.Model:
    """A net of "Striving for Simplicity: The All Convolutional Net" (arXiv:1412.6806).

    The model takes raw RGB pixels, 0..255 of any dtype, and normalizes them itself. Its layers are named `images`,
    `normalization`, `conv1`, `relu1`, ... (`pool1`, `dropout1`, `leaky_relu1` where the net has them), `class_conv`,
    `logits` (the global average) and `predictions`. All are built-in Keras layers: a saved `.keras` file loads where
    allconvnet is not installed.

    Args:
        variant: name of the net, one of `list_variants()`.
        weights: published weights by data set ("cifar10"), tag ("cifar10_v5") or full name ("all_cnn_c.cifar10_v5");
            None for random weights; a path; or a URL that ends in `#sha256=` and 64 hexadecimal digits. To fine-tune
            all_cnn_c on new classes, use "transfer". A file of `save_weights` must be of the same variant. Other Keras
            files (`.weights.h5`, or `.h5`/`.hdf5` of Keras 1 and 2) must have kernels of the same shapes; the model
            then has the normalization of the variant.
        include_top: whether to include the class convolution and the global average. Without them the model returns
            the last feature map, or its global `pooling`. For new classes, `feature_extractor` has better features.
        classes: number of classes; None means that of the weights, or of the variant. If it is not that of the
            weights, the class convolution gets random weights.
        fresh_head: True gives the class convolution random weights even if the number of classes is the same. Use it
            to fine-tune on new classes.
        input_shape: `(height, width, channels)`; None means the size that the net was designed for. Height and width
            may be None (any size); one channel is repeated to three inside the model.
        pooling: global pooling of the feature map with `include_top=False`: "avg", "max", or None for the map itself.
        classifier_activation: "softmax", None for logits, or the name of another Keras activation.
        include_preprocessing: False leaves normalization to you (`preprocess_input`).
        class_relu: whether to put the paper's ReLU on the class convolution. With it, a class can lose its gradient
            permanently, and training can fail.
        dropout: whether to include the paper's dropout layers, which are active in training only.
        dense_prediction: whether to return scores for each window of a larger image. Windows have the default
            size (for most nets, 32x32 pixels, one every 4 pixels). An image of the default size is one window and gets
            the scores of the classifier; in a larger image, the convolutions also see what is around a window.
        name: name of the model; None means the variant's.

    Returns:
        A functional `keras.Model` from `[N, height, width, channels]` to float32 `[N, classes]`; with
        `include_top=False` to the feature map `[N, h, w, filters]` (`[N, filters]` with `pooling`), with
        `dense_prediction` to `[N, h, w, classes]`.

    Raises:
        ValueError: an argument is invalid, there are no such weights, or a file does not fit.
        OSError: a download failed, or the file cannot be read.

    Example:
        >>> import allconvnet
        >>> model = allconvnet.AllConvNet("all_cnn_c", weights="cifar10")
        >>> model.count_params()
        1369738
    """
    spec = get_spec(variant)
    flags = {"include_top": include_top, "fresh_head": fresh_head, "include_preprocessing": include_preprocessing}
    flags |= {"class_relu": class_relu, "dropout": dropout, "dense_prediction": dense_prediction}
    for flag, value in flags.items():
        check_flag(flag, value)
    _check_arguments(include_top, classes, fresh_head, pooling, dense_prediction)
    _check_names(classifier_activation, name)
    loaded = None if weights is None else read_weights(variant, weights)
    shape = _checked_shape(spec, input_shape, spec.side if dense_prediction else spec.min_side)
    normalization = loaded.normalization if loaded else NORMALIZATION[spec.normalization]
    count = int(classes or (loaded or spec).classes) if include_top else None
    options = classifier_activation, class_relu, pooling, dropout, dense_prediction
    form = Form(shape, normalization if include_preprocessing else None, count, *options)
    model = build(spec, form, name or variant)
    if loaded:
        convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
        for layer, pair in zip(convolutions, loaded.convolutions, strict=False):  # Without the top there is one fewer.
            if layer.name != "class_conv" or (layer.filters == loaded.classes and not fresh_head):
                layer.set_weights(pair)
    return model


def _checked_shape(spec: Spec, shape: Shape | None, smallest: int) -> Shape:
    if shape is None:
        return spec.side, spec.side, 3
    fits = isinstance(shape, (tuple, list)) and len(shape) == 3 and shape[2] in (1, 3)
    if not fits or not all(side is None or (isinstance(side, Integral) and side >= smallest) for side in shape[:2]):
        allowed = f"(height, width, 3 or 1) with sides of at least {smallest} or None"
        raise ValueError(f"Invalid input_shape. Received: input_shape={shortened(shape)}. Allowed: {allowed}.")
    height, width = (side and int(side) for side in shape[:2])
    return height, width, int(shape[2])


def _check_arguments(include_top: bool, classes, fresh_head: bool, pooling, dense_prediction: bool) -> None:
    check_choice("pooling", pooling, [None, *_POOLING])
    if classes is not None:
        check_number("classes", classes, 1, 100_000, whole=True)
    if include_top and pooling:
        raise ValueError(f"pooling={pooling!r} needs include_top=False: the top has its own global average.")
    if not include_top and (classes is not None or fresh_head or dense_prediction):
        raise ValueError("classes, fresh_head and dense_prediction need include_top=True: they change the top.")


def _check_names(classifier_activation, name) -> None:
    if not isinstance(name, (str, type(None))):
        raise ValueError(f"Invalid name. Received: name={shortened(name)}. Allowed: a string, or None.")
    try:
        known = isinstance(classifier_activation, (str, type(None))) and keras.activations.get(classifier_activation)
    except ValueError:
        known = False
    if not known:
        received = f"classifier_activation={shortened(classifier_activation)}"
        raise ValueError(f"Unknown classifier_activation. Received: {received}. Allowed: a Keras activation or None.")


@dataclass(frozen=True)
class Form:
    """Options of `build`.

    `normalization=None` leaves it out, `classes=None` the top. `batch_norm` puts batch normalization between each
    convolution and its activation, as training does; `regularizer` is that of the kernels.
    """

    input_shape: Shape
    normalization: Normalization | None
    classes: int | None
    classifier_activation: str | None = "softmax"
    class_relu: bool = False
    pooling: str | None = None
    dropout: bool = False
    dense_prediction: bool = False
    batch_norm: bool = False
    regularizer: keras.Regularizer | None = None
    dtype: str | None = None


def build(spec: Spec, form: Form, name: str | None = None) -> keras.Model:
    """The net of `spec` as a functional model with fresh weights."""
    if (data_format := keras.config.image_data_format()) != "channels_last":
        raise ValueError(f'Call keras.config.set_image_data_format("channels_last") first. Received: {data_format!r}.')
    counts: dict[str, int] = {}

    def numbered(kind: str) -> dict:
        counts[kind] = counts.get(kind, 0) + 1
        return {"name": f"{kind}{counts[kind]}", "dtype": form.dtype}

    images = x = keras.Input(form.input_shape, name="images")
    if form.input_shape[-1] == 1:
        x = layers.Concatenate(name="gray_to_rgb", dtype="float32")([x, x, x])
    if form.normalization:
        scale = [1 / std for std in form.normalization[1]]
        offset = [-mean / std for mean, std in zip(*form.normalization, strict=True)]
        # In float32 whatever the policy: bfloat16 has 8 bits of mantissa. Not a Normalization layer: an ONNX file
        # exported from TensorFlow would ask for its constants as inputs.
        x = layers.Rescaling(scale, offset, name="normalization", dtype="float32")(x)
    for row in spec.layers:
        if not isinstance(row, Dropout):
            x = _row(x, row, form, numbered)
        elif form.dropout:
            x = layers.Dropout(row.rate, **numbered("dropout"))(x)
    if form.classes is not None:
        x = _top(x, spec, form)
    elif form.pooling:
        x = _POOLING[form.pooling](name=f"{form.pooling}_pool", dtype=form.dtype)(x)
    return keras.Model(images, x, name=name)


def _row(x, row: Conv | MaxPool, form: Form, numbered: Callable[[str], dict]):
    """A convolution with its activation, or a max pooling."""
    padding = row.padding
    if form.dense_prediction and padding == "same" and row.stride > 1:
        # Pad as "same" does when the side is a multiple of the stride; for other sides "same" would shift the windows.
        # Zeros are right for max pooling too: what it pools comes from a ReLU.
        total = max(0, row.kernel - row.stride)
        both = (total // 2, total - total // 2)
        x, padding = layers.ZeroPadding2D((both, both), **numbered("pad"))(x), "valid"
    if isinstance(row, MaxPool):
        return layers.MaxPooling2D(row.kernel, row.stride, padding, **numbered("pool"))(x)
    options = {"kernel_initializer": "he_normal", "kernel_regularizer": form.regularizer, **numbered("conv")}
    x = layers.Conv2D(row.filters, row.kernel, row.stride, padding, use_bias=not form.batch_norm, **options)(x)
    if form.batch_norm:
        x = BatchNormalization(momentum=0.9, epsilon=1e-5, **numbered("bn"))(x)
    if row.activation == "relu":
        x = layers.ReLU(**numbered("relu"))(x)
    elif row.activation == "leaky_relu":
        x = layers.LeakyReLU(LEAKY_SLOPE, **numbered("leaky_relu"))(x)
    return x


def _top(x, spec: Spec, form: Form):
    """The class convolution, the average over its map, and the activation."""
    # Small weights, so that training starts from even scores.
    initializer = keras.initializers.RandomNormal(stddev=0.01)
    options = {"kernel_initializer": initializer, "kernel_regularizer": form.regularizer, "dtype": form.dtype}
    x = layers.Conv2D(form.classes, 1, name="class_conv", **options)(x)
    if form.class_relu:
        x = layers.ReLU(name="class_relu", dtype=form.dtype)(x)
    if form.dense_prediction:
        window = spec.feature_side(spec.side)
        x = layers.AveragePooling2D(window, strides=1, padding="valid", name="logits", dtype="float32")(x)
    else:
        x = layers.GlobalAveragePooling2D(name="logits", dtype="float32")(x)
    if form.classifier_activation in (None, "linear"):
        return x
    return layers.Activation(form.classifier_activation, name="predictions", dtype="float32")(x)
