"""One loop that turns a row of the table into a `keras.Model`, and what fills it with weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers, ops

from allconvnet._backend import BatchNormalization
from allconvnet._errors import listed, message
from allconvnet._fetch import fetch_weights, open_weights, own_file
from allconvnet._files import replacing
from allconvnet._specs import NORMALIZATION, Conv, Dropout, MaxPool, Spec, get_spec
from allconvnet._weights import list_weights, weights_info

__all__ = ["AllConvNet", "fold_batch_norm", "save_weights"]

# Graham's; the paper's is not known.
LEAKY_SLOPE = 1 / 3
_POOLING = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
Normalization = tuple[tuple[float, ...], tuple[float, ...]]


def AllConvNet(  # noqa: N802 - the name of a model, as in keras.applications
    variant: str = "all_cnn_c",
    *,
    weights: str | os.PathLike[str] | None = "cifar10",
    include_top: bool = True,
    classes: int | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classifier_activation: str | None = "softmax",
    include_preprocessing: bool = True,
    class_relu: bool = False,
    dropout: bool = False,
    dense_prediction: bool = False,
    name: str | None = None,
) -> keras.Model:
    """A net of "Striving for Simplicity: The All Convolutional Net" (arXiv:1412.6806).

    The model takes raw RGB pixels, 0..255 of any dtype, and normalises them itself. Layers are named `images`,
    `normalization`, `conv1`, `relu1`, ... (`pool1`, `dropout1`, `leaky_relu1` where the net has them), `class_conv`,
    `logits` (the global average) and `predictions`. It consists of built-in Keras layers alone (with `dense_prediction`
    only for an `input_shape` that fits its stride), so that a saved `.keras` file loads where allconvnet is not
    installed.

    Args:
        variant: a name of `list_variants()`.
        weights: a published tag ("cifar10" means the newest version, "cifar10_v1" exactly that), None for fresh
            weights, a path, or a URL that ends in `#sha256=` and 64 hexadecimal digits. A file written by
            `save_weights` must be of the same variant; a Keras file without these attributes (`.weights.h5`, or
            `.h5`/`.hdf5` of Keras 1 and 2) is taken for the variant you name, every shape checked (nets that differ in
            strides or pooling alone have the same); its normalisation it does not say, and gets the variant's.
        include_top: whether the class convolution and the global average are there; without them the model returns
            the last feature map, or what `pooling` makes of it.
        classes: number of classes; None means that of the weights, else of the variant. Another number than the
            weights' gives a fresh class convolution on the pretrained body; the same number keeps theirs.
        input_shape: `(height, width, channels)`; None means the size the net was designed for. Height and width may
            be None (any size); one channel is repeated to three inside the model.
        pooling: None, "avg" or "max": global pooling of the feature map, only with `include_top=False`.
        classifier_activation: "softmax", or None for logits; any name of a Keras activation.
        include_preprocessing: False leaves normalisation to you (`preprocess_input`).
        class_relu: the paper's ReLU on the class convolution. Off by default: it can leave a class without gradient
            for good, and many reproductions got stuck at 10 % with it.
        dropout: whether the paper's dropout layers are there; they act in training only.
        dense_prediction: scores at every place of a larger image instead of one answer: the class map is averaged
            over windows as large as the map of an image of the designed size (6x6 for the paper's CIFAR nets), stride
            1, so that such an image gives just the classifier's answer. What is left of height and width over a
            multiple of the stride of the net's padded layers (4 for them) is cut off at the bottom and the right.
        name: name of the model; None means the variant's.

    Returns:
        A functional `keras.Model`: `[N, height, width, channels]` in; float32 `[N, classes]` out, or with
        `include_top=False` the feature map `[N, h, w, filters]` (`[N, filters]` with `pooling`), with
        `dense_prediction` `[N, h, w, classes]`.

    Raises:
        ValueError: an argument is not one of those above, there are no such weights, or a file does not fit.
        OSError: a download failed, or the file cannot be read.

    Example:
        >>> import allconvnet
        >>> model = allconvnet.AllConvNet("all_cnn_c", weights="cifar10")
        >>> model.count_params()
        1369738
    """
    spec = get_spec(variant)
    input_shape = _check_input_shape(spec, variant, input_shape, spec.side if dense_prediction else spec.min_side)
    _check_arguments(include_top, classes, pooling, dense_prediction)
    loaded = None if weights is None else _read_weights(_resolve(variant, weights), variant)
    if include_top and classes is None:
        classes = loaded.classes if loaded else spec.classes
    mean, std = loaded.normalization if loaded else NORMALIZATION[spec.normalization]
    model = build(
        spec,
        normalization=(mean, std) if include_preprocessing else None,
        input_shape=input_shape,
        classes=int(classes) if include_top else None,
        classifier_activation=classifier_activation,
        class_relu=class_relu,
        pooling=pooling,
        dropout=dropout,
        dense_prediction=dense_prediction,
        name=name or variant,
    )
    if loaded:
        _fill(model, loaded)
    return model


def _check_input_shape(spec: Spec, variant: str, input_shape, smallest: int) -> tuple[int | None, int | None, int]:
    if input_shape is None:
        return spec.side, spec.side, 3
    shape = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
    if (
        len(shape) != 3
        or shape[2] not in (1, 3)
        or not all(side is None or (isinstance(side, Integral) and side >= smallest) for side in shape[:2])
    ):
        raise ValueError(
            message(
                f"{variant} cannot take images of this shape",
                received=f"input_shape={input_shape!r}",
                allowed=f"(height, width, channels) with sides of at least {smallest} or None, and 3 channels or 1",
            )
        )
    return tuple(side and int(side) for side in shape)


def _check_arguments(include_top: bool, classes: int | None, pooling: str | None, dense_prediction: bool) -> None:
    if pooling not in (None, *_POOLING):
        raise ValueError(message("Unknown pooling", received=f"pooling={pooling!r}", allowed=listed([None, *_POOLING])))
    if include_top and pooling:
        raise ValueError(
            message(
                "The top has its own global average",
                received=f"include_top=True, pooling={pooling!r}",
                next_step="Use include_top=False to pool the feature map.",
            )
        )
    if dense_prediction and not include_top:
        raise ValueError(
            message(
                "Without its top the net predicts nothing",
                received="include_top=False, dense_prediction=True",
                next_step="include_top=False gives the feature map of an image of any size.",
            )
        )
    if classes is not None and (not isinstance(classes, Integral) or classes < 1):
        raise ValueError(
            message("There must be a class", received=f"classes={classes!r}", allowed="1 or more, or None")
        )
    if classes is not None and not include_top:
        raise ValueError(
            message(
                "Without its top the net has no classes",
                received=f"include_top=False, classes={classes!r}",
                next_step="Leave classes out, or use include_top=True.",
            )
        )


def build(
    spec: Spec,
    *,
    normalization: Normalization | None,
    input_shape: tuple[int | None, int | None, int],
    classes: int | None,
    classifier_activation: str | None = "softmax",
    class_relu: bool = False,
    pooling: str | None = None,
    dropout: bool = False,
    dense_prediction: bool = False,
    batch_norm: bool = False,
    l2: float = 0.0,
    dtype: str | None = None,
    name: str | None = None,
) -> keras.Model:
    """The net of `spec` as a functional model with fresh weights.

    `normalization=None` leaves it out, `classes=None` the top. `batch_norm` puts batch normalisation between each
    convolution and its activation, as training does; `fold_batch_norm` takes it out again. `l2` times the squares
    of the kernels is added to the loss.
    """
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            message(
                "These nets are built with channels last",
                received=f"image_data_format={keras.config.image_data_format()!r}",
                allowed="'channels_last'",
                next_step='Call keras.config.set_image_data_format("channels_last") first.',
            )
        )
    counts: dict[str, int] = {}

    def numbered(kind: str) -> dict:
        counts[kind] = counts.get(kind, 0) + 1
        return {"name": f"{kind}{counts[kind]}", "dtype": dtype}

    regularizer = keras.regularizers.L2(l2) if l2 else None
    images = x = keras.Input(input_shape, name="images")
    if dense_prediction and any(side is None or side % spec.grid for side in input_shape[:2]):
        x = _CropToMultiple(spec.grid, name="crop", dtype="float32")(x)
    if input_shape[-1] == 1:
        x = layers.Concatenate(name="gray_to_rgb", dtype="float32")([x, x, x])
    if normalization:
        mean, std = normalization
        # In float32 whatever the policy: bfloat16 has 8 bits of mantissa.
        variance = [s * s for s in std]
        x = layers.Normalization(mean=list(mean), variance=variance, name="normalization", dtype="float32")(x)
    for row in spec.layers:
        if isinstance(row, Dropout):
            if dropout:
                x = layers.Dropout(row.rate, **numbered("dropout"))(x)
        elif isinstance(row, MaxPool):
            x = layers.MaxPooling2D(row.kernel, row.stride, row.padding, **numbered("pool"))(x)
        else:
            x = _convolution(x, row, batch_norm, regularizer, numbered)
    if classes is None:
        if pooling:
            x = _POOLING[pooling](name=f"{pooling}_pool", dtype=dtype)(x)
        return keras.Model(images, x, name=name)
    # Small, so that training starts from even scores.
    initializer = keras.initializers.RandomNormal(stddev=0.01)
    x = layers.Conv2D(
        classes, 1, kernel_initializer=initializer, kernel_regularizer=regularizer, name="class_conv", dtype=dtype
    )(x)
    if class_relu:
        x = layers.ReLU(name="class_relu", dtype=dtype)(x)
    if dense_prediction:
        window = spec.feature_side(spec.side)
        x = layers.AveragePooling2D(window, strides=1, padding="valid", name="logits", dtype="float32")(x)
    else:
        x = layers.GlobalAveragePooling2D(name="logits", dtype="float32")(x)
    if classifier_activation not in (None, "linear"):
        x = layers.Activation(classifier_activation, name="predictions", dtype="float32")(x)
    return keras.Model(images, x, name=name)


@keras.saving.register_keras_serializable("allconvnet")
class _CropToMultiple(layers.Layer):
    """Cuts off, at the bottom and the right, what is left of height and width over a multiple."""

    def __init__(self, multiple: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, images):
        height, width = (side // self.multiple * self.multiple for side in ops.shape(images)[1:3])
        return images[:, :height, :width]

    def compute_output_shape(self, input_shape):
        sides = [side and side // self.multiple * self.multiple for side in input_shape[1:3]]
        return (input_shape[0], *sides, input_shape[3])

    def get_config(self) -> dict:
        return super().get_config() | {"multiple": self.multiple}


def _convolution(x, row: Conv, batch_norm: bool, regularizer, numbered):
    x = layers.Conv2D(
        row.filters,
        row.kernel,
        row.stride,
        row.padding,
        use_bias=not batch_norm,
        kernel_initializer="he_normal",
        kernel_regularizer=regularizer,
        **numbered("conv"),
    )(x)
    if batch_norm:
        x = BatchNormalization(momentum=0.9, epsilon=1e-5, **numbered("bn"))(x)
    if row.activation == "relu":
        x = layers.ReLU(**numbered("relu"))(x)
    elif row.activation == "leaky_relu":
        x = layers.LeakyReLU(LEAKY_SLOPE, **numbered("leaky_relu"))(x)
    return x


def _convolutions(model: keras.Model) -> list[layers.Conv2D]:
    return [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]


def _norm_behind(model: keras.Model, convolution: str) -> layers.BatchNormalization | None:
    """The batch normalisation of the convolution's number: `bn1` of `conv1`."""
    return {layer.name: layer for layer in model.layers}.get(convolution.replace("conv", "bn"))


def fold_batch_norm(trained: keras.Model, plain: keras.Model) -> None:
    """Writes the weights of a net with batch normalisation into the same net without it.

    Args:
        trained: as `fit_cifar10` trains it: each convolution without a bias, such as `conv1`, is followed by a batch
            normalisation of its number, `bn1`.
        plain: the net of the paper, from `AllConvNet(variant, weights=None)`; overwritten. In inference both return
            the same logits up to rounding.

    Raises:
        ValueError: the two are not the same net, or a convolution before batch normalisation has a bias.

    Example:
        >>> import allconvnet, keras
        >>> convolution = keras.layers.Conv2D(4, 3, use_bias=False, name="conv1")
        >>> norm = keras.layers.BatchNormalization(name="bn1")
        >>> trained = keras.Sequential([keras.Input((8, 8, 3)), convolution, norm])
        >>> plain = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv1")])
        >>> allconvnet.fold_batch_norm(trained, plain)
    """
    names = [[layer.name for layer in _convolutions(model)] for model in (trained, plain)]
    if names[0] != names[1]:
        raise ValueError(
            message("The nets differ", received=f"convolutions {names[0]} and {names[1]}", allowed="the same")
        )
    for layer in _convolutions(plain):
        source, norm = trained.get_layer(layer.name), _norm_behind(trained, layer.name)
        if (norm is None) != source.use_bias:
            raise ValueError(
                message(
                    f"The layer {layer.name!r} cannot be folded",
                    received=f"use_bias={source.use_bias}, {'no ' if norm is None else ''}batch normalisation",
                    allowed="a bias or batch normalisation, not both or neither",
                )
            )
        if norm is None:
            layer.set_weights(source.get_weights())
            continue
        # In float64, so that folding itself rounds only once.
        weights = [weight.astype("float64") for weight in norm.get_weights()]
        gamma, beta = weights.pop(0) if norm.scale else 1.0, weights.pop(0) if norm.center else 0.0
        mean, variance = weights
        scale = gamma / np.sqrt(variance + norm.epsilon)
        layer.set_weights([source.get_weights()[0] * scale, beta - mean * scale])


def unfold_batch_norm(plain: keras.Model, trained: keras.Model, images: np.ndarray) -> None:
    """Writes a net without batch normalisation into the same net with it, for `fold_batch_norm` to take back.

    What the convolutions answer to `images` gives the statistics; scale and shift are such that normalising by these
    changes nothing.
    """
    convolutions = _convolutions(plain)
    maps = keras.Model(plain.input, [layer.output for layer in convolutions]).predict(images, verbose=0)
    for layer, values in zip(convolutions, maps, strict=True):
        target, norm = trained.get_layer(layer.name), _norm_behind(trained, layer.name)
        if norm is None:
            target.set_weights(layer.get_weights())
            continue
        kernel, bias = layer.get_weights()
        mean, variance = values.mean(axis=(0, 1, 2), dtype="float64"), values.var(axis=(0, 1, 2), dtype="float64")
        target.set_weights([kernel])
        norm.set_weights([np.sqrt(variance + norm.epsilon), mean, mean - bias, variance])


@dataclass(frozen=True)
class _Loaded:
    """What a weights file holds: `(kernel, bias)` of each convolution, in order."""

    convolutions: list[tuple[np.ndarray, np.ndarray]]
    normalization: Normalization

    @property
    def classes(self) -> int:
        return len(self.convolutions[-1][1])


def _resolve(variant: str, weights: str | os.PathLike[str]) -> Path:
    """The local, verified file behind `weights`."""
    if path := own_file(weights):
        return path
    if not isinstance(weights, str):
        raise ValueError(
            message("Unknown weights", received=f"weights={weights!r}", allowed="a tag, None, a path or a URL")
        )
    try:
        record = weights_info(f"{variant}.{weights}")
    except ValueError:
        tags = [name.partition(".")[2] for name in list_weights(variant)]
        raise ValueError(
            message(
                f"There are no published weights {weights!r} for {variant!r}",
                received=f"weights={weights!r}",
                allowed=f"for this net {listed(dict.fromkeys([*(tag.partition('_')[0] for tag in tags), *tags]))}",
                next_step="Use weights=None for fresh weights, or a path (.h5) or URL of your own. "
                "list_weights() names those of all nets.",
            )
        ) from None
    return fetch_weights(record.name)


def _read_weights(path: Path, variant: str) -> _Loaded:
    spec = get_spec(variant)
    with open_weights(path) as file:
        found = file.attrs.get("variant", variant)
        if found != variant:
            raise ValueError(
                message(
                    "The weights are those of another net",
                    received=f"a file of {found!r} for variant={variant!r}",
                    allowed=f"a file of {variant!r}",
                    next_step=f"Use AllConvNet({found!r}, weights={str(path)!r}).",
                )
            )
        normalization = NORMALIZATION[spec.normalization]
        if "mean" in file.attrs:
            normalization = tuple(file.attrs["mean"].tolist()), tuple(file.attrs["std"].tolist())
        convolutions = _legacy(file) if "layer_names" in file.attrs or "model_weights" in file else _current(file)
    expected = _kernel_shapes(spec, classes=convolutions[-1][0].shape[-1] if convolutions else spec.classes)
    shapes = [kernel.shape for kernel, _ in convolutions]
    if shapes != expected:
        raise ValueError(
            message(
                f"The file does not hold the weights of {variant!r}",
                received=f"kernels {shapes} in {str(path)!r}",
                allowed=f"kernels {expected}",
                next_step="Name the variant that the file was made with.",
            )
        )
    return _Loaded(convolutions, normalization)


def _kernel_shapes(spec: Spec, classes: int) -> list[tuple[int, ...]]:
    shapes, channels = [], 3
    for row in (*spec.layers, Conv(classes, 1)):
        if isinstance(row, Conv):
            shapes.append((row.kernel, row.kernel, channels, row.filters))
            channels = row.filters
    return shapes


def _steps(spec: Spec, classes: int) -> list[str]:
    """What the layers of a net compute, as `_step_of` says it of each; shapes alone do not tell all nets apart."""
    steps, shapes = [], iter(_kernel_shapes(spec, classes))
    for row in (*spec.layers, Conv(classes, 1, padding="valid", activation=None)):
        if isinstance(row, Conv):
            steps.append(f"Conv2D {next(shapes)}, stride {row.stride}, {row.padding}")
            steps += {"relu": ["ReLU"], "leaky_relu": ["LeakyReLU"], None: []}[row.activation]
        elif isinstance(row, MaxPool):
            steps.append(f"MaxPooling2D {row.kernel}x{row.kernel}, stride {row.stride}, {row.padding}")
    return steps


# Around the layers that hold the weights; AllConvNet adds them as its arguments say.
_AROUND = ("crop", "gray_to_rgb", "normalization", "logits", "predictions")


def _step_of(layer: layers.Layer) -> str | None:
    """What a layer computes that a file of weights does not tell; None where it does, or the file need not."""
    name = type(layer).__name__
    if isinstance(layer, layers.Conv2D):
        return f"{name} {tuple(layer.kernel.shape)}, stride {layer.strides[0]}, {layer.padding}"
    if isinstance(layer, layers.MaxPooling2D):
        return f"{name} {layer.pool_size[0]}x{layer.pool_size[1]}, stride {layer.strides[0]}, {layer.padding}"
    return None if isinstance(layer, (layers.InputLayer, layers.Dropout)) or layer.name in _AROUND else name


def _current(file: h5py.File) -> list[tuple[np.ndarray, np.ndarray]]:
    """Keras 3: `layers/conv2d`, `layers/conv2d_1`, ..., each with `vars/0` and `vars/1`."""
    pairs = []
    while (key := f"layers/conv2d{f'_{len(pairs)}' if pairs else ''}/vars") in file:
        if list(file[key]) != ["0", "1"]:
            break
        pairs.append((file[f"{key}/0"][()], file[f"{key}/1"][()]))
    return pairs


def _legacy(file: h5py.File) -> list[tuple[np.ndarray, np.ndarray]]:
    """Keras 1 and 2: `layer_names` in order, in each layer `weight_names` in order; whole models one level deeper."""
    root = file.get("model_weights", file)
    text = [name.decode() if isinstance(name, bytes) else name for name in root.attrs["layer_names"]]
    arrays = [[root[layer][name][()] for name in root[layer].attrs["weight_names"]] for layer in text]
    return [tuple(pair) for pair in arrays if len(pair) == 2 and pair[0].ndim == 4]


def _fill(model: keras.Model, loaded: _Loaded) -> None:
    for layer, (kernel, bias) in zip(_convolutions(model), loaded.convolutions, strict=False):
        # The class convolution keeps its fresh weights when another number of classes was asked for.
        if layer.name != "class_conv" or layer.filters == loaded.classes:
            layer.kernel.assign(kernel)
            layer.bias.assign(bias)


def save_weights(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    variant: str,
    class_names: Sequence[str],
    dtype: str = "float16",
) -> None:
    """Writes a weights file that says what it is: for `AllConvNet(variant, weights=path)` and for Keras itself.

    The layout is that of `model.save_weights("x.weights.h5")`; HDF5 attributes add the variant, the normalisation
    constants and the class names. The file is whole or not there.

    Args:
        model: from `AllConvNet`, with its top and its preprocessing, without `class_relu`.
        path: of the file, ending in `.weights.h5`.
        variant: the net that `model` is.
        class_names: one name for each class, in the order of the logits; numbers become text.
        dtype: "float16" (half the size) or "float32" (exact).

    Raises:
        ValueError: the model is not that net, the names do not fit, or the path does not end in `.weights.h5`.

    Example:
        >>> import allconvnet
        >>> model = allconvnet.AllConvNet("all_cnn_c", weights=None, classes=2)
        >>> allconvnet.save_weights(model, "pets.weights.h5", variant="all_cnn_c", class_names=["cat", "dog"])
    """
    if not str(path).endswith(".weights.h5"):
        raise ValueError(message("Unknown file type", received=f"path={str(path)!r}", allowed="'....weights.h5'"))
    if dtype not in ("float16", "float32"):
        raise ValueError(message("Unknown dtype", received=f"dtype={dtype!r}", allowed="'float16' or 'float32'"))
    if isinstance(class_names, str):
        allowed = "a list of names"
        raise ValueError(
            message("A single string is no list", received=f"class_names={class_names!r}", allowed=allowed)
        )
    convolutions = _convolutions(model)
    received = [step for layer in model.layers if (step := _step_of(layer))]
    expected = _steps(get_spec(variant), len(class_names))
    if received != expected:
        raise ValueError(
            message(
                f"The model is not {variant!r} with {len(class_names)} class names",
                received=f"{received}",
                allowed=f"{expected}",
                next_step="Pass the net that AllConvNet returned itself, not a model that holds it, and its variant; "
                "class_relu cannot be saved.",
            )
        )
    normalization = [layer for layer in model.layers if layer.name == "normalization"]
    if not normalization:
        raise ValueError(
            message(
                "The model does not normalise its input, so the file could not say how to",
                received="a model built with include_preprocessing=False",
                next_step="Build it with include_preprocessing=True.",
            )
        )
    with replacing(Path(path).expanduser()) as temporary, h5py.File(temporary, "w") as file:
        for number, layer in enumerate(convolutions):
            group = file.create_group(f"layers/conv2d{f'_{number}' if number else ''}/vars")
            for index, values in enumerate(layer.get_weights()):
                group.create_dataset(str(index), data=values.astype(dtype))
        file.attrs["variant"] = variant
        file.attrs["mean"] = np.asarray(normalization[0].input_mean, "float64").ravel()
        file.attrs["std"] = np.sqrt(np.asarray(normalization[0].input_variance, "float64").ravel())
        file.attrs["class_names"] = [str(name) for name in class_names]
