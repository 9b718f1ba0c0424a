"""Shifts, erased squares, flips and sizes."""

import cards
import keras
import numpy as np
import pytest

from allconvnet import Recipe
from allconvnet._augment import Augment, corrupted, mirrored, scaled
from allconvnet._specs import NORMALIZATION

MEAN = NORMALIZATION["cifar10"][0]


def recipe(**fields):
    return Recipe(phases=((1, 32),), **fields)


@pytest.mark.parametrize("fill", ["reflect", "edge"])
@pytest.mark.parametrize("side", [16, 32])
def test_augmentation_is_a_shift(side, fill):
    """Each result is one of the windows of the padded image, drawn for each image."""
    images = np.random.default_rng(0).integers(0, 256, (1, side, side, 3))
    images = np.repeat(images, 64, axis=0).astype("uint8")
    augment = Augment(recipe(shift=4 * 32 // side, fill=fill), side, MEAN)
    augment.seed(0, 0)
    results = keras.ops.convert_to_numpy(augment(images))
    padded = np.pad(images[0], ((4, 4), (4, 4), (0, 0)), mode=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    places = set()
    for result in results:
        found = places_of(windows, result)
        assert len(found) == 1
        places.add(tuple(found[0]))
    assert len(places) > 30
    assert {0, 8} <= {row for row, _ in places} | {column for _, column in places}


def test_largest_shift_of_a_small_image():
    """Each result has pixels of its own image only."""
    images = np.arange(8, dtype="uint8")[:, None, None, None] + np.zeros((1, 16, 16, 3), "uint8")
    augment = Augment(recipe(shift=31), 16, MEAN)
    augment.seed(0, 9999)  # The last epoch that a recipe can have.
    assert np.array_equal(keras.ops.convert_to_numpy(augment(images)), images)


def test_each_image_loses_a_gray_square():
    images = np.random.default_rng(0).integers(200, 256, (32, 32, 32, 3), dtype="uint8")
    augment = Augment(recipe(shift=0, erase=0.25), 32, (1.0, 2.0, 3.0))
    augment.seed(0, 0)
    results = keras.ops.convert_to_numpy(augment(images))
    places = set()
    for image, result in zip(images, results, strict=True):
        erased = (result == 2).all(axis=-1)
        assert np.array_equal(result[~erased], image[~erased])
        rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
        assert erased.sum() == len(rows) * len(columns)
        assert {len(rows), len(columns)} <= {15, 16, 17}
        places.add((rows[0], columns[0]))
    assert len(places) > 20


def test_without_shift_nothing_changes():
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")
    assert np.array_equal(keras.ops.convert_to_numpy(Augment(recipe(shift=0), 32, MEAN)(images)), images)


def test_a_pixel_of_a_scaled_image_is_the_mean_of_what_it_covers():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    blocks = images.reshape(4, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(scaled(images, 16), blocks, atol=1e-3)
    np.testing.assert_allclose(scaled(images, 24).mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=1e-2)
    assert scaled(images, 32) is images
    assert scaled(images.astype("uint8"), 24).dtype == np.uint8


def test_corrupted_images():
    images = np.random.default_rng(0).integers(100, 156, (400, 32, 32, 3), dtype="uint8")
    before = images.copy()
    assert np.array_equal(corrupted(images, 0.0, 0, 0), images)
    changed = corrupted(images, 0.3, 0, 0)
    assert np.array_equal(images, before)
    assert changed.dtype == np.uint8
    same = (changed == images).all(axis=(1, 2, 3)).mean()
    assert abs(same - 0.7**3) < 0.08
    # Colors stay in their channels: a red image remains red.
    red = np.full((50, 32, 32, 3), (200, 60, 40), "uint8")
    colors = corrupted(red, 1.0, 0, 0).mean(axis=(1, 2))
    assert np.abs(colors - (200, 60, 40)).max() < 8


def test_compressed_images_are_those_of_jpeg_files():
    """With red and blue in their places: JPEG keeps red more exactly than blue."""
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype="uint8")
    pairs = zip(images, corrupted(images, 0.3, 0, 0), strict=True)
    found = sum(any(np.array_equal(after, cards.jpeg(before, q)) for q in range(40, 96)) for before, after in pairs)
    assert 3 < found < 20  # On average 0.3 * 0.7 * 0.7 of them are compressed and nothing else.


@pytest.mark.parametrize(("seed", "epoch"), [(0, 1), (1, 0)])
def test_corruption_depends_on_seed_and_epoch(seed, epoch):
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype="uint8")
    first = corrupted(images, 0.5, 0, 0)
    assert np.array_equal(first, corrupted(images, 0.5, 0, 0))
    assert not np.array_equal(first, corrupted(images, 0.5, seed, epoch))


def test_flips():
    assert not mirrored("none", 1000, 0, 0).any()
    even, odd, again = (mirrored("alternating", 1000, 0, epoch) for epoch in (0, 1, 2))
    assert np.array_equal(even, ~odd)
    assert np.array_equal(even, again)
    assert 450 < even.sum() < 550
    first, second = (mirrored("random", 1000, 0, epoch) for epoch in (0, 1))
    assert 450 < first.sum() < 550
    assert 450 < (first ^ second).sum() < 550
    assert not np.array_equal(even, mirrored("alternating", 1000, 1, 0))


def places_of(windows, result):
    return np.argwhere((windows == result).all(axis=(2, 3, 4)))


@pytest.mark.parametrize(("shift", "erase"), [(4, 0), (0, 0.1)])
def test_augmentation_depends_on_seed_and_epoch(shift, erase):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype="uint8")
    augment = Augment(recipe(shift=shift, erase=erase), 32, MEAN)

    def draw(seed, epoch):
        augment.seed(seed, epoch)
        return keras.ops.convert_to_numpy(augment(images))

    assert (draw(0, 3) == draw(0, 3)).all()
    assert not (draw(0, 3) == draw(0, 4)).all()
    assert not (draw(0, 3) == draw(1, 3)).all()
