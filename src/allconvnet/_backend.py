"""What is written for each backend: vector-Jacobian products, the pipeline of batches, fused batch normalisation."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from allconvnet._errors import message


def vjp(function: Callable, inputs) -> tuple[object, Callable]:
    """`function(inputs)`, and what takes the gradient of a sum weighted by `weights` back to `inputs`, once."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        outputs, pull_back = jax.vjp(function, inputs)
        return outputs, lambda weights: pull_back(weights)[0]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = function(inputs)
        return outputs, lambda weights: tape.gradient(outputs, inputs, weights, unconnected_gradients="zero")
    raise ValueError(
        message(
            "No gradients on this backend",
            received=f"keras.backend.backend()={backend!r}",
            allowed="'tensorflow' or 'jax'",
            next_step="Set the environment variable KERAS_BACKEND before keras is imported.",
        )
    )


def batches(images: np.ndarray, targets: np.ndarray, batch_size: int) -> dict[str, object]:
    """Arguments of `model.fit` for whole batches in this order."""
    arrays = [part[: len(part) // batch_size * batch_size] for part in (images, targets)]
    if keras.backend.backend() != "tensorflow":
        return {"x": arrays[0], "y": arrays[1], "batch_size": batch_size, "shuffle": False}
    import tensorflow as tf

    # From arrays, Keras makes a tf.data pipeline that tunes itself, and at whose end TensorFlow 2.21 waits for the
    # tuning thread to wake up: 10 ms, 20 ms, ... 41 s, 82 s after the start. Here is nothing to tune.
    steps = [part.reshape(-1, batch_size, *part.shape[1:]) for part in arrays]
    options = tf.data.Options()
    options.autotune.enabled = False
    return {"x": tf.data.Dataset.from_tensor_slices(tuple(steps)).prefetch(2).with_options(options), "shuffle": False}


class BatchNormalization(keras.layers.BatchNormalization):
    """Trains through TensorFlow's fused kernel: Keras composes the layer of a dozen passes over its float32 input.

    A training step of `all_cnn_c` in bfloat16 takes less than half the time (`benchmarks/training.py`).
    """

    def call(self, inputs, training=None, mask=None):
        if not training or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, epsilon=self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + ops.stop_gradient(batch) * (1 - self.momentum))
        return outputs
