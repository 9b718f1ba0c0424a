"""Muon for convolutions against a NumPy reference written from its definition."""

import contextlib

import keras
import numpy as np
import pytest

from allconvnet import ConvMuon, LinearWarmupDecay
from allconvnet.optimizers import _orthogonal

RANDOM = np.random.default_rng(0)


def newton_schulz(matrix):
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / np.linalg.norm(x)
    for _ in range(3):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def reference(kernel, gradients, rate, momentum):
    out, buffer = kernel.shape[-1], np.zeros_like(kernel)
    for gradient in gradients:
        buffer = momentum * buffer + gradient
        update = (gradient + momentum * buffer).reshape(-1, out).T
        kernel = kernel * np.sqrt(out) / np.linalg.norm(kernel)
        kernel = kernel - rate * newton_schulz(update).T.reshape(kernel.shape)
    return kernel


@pytest.mark.parametrize("shape", [(3, 3, 4, 6), (1, 1, 4, 9)])
def test_kernel_update(shape):
    kernel = RANDOM.normal(size=shape)
    gradients = RANDOM.normal(size=(3, *shape))
    variable = keras.Variable(kernel.astype("float32"), name="kernel")
    optimizer = ConvMuon(0.1, momentum=0.6)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient.astype("float32"))], [variable])
    expected = reference(kernel, gradients, 0.1, 0.6)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), expected, atol=1e-4)


def test_everything_else_is_nesterov_sgd():
    start, gradients = RANDOM.normal(size=5), RANDOM.normal(size=(3, 5))
    ours, theirs = (keras.Variable(start.astype("float32")) for _ in range(2))
    optimizers = (
        ConvMuon(0.3, sgd_ratio=0.5, sgd_momentum=0.9),
        keras.optimizers.SGD(0.15, momentum=0.9, nesterov=True),
    )
    for optimizer, variable in zip(optimizers, (ours, theirs), strict=True):
        for gradient in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(gradient.astype("float32"))], [variable])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs), atol=1e-6)


def test_excluded_kernel_is_treated_by_sgd_with_l2():
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 1, name="class_conv")])
    kernel, bias = model.trainable_variables
    before = keras.ops.convert_to_numpy(kernel)
    optimizer = ConvMuon(0.1, sgd_ratio=1.0, sgd_momentum=0.0, l2=0.5, exclude=["class_conv"])
    gradient = np.ones(kernel.shape, "float32")
    optimizer.apply([keras.ops.convert_to_tensor(gradient), keras.ops.zeros(3)], [kernel, bias])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(kernel), before - 0.1 * (1 + 0.5 * before), atol=1e-6)
    assert (keras.ops.convert_to_numpy(bias) == 0).all()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a strategy of TensorFlow")
def test_mirrored_strategy():
    import tensorflow as tf

    images, losses = RANDOM.normal(size=(16, 8, 8, 3)).astype("float32"), []
    for scope in (contextlib.nullcontext(), tf.distribute.MirroredStrategy(["CPU:0"]).scope()):
        keras.utils.set_random_seed(0)
        with scope:
            layers = keras.layers.Conv2D(4, 3, use_bias=False), keras.layers.BatchNormalization()
            model = keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.GlobalAveragePooling2D()])
            model.compile(ConvMuon(0.1), "mse")
        losses.append(model.fit(images, images[:, 0, 0, [0, 1, 2, 0]], epochs=3, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.parametrize("shape", [(8, 30), (30, 8)])
def test_singular_values_come_near_one(shape):
    matrix = RANDOM.normal(size=shape).astype("float32")
    values = np.linalg.svd(keras.ops.convert_to_numpy(_orthogonal(keras.ops.convert_to_tensor(matrix))))[1]
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_schedule():
    schedule = LinearWarmupDecay(0.2, total_steps=100, warmup=0.2)
    rates = [float(schedule(step)) for step in (0, 10, 20, 60, 100)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.1, 0], atol=1e-6)
    for warmup, expected in ((0, [0.2, 0.1, 0]), (1, [0, 0.1, 0.2])):
        schedule = LinearWarmupDecay(0.2, total_steps=100, warmup=warmup)
        np.testing.assert_allclose([float(schedule(step)) for step in (0, 50, 100)], expected, atol=1e-6)


@pytest.mark.parametrize("value", [ConvMuon(LinearWarmupDecay(0.2, 10, 0.5), exclude=["a"]), ConvMuon(0.1, l2=0.5)])
def test_configuration_round_trip(value):
    again = keras.optimizers.deserialize(keras.optimizers.serialize(value))
    assert again.get_config() == value.get_config()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ConvMuon(momentum=5), r"Invalid momentum. Received: momentum=5. Allowed: 0 to 1"),
        (lambda: ConvMuon(l2=-1.0), r"Invalid l2. Received: l2=-1.0. Allowed: 0 or more"),
        (
            lambda: ConvMuon(exclude="class_conv"),
            r"exclude must be a list of layer names. Received: 'class_conv'",
        ),
        (
            lambda: LinearWarmupDecay(-0.2, 9, 0.2),
            r"Invalid peak. Received: peak=-0.2. Allowed: 0 or more",
        ),
        (
            lambda: LinearWarmupDecay(0.2, 0, 0.2),
            r"Invalid total_steps. Received: total_steps=0. Allowed: 1 or",
        ),
        (lambda: LinearWarmupDecay(0.2, 9, 1.5), r"Invalid warmup. Received: warmup=1.5. Allowed: 0 to 1"),
    ],
)
def test_bad_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_net_without_batch_normalization_is_refused():
    """Rescaled, its kernels would compute something else."""
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv1")])
    with pytest.raises(ValueError, match=r"needs batch normalization behind them, but 'conv1' has a bias"):
        ConvMuon().build(model.trainable_variables)
    ConvMuon(exclude=frozenset({"conv1"})).build(model.trainable_variables)
