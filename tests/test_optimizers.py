"""Muon for convolutions against a NumPy reference written from its definition."""

import keras
import numpy as np
import pytest

from allconvnet._optimizers import ConvMuon, LinearWarmupDecay, orthogonal


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


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
    kernel, *gradients = normal(4, *shape)
    variable = keras.Variable(kernel.astype("float32"), name="kernel")
    optimizer = ConvMuon(0.1, momentum=0.6, sgd_ratio=1, sgd_momentum=0.9, l2=0)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient.astype("float32"))], [variable])
    expected = reference(kernel, gradients, 0.1, 0.6)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), expected, atol=1e-4)


def test_everything_else_is_nesterov_sgd():
    start, *gradients = normal(4, 5)
    ours, theirs = (keras.Variable(start.astype("float32")) for _ in range(2))
    optimizers = (
        ConvMuon(0.3, momentum=0.6, sgd_ratio=0.5, sgd_momentum=0.9, l2=0),
        keras.optimizers.SGD(0.15, momentum=0.9, nesterov=True),
    )
    for optimizer, variable in zip(optimizers, (ours, theirs), strict=True):
        for gradient in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(gradient.astype("float32"))], [variable])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs), atol=1e-6)


def test_class_convolution_is_treated_by_sgd_with_l2():
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 1, name="class_conv")])
    kernel, bias = model.trainable_variables
    before = keras.ops.convert_to_numpy(kernel)
    optimizer = ConvMuon(0.1, momentum=0.6, sgd_ratio=1, sgd_momentum=0, l2=0.5)
    gradient = np.ones(kernel.shape, "float32")
    optimizer.apply([keras.ops.convert_to_tensor(gradient), keras.ops.zeros(3)], [kernel, bias])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(kernel), before - 0.1 * (1 + 0.5 * before), atol=1e-6)
    assert (keras.ops.convert_to_numpy(bias) == 0).all()


@pytest.mark.parametrize("shape", [(8, 30), (30, 8)])
def test_singular_values_come_near_one(shape):
    matrix = normal(*shape).astype("float32")
    values = np.linalg.svd(keras.ops.convert_to_numpy(orthogonal(keras.ops.convert_to_tensor(matrix))))[1]
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_schedule():
    schedule = LinearWarmupDecay(0.2, total_steps=100, warmup=0.2)
    rates = [float(schedule(step)) for step in (0, 10, 20, 60, 100)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.1, 0], atol=1e-6)
    for warmup, expected in ((0, [0.2, 0.1, 0]), (1, [0, 0.1, 0.2])):
        schedule = LinearWarmupDecay(0.2, total_steps=100, warmup=warmup)
        np.testing.assert_allclose([float(schedule(step)) for step in (0, 50, 100)], expected, atol=1e-6)
