"""What a net sees: guided backpropagation, class activation maps, and the pictures made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import keras
import numpy as np
from keras import ops

from allconvnet._backend import vjp, whole
from allconvnet._errors import check_number, listed, message
from allconvnet.models import _CropToMultiple

__all__ = ["class_activation_map", "guided_backprop", "receptive_field", "to_picture"]


def _rule(only_positive_gradient: bool, only_positive_input: bool) -> Callable:
    """ReLU whose backward pass keeps what both conditions allow."""

    @ops.custom_gradient
    def relu(x):
        def gradient(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            if only_positive_gradient:
                upstream = ops.relu(upstream)
            if only_positive_input:
                upstream = ops.where(x > 0, upstream, ops.zeros_like(upstream))
            return upstream

        return ops.relu(x), gradient

    return relu


# Springenberg et al. 2014, section 4; the deconvnet is Zeiler & Fergus 2013.
_METHODS = {"guided": _rule(True, True), "deconvnet": _rule(True, False), "gradient": None}

# Whatever Keras calls an activation, by the name of the function, the layer or the node: LeakyReLU, leaky_relu, ...
_ACTIVATIONS = {name.replace("_", "") for name in dir(keras.activations) if name[0] != "_"} | {"prelu", "relu6"}
_ACTIVATIONS -= {"linear", "get", "serialize", "deserialize"}
_LAST = {"softmax", "sigmoid", "logsoftmax"}


def guided_backprop(
    model: keras.Model,
    images: np.ndarray,
    target: int | Sequence[int] | np.ndarray | None = None,
    layer: str | None = None,
    *,
    method: str = "guided",
    batch_size: int = 64,
) -> np.ndarray:
    """What in each image excites a unit: its gradient, taken back with the paper's rule at every ReLU.

    Section 4 of the paper: a ReLU passes the gradient on where its input and the gradient are both positive. The ReLU
    may be a layer, an `activation` argument or a `keras.ops.relu`; in a layer of your own that holds no other layers
    it is not seen. A softmax or sigmoid at the end is left out: targets are logits. Nothing of the model changes.

    Args:
        model: a functional or sequential `keras.Model` with one input and one output.
        images: `[N, height, width, channels]` as the model takes them; for the nets of `AllConvNet` pixels 0..255.
        target: which unit of `layer`. None: each image's strongest. A number: that class, or in a feature map each
            image's strongest position of that channel. A tuple (row, column, channel): that unit of a feature map. An
            array `[N]` or `[N, 3]`: such a number or such a unit for each image.
        layer: name of the layer or node whose output is explained; None means the logits.
        method: "guided"; "deconvnet", where only the gradient must be positive; or "gradient", the derivative itself.
        batch_size: images at a time; does not change the result.

    Returns:
        float32, the shape of `images`: the unit's change per unit of pixel value under that rule.

    Raises:
        ValueError: an argument is not one of those above, the model has no ReLU at all, or on the way to the unit is an
            activation that the rule does not cover (LeakyReLU and others; `method="gradient"` takes them all).
        TypeError: the model is not functional.

    Example:
        >>> import allconvnet, numpy as np
        >>> model = allconvnet.AllConvNet("all_cnn_c")
        >>> images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), "uint8")
        >>> allconvnet.guided_backprop(model, images, target=3).shape
        (2, 32, 32, 3)
    """
    if method not in _METHODS:
        raise ValueError(message("Unknown method", received=f"method={method!r}", allowed=listed(_METHODS)))
    images = _check_images(model, images, batch_size)
    relu = _METHODS[method]
    last = None if layer else _last_activation(model)
    graph = keras.Model(model.inputs, _tensor(model, layer) if layer else _logits(model))
    if relu:
        _check_activations(model, graph)
    gradients = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        outputs, pull_back = vjp(
            lambda x: _run(graph, x, relu, last), ops.convert_to_tensor(images[part], dtype="float32")
        )
        unit = _units(ops.convert_to_numpy(outputs), target, part, len(images))
        gradients.append(ops.convert_to_numpy(pull_back(ops.cast(unit, outputs.dtype))))
    return np.concatenate(gradients)


def class_activation_map(
    model: keras.Model,
    images: np.ndarray,
    classes: int | Sequence[int] | None = None,
    *,
    batch_size: int = 64,
) -> np.ndarray:
    """Where in each image a class is seen: the map whose average is the class's logit.

    These nets end in a class convolution and a global average, so the map is exact and costs one prediction.

    Args:
        model: a functional `keras.Model` whose logits are a `GlobalAveragePooling2D`, such as the nets of `AllConvNet`.
        images: `[N, height, width, channels]` as the model takes them.
        classes: a class or several; None means all.
        batch_size: images at a time; does not change the result.

    Returns:
        float32 `[N, rows, columns, classes]`, as it is: the mean over rows and columns is the logit.
        `to_picture(maps[..., 0], images=images)` lays the maps of the first class over uint8 images.

    Raises:
        ValueError: the model does not end so, there is no such class, or the images do not fit.
        TypeError: the model is not functional.

    Example:
        >>> import allconvnet, numpy as np
        >>> model = allconvnet.AllConvNet("all_cnn_c")
        >>> allconvnet.class_activation_map(model, np.zeros((2, 32, 32, 3), "uint8"), classes=[3, 5]).shape
        (2, 6, 6, 2)
    """
    images = _check_images(model, images, batch_size)
    logits = _logits(model)
    average = logits._keras_history.operation
    if not isinstance(average, keras.layers.GlobalAveragePooling2D):
        raise ValueError(
            message(
                "The logits of this model are not an average over a map",
                received=f"{type(average).__name__} {average.name!r}",
                allowed="a model that ends in GlobalAveragePooling2D, with or without a softmax behind it",
            )
        )
    count = logits.shape[-1]
    chosen = np.arange(count) if classes is None else np.atleast_1d(classes)
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or not all(0 <= number < count for number in chosen):
        raise ValueError(
            message("There is no such class", received=f"classes={classes!r}", allowed=f"0 to {count - 1}")
        )
    graph = keras.Model(model.inputs, _node(logits).input_tensors[0])
    maps = graph.predict(**whole(images, batch_size), verbose=0)
    return maps[..., chosen].astype("float32")


_WINDOWS = (
    *(keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D),
    *(keras.layers.MaxPooling2D, keras.layers.AveragePooling2D),
)
# A unit of these sees the pixel at its own place; so does one of any activation.
_ELEMENTWISE = (
    *(keras.layers.BatchNormalization, keras.layers.Normalization, keras.layers.Rescaling),
    *(keras.layers.Dropout, keras.layers.SpatialDropout2D, keras.layers.GaussianDropout, keras.layers.GaussianNoise),
    *(keras.layers.Activation, _CropToMultiple),
)


def receptive_field(model: keras.Model, layer: str) -> tuple[int, int, int]:
    """The window of the image that a unit of a feature map sees.

    Args:
        model: a functional `keras.Model`, a single chain of layers up to `layer`.
        layer: name of a convolution, a pooling, a normalisation, a dropout or an activation.

    Returns:
        `(side, stride, offset)` in pixels: unit (row, column) sees rows `offset + stride * row` to that plus `side`,
        and the columns likewise. Parts may lie outside of the image, where the padding is. How "same" padding falls
        depends on the side of the images: that of the model; where it is None, an even one.

    Raises:
        ValueError: no such layer, one that sees the whole image, a layer of another kind on the way to it, a model
            that branches, or rows and columns that differ (in a kernel, or as "same" padding falls).
        TypeError: the model is not functional.

    Example:
        >>> import allconvnet
        >>> allconvnet.receptive_field(allconvnet.AllConvNet("all_cnn_c"), "conv3")
        (7, 2, -2)
    """
    _check_functional(model)
    chain = _chain(_tensor(model, layer))
    for operation, _ in chain:
        if isinstance(operation, (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)):
            raise ValueError(
                message("This layer sees the whole image", received=f"layer={layer!r}", allowed="a layer with a map")
            )
        if not _is_local(operation):
            raise ValueError(
                message(
                    "What this layer sees cannot be told",
                    received=f"{type(operation).__name__} {operation.name!r} on the way to it",
                    allowed="convolutions, poolings, normalisations, dropout, activations; one model; channels last",
                )
            )
    rows, columns = (_window(chain, axis) for axis in (0, 1))
    if rows != columns:
        raise ValueError(
            message(
                "Rows and columns of this window differ",
                received=f"(side, stride, offset) {rows} and {columns} in {layer!r}",
                allowed="square kernels and strides; where padding is same, a model for square images",
            )
        )
    return rows


def _is_local(operation) -> bool:
    if isinstance(operation, keras.layers.Concatenate):  # Of one tensor, as `_chain` allows: gray as red, green, blue.
        return operation.axis in (-1, 3)
    known = isinstance(operation, (*_WINDOWS, *_ELEMENTWISE)) or (_activation(operation) and not _does_more(operation))
    return bool(known) and getattr(operation, "data_format", "channels_last") == "channels_last"


def _window(chain: list, axis: int) -> tuple[int, int, int]:
    """`receptive_field` along rows (0) or columns (1)."""
    side, stride, offset = 1, 1, 0
    size = 1 << 10  # Where the model does not say.
    for operation, before in chain:
        if not isinstance(operation, _WINDOWS):
            continue
        size = before.shape[1 + axis] or size
        kernel = getattr(operation, "kernel_size", getattr(operation, "pool_size", None))[axis]
        step = operation.strides[axis]
        kernel = (kernel - 1) * getattr(operation, "dilation_rate", (1, 1))[axis] + 1
        if operation.padding == "same":
            count = -(-size // step)
            offset -= stride * (max((count - 1) * step + kernel - size, 0) // 2)
            size = count
        else:
            size = (size - kernel) // step + 1
        side += (kernel - 1) * stride
        stride *= step
    return side, stride, offset


def to_picture(
    arrays: np.ndarray,
    *,
    images: np.ndarray | None = None,
    caption: str = "",
    columns: int | None = None,
    cell: int = 128,
) -> np.ndarray:
    """Arrays as one picture: a grid with a caption.

    Gradients are shown around gray, maps in blue (negative) to red (positive), both on a scale symmetric about zero
    that ends at the largest magnitude of each.

    Args:
        arrays: uint8 `[N, height, width, 3]` images, shown as they are; float `[N, height, width, 3]` gradients; or
            float `[N, rows, columns]` maps.
        images: uint8 `[N, height, width, 3]`, on which maps are laid; their positive part only.
        caption: what stands above the grid: net, layer and target.
        columns: cells in a row; None means all up to 8.
        cell: side of a cell in pixels.

    Returns:
        uint8 `[height, width, 3]`, RGB; `cv2.imwrite(path, picture[..., ::-1])` writes it.

    Raises:
        ValueError: the arrays are none of these, or the images do not fit them.

    Example:
        >>> import allconvnet, numpy as np
        >>> allconvnet.to_picture(np.zeros((3, 32, 32, 3), "float32"), caption="all_cnn_c, relu6").shape
        (160, 396, 3)
    """
    arrays = np.asarray(arrays)
    colors = arrays.ndim == 4 and arrays.shape[3] == 3
    if not len(arrays) or not (colors or (arrays.ndim == 3 and arrays.dtype.kind == "f")):
        raise ValueError(
            message(
                "These arrays make no picture",
                received=f"{arrays.dtype} {arrays.shape}",
                allowed="uint8 or float [N, height, width, 3], or float [N, rows, columns]",
            )
        )
    if images is not None and (colors or len(images) != len(arrays) or np.asarray(images).dtype != np.uint8):
        raise ValueError(
            message(
                "These images are not those of the maps",
                received=f"{np.asarray(images).dtype} {np.shape(images)} for {arrays.dtype} {arrays.shape}",
                allowed="uint8 [N, height, width, 3] for float maps [N, rows, columns]",
            )
        )
    columns = min(len(arrays), columns or 8)
    gap, head = 3, 26 if caption else 0
    rows = -(-len(arrays) // columns)
    canvas = np.full((head + rows * (cell + gap) + gap, columns * (cell + gap) + gap, 3), 255, np.uint8)
    if caption:
        cv2.putText(canvas, caption, (gap + 2, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    for number, array in enumerate(arrays):
        top = head + gap + (number // columns) * (cell + gap)
        left = gap + (number % columns) * (cell + gap)
        picture = _colored(array, None if images is None else images[number])
        canvas[top : top + cell, left : left + cell] = _enlarged(picture, cell)
    return canvas


def _enlarged(picture: np.ndarray, cell: int) -> np.ndarray:
    shrinks = max(picture.shape[:2]) > cell
    return cv2.resize(picture, (cell, cell), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)


def _colored(array: np.ndarray, image: np.ndarray | None) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    scaled = array / max(float(np.abs(array).max()), 1e-12)
    if array.ndim == 3:
        return np.round(127.5 + 127.5 * scaled).astype("uint8")
    red, blue = np.array([200.0, 30.0, 30.0]), np.array([30.0, 60.0, 200.0])
    if image is None:
        scaled = scaled[..., None]
        return np.round(255 + np.abs(scaled) * (np.where(scaled > 0, red, blue) - 255)).astype("uint8")
    scaled = cv2.resize(scaled.astype("float32"), image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    weight = 0.7 * np.clip(scaled, 0, 1)[..., None]
    return np.round((1 - weight) * image + weight * red).astype("uint8")


def _check_functional(model: keras.Model) -> None:
    if not _is_graph(model):
        raise TypeError(
            message(
                "The layers of this model cannot be followed",
                received=f"{type(model).__name__}",
                allowed="a functional keras.Model, or a built keras.Sequential",
            )
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            message(
                "The model must have one input and one output",
                received=f"{len(model.inputs)} inputs, {len(model.outputs)} outputs",
                next_step="Make one of its parts: keras.Model(model.inputs[0], model.outputs[0]).",
            )
        )


def _check_images(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    _check_functional(model)
    check_number("batch_size", batch_size, 1, whole=True)
    images = np.asarray(images)
    wanted = model.inputs[0].shape
    if (
        images.dtype.kind not in "uif"
        or images.ndim != len(wanted)
        or not len(images)
        or any(side not in (None, there) for side, there in zip(wanted[1:], images.shape[1:], strict=True))
    ):
        raise ValueError(
            message(
                "The images do not fit the model",
                received=f"{images.dtype} {images.shape}",
                allowed=f"{wanted}, one image or more, integers or floats",
                next_step="allconvnet.load_images makes such a batch.",
            )
        )
    return images


def _operations(model: keras.Model) -> list:
    """Every layer and node of the model and of the models in it."""
    found = []
    for operation in keras.Model(model.inputs, model.outputs).operations:
        found += _operations(operation) if _is_graph(operation) else [operation]
    return found


def _is_graph(operation) -> bool:
    """A functional model or a built sequential one: the others have no inputs."""
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


def _activation(operation) -> str:
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


def _does_more(operation) -> bool:
    """Whether the activation is an argument of a layer that computes something else before."""
    return getattr(operation, "activation", None) is not None and not isinstance(operation, keras.layers.Activation)


def _check_activations(model: keras.Model, graph: keras.Model) -> None:
    last = _last_activation(model)
    for operation in _operations(graph):
        if operation is not last and _activation(operation) not in ("", "relu"):
            raise ValueError(
                message(
                    "Guided backpropagation and the deconvnet are defined for ReLU only",
                    received=f"{_activation(operation)} in {operation.name!r}",
                    allowed='relu; any activation with method="gradient"',
                )
            )
        if list(getattr(operation, "_flatten_layers", lambda **_: ())(include_self=False)):
            raise ValueError(
                message(
                    "A layer that holds other layers may hide a ReLU",
                    received=f"{type(operation).__name__} {operation.name!r}",
                    allowed='functional and sequential models within the model; any layer with method="gradient"',
                )
            )
    operations = _operations(model)  # Below the first ReLU, too, there is something to explain.
    if not any(_activation(operation) == "relu" for operation in operations):
        raise ValueError(
            message(
                "The model has no ReLU that can be seen",
                received=f"{len(operations)} layers",
                next_step='Use method="gradient".',
            )
        )


def _last_activation(model: keras.Model):
    """The layer or node that turns logits into probabilities, if the model ends in one."""
    operation = model.outputs[0]._keras_history.operation
    if _is_graph(operation):
        return _last_activation(operation)
    return operation if _activation(operation) in _LAST else None


def _logits(model: keras.Model):
    """The tensor before the last activation; where that is an argument of a layer, the layer's output."""
    tensor = model.outputs[0]
    last = tensor._keras_history.operation
    return _node(tensor).input_tensors[0] if last is _last_activation(model) and not _does_more(last) else tensor


def _node(tensor):
    """The call that the tensor comes from; `layer.input` and `layer.output` are those of the layer's first call."""
    return tensor._keras_history.operation._inbound_nodes[tensor._keras_history.node_index]


def _tensor(model: keras.Model, name: str):
    outputs: dict[str, list] = {}
    for nodes in keras.Model(model.inputs, model.outputs)._nodes_by_depth.values():
        for node in nodes:
            outputs.setdefault(node.operation.name, []).extend(node.outputs)
    if name not in outputs:
        raise ValueError(message("There is no such layer", received=f"layer={name!r}", allowed=listed(outputs)))
    if len(outputs[name]) > 1:
        raise ValueError(
            message(
                "This layer has several outputs in the model",
                received=f"layer={name!r} with {len(outputs[name])} outputs",
                allowed="a layer that the model calls once",
            )
        )
    return outputs[name][0]


def _chain(tensor) -> list[tuple]:
    """The operations from the input to the tensor, each with the tensor that it is applied to."""
    found = []
    while not _node(tensor).is_input:
        operation, before = tensor._keras_history.operation, _node(tensor).input_tensors
        if any(other is not before[0] for other in before):
            raise ValueError(
                message("The model branches", received=f"{operation.name!r}", allowed="a single chain of layers")
            )
        found.append((operation, before[0]))
        tensor = before[0]
    return found[::-1]


def _run(graph: keras.Model, x, relu: Callable | None, last):
    """The graph's output, each ReLU by `relu`, the activation of the layer `last` left out."""

    def replaced(operation) -> Callable:
        if _is_graph(operation):
            inner = keras.Model(operation.inputs, operation.outputs)
            return lambda y, **_: _run(inner, y, relu, last)
        if operation is not last and (relu is None or _activation(operation) != "relu"):
            return operation
        after = (lambda y: y) if operation is last else relu
        if _does_more(operation):
            return lambda y, **_: after(_without_activation(operation, y))
        return lambda y, **_: after(y)

    return graph._run_through_graph(x, operation_fn=replaced)


def _without_activation(layer: keras.layers.Layer, x):
    """What the layer computes before its activation, by a twin that borrows its variables."""
    twin = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    twin.build(x.shape)
    values = [
        [variable.value for variable in group] for group in (layer.trainable_variables, layer.non_trainable_variables)
    ]
    outputs, _ = twin.stateless_call(*values, x)
    return outputs


def _units(outputs: np.ndarray, target, part: slice, count: int) -> np.ndarray:
    """1 at the unit that each output is asked for, else 0."""
    shape = outputs.shape[1:]
    flat = outputs.reshape(len(outputs), -1)
    if target is None:
        chosen = flat.argmax(axis=1)
    else:
        wanted = np.asarray(target)
        per_image = not isinstance(target, tuple) and wanted.ndim > 0
        if per_image and len(wanted) != count:
            raise _bad_target(target, shape, f"{count} images")
        wanted = wanted[part] if per_image else np.broadcast_to(wanted, (len(outputs), *wanted.shape))
        is_unit = wanted.shape[1:] == (len(shape),) and len(shape) > 1
        limits = shape if is_unit else shape[-1:]
        if (
            wanted.dtype.kind not in "iu"
            or not (is_unit or wanted.ndim == 1)
            or np.any((wanted < 0) | (wanted >= limits))
        ):
            raise _bad_target(target, shape, "")
        if is_unit:
            chosen = np.ravel_multi_index(tuple(wanted.T), shape)
        else:
            channels = flat.reshape(len(outputs), -1, shape[-1])[np.arange(len(outputs)), :, wanted]
            chosen = channels.argmax(axis=1) * shape[-1] + wanted
    unit = np.zeros_like(flat, "float32")
    unit[np.arange(len(flat)), chosen] = 1
    return unit.reshape(outputs.shape)


def _bad_target(target, shape: tuple[int, ...], images: str) -> ValueError:
    kinds = [f"a class or channel 0 to {shape[-1] - 1}", "one of these for each image"]
    if len(shape) > 1:
        kinds.insert(1, f"a tuple (row, column, channel) within {shape}")
    return ValueError(
        message(
            "There is no such target",
            received=f"target={target!r}" + (f" for {images}" if images else ""),
            allowed=", ".join(kinds) + ", or None",
        )
    )
