"""Explanations: guided backpropagation and class activation maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import keras
import numpy as np
from keras import layers, ops

from allconvnet import _graph
from allconvnet._arrays import as_array
from allconvnet._backend import check_gradients, outside_inference_mode, prediction_batches, vjp
from allconvnet._errors import check_choice, check_number, shortened

__all__ = ["class_activation_map", "guided_backprop"]


def _relu_with_rule(only_positive_input: bool) -> Callable:
    """ReLU whose backward pass keeps positive gradients, on request only where the input is positive, too."""

    @ops.custom_gradient
    def relu(x):
        def gradient(*args, upstream=None):
            upstream = ops.relu(args[0] if upstream is None else upstream)
            return ops.where(x > 0, upstream, ops.zeros_like(upstream)) if only_positive_input else upstream

        return ops.relu(x), gradient

    return relu


# Springenberg et al. 2014, section 4; the deconvnet is Zeiler & Fergus 2013.
_METHODS = {"guided": _relu_with_rule(True), "deconvnet": _relu_with_rule(False), "gradient": None}


def guided_backprop(
    model: keras.Model,
    images: np.ndarray,
    target: int | Sequence[int] | np.ndarray | None = None,
    layer: str | None = None,
    *,
    method: Literal["guided", "deconvnet", "gradient"] = "guided",
    batch_size: int = 64,
) -> np.ndarray:
    """Guided backpropagation: the gradient of a unit with respect to the pixels of each image.

    In the backward pass, a ReLU passes the gradient only where its input and the gradient are both positive (section 4
    of the paper). The ReLU may be a layer, an `activation` argument or a `keras.ops.relu`. A softmax or sigmoid at the
    end of the model is left out: targets are logits.

    Args:
        model: a functional or sequential `keras.Model` with one input and one output; its weights do not change.
        images: `[N, height, width, channels]` as the model takes them; for the nets of `AllConvNet` pixels 0..255.
        target: the unit of `layer` to explain. None: the strongest one in each image. A number: that class, or in a
            feature map the strongest position of that channel in each image. A tuple (row, column, channel): that
            unit of a feature map. An array `[N]` or `[N, 3]`: such a number or unit for each image.
        layer: name of the layer or node to explain; None means the logits.
        method: "guided"; "deconvnet", where only the gradient must be positive; or "gradient", the plain derivative.
        batch_size: images at a time; does not change the result.

    Returns:
        float32, in the shape of `images`: the gradient with respect to the pixels.

    Raises:
        ValueError: an argument is invalid, the model has several inputs or outputs or no ReLU, or there is an
            activation before the unit that the rule does not cover (such as LeakyReLU; "gradient" accepts all).
        TypeError: the model is not functional.

    Example:
        >>> import allconvnet, numpy as np
        >>> model = allconvnet.AllConvNet("all_cnn_c")
        >>> images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), "uint8")
        >>> allconvnet.guided_backprop(model, images, target=3).shape
        (2, 32, 32, 3)
    """
    check_gradients()
    check_choice("method", method, _METHODS)
    images = _checked_images(model, images, batch_size)
    gradients = []
    with outside_inference_mode():
        graph, twins = _graph_with_rule(model, None if layer is None else str(layer), method)
        for original, twin in twins:
            twin.set_weights(original.get_weights())
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            outputs, pull_back = vjp(graph, ops.convert_to_tensor(images[part], dtype="float32"))
            unit = _units(ops.convert_to_numpy(outputs), target, part, len(images))
            gradients.append(ops.convert_to_numpy(pull_back(ops.cast(unit, outputs.dtype))))
    return np.concatenate(gradients)


def class_activation_map(
    model: keras.Model, images: np.ndarray, classes: int | Sequence[int] | None = None, *, batch_size: int = 64
) -> np.ndarray:
    """Maps of where in each image a class is detected; the average of a map is the logit of the class.

    The nets of `AllConvNet` end in a class convolution and a global average, so the maps are exact and take one
    prediction.

    Args:
        model: a functional `keras.Model` whose logits are a `GlobalAveragePooling2D`, such as the nets of `AllConvNet`.
        images: `[N, height, width, channels]` as the model takes them.
        classes: one or more classes; None means all.
        batch_size: images at a time; does not change the result.

    Returns:
        float32 `[N, rows, columns, classes]`. `to_picture(maps[..., 0], images=images)` draws the maps of the first
        class over uint8 images.

    Raises:
        ValueError: the model has several inputs or outputs, or its logits are not a global average; there is no such
            class, or the images do not fit.
        TypeError: the model is not functional.

    Example:
        >>> import allconvnet, numpy as np
        >>> model = allconvnet.AllConvNet("all_cnn_c")
        >>> allconvnet.class_activation_map(model, np.zeros((2, 32, 32, 3), "uint8"), classes=[3, 5]).shape
        (2, 6, 6, 2)
    """
    images = _checked_images(model, images, batch_size)
    graph = _graph_of_maps(model)
    count = graph.output.shape[-1]
    chosen = np.arange(count) if classes is None else np.atleast_1d(as_array("classes", classes))
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or not all(0 <= number < count for number in chosen):
        raise ValueError(f"There is no such class. Received: classes={shortened(classes)}. Allowed: 0 to {count - 1}.")
    return graph.predict(**prediction_batches(images, batch_size), verbose=0)[..., chosen].astype("float32")


@_graph.cached_by_model
def _graph_of_maps(model: keras.Model) -> keras.Model:
    """The model up to the maps; kept, because Keras compiles each new model again."""
    copy, calls = _graph.calls_of(model)
    last = calls[-1].operation
    activated = _graph.activation_of(last) in _graph.LAST_ACTIVATIONS and not _graph.is_activation_argument(last)
    end = calls[-2 if activated and len(calls) > 1 else -1]
    average = isinstance(end.operation, layers.GlobalAveragePooling2D)
    if not average or end.operation.data_format != "channels_last":
        kind, name = type(end.operation).__name__, end.operation.name
        way_out = f" Pass the model inside it, model.get_layer({name!r})." if _graph.is_graph(end.operation) else ""
        raise ValueError(f"The logits must be from a GlobalAveragePooling2D. Received: {kind} {name!r}.{way_out}")
    return keras.Model(copy.inputs, end.inputs[0])


def _checked_images(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    _graph.check_functional(model)
    check_number("batch_size", batch_size, 1, whole=True)
    images = as_array("images", images)
    _graph.check_model_pixels(model, images)
    return images


@_graph.cached_by_model
def _graph_with_rule(model: keras.Model, layer: str | None, method: str) -> tuple[keras.Model, list[tuple]]:
    """The model up to `layer` (None: the logits), with the ReLU of the method; it shares the layers of `model`.

    Layers whose `activation` is replaced have a twin; the twins come second, as pairs (original, twin).
    """
    if method != "gradient" and "relu" not in map(_graph.activation_of, _graph.operations_of(model)):
        raise ValueError(f'No ReLU was found in {model.name!r}. Use method="gradient".')
    relu, last, twins = _METHODS[method], None if layer else _graph.last_activation(model), []

    def replaced(operation):
        if _graph.is_graph(operation):
            return rebuilt(operation)
        name = _graph.activation_of(operation)
        if operation is not last and (relu is None or name != "relu"):
            if relu:
                _check_operation(operation, name)
            return operation
        function = keras.activations.linear if operation is last else relu
        if not _graph.is_activation_argument(operation):
            return layers.Activation(function, dtype=getattr(operation, "dtype_policy", operation.output.dtype))
        twin = type(operation).from_config(operation.get_config() | {"activation": function})
        twins.append((operation, twin))
        return twin

    def call(operation, *args, **kwargs):  # A layer that an Activation replaces may have been called with a mask.
        return operation(args[0]) if isinstance(operation, layers.Activation) else operation(*args, **kwargs)

    def rebuilt(part: keras.Model) -> keras.Model:  # Not recursive=True, which compiles inner models anew.
        part = keras.Model(part.inputs, part.outputs, name=part.name)
        inputs = keras.tree.map_structure(_float_input, part.input)
        return keras.models.clone_model(part, inputs, clone_function=replaced, call_function=call)

    if layer:
        copy, calls = _graph.calls_of(model)
        return rebuilt(keras.Model(copy.inputs, _graph.call_of_layer(calls, layer).output)), twins
    return rebuilt(model), twins


def _float_input(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """An input like this one, but not of integers, which have no gradient."""
    dtype = tensor.dtype if "float" in tensor.dtype else "float32"
    return keras.Input(batch_shape=tensor.shape, dtype=dtype, name=tensor.name)


def _check_operation(operation, activation: str) -> None:
    way_out = 'use method="gradient"'
    if activation:
        raise ValueError(f"The rule is for ReLU, not for {activation} in {operation.name!r}: {way_out}.")
    if any(isinstance(part, keras.Layer) for part in keras.tree.flatten(vars(operation))):
        raise ValueError(f"{type(operation).__name__} {operation.name!r} may contain a ReLU in its layers: {way_out}.")


def _units(outputs: np.ndarray, target, part: slice, count: int) -> np.ndarray:
    """Arrays in the shape of `outputs`, with 1 at the target unit of each image and 0 elsewhere."""
    shape = outputs.shape[1:]
    flat = outputs.reshape(len(outputs), -1)
    if target is None:
        chosen = flat.argmax(axis=1)
    else:
        wanted = as_array("target", target)
        per_image = not isinstance(target, tuple) and wanted.ndim > 0
        fits = not per_image or len(wanted) == count
        wanted = wanted[part] if per_image else np.broadcast_to(wanted, (len(outputs), *wanted.shape))
        is_unit = wanted.shape[1:] == (len(shape),) and len(shape) > 1
        fits = fits and wanted.dtype.kind in "iu" and (is_unit or wanted.ndim == 1)
        if not fits or np.any((wanted < 0) | (wanted >= (shape if is_unit else shape[-1:]))):
            units = f", a tuple (row, column, channel) within {shape}" if len(shape) > 1 else ""
            allowed = f"None, a number 0 to {shape[-1] - 1}{units}, or one of these for each of {count} images"
            raise ValueError(f"There is no such target. Received: target={shortened(target)}. Allowed: {allowed}.")
        if is_unit:
            chosen = np.ravel_multi_index(tuple(wanted.T), shape)
        else:
            channels = flat.reshape(len(outputs), -1, shape[-1])[np.arange(len(outputs)), :, wanted]
            chosen = channels.argmax(axis=1) * shape[-1] + wanted.astype("int64")
    unit = np.zeros_like(flat, "float32")
    unit[np.arange(len(flat)), chosen] = 1
    return unit.reshape(outputs.shape)
