"""Explanations against a net computed by hand, a slow NumPy reference, and finite differences."""

import gc
import weakref
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from keras import layers, ops

from allconvnet import (
    AllConvNet,
    class_activation_map,
    explain,
    guided_backprop,
    load_images,
    receptive_field,
    to_picture,
)

TOP = Path(__file__).parents[1]
METHODS = ["guided", "deconvnet", "gradient"]


def by_hand():
    """Three hidden ReLU units of two inputs, one output: relu(x @ a) @ b."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, activation="relu"), layers.Dense(1)])
    a, b = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]]), np.array([[2.0], [-1.0], [1.0]])
    model.set_weights([a, np.zeros(3), b, np.zeros(1)])
    return model


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # At (1, 1) the units are 5, 3 and -3, and their gradients 2, -1 and 1.
        ("gradient", [2 * 1 - 1 * -2, 2 * 4 - 1 * 5]),  # units 1 and 2 are on
        ("deconvnet", [2 * 1 + 1 * 3, 2 * 4 + 1 * -6]),  # units 1 and 3 have a positive gradient
        ("guided", [2 * 1, 2 * 4]),  # unit 1 has both
    ],
)
def test_three_units_by_hand(method, expected):
    assert guided_backprop(by_hand(), np.ones((1, 2)), method=method).tolist() == [expected]


def convolve(x, kernel):
    """Valid convolution, stride 1, one output at a time."""
    side, count = kernel.shape[0], x.shape[0] - kernel.shape[0] + 1
    y = np.zeros((count, count, kernel.shape[3]))
    for i in range(count):
        for j in range(count):
            y[i, j] = np.einsum("ijc,ijck->k", x[i : i + side, j : j + side], kernel)
    return y


def convolve_back(gradient, kernel, shape):
    side, x = kernel.shape[0], np.zeros(shape)
    for i in range(gradient.shape[0]):
        for j in range(gradient.shape[1]):
            x[i : i + side, j : j + side] += np.einsum("k,ijck->ijc", gradient[i, j], kernel)
    return x


def relu_back(gradient, forward, method):
    if method != "deconvnet":
        gradient = gradient * (forward > 0)
    return gradient if method == "gradient" else np.maximum(gradient, 0)


def reference(image, kernels, unit, method):
    """Two convolutions, each with ReLU, then the unit (row, column, channel) of a third."""
    inputs, forwards = [image], []
    for kernel in kernels:
        forwards.append(convolve(inputs[-1], kernel))
        inputs.append(np.maximum(forwards[-1], 0))
    gradient = np.zeros_like(forwards[-1])
    gradient[unit] = 1
    for number in (2, 1, 0):
        if number < 2:
            gradient = relu_back(gradient, forwards[number], method)
        gradient = convolve_back(gradient, kernels[number], inputs[number].shape)
    return gradient


def small_net(form):
    """Three convolutions with two ReLUs, written in one of the ways that Keras has for it."""
    inputs = x = keras.Input((9, 9, 3))
    for number, filters in enumerate((6, 5)):
        if form == "argument":
            x = layers.Conv2D(filters, 3, activation="relu")(x)
            continue
        x = layers.Conv2D(filters, 3)(x)
        if form == "layer":
            x = layers.ReLU()(x)
        elif form == "activation":
            x = layers.Activation("relu")(x)
        elif form == "node":
            x = ops.relu(x)
        elif form == "nested":
            part = keras.Input(x.shape[1:])
            x = keras.Model(part, keras.Sequential([layers.ReLU()])(part), name=f"part{number}")(x)
    return keras.Model(inputs, layers.Conv2D(4, 3, name="last")(x))


@pytest.fixture(scope="module")
def kernels():
    random = np.random.default_rng(0)
    return [random.normal(0, 1, shape) for shape in ((3, 3, 3, 6), (3, 3, 6, 5), (3, 3, 5, 4))]


@pytest.mark.parametrize(
    ("form", "method"),
    [("argument", "deconvnet"), ("argument", "gradient")]
    + [(form, "guided") for form in ("layer", "argument", "activation", "node", "nested")],
)
def test_slow_reference(form, method, kernels):
    model = small_net(form)
    model.set_weights([value for kernel in kernels for value in (kernel, np.zeros(kernel.shape[3]))])
    images = np.random.default_rng(1).normal(0, 1, (3, 9, 9, 3))
    units = np.array([[0, 1, 2], [2, 2, 3], [1, 0, 0]])
    expected = [reference(image, kernels, tuple(unit), method) for image, unit in zip(images, units, strict=True)]
    before = [value.copy() for value in model.get_weights()]
    config = model.get_config()
    found = guided_backprop(model, images, units, method=method, batch_size=2)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # The model is as it was, and a new weight counts at once.
    assert model.get_config() == config
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    model.set_weights([2 * value for value in before])
    again = guided_backprop(model, images, units, method=method)
    np.testing.assert_allclose(again, 8 * found, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def net():
    return AllConvNet("all_cnn_c")


@pytest.fixture(scope="module")
def pictures():
    return load_images(sorted((TOP / "examples/pictures").glob("*.*g")))


def test_gradient_is_the_derivative(net, pictures):
    logits = AllConvNet("all_cnn_c", classifier_activation=None)
    images = pictures[:2].astype("float32")
    direction = np.random.default_rng(0).normal(0, 1, images.shape)
    slope = (guided_backprop(net, images, 3, method="gradient") * direction).sum(axis=(1, 2, 3))
    step = 0.02
    high, low = (logits.predict(images + sign * step * direction, verbose=0)[:, 3] for sign in (1, -1))
    np.testing.assert_allclose((high - low) / (2 * step), slope, rtol=0.03, atol=0.003)


def test_targets(net, pictures):
    best = net.predict(pictures, verbose=0).argmax(axis=1)
    default = guided_backprop(net, pictures)
    assert default.shape == pictures.shape
    assert np.array_equal(default, guided_backprop(net, pictures, best.astype("uint64")))
    assert np.array_equal(default[3], guided_backprop(net, pictures, int(best[3]))[3])
    # The softmax at the end is left out, and nothing else.
    logits = AllConvNet("all_cnn_c", classifier_activation=None)
    assert np.array_equal(default, guided_backprop(logits, pictures))


def test_targets_in_a_feature_map(net, pictures):
    maps = keras.Model(net.inputs, net.get_layer("relu5").output).predict(pictures, verbose=0)
    positions = [np.unravel_index(one[..., 7].argmax(), one.shape[:2]) for one in maps]
    strongest = guided_backprop(net, pictures, 7, "relu5")
    units = np.array([[*position, 7] for position in positions])
    assert np.array_equal(strongest, guided_backprop(net, pictures, units, "relu5"))
    assert np.array_equal(strongest[2], guided_backprop(net, pictures, tuple(units[2].tolist()), "relu5")[2])
    overall = [np.unravel_index(one.argmax(), one.shape) for one in maps]
    assert np.array_equal(
        guided_backprop(net, pictures, None, "relu5"), guided_backprop(net, pictures, overall, "relu5")
    )


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_last_activation_as_an_argument(activation, kernels):
    inputs = keras.Input((9, 9, 3))
    convolution, one, other = layers.Conv2D(6, 3, activation="relu"), layers.Dense(4, activation), layers.Dense(4)
    x = layers.Flatten()(convolution(inputs))
    models = [keras.Model(inputs, one(x)), keras.Model(inputs, other(x))]
    convolution.set_weights([kernels[0], np.zeros(6)])
    for dense in (one, other):
        dense.set_weights([np.random.default_rng(2).normal(0, 0.1, (294, 4)), np.zeros(4)])
    images = np.random.default_rng(1).normal(0, 1, (2, 9, 9, 3))
    assert (models[1].predict(images, verbose=0) < 0).any(), "a ReLU in its place would be seen"
    for method in METHODS:
        first, second = (guided_backprop(model, images, 2, method=method) for model in models)
        np.testing.assert_allclose(first, second, atol=1e-5)
        assert np.abs(first).max() > 0.01


def test_gradient_takes_any_activation():
    images = np.random.default_rng(0).normal(0, 1, (2, 8, 8, 3))
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.LeakyReLU(), layers.Flatten()])
    assert guided_backprop(model, images, 0, method="gradient").any()


INPUT = keras.Input((8, 8, 3))
IMAGES = np.zeros((2, 8, 8, 3))


def with_relu(*more):
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu"), *more])


class Block(layers.Layer):
    def __init__(self):
        super().__init__()
        self.hidden = layers.ReLU()

    def call(self, x):
        return self.hidden(x)

    def compute_output_shape(self, shape):
        return shape


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "arguments", "match"),
    [
        (with_relu(layers.LeakyReLU()), {}, r"for ReLU, not for leakyrelu in 'leaky"),
        (with_relu(layers.PReLU()), {}, r"not for prelu"),
        (with_relu(layers.Activation("gelu")), {"method": "deconvnet"}, r"not for gelu"),
        (with_relu(layers.Conv2D(2, 1, activation="tanh"), layers.Flatten()), {}, r"not for tanh"),
        (with_relu(layers.ReLU(6)), {}, r"not for relu with \[0\.0, 0\.0, 6\]"),
        (with_relu(layers.Softmax(), layers.Flatten()), {}, r"not for softmax"),
        (keras.Model(INPUT, ops.silu(ops.relu(INPUT))), {}, r"not for silu in 'silu"),
        (with_relu(Block()), {}, r"Block 'block.* may contain a ReLU"),
        (keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3)]), {}, r"No ReLU was found"),
        (
            with_relu(),
            {"method": "guide"},
            r"Unknown method\. Received: method='guide'\. Did you mean 'guided'\? Allowed: 'deconvnet'",
        ),
        (
            with_relu(),
            {"layer": "conv9"},
            r"Unknown layer\. Received: layer='conv9'\..* Allowed: 'conv2d",
        ),
        (with_relu(), {"batch_size": 0}, r"Invalid batch_size\. Received: batch_size=0\. Allowed: a whole"),
        (with_relu(), {"target": 4}, r"target=4\. Allowed: None, a number 0 to 3, a tuple .* within \(6, 6, 4\)"),
        (with_relu(), {"target": (6, 0, 0)}, r"target=\(6, 0, 0\)"),
        (with_relu(), {"target": (1, 2)}, r"target=\(1, 2\)"),
        (with_relu(), {"target": [1, 2, 3]}, r"target=\[1, 2, 3\]\. Allowed: .* for each of 2 images"),
        (with_relu(), {"target": 0.5}, r"target=0\.5"),
        (keras.Model(INPUT, [ops.relu(INPUT), INPUT]), {}, r"one input and one output\. Received: 1 inputs, 2 outputs"),
    ],
)
def test_errors(model, arguments, match):
    with pytest.raises(ValueError, match=match):
        guided_backprop(model, IMAGES, **arguments)


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (IMAGES[0], r"do not fit the model\. Received: .*Allowed: \(None, 8"),
        (IMAGES[:, :7], r"do not fit the model\. Received: .*Allowed: \(None, 8"),
        (IMAGES[:0], r"There is no image"),
        (IMAGES.astype(str), r"Invalid images"),
    ],
)
def test_images_that_do_not_fit(images, match):
    for function in (guided_backprop, class_activation_map):
        with pytest.raises(ValueError, match=match):
            function(with_relu(), images)


def test_the_policy_of_the_model_counts(net, pictures):
    model, other = keras.models.clone_model(net), keras.models.clone_model(net)
    other.set_weights(model.get_weights())
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = guided_backprop(model, pictures, 0)
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_array_equal(found, guided_backprop(other, pictures, 0))


def test_pixels_divided_by_255(net, pictures):
    for function in (guided_backprop, class_activation_map):
        with pytest.raises(ValueError, match=r"look like 0..1.*multiply them by 255. Received: float64"):
            function(net, pictures / 255)


def test_a_changed_model_is_explained_anew():
    images = np.random.default_rng(0).normal(0, 1, (2, 8, 8, 3))
    model = with_relu(layers.Flatten(), layers.Dense(5))
    before = guided_backprop(model, images, 0)
    model.pop()
    model.add(layers.Dense(7))
    assert np.abs(guided_backprop(model, images, 0) - before).max() > 1e-3
    assert guided_backprop(model, images, 6).any()
    model.layers[0].activation = keras.activations.tanh
    with pytest.raises(ValueError, match="No ReLU was found"):
        guided_backprop(model, images, 0)


@pytest.mark.parametrize("change", [lambda layer: layer.enable_lora(1), lambda layer: layer.quantize("int8")])
def test_a_layer_with_other_weights_than_before(change):
    model = by_hand()
    before = guided_backprop(model, np.ones((1, 2)))
    change(model.layers[0])
    np.testing.assert_allclose(guided_backprop(model, np.ones((1, 2))), before, rtol=0.02)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
@pytest.mark.parametrize("method", METHODS)
def test_input_of_integers(net, pictures, method, dtype):
    inputs = keras.Input((32, 32, 3), dtype=dtype)
    model = keras.Sequential([keras.Input((32, 32, 3), dtype=dtype), keras.Model(inputs, net(inputs))])
    gradients = guided_backprop(model, pictures, method=method)
    np.testing.assert_allclose(gradients, guided_backprop(net, pictures, method=method), atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch's modes")
def test_modes_of_pytorch(net, pictures):
    import torch

    expected = guided_backprop(net, pictures)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            np.testing.assert_array_equal(guided_backprop(net, pictures), expected)
    model = by_hand()
    with torch.inference_mode():
        found = guided_backprop(model, np.ones((1, 2)))
    np.testing.assert_array_equal(guided_backprop(model, np.ones((1, 2))), found)


def test_explaining_again_adds_no_nodes_and_keeps_no_model_alive(pictures):
    def nodes(model):
        for _ in range(3):
            for layer in (None, "relu3"):
                guided_backprop(model, pictures[:1], layer=layer)
            class_activation_map(model, pictures[:1])
            receptive_field(model, "relu3")
        gc.collect()
        return sum(type(thing).__name__ == "Node" for thing in gc.get_objects())

    model = AllConvNet("model_a")
    nodes(model)
    before, after = nodes(model), nodes(model)
    assert after <= before  # Fewer, when those of an earlier test are gone.
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_models_compiled_with_a_loss_of_their_own(pictures):
    inner = AllConvNet("model_a", classifier_activation=None)
    inputs = keras.Input((32, 32, 3))
    outer = keras.Model(inputs, layers.Softmax()(inner(inputs)))
    for model in (inner, outer):
        model.compile("sgd", loss=lambda y, p: ops.mean(y - p))
    assert np.array_equal(guided_backprop(outer, pictures), guided_backprop(AllConvNet("model_a"), pictures))


def test_subclassed_model():
    with pytest.raises(TypeError, match=r"must be functional.* Received: Subclassed"):
        guided_backprop(Subclassed(), IMAGES)


def test_another_backend(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(ValueError, match=r"Training and gradients need another backend. Received: 'numpy'. Allowed: "):
        guided_backprop(with_relu(), IMAGES)


@pytest.mark.parametrize(("activation", "class_relu"), [("softmax", False), (None, True)])
def test_class_map_mean_is_the_logit(activation, class_relu, pictures):
    arguments = {"weights": "cifar10", "class_relu": class_relu}
    maps = class_activation_map(AllConvNet(classifier_activation=activation, **arguments), pictures, batch_size=4)
    assert (maps.shape, maps.dtype) == ((10, 6, 6, 10), "float32")
    logits = AllConvNet(classifier_activation=None, **arguments).predict(pictures, verbose=0)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), logits, atol=1e-5)
    assert (maps.min() < -0.1) != class_relu


def test_class_map_of_some_classes(net, pictures):
    maps = class_activation_map(net, pictures)
    assert np.array_equal(class_activation_map(net, pictures, [8, 0]), maps[..., [8, 0]])
    assert np.array_equal(class_activation_map(net, pictures, 5), maps[..., [5]])
    assert np.array_equal(class_activation_map(net, pictures, batch_size=1 << 63), maps)
    assert explain._graph_of_maps(net) is explain._graph_of_maps(net), "it would be compiled again"


@pytest.mark.parametrize("classes", [10, [0, -1], 0.5, [[1]]])
def test_class_map_of_no_class(net, pictures, classes):
    with pytest.raises(ValueError, match=r"no such class\. Received: classes=.*Allowed: 0 to 9"):
        class_activation_map(net, pictures, classes)


def test_class_map_without_average():
    with pytest.raises(ValueError, match=r"must be from a GlobalAveragePooling2D\. Received: Flatten"):
        class_activation_map(with_relu(layers.Flatten()), IMAGES)
    with pytest.raises(ValueError, match=r"must be from a GlobalAveragePooling2D\. Received: Dense"):
        class_activation_map(with_relu(layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax")), IMAGES)
    with pytest.raises(ValueError, match=r"Received: GlobalAveragePooling2D"):
        class_activation_map(with_relu(layers.GlobalAveragePooling2D(data_format="channels_first")), IMAGES)
    inner = with_relu(layers.GlobalAveragePooling2D())
    with pytest.raises(
        ValueError, match=rf"Received: Sequential.* the model inside it, model.get_layer\('{inner.name}'\)"
    ):
        class_activation_map(keras.Sequential([keras.Input((8, 8, 3)), inner]), IMAGES)


def test_layers_that_another_model_called_first(net, pictures):
    """A net for larger images, made of the layers of one for 32x32 pixels."""
    images = keras.Input((48, 48, 3))
    x = images
    for layer in net.layers[1:]:
        x = layer(x)
    larger = keras.Model(images, x)
    pictures = np.pad(pictures[:2], ((0, 0), (8, 8), (8, 8), (0, 0)))
    direct = AllConvNet("all_cnn_c", input_shape=(48, 48, 3))
    for layer in (None, "relu6"):
        expected = guided_backprop(direct, pictures, layer=layer)
        np.testing.assert_allclose(guided_backprop(larger, pictures, layer=layer), expected, atol=1e-6)
    expected = class_activation_map(direct, pictures)
    np.testing.assert_allclose(class_activation_map(larger, pictures), expected, atol=1e-5)
    assert receptive_field(larger, "conv6") == receptive_field(direct, "conv6")


def test_softmax_of_two_models():
    hidden, softmax = layers.Dense(6, activation="relu")(keras.Input((8,))), layers.Softmax()
    inputs = hidden._keras_history.operation.input
    logits = [layers.Dense(3)(hidden) for _ in range(2)]
    models = [keras.Model(inputs, softmax(tensor)) for tensor in logits]
    for model, tensor in zip(models, logits, strict=True):
        expected = guided_backprop(keras.Model(inputs, tensor), np.ones((1, 8)), 1)
        assert np.array_equal(guided_backprop(model, np.ones((1, 8)), 1), expected)


def test_layer_called_twice():
    relu = layers.ReLU(name="relu")
    first = relu(layers.Conv2D(2, 3)(INPUT))
    model = keras.Model(INPUT, layers.Conv2D(2, 3, name="last")(relu(layers.Conv2D(2, 3)(first))))
    assert receptive_field(model, "last") == (7, 1, 0)
    with pytest.raises(ValueError, match=r"calls the layer 'relu' 2 times"):
        guided_backprop(model, IMAGES, layer="relu")


def test_activation_above_the_layer():
    head = layers.Dense(2, activation="tanh")(layers.Flatten()(layers.Conv2D(4, 3, activation="relu", name="c")(INPUT)))
    assert guided_backprop(keras.Model(INPUT, head), IMAGES, 0, "c").shape == IMAGES.shape


@pytest.mark.parametrize(
    ("variant", "arguments"),
    [
        ("all_cnn_c", {}),
        ("all_cnn_c", {"input_shape": (32, 32, 1)}),
        ("all_cnn_c", {"input_shape": (34, 34, 3), "include_top": True, "dense_prediction": True}),
        *((variant, {}) for variant in ("model_a", "strided_cnn_b", "all_cnn_b_imagenet")),
    ],
)
def test_receptive_field_is_where_the_gradient_is(variant, arguments):
    model = AllConvNet(variant, weights=None, **{"include_top": False} | arguments)
    side = model.input_shape[1]
    image = np.random.default_rng(0).integers(0, 256, (1, *model.input_shape[1:]))
    names = [layer.name for layer in model.layers if layer.name.startswith(("conv", "pool"))]
    for name in names[:: len(names) // 3]:
        rows = model.get_layer(name).output.shape[1]
        unit = (rows // 2, rows // 3)
        units = [(*unit, channel) for channel in range(0, 96, 8)]
        gradients = guided_backprop(model, np.repeat(image, len(units), axis=0), units, name, method="gradient")
        reach = np.abs(gradients).max(axis=(0, 3))
        size, stride, offset = receptive_field(model, name)
        for axis, position in enumerate(unit):
            seen = np.nonzero(reach.max(axis=1 - axis))[0]
            start = offset + stride * position
            assert (max(start, 0), min(start + size, side) - 1) == (seen[0], seen[-1]), (name, axis)


@pytest.mark.parametrize("variant", ["all_cnn_c", "model_a"])
def test_receptive_field_of_any_size_is_that_of_an_even_one(variant):
    even, free = (AllConvNet(variant, weights=None, input_shape=(side, side, 3)) for side in (32, None))
    for name in ("relu3", "relu4"):
        assert receptive_field(free, name) == receptive_field(even, name)


def test_receptive_field_errors(net):
    with pytest.raises(ValueError, match=r"Unknown layer\. Received: layer='conv10'"):
        receptive_field(net, "conv10")
    with pytest.raises(ValueError, match=r"'logits' sees the whole image"):
        receptive_field(net, "logits")
    branches = keras.Model(INPUT, layers.Add(name="sum")([INPUT, layers.ReLU()(INPUT)]))
    with pytest.raises(ValueError, match=r"branches at 'sum'"):
        receptive_field(branches, "sum")
    inner = AllConvNet(weights=None, include_top=False)
    transposed, last = layers.Conv2DTranspose(3, 3, 2), layers.Conv2D(3, 3, data_format="channels_first")
    for first in (inner, layers.CenterCrop(8, 8), transposed, last, layers.Softmax(axis=(1, 2))):
        model = keras.Sequential([keras.Input((32, 32, 3)), first, layers.Conv2D(4, 1, name="head")])
        with pytest.raises(ValueError, match=rf"cannot be computed: \w+ '{first.name}' comes before 'head'"):
            receptive_field(model, "head")
    differ = r"Rows and columns .* \(3, 1, 0\) and \(5, 1, 0\) in 'wide'"
    with pytest.raises(ValueError, match=differ):
        receptive_field(keras.Model(INPUT, layers.Conv2D(4, (3, 5), name="wide")(INPUT)), "wide")
    with pytest.raises(ValueError, match=r"\(7, 2, -3\) and \(7, 2, -2\) in 'conv3'"):
        receptive_field(AllConvNet(weights=None, input_shape=(33, 64, 3)), "conv3")


def test_stored_picture(pictures):
    """The stored picture, at which a person has looked, made again from the published weights."""
    net = AllConvNet("all_cnn_c", weights="cifar10_v5")
    gradients = [guided_backprop(net, pictures[3:4], method=method) for method in METHODS]
    maps = class_activation_map(net, pictures[3:4], 3)[..., 0]
    rows = [
        to_picture(np.concatenate(gradients), caption="all_cnn_c, logits, strongest class"),
        to_picture(np.repeat(maps, 3, 0), images=np.repeat(pictures[3:4], 3, 0), caption="all_cnn_c, class map, cat"),
    ]
    picture = np.concatenate(rows)
    path = Path(__file__).parent / "reference/explain.png"
    stored = cv2.imread(str(path))
    assert stored is not None, path
    assert stored.shape == picture.shape
    # Without captions and the numbers of the color bar: OpenCV 4 writes in another font than OpenCV 5.
    for part in (slice(26, len(rows[0])), slice(len(rows[0]) + 26, -20)):
        assert np.abs(stored[part, :, ::-1].astype(int) - picture[part]).mean() < 0.5
