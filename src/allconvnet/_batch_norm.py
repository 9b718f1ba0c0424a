"""Fused batch normalization, and folding it into the convolutions."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from allconvnet._backend import fused_batch_norm

__all__ = ["fold_batch_norm"]


class BatchNormalization(keras.layers.BatchNormalization):
    """Trains through TensorFlow's fused kernel: Keras composes the layer of elementwise operations in float32."""

    def call(self, inputs, training=None, mask=None):
        if not training or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        outputs, mean, variance = fused_batch_norm(inputs, gamma, beta, self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + ops.stop_gradient(batch) * (1 - self.momentum))
        return outputs


def fold_batch_norm(trained: keras.Model, plain: keras.Model) -> None:
    """Copies the weights of a net with batch normalization into the same net without it.

    Args:
        trained: a net as `fit_cifar10` trains it: each convolution without a bias, such as `conv1`, is followed by a
            batch normalization with the same number, `bn1`.
        plain: the net of the paper, from `AllConvNet(variant, weights=None)`; overwritten. In inference both return
            the same logits up to rounding.

    Raises:
        TypeError: one of them is not a model.
        ValueError: the two are not the same net, or a convolution before batch normalization has a bias.

    Example:
        >>> import allconvnet, keras
        >>> convolution = keras.layers.Conv2D(4, 3, use_bias=False, name="conv1")
        >>> norm = keras.layers.BatchNormalization(name="bn1")
        >>> trained = keras.Sequential([keras.Input((8, 8, 3)), convolution, norm])
        >>> plain = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv1")])
        >>> allconvnet.fold_batch_norm(trained, plain)
    """
    for name, model in (("trained", trained), ("plain", plain)):
        if not isinstance(model, keras.Model):
            raise TypeError(f"{name} must be a keras.Model. Received: {type(model).__name__}.")
    sources, targets = (
        [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)] for model in (trained, plain)
    )
    if [layer.name for layer in sources] != [layer.name for layer in targets]:
        raise ValueError(f"The nets differ. Received: {len(sources)} and {len(targets)} convolutions, or other names.")
    norms = {layer.name: layer for layer in trained.layers if isinstance(layer, keras.layers.BatchNormalization)}
    for source, target in zip(sources, targets, strict=True):
        norm = norms.get(source.name.replace("conv", "bn"))
        if (norm is None) != source.use_bias:
            raise ValueError(f"Layer {source.name!r} must have a bias or batch normalization, not both or neither.")
        if norm is None:
            target.set_weights(source.get_weights())
            continue
        # In float64, so that folding itself rounds only once.
        weights = [weight.astype("float64") for weight in norm.get_weights()]
        gamma, beta = weights.pop(0) if norm.scale else 1.0, weights.pop(0) if norm.center else 0.0
        mean, variance = weights
        scale = gamma / np.sqrt(variance + norm.epsilon)
        target.set_weights([source.get_weights()[0] * scale, beta - mean * scale])
