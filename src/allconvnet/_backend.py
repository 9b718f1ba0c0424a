"""What is written for each backend: vector-Jacobian products, the pipeline of batches, fused batch normalisation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

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


def processes() -> tuple[int, int]:
    """Number of this process and how many train together, by Keras' distribution."""
    distribution, backend = keras.distribution.distribution(), keras.backend.backend()
    if backend == "jax":
        import jax

        if distribution is not None:
            return jax.process_index(), jax.process_count()
        if jax.process_count() > 1:
            raise ValueError(
                message(
                    "Processes are joined, but share nothing",
                    received=f"{jax.process_count()} processes, keras.distribution.distribution()=None",
                    next_step="Call keras.distribution.set_distribution("
                    "keras.distribution.DataParallel(auto_shard_dataset=False)) in each.",
                )
            )
    elif distribution is not None:
        raise ValueError(
            message(
                "Only JAX trains in several processes or on several devices here",
                received=f"a keras.distribution on keras.backend.backend()={backend!r}",
                allowed="KERAS_BACKEND=jax",
                next_step="Set that, or keras.distribution.set_distribution(None).",
            )
        )
    return 0, 1


def wait_for_others() -> None:
    """Returns when all processes have come here."""
    if processes()[1] > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("allconvnet")


@contextlib.contextmanager
def undistributed() -> Iterator[None]:
    """What is built and run inside belongs to this process alone."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def batches(images: np.ndarray, targets: np.ndarray, batch_size: int) -> dict[str, object]:
    """Arguments of `model.fit` for whole batches in this order; of each batch, the part of this process."""
    process, count = processes()
    if batch_size % count:
        raise ValueError(
            message(
                "A batch must divide among the processes",
                received=f"batch_size={batch_size}, {count} processes",
                next_step=f"Use a recipe whose batch_size is a multiple of {count}.",
            )
        )
    mine = slice(process * batch_size // count, (process + 1) * batch_size // count)
    count_of_images = len(images) // batch_size * batch_size
    steps = [part[:count_of_images].reshape(-1, batch_size, *part.shape[1:])[:, mine] for part in (images, targets)]
    if keras.backend.backend() != "tensorflow":
        x, y = (part.reshape(-1, *part.shape[2:]) for part in steps)
        return {"x": x, "y": y, "batch_size": batch_size // count, "shuffle": False}
    return {"x": _pipeline(tuple(steps)), "shuffle": False}


def whole(images: np.ndarray, batch_size: int) -> dict[str, object]:
    """Arguments of `model.predict`."""
    if keras.backend.backend() != "tensorflow":
        return {"x": images, "batch_size": batch_size}
    return {"x": _pipeline(images).batch(batch_size)}


def _pipeline(batches):
    import tensorflow as tf

    # From arrays, Keras makes a tf.data pipeline that tunes itself, and at whose end TensorFlow 2.21 waits for the
    # tuning thread to wake up: 10 ms, 20 ms, ... 41 s, 82 s after the start. Here is nothing to tune.
    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices(batches).prefetch(2).with_options(options)


class BatchNormalization(keras.layers.BatchNormalization):
    """Trains through TensorFlow's fused kernel: Keras composes the layer of elementwise operations in float32."""

    def call(self, inputs, training=None, mask=None):
        if not training or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, epsilon=self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + ops.stop_gradient(batch) * (1 - self.momentum))
        return outputs
