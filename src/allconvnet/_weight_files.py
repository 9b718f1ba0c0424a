"""Weights files: looked up, checked before anything is allocated, read, written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from allconvnet._errors import check_choice, checked_path, listed, shortened
from allconvnet._fetch import fetch_url, fetch_weights
from allconvnet._files import replacing
from allconvnet._hdf5 import WrongFile, member, open_file, read_channels, read_floats, read_text, stores_plain_floats
from allconvnet._specs import LEAKY_SLOPE, NORMALIZATION, Conv, Normalization, Spec, get_spec
from allconvnet._weights import list_weights, weights_info

if TYPE_CHECKING:
    import keras

__all__ = ["save_weights"]

Source = str | os.PathLike[str]
_MAX_CLASSES = 4000  # HDF5 limits an attribute, such as the class names, to 64 KB.


@dataclass(frozen=True)
class WeightsFile:
    """Contents of a weights file: `(kernel, bias)` of each convolution in order, and the normalization of the input."""

    convolutions: list[tuple[np.ndarray, np.ndarray]]
    normalization: Normalization

    @property
    def classes(self) -> int:
        return len(self.convolutions[-1][1])


def user_file(weights: object) -> Path | None:
    """The local file of a path or URL; None for anything else, such as a tag."""
    if isinstance(weights, str) and "://" in weights:
        return fetch_url(weights)
    if isinstance(weights, os.PathLike) or (isinstance(weights, str) and weights.endswith((".h5", ".hdf5"))):
        return checked_path("weights", weights)
    return None


def read_weights(variant: str, weights: Source) -> WeightsFile:
    """The weights of `variant` in a published file (by tag or full name), a path or a URL."""
    spec, path = get_spec(variant), user_file(weights) or _published(variant, weights)
    with open_file(path) as file:
        found = read_text(file, "variant") or [variant]
        if found != [variant]:
            other = shortened(found[0])
            raise WrongFile(f"holds weights of {other}; use AllConvNet({other}, weights=...).")
        pairs = _legacy(file) if "layer_names" in file.attrs or member(file, "model_weights") else _current(file)
        # Datasets that are not read yet: their shapes are compared first.
        datasets = [*islice(pairs, len(kernel_shapes(spec, 1)) + 1)]
        received = [kernel.shape for kernel, _ in datasets]
        expected = kernel_shapes(spec, received[-1][-1] if received else spec.classes)
        if received != expected or any(bias.shape != kernel.shape[-1:] for kernel, bias in datasets):
            raise WrongFile(f"does not fit {variant!r}. Kernels: {received}. Expected: {expected}.")
        if received[-1][-1] > _MAX_CLASSES or not all(stores_plain_floats(data) for pair in datasets for data in pair):
            raise WrongFile(f"must store its own floating-point data, uncompressed, {_MAX_CLASSES:,} classes at most.")
        for data in (data for pair in datasets for data in pair):
            read_floats(data)  # And forgotten: a file whose last value is bad has not taken memory for all others.
        convolutions = [(read_floats(kernel), read_floats(bias)) for kernel, bias in datasets]
        mean, std = NORMALIZATION[spec.normalization]
        if "mean" in file.attrs or "std" in file.attrs:
            mean, std = (tuple(values.tolist()) for values in read_attributes(file, "mean", "std"))
        if "class_names" in file.attrs:
            (names,) = read_attributes(file, "class_names")
            if len(names) != received[-1][-1]:
                raise WrongFile(f"has {len(names)} class names for {received[-1][-1]} classes.")
    return WeightsFile(convolutions, (mean, std))


def read_attributes(file: h5py.File, *names: str) -> list[np.ndarray]:
    """The attributes "class_names", "mean" or "std" that `save_weights` has written."""
    arrays = []
    for name in names:
        array = np.array(read_text(file, name)) if name == "class_names" else read_channels(file, name)
        if not 0 < array.size <= _MAX_CLASSES or (name == "std" and not (array.astype("float32") > 0).all()):
            raise WrongFile(f"has no valid attribute {name!r}, as files of save_weights have.")
        arrays.append(array)
    return arrays


def is_list_of_names(names: Any) -> bool:
    """Whether these are class names in an order: a list, a tuple or a one-dimensional array of strings."""
    ordered = isinstance(names, (list, tuple)) or getattr(names, "ndim", 0) == 1
    return ordered and all(isinstance(name, str) for name in names)


def _published(variant: str, weights: object) -> Path:
    records = [weights_info(name) for name in list_weights(variant)]
    tags = {tag for record in records for tag in (record.tag, record.dataset)}
    tag = str(weights).removeprefix(f"{variant}.")
    if tag in tags:
        return fetch_weights(f"{variant}.{tag}")
    own = "None for random weights, or a path (.h5) or URL"
    received = f"weights={shortened(weights)}"
    raise ValueError(f"Unknown weights for {variant!r}. Received: {received}. Allowed: {listed(tags)}; {own}.")


def kernel_shapes(spec: Spec, classes: int) -> list[tuple[int, ...]]:
    """Shapes of the kernels, `(height, width, inputs, outputs)`."""
    rows = spec.rows_with_sizes(spec.side, classes)
    return [(row.kernel, row.kernel, channels, row.filters) for row, _, channels in rows if isinstance(row, Conv)]


def _current(file: h5py.File) -> Iterator[tuple[h5py.Dataset, h5py.Dataset]]:
    """Keras 3: `layers/conv2d`, `layers/conv2d_1`, ..., each with `vars/0` and `vars/1`."""
    number = 0
    while (group := member(file, f"layers/conv2d{f'_{number}' if number else ''}/vars")) and len(group) == 2:
        yield member(group, "0"), member(group, "1")
        number += 1


def _legacy(file: h5py.File) -> Iterator[tuple[h5py.Dataset, h5py.Dataset]]:
    """Keras 1 and 2: `layer_names` in order, in each layer `weight_names` in order; whole models one level deeper."""
    root = member(file, "model_weights") or file
    if not (names := read_text(root, "layer_names")):
        raise WrongFile("is not laid out as Keras writes weights.")
    for name in names:
        layer = member(root, name)
        pair = [member(layer, weight) for weight in read_text(layer, "weight_names")]
        if len(pair) == 2 and pair[0].ndim == 4:
            yield pair[0], pair[1]


def save_weights(
    model: keras.Model, path: Source, *, variant: str, class_names: Sequence[str] | np.ndarray, dtype: str = "float16"
) -> None:
    """Writes a weights file for `AllConvNet(variant, weights=path)`; Keras' `load_weights` reads it too.

    HDF5 attributes hold the variant, the class names, and the mean and standard deviation of the input. The file is
    written completely or not at all.

    Args:
        model: a model from `AllConvNet` that ends in softmax or logits, with its preprocessing, without `class_relu`.
        path: path of the file; must end in `.weights.h5`.
        variant: name of the net.
        class_names: one name for each class, in the order of the logits.
        dtype: "float16" (half the size) or "float32" (exact).

    Raises:
        ValueError: the model is not that net or does not end in softmax or logits, the names do not fit, or the path
            does not end in `.weights.h5`.
        TypeError: it is not a model.
        OSError: the file cannot be written.

    Example:
        >>> import allconvnet
        >>> model = allconvnet.AllConvNet("all_cnn_c", weights=None, classes=2)
        >>> allconvnet.save_weights(model, "pets.weights.h5", variant="all_cnn_c", class_names=["cat", "dog"])
    """
    from keras import ops

    if not str(path).endswith(".weights.h5"):
        raise ValueError(f"Unknown file type. Received: path={str(path)!r}. Allowed: a name that ends in .weights.h5.")
    check_choice("dtype", dtype, ("float16", "float32"))
    if not hasattr(model, "layers"):
        raise TypeError(f"model must be a keras.Model. Received: {type(model).__name__}.")
    layers = {layer.name: layer for layer in model.layers}
    convolutions = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
    classes = convolutions[-1].filters if convolutions else 0
    names = [*map(str, class_names)] if is_list_of_names(class_names) else []
    expected = _expected_layers(get_spec(variant), classes)
    for number, (found, wanted) in enumerate(zip_longest(_layers_of(model), expected)):
        if found != wanted:
            inner = [layer.name for layer in model.layers if hasattr(layer, "layers")]
            way_out = f" Pass the model inside it, model.get_layer({inner[0]!r})." if inner else ""
            raise ValueError(f"The model is not {variant!r} as AllConvNet builds it: step {number + 1} is {found}, "
                             f"not {wanted}.{way_out}")  # fmt: skip
    for activation in (getattr(layer, "activation", None) for layer in model.layers if layer.name.startswith(_TOP)):
        if activation and (name := getattr(activation, "__name__", "another activation")) not in ("softmax", "linear"):
            raise ValueError("Weights files are for softmax or logits: use model.save, which keeps the activation. "
                             f"Received: a model with {name}.")  # fmt: skip
    normalization = normalization_of(layers.get("normalization"))
    if normalization is None:
        raise ValueError("The model does not normalize its input. Build it with include_preprocessing=True.")
    if len(names) != classes or classes > _MAX_CLASSES:
        received = f"{len(names)} names" if names else shortened(class_names)
        raise ValueError(f"class_names must be a list of {classes} strings, one per class, {_MAX_CLASSES:,} at most. "
                         f"Received: {received}.")  # fmt: skip
    with np.errstate(over="ignore"):
        # Not get_weights(): after `enable_lora` it has more than the kernel and the bias.
        pairs = [(layer.kernel, layer.bias) for layer in convolutions]
        arrays = [[ops.convert_to_numpy(values).astype(dtype) for values in pair] for pair in pairs]
    if not all(np.isfinite(values).all() for pair in arrays for values in pair):
        raise ValueError(f'Some weights are not finite in {dtype}; dtype="float32" has the larger range.')
    with replacing(checked_path("path", path)) as temporary, h5py.File(temporary, "w") as file:
        for number, (kernel, bias) in enumerate(arrays):
            group = file.create_group(f"layers/conv2d{f'_{number}' if number else ''}/vars")
            group["0"], group["1"] = kernel, bias
        file.attrs["variant"] = variant
        file.attrs["mean"], file.attrs["std"] = (np.broadcast_to(part, 3) for part in normalization)
        file.attrs["class_names"] = names


def normalization_of(layer: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and standard deviation by which a layer normalizes; None if it does not, or was adapted to data."""
    kind = type(layer).__name__
    if kind == "Rescaling" and layer.name == "normalization":
        scale = np.asarray(layer.scale, "float64")
        return -np.asarray(layer.offset, "float64") / scale, 1 / scale
    if kind == "Normalization" and layer.input_mean is not None:  # As models of version 1.1 have it.
        mean, variance = (np.ravel(part).astype("float64") for part in (layer.input_mean, layer.input_variance))
        return mean, np.sqrt(variance)
    return None


# Beginnings of the names of layers: of those after the class convolution, and of all that do not affect the file.
_TOP = ("logits", "predictions")
_OPTIONAL = ("gray_to_rgb", "normalization", "dropout", "pad", *_TOP)
# What is the same in all layers of AllConvNet, and not in the weights file.
_FIXED: dict[str, dict[str, Any]] = {
    "Conv2D": {"dilation_rate": (1, 1), "groups": 1, "use_bias": True},
    "ReLU": {"max_value": None, "negative_slope": 0, "threshold": 0},
    "LeakyReLU": {"negative_slope": LEAKY_SLOPE},
}


def _layers_of(model: keras.Model) -> Iterator[str]:
    """What the layers of the model compute: nets can have the same kernels and differ in strides or activations."""
    padded = False  # dense_prediction writes "same" as a padding layer and "valid".
    for layer in model.layers:
        kind = type(layer).__name__
        fixed = _FIXED.get(kind, {}).items()
        other = "".join(f", another {name}" for name, value in fixed if getattr(layer, name) != value)
        if kind in ("Conv2D", "MaxPooling2D"):
            size = layer.kernel_size if kind == "Conv2D" else layer.pool_size
            padding = "same" if padded else layer.padding
            activation = getattr(layer, "activation", None)
            if activation and getattr(activation, "__name__", "") != "linear":
                other += ", activation"
            filters, stride = getattr(layer, "filters", ""), "x".join(map(str, dict.fromkeys(layer.strides)))
            yield f"{filters} {kind} {size[0]}x{size[1]}, stride {stride}, {padding}{other}"
        elif kind != "InputLayer" and not layer.name.startswith(_OPTIONAL):
            yield f"{kind}{other}"
        padded = layer.name.startswith("pad")


def _expected_layers(spec: Spec, classes: int) -> Iterator[str]:
    """The descriptions that `_layers_of` gives for a model of this net."""
    for row, _, _ in spec.rows_with_sizes(spec.side, classes):
        kind, filters = ("Conv2D", row.filters) if isinstance(row, Conv) else ("MaxPooling2D", "")
        yield f"{filters} {kind} {row.kernel}x{row.kernel}, stride {row.stride}, {row.padding}"
        if isinstance(row, Conv) and row.activation:
            yield {"relu": "ReLU", "leaky_relu": "LeakyReLU"}[row.activation]
