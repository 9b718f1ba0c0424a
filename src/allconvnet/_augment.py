"""Augmentation: shifts, flips, erased squares, blur, noise, JPEG, other sizes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import keras
import numpy as np
from keras import ops

from allconvnet.recipes import Recipe

# Where a pixel outside of the image comes from.
_FILLS = {
    "reflect": lambda position, size: size - 1 - ops.abs(size - 1 - ops.abs(position)),
    "edge": lambda position, size: ops.clip(position, 0, size - 1),
}


class Augment(keras.layers.Layer):
    """A random shift and erasure, drawn for each image: `[N, side, side, 3]` in, float32 of that shape out.

    The shift is a single gather. (`keras.layers.RandomCrop` draws one offset for a whole batch.)
    """

    def __init__(self, recipe: Recipe, side: int, color: Sequence[float]) -> None:
        super().__init__(name="augment", dtype="float32")
        self.side, self.shift, self.inside = side, min(round(recipe.shift * side / 32), side - 1), _FILLS[recipe.fill]
        self.random, self.erase = keras.random.SeedGenerator(0), None
        if recipe.erase:
            # One number, not a color: with JAX Keras 3.15 cannot fill with three.
            gray, part = float(np.mean(color)), (recipe.erase, recipe.erase)
            self.erase = keras.layers.RandomErasing((1, 1), part, gray, dtype="float32")

    def seed(self, seed: int, epoch: int) -> None:
        """Draws depend on (seed, epoch) alone, so that a resumed run repeats them."""
        generators = [self.random, *([self.erase.generator] if self.erase else [])]
        for number, generator in enumerate(generators):
            generator.state.assign(np.array([seed, ((epoch << 20) + (number << 19)) % 2**32], "uint32"))

    def call(self, images):
        count = ops.shape(images)[0]
        offsets = keras.random.randint((2, count, 1), -self.shift, self.shift + 1, seed=self.random)
        positions = offsets + ops.arange(self.side, dtype="int32")
        rows, columns = self.inside(positions[0], self.side), self.inside(positions[1], self.side)
        first = ops.arange(count, dtype="int32")[:, None, None] * self.side
        index = (first + rows[:, :, None]) * self.side + columns[:, None, :]
        shifted = ops.cast(ops.take(ops.reshape(images, (-1, 3)), index, axis=0), "float32")
        return self.erase(shifted, training=True) if self.erase else shifted

    def compute_output_shape(self, input_shape):
        return input_shape


def corrupted(images: np.ndarray, part: float, seed: int, epoch: int) -> np.ndarray:
    """Copies of uint8 images: a random `part` of them blurred, `part` with noise, `part` compressed, each at random."""
    random = np.random.default_rng((seed, epoch, 2))
    chosen, strength = random.random((3, len(images))) < part, random.random((3, len(images)))
    images = images.copy()
    for number in np.flatnonzero(chosen[0]):
        images[number] = cv2.GaussianBlur(images[number], (0, 0), 0.3 + 0.9 * strength[0, number])
    for number in np.flatnonzero(chosen[1]):
        noise = random.normal(0, 20 * strength[1, number], images.shape[1:])
        images[number] = np.clip(np.rint(images[number] + noise), 0, 255)
    for number in np.flatnonzero(chosen[2]):
        quality = 40 + int(56 * strength[2, number])
        file = cv2.imencode(".jpg", images[number, ..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        images[number] = cv2.imdecode(file, cv2.IMREAD_COLOR_RGB)
    return images


def scaled(images: np.ndarray, side: int) -> np.ndarray:
    """The images at another size, each pixel the mean of what it covers."""
    if images.shape[1] == side:
        return images
    return np.stack([cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images])


def mirrored(flip: str, count: int, seed: int, epoch: int) -> np.ndarray:
    """Which images are mirrored in an epoch: bool `[count]`."""
    if flip == "none":
        return np.zeros(count, bool)
    if flip == "random":
        return np.random.default_rng((seed, epoch, 1)).random(count) < 0.5
    return (np.random.default_rng(seed).random(count) < 0.5) ^ bool(epoch % 2)


def epoch_images(images: np.ndarray, order: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """The images in the order of an epoch, some of them mirrored."""
    shown, mirror = images[order], mirror[order]
    shown[mirror] = shown[mirror, :, ::-1]
    return shown
