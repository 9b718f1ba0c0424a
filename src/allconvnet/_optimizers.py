"""Muon for convolution kernels, as a Keras optimizer, and its learning rate schedule."""

from __future__ import annotations

import math

import keras
from keras import ops

# Newton-Schulz coefficients of Keller Jordan's Muon.
_A, _B, _C = 3.4445, -4.7750, 2.0315


class LinearWarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly from 0 to `peak` in a part `warmup` of the steps, then falls linearly to 0."""

    def __init__(self, peak: float, total_steps: int, warmup: float) -> None:
        self.peak, self.total_steps, self.warmup = peak, total_steps, warmup

    def __call__(self, step):
        progress = ops.cast(step, "float32") / self.total_steps
        rising = progress / self.warmup if self.warmup > 0 else 1.0
        falling = (1 - progress) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return self.peak * ops.clip(ops.minimum(rising, falling), 0, 1)


class ConvMuon(keras.optimizers.Optimizer):
    """Muon (orthogonalized momentum) on convolution kernels, SGD on the class convolution and all other variables.

    A convolution kernel is treated as a matrix `[height * width * in, out]`. Three Newton-Schulz steps make its
    Nesterov momentum nearly orthogonal, and the kernel is rescaled to Frobenius norm `sqrt(out)` before each step.
    Therefore each of these convolutions must be followed by batch normalization, which cancels the scale.
    (`keras.optimizers.Muon` is for 2-D variables only.)

    SGD has Nesterov momentum, the rate `sgd_ratio * learning_rate`, and adds `l2` times the kernels to their gradients.
    """

    def __init__(self, learning_rate, momentum: float, sgd_ratio: float, sgd_momentum: float, l2: float) -> None:
        super().__init__(learning_rate, name="conv_muon")
        self.momentum, self.sgd_ratio, self.sgd_momentum, self.l2 = momentum, sgd_ratio, sgd_momentum, l2

    def build(self, variables) -> None:
        if self.built:
            return
        super().build(variables)
        self._slots: dict[int, tuple] = {}
        for variable in variables:
            buffer = self.add_variable_from_reference(variable, name="momentum")
            muon = len(variable.shape) == 4 and "class_conv" not in variable.path.split("/")
            # TensorFlow passes the value to `update_step`, others the variable.
            self._slots |= dict.fromkeys((id(variable), id(variable.value)), (buffer, muon))

    def update_step(self, gradient, variable, learning_rate) -> None:
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        buffer, muon = self._slots[id(variable)]
        momentum = self.momentum if muon else self.sgd_momentum
        if not muon and self.l2 and len(variable.shape) > 1:
            gradient = gradient + self.l2 * variable
        velocity = momentum * buffer + gradient
        update = gradient + momentum * velocity
        self.assign(buffer, velocity)
        if not muon:
            self.assign_sub(variable, self.sgd_ratio * rate * update)
            return
        out = variable.shape[-1]
        kernel, update = (ops.reshape(part, (-1, out)) for part in (variable, update))
        kernel = math.sqrt(out) / (ops.norm(kernel) + 1e-7) * kernel - rate * orthogonal(update)
        self.assign(variable, ops.reshape(kernel, variable.shape))


def orthogonal(matrix):
    """The matrix with its singular values brought near 1 by Newton-Schulz iteration, float32 `[rows, columns]`."""
    x = matrix / (ops.norm(matrix) + 1e-7)
    for _ in range(3):
        a = ops.matmul(ops.transpose(x), x)
        x = _A * x + ops.matmul(x, _B * a + _C * ops.matmul(a, a))
    return x
