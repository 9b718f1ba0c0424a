"""Fused batch normalization, and folding it into the convolutions."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from allconvnet._backend import fused_batch_norm


class BatchNormalization(keras.layers.BatchNormalization):
    """In training uses TensorFlow's fused kernel, which is faster than Keras' elementwise operations in float32."""

    def call(self, inputs, training=None, mask=None):
        if not training or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        outputs, mean, variance = fused_batch_norm(inputs, gamma, beta, self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + ops.stop_gradient(batch) * (1 - self.momentum))
        return outputs


def fold_batch_norm(trained: keras.Model, plain: keras.Model) -> None:
    """Copies the weights of a net with batch normalization into the same net without it, with the same logits."""
    for target in plain.layers:
        if not isinstance(target, keras.layers.Conv2D):
            continue
        source = trained.get_layer(target.name)
        if source.use_bias:  # No batch normalization follows.
            target.set_weights(source.get_weights())
            continue
        norm = trained.get_layer(target.name.replace("conv", "bn"))
        # In float64, so that folding itself rounds only once.
        gamma, beta, mean, variance = (weight.astype("float64") for weight in norm.get_weights())
        scale = gamma / np.sqrt(variance + norm.epsilon)
        target.set_weights([source.get_weights()[0] * scale, beta - mean * scale])
