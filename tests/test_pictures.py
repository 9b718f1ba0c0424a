"""Arrays as pictures, pixel by pixel."""

import numpy as np
import pytest

from allconvnet import to_picture


def test_picture_of_gradients():
    arrays = np.zeros((3, 4, 4, 3), "float32")
    arrays[1, 0, 0], arrays[1, 3, 3] = 2, -1
    picture = to_picture(arrays, columns=2, cell=8)
    assert (picture.shape, picture.dtype) == ((25, 25, 3), "uint8")
    assert picture[3, 3].tolist() == [128] * 3
    # Symmetric about zero: 2 is white, -1 half way to black.
    assert picture[3, 14].tolist() == [255] * 3
    assert picture[10, 21].tolist() == [64] * 3
    assert picture[20, 20].tolist() == [255] * 3, "no fourth cell"


def test_picture_of_maps():
    maps = np.array([[[1.0, -1.0], [0.0, 0.5]], [[0.5, 0.0], [0.0, 0.0]]], "float32")
    picture = to_picture(maps, cell=8)
    red, blue = picture[3, 3].astype(int), picture[3, 10].astype(int)
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert picture[10, 3].tolist() == [255] * 3
    # The maps share one scale: half of the largest value is half way to red in both.
    assert picture[10, 10].tolist() == picture[3, 14].tolist()
    assert np.abs(picture[10, 10] - (255 + red) / 2).max() <= 1


@pytest.mark.parametrize("image", [(200, 30, 30), (30, 200, 30), (30, 30, 200), (0, 0, 0), (255, 255, 255)])
def test_maps_are_visible_on_images_of_any_color(image):
    maps = np.zeros((1, 2, 2), "float32")
    maps[0, 0] = 1
    maps[0, 1] = -1
    picture = to_picture(maps, images=np.full((1, 8, 8, 3), image, "uint8"), cell=32).astype(int)
    high, low = picture[4, 16], picture[34, 16]
    assert np.abs(high - low).max() > 100
    gray = to_picture(-np.abs(maps), images=np.full((1, 8, 8, 3), image, "uint8"), cell=32).astype(int)
    assert np.abs(gray[4:34, 4:34] - low).max() <= 1, "only what is positive is laid on the image"


def test_color_bar():
    """Its ends have the colors of the largest and the smallest value; numbers stand below it."""
    maps = np.array([[[4.0, -4.0], [0.0, 2.0]]], "float32")
    picture = to_picture(maps, cell=64)
    bar = picture[-(12 + 20 + 3)]
    assert bar[3].tolist() == picture[4, 60].tolist()
    assert bar[66].tolist() == picture[4, 4].tolist()
    assert picture[-20:, :20].min() < 100
    assert picture[-20:, -20:].min() < 100
    assert to_picture(np.zeros((1, 8, 8, 3)), cell=64).shape == (70, 70, 3), "gradients have none"
    white = to_picture(np.zeros_like(maps), cell=64)[-(12 + 20 + 3)]
    assert white[35].min() > 240, "0 is white, also where it is the largest value"


def test_labels():
    images = np.full((3, 8, 8, 3), 255, "uint8")
    picture = to_picture(images, labels=["cat\n3 %", "ship", "a" * 99], columns=2, cell=64)
    assert picture.shape == (2 * (64 + 2 * 20 + 8 + 3) + 3, 2 * 67 + 3, 3)
    written = picture.min(axis=2) < 128
    assert written[70:85, :67].any()
    assert written[90:105, :67].any()
    assert not written[90:105, 67:].any()
    assert written[180:200, :67].any()
    assert not written[180:200, 67:].any(), "a long label is cut"


@pytest.mark.parametrize("labels", [["cat"], "ab"])
def test_labels_that_do_not_fit(labels):
    with pytest.raises(ValueError, match=r"one label for each of 2 arrays\. Received: labels="):
        to_picture(np.zeros((2, 4, 4, 3)), labels=labels)


EXTREME = [("float16", 0), ("float16", -6e4), ("float32", -1e38), ("float64", -1e300)]


@pytest.mark.parametrize(("dtype", "value"), EXTREME)
def test_maps_of_extreme_values(dtype, value):
    maps, images = np.full((1, 4, 4), value, dtype), np.full((1, 8, 8, 3), 100, "uint8")
    nothing = to_picture(np.zeros((1, 4, 4)), images=images, cell=8)
    assert np.array_equal(to_picture(maps, images=images, cell=8)[3:11], nothing[3:11])
    assert to_picture(maps, cell=8)[3, 3].tolist() == ([30, 60, 200] if value else [255] * 3)
    gradients = np.full((1, 4, 4, 3), value, dtype)
    assert to_picture(gradients, cell=8)[3, 3].tolist() == ([0] * 3 if value else [128] * 3)


def test_picture_of_images_and_caption():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), "uint8")
    plain = to_picture(images, cell=16)
    assert np.array_equal(plain[3:19, 3:19], images[0])
    captioned = to_picture(images, cell=16, caption="net, layer, target")
    assert np.array_equal(captioned[26:], plain)
    assert captioned[:26].min() < 100


@pytest.mark.parametrize("option", ["columns", "cell"])
def test_picture_of_no_size(option):
    with pytest.raises(ValueError, match=rf"Invalid {option}. Received: {option}=0. Allowed: a whole"):
        to_picture(np.zeros((2, 4, 4, 3)), **{option: 0})


@pytest.mark.parametrize(
    "arrays", [np.zeros(()), np.zeros((2, 4, 4, 2)), np.zeros((0, 4, 4, 3)), np.zeros((4, 4), "uint8")]
)
def test_no_picture(arrays):
    with pytest.raises(ValueError, match=r"cannot be drawn\. Received: .*Allowed: uint8 or float"):
        to_picture(arrays)


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (2, 8, 8, 3, 1), (2, 0, 8, 3)])
def test_maps_and_images_that_differ(shape):
    with pytest.raises(ValueError, match=r"images must be uint8 .* float64 \(2, 4, 4\) with images uint8"):
        to_picture(np.zeros((2, 4, 4)), images=np.zeros(shape, "uint8"))
