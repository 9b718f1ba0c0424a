"""A functional model as the list of calls that it consists of, by Keras' public API."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from allconvnet._decode import check_pixels
from allconvnet._errors import unknown
from allconvnet._weight_files import normalization_of

# Whatever Keras calls an activation, by the name of the function, the layer or the node: LeakyReLU, leaky_relu, ...
_ACTIVATIONS = {name.replace("_", "") for name in dir(keras.activations) if name[0] != "_"} | {"prelu", "relu6"}
_ACTIVATIONS -= {"linear", "get", "serialize", "deserialize"}
LAST_ACTIVATIONS = {"softmax", "sigmoid", "logsoftmax"}
# What may stand before the normalization: it keeps the scale of the pixels.
_KEEP_SCALE = ("InputLayer", "Random", "Resizing", "CenterCrop", "ZeroPadding", "Concatenate")


def is_graph(operation) -> bool:
    """Whether it is a functional model or a built sequential one: others have no inputs."""
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


def check_functional(model: keras.Model) -> None:
    """Raises unless the model is functional, with one input and one output."""
    if not is_graph(model):
        raise TypeError(f"The model must be functional, or a built keras.Sequential. Received: {type(model).__name__}.")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        received = f"{len(model.inputs)} inputs, {len(model.outputs)} outputs"
        raise ValueError(f"The model must have one input and one output. Received: {received}.")


class Call(NamedTuple):
    """One call of a layer or node in a model."""

    operation: Any
    inputs: list[keras.KerasTensor]
    output: Any


_CACHE: weakref.WeakKeyDictionary[keras.Model, dict] = weakref.WeakKeyDictionary()


def cached_by_model(function: Callable) -> Callable:
    """Caches by model and arguments until the model changes: rebuilding a graph each time would add nodes to layers."""

    @functools.wraps(function)
    def cached(model: keras.Model, *args):
        parts = operations_of(model)  # Quantizing and `enable_lora` change the number of weights.
        state = [(id(part), getattr(part, "activation", None), len(getattr(part, "weights", ()))) for part in parts]
        key, memory = (function.__name__, args, *state), _CACHE.setdefault(model, {})
        if key not in memory:
            memory[key] = function(model, *args)
        return memory[key]

    return cached


@cached_by_model
def calls_of(model: keras.Model) -> tuple[keras.Model, list[Call]]:
    """A copy of the model that shares its layers, and the calls in it, in order; the last one gives the output."""
    calls: list[Call] = []

    def call(operation, *args, **kwargs):
        output = operation(*args, **kwargs)
        inputs = [part for part in keras.tree.flatten((args, kwargs)) if isinstance(part, keras.KerasTensor)]
        calls.append(Call(operation, inputs, output))
        return output

    graph = keras.Model(model.inputs, model.outputs)
    return keras.models.clone_model(graph, clone_function=lambda layer: layer, call_function=call), calls


def call_of_layer(calls: list[Call], name: str) -> Call:
    """The only call of the layer of that name."""
    found = [call for call in calls if isinstance(name, str) and call.operation.name == name]
    if not found:
        raise unknown("layer", name, [call.operation.name for call in calls])
    if len(found) > 1:
        raise ValueError(f"The model calls the layer {name!r} {len(found)} times: name one that it calls once.")
    return found[0]


def chain_to(calls: list[Call], last: Call) -> list[Call]:
    """The calls from the input to `last`."""
    by_output = {id(call.output): call for call in calls}
    chain = [last]
    while True:
        first, *others = chain[0].inputs
        if any(other is not first for other in others):
            raise ValueError(f"The model branches at {chain[0].operation.name!r}: it must be a single chain of layers.")
        if id(first) not in by_output:
            return chain
        chain.insert(0, by_output[id(first)])


def operations_of(model: keras.Model) -> list:
    """Every layer and node of the model and of the models in it."""
    found = []
    for operation in keras.Model(model.inputs, model.outputs).operations:
        found += operations_of(operation) if is_graph(operation) else [operation]
    return found


def activation_of(operation) -> str:
    """Name of the activation that an operation applies, in lower case without underscores; "" if none."""
    function = getattr(operation, "activation", None)
    name = getattr(function, "__name__", type(function).__name__) if function else type(operation).__name__
    name = name.lower().replace("_", "")
    if name not in _ACTIVATIONS:
        return "" if not function or name == "linear" else name
    if name == "relu" and not function:
        # The layer and the node take more arguments, which make another function of it.
        extras = [getattr(operation, key, None) for key in ("negative_slope", "threshold", "max_value")]
        return f"{name} with {extras}" if any(extra not in (None, 0) for extra in extras) else name
    return name


def is_activation_argument(operation) -> bool:
    """Whether the activation is an argument of a layer that computes something else before."""
    return getattr(operation, "activation", None) is not None and not isinstance(operation, layers.Activation)


def last_activation(model: keras.Model):
    """The layer or node that turns logits into probabilities, if the model ends in one."""
    operation = calls_of(model)[1][-1].operation
    if is_graph(operation):
        return last_activation(operation)
    return operation if activation_of(operation) in LAST_ACTIVATIONS else None


def check_model_pixels(model, images: np.ndarray) -> None:
    """Raises unless the model takes these images.

    Pixels in 0..1 are refused only if the model normalizes pixels in 0..255.
    """
    if not hasattr(model, "predict"):
        raise TypeError(f"model must be a keras.Model. Received: {type(model).__name__}.")
    shape, wanted = images.shape, getattr(model, "input_shape", None)
    if isinstance(wanted, tuple):
        if not images.size:
            raise ValueError(f"There is no image. Received: {images.dtype} {shape}.")
        fits = len(wanted) == len(shape)
        if not fits or any(side not in (None, there) for side, there in zip(wanted[1:], shape[1:], strict=True)):
            raise ValueError(f"The images do not fit the model. Received: {images.dtype} {shape}. Allowed: {wanted}.")
    for operation in operations_of(model) if is_graph(model) else ():
        normalization = normalization_of(operation)
        if normalization is not None and np.max(normalization[1]) > 10:
            check_pixels(images)
        if not type(operation).__name__.startswith(_KEEP_SCALE):
            break
