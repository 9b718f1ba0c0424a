"""Muon for convolution kernels, as a Keras optimizer, and its learning rate schedule."""

from __future__ import annotations

import math
from collections.abc import Collection

import keras
from keras import ops

from allconvnet._errors import check_number, shortened

__all__ = ["ConvMuon", "LinearWarmupDecay"]

# Newton-Schulz coefficients of Keller Jordan's Muon.
_A, _B, _C = 3.4445, -4.7750, 2.0315


@keras.saving.register_keras_serializable("allconvnet")
class LinearWarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises linearly from 0 to `peak`, then falls linearly to 0.

    Args:
        peak: float, the highest rate.
        total_steps: int, optimizer steps of the whole run.
        warmup: float in [0, 1], the fraction of the steps in which the rate rises.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> import allconvnet
        >>> round(float(allconvnet.LinearWarmupDecay(0.2, total_steps=100, warmup=0.2)(10)), 6)
        0.1
    """

    def __init__(self, peak: float, total_steps: int, warmup: float) -> None:
        check_number("peak", peak, 0)
        check_number("total_steps", total_steps, 1)
        check_number("warmup", warmup, 0, 1)
        self.peak, self.total_steps, self.warmup = peak, total_steps, warmup

    def __call__(self, step):
        progress = ops.cast(step, "float32") / self.total_steps
        rising = progress / self.warmup if self.warmup > 0 else 1.0
        falling = (1 - progress) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return self.peak * ops.clip(ops.minimum(rising, falling), 0, 1)

    def get_config(self) -> dict:
        return {"peak": self.peak, "total_steps": self.total_steps, "warmup": self.warmup}


@keras.saving.register_keras_serializable("allconvnet")
class ConvMuon(keras.optimizers.Optimizer):
    """Muon (orthogonalized momentum) on convolution kernels, SGD with Nesterov momentum on everything else.

    A convolution kernel is treated as a matrix `[out, in * height * width]`. Three Newton-Schulz steps make its
    Nesterov momentum nearly orthogonal, and the kernel is rescaled to Frobenius norm `sqrt(out)` before each step.
    Therefore each of these convolutions must be followed by batch normalization, which cancels the scale. The models of
    `AllConvNet` have none: fine-tune them with another optimizer. `keras.optimizers.Muon` is for 2-D variables only.

    Args:
        learning_rate: float or schedule, the rate of the orthogonalized updates.
        momentum: float in [0, 1], momentum of the orthogonalized updates.
        sgd_ratio: float, the rate of all other variables divided by `learning_rate`.
        sgd_momentum: float in [0, 1], Nesterov momentum of all other variables.
        l2: float, L2 regularization of the kernels that SGD trains.
        exclude: names of layers whose kernels SGD trains.
        name: name of the optimizer.
        **kwargs: arguments of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: a number is out of range, `exclude` is a single string, or a convolution that is not excluded has a
            bias and so, most likely, no batch normalization after it.

    Example:
        >>> import allconvnet, keras
        >>> optimizer = allconvnet.ConvMuon(0.15, momentum=0.6)
        >>> layers = keras.layers.Conv2D(4, 3, use_bias=False), keras.layers.BatchNormalization()
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.Flatten()])
        >>> model.compile(optimizer, "mse")
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.15,
        momentum: float = 0.6,
        *,
        sgd_ratio: float = 4 / 3,
        sgd_momentum: float = 0.9,
        l2: float = 0.0,
        exclude: Collection[str] = (),
        name: str = "conv_muon",
        **kwargs,
    ) -> None:
        if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            check_number("learning_rate", learning_rate, 0)
        check_number("momentum", momentum, 0, 1)
        check_number("sgd_ratio", sgd_ratio, 0)
        check_number("sgd_momentum", sgd_momentum, 0, 1)
        check_number("l2", l2, 0)
        if not isinstance(exclude, (tuple, list, set, frozenset)) or not all(
            isinstance(layer, str) for layer in exclude
        ):
            raise ValueError(f"exclude must be a list of layer names. Received: {shortened(exclude)}.")
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum, self.sgd_ratio, self.sgd_momentum, self.l2 = momentum, sgd_ratio, sgd_momentum, l2
        self.exclude = tuple(exclude)

    def build(self, variables) -> None:
        if self.built:
            return
        paths = {variable.path for variable in variables}
        for variable in variables:
            path, _, name = variable.path.rpartition("/")
            if name == "kernel" and self._orthogonalizes(variable) and f"{path}/bias" in paths:
                layer = path.rpartition("/")[2]
                raise ValueError(f"Muon rescales kernels, which needs batch normalization behind them, but {layer!r} "
                                 "has a bias. Name it in exclude, or use another optimizer.")  # fmt: skip
        super().build(variables)
        self._slots = {}
        for variable in variables:
            buffer = self.add_variable_from_reference(variable, name="momentum")
            # TensorFlow passes the value to `update_step` (or, distributed, the copies of it), others the variable.
            copies = getattr(variable.value, "values", ())
            for key in (variable, variable.value, *(copies if isinstance(copies, tuple) else ())):
                self._slots[id(key)] = buffer, self._orthogonalizes(variable)

    def _orthogonalizes(self, variable) -> bool:
        return len(variable.shape) == 4 and not set(self.exclude) & set(variable.path.split("/"))

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
        scale = math.sqrt(out) / (ops.norm(ops.reshape(variable, (-1,))) + 1e-7)
        matrix = _orthogonal(ops.transpose(ops.reshape(update, (-1, out))))
        self.assign(variable, scale * variable - rate * ops.reshape(ops.transpose(matrix), variable.shape))

    def get_config(self) -> dict:
        names = ("momentum", "sgd_ratio", "sgd_momentum", "l2", "exclude")
        return super().get_config() | {name: getattr(self, name) for name in names}


def _orthogonal(matrix):
    """The matrix with its singular values brought near 1 by Newton-Schulz iteration, float32 `[rows, columns]`."""
    rows, columns = matrix.shape
    x = ops.transpose(matrix) if rows > columns else matrix
    x = x / (ops.norm(ops.reshape(x, (-1,))) + 1e-7)
    for _ in range(3):
        a = ops.matmul(x, ops.transpose(x))
        x = _A * x + ops.matmul(_B * a + _C * ops.matmul(a, a), x)
    return ops.transpose(x) if rows > columns else x
