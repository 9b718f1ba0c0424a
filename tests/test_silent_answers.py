"""What would give a wrong answer without a word is refused."""

import re

import keras
import numpy as np
import pytest

from allconvnet import AllConvNet, decode_predictions, evaluate_top1, save_weights, to_picture
from allconvnet._errors import shortened

IMAGES = np.zeros((2, 32, 32, 3), "uint8")


@pytest.fixture(scope="module")
def net():
    return AllConvNet("all_cnn_c", weights=None, classes=2)


def with_bias(net, value):
    copy = keras.models.clone_model(net)
    copy.set_weights([*net.get_weights()[:-1], np.full(2, value, "float32")])
    return copy


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([0.0, 1.0], r"Invalid labels. Received: list of dtype float64. Allowed: whole numbers"),
        ([True, False], r"Invalid labels. Received: list of dtype bool"),
        (keras.ops.cast([0.5, 1.0], "bfloat16"), r"Invalid labels. Received: .* Allowed: whole numbers"),
        (["0", "1"], r"Invalid labels. Received: list of dtype <U1"),
        (None, r"Invalid labels. Received: NoneType of dtype object"),
        ([[0, 1], [1]], r"Invalid labels. Received: list of dtype object"),
        ([0, 2], r"A label is out of range. Received: 0 to 2. Allowed: 0 to 1"),
        ([-1, 0], r"A label is out of range. Received: -1 to 0"),
        ([0], r"one label per image. Received: 2 images, 1 labels of shape \(1,\)"),
        ([[0, 1]], r"one label per image.* of shape \(1, 2\)"),
        (np.eye(2, dtype=int), r"one label per image.* of shape \(2, 2\)"),
    ],
)
def test_labels(net, labels, match):
    with pytest.raises(ValueError, match=match):
        evaluate_top1(net, IMAGES, labels)


def test_labels_in_a_column_or_unsigned(net):
    first = int(net.predict(IMAGES, verbose=0)[0].argmax())
    for labels in (np.array([[first], [1 - first]]), np.array([first, 1 - first], "uint8")):
        assert evaluate_top1(net, IMAGES, labels) == 50


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers(net, value):
    """The highest of them is the first, whatever it is."""
    with pytest.raises(ValueError, match=r"scores of the model are infinite or not a number"):
        evaluate_top1(with_bias(net, value), IMAGES, [0, 0])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"images": IMAGES[0]}, r"one label per image|images do not fit"),
        ({"images": IMAGES[:, :, :, :1]}, r"The images do not fit the model. Received: uint8 \(2, 32, 32, 1\)"),
        ({"images": "cat.jpg"}, r"Invalid images. Received: str"),
        ({"batch_size": 0}, r"Invalid batch_size"),
        ({"verbose": 3}, r"Unknown verbose. Received: verbose=3"),
    ],
)
def test_other_arguments(net, arguments, match):
    with pytest.raises(ValueError, match=match):
        evaluate_top1(**{"model": net, "images": IMAGES, "labels": [0, 0]} | arguments)


def test_model_of_a_fixed_batch():
    """There may be more images than in a batch of the model."""
    inputs = keras.Input(batch_shape=(8, 4, 4, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    images = np.eye(3)[np.arange(16) % 2][:, None, None].repeat(4, 1).repeat(4, 2)
    assert evaluate_top1(model, images, [0] * 16, batch_size=8) == 50


def test_no_model():
    with pytest.raises(TypeError, match=r"model must be a keras.Model. Received: str"):
        evaluate_top1("all_cnn_c", IMAGES, [0, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_weights_beyond_the_file(net, tmp_path, value):
    with pytest.raises(ValueError, match=r"weights are not finite in float16; dtype=\"float32\""):
        save_weights(with_bias(net, value), tmp_path / "x.weights.h5", variant="all_cnn_c", class_names=["a", "b"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "names", ["ab", b"ab", range(2), [None] * 2, 10, dict.fromkeys("ab"), {"cat", "dog"}, np.array([["a", "b"]])]
)
def test_names_of_classes(net, tmp_path, names):
    """Those of a set have no order."""
    received = re.escape(f" Received: {shortened(names)}.")
    with pytest.raises(ValueError, match=rf"class_names must be a list, a tuple or an array of strings\.{received}"):
        decode_predictions(np.ones((1, 2)), class_names=names)
    with pytest.raises(ValueError, match=rf"class_names must be a list of 2 strings, one per class, .*{received}"):
        save_weights(net, tmp_path / "x.weights.h5", variant="all_cnn_c", class_names=names)


@pytest.mark.parametrize("scores", [[["a"] * 10], None, [[1j] * 10], [[1], [1, 2]]])
def test_scores_to_decode(scores):
    with pytest.raises(ValueError, match=r"Invalid predictions. Received: \w+ of dtype"):
        decode_predictions(scores)


def test_several_outputs(net):
    for outputs in ([net.output, net.output], {"scores": net.output}):
        model = keras.Model(net.input, outputs)
        with pytest.raises(ValueError, match=r"must return scores \[N, 2 or more classes\]. Received: (list|dict)"):
            evaluate_top1(model, IMAGES, [0, 1])


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint16", "bool", "complex64"])
def test_picture_of_other_types(dtype):
    with pytest.raises(ValueError, match=r"cannot be drawn\. Received: .*Allowed: uint8 or float|Invalid arrays"):
        to_picture(np.zeros((1, 4, 4, 3), dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(1, 4, 4, 3), (1, 4, 4)])
def test_picture_of_no_numbers(shape, value):
    with pytest.raises(ValueError, match=r"arrays are infinite or not a number"):
        to_picture(np.full(shape, value))


def test_caption_that_is_no_unicode():
    """As names of files can be; OpenCV crashes on it."""
    assert to_picture(np.zeros((1, 4, 4)), caption="a\ud800b", cell=8).dtype == np.uint8
