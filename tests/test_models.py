"""The builder: every net of the table, its vocabulary, its errors, its weights files."""

import functools
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tables

from allconvnet import (
    AllConvNet,
    decode_predictions,
    evaluate_top1,
    feature_extractor,
    list_variants,
    list_weights,
    load_image,
    models,
    preprocess_input,
    save_weights,
    weights_info,
)
from allconvnet._batch_norm import fold_batch_norm
from allconvnet._specs import NORMALIZATION, SPECS

# 77 million parameters, 310 MB: built once, never run.
VARIANTS = [variant for variant in list_variants() if variant != "all_cnn_large"]
# The paper's layer lists, to the unit; with the bases A, B and C.
PARAMETERS = {
    "model": (839_242, 885_610, 954_730),
    "strided_cnn": (839_242, 885_610, 954_730),
    "convpool_cnn": (1_254_250, 1_300_618, 1_369_738),
    "all_cnn": (1_254_250, 1_300_618, 1_369_738),
}
PARAMETERS = {"all_cnn_large": 77_455_690, "all_cnn_b_imagenet": 9_372_840, "all_conv_keras": 1_369_738} | {
    f"{family}_{base}": count for family, row in PARAMETERS.items() for base, count in zip("abc", row, strict=True)
}
# One for each kind of net: 5x5 convolutions and pooling, strides in 1x1 and in 3x3, without some activations.
KINDS = ["model_a", "strided_cnn_b", "all_cnn_c", "all_conv_keras"]


def pixels(side=32, count=2, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype="uint8")


def run(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


@pytest.mark.parametrize("variant", list_variants())
def test_parameters_and_shapes(variant):
    spec = SPECS[variant]
    model = AllConvNet(variant, weights=None)
    assert model.count_params() == PARAMETERS[variant]
    assert model.input_shape == (None, spec.side, spec.side, 3)
    assert model.output_shape == (None, spec.classes)
    side = spec.feature_side(spec.side)
    assert model.get_layer("class_conv").output.shape == (None, side, side, spec.classes)
    assert model.name == variant
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    products = [np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape) for layer in convolutions]
    assert tables.size(spec) == (PARAMETERS[variant], sum(products))


@pytest.mark.parametrize("variant", VARIANTS)
def test_smallest_image(variant):
    side = SPECS[variant].min_side
    model = AllConvNet(variant, weights=None, input_shape=(side, side, 3), classes=3)
    scores = run(model, pixels(side))
    assert scores.shape == (2, 3)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    if side > 1:
        with pytest.raises(ValueError, match=rf"sides of at least {side} or None"):
            AllConvNet(variant, weights=None, input_shape=(side - 1, side, 3))


def test_any_size_and_uneven_sizes():
    model = AllConvNet(weights=None, input_shape=(None, None, 3))
    assert run(model, pixels(32)).shape == run(model, pixels(47)).shape == (2, 10)
    assert run(model, pixels(64)[:, :33]).shape == (2, 10)


def test_one_channel_is_repeated():
    gray = AllConvNet(weights=None, input_shape=(32, 32, 1))
    color = AllConvNet(weights=None)
    color.set_weights(gray.get_weights())
    images = pixels(channels=1)
    np.testing.assert_allclose(run(gray, images), run(color, np.repeat(images, 3, axis=-1)), atol=1e-6)
    assert gray.count_params() == color.count_params()


def test_without_top():
    images, body = pixels(), AllConvNet(weights=None, include_top=False)
    features = run(body, images)
    assert features.shape == (2, 6, 6, 192)
    for pooling, function in (("avg", np.mean), ("max", np.max)):
        pooled = AllConvNet(weights=None, include_top=False, pooling=pooling)
        pooled.set_weights(body.get_weights())
        np.testing.assert_allclose(run(pooled, images), function(features, axis=(1, 2)), atol=1e-5)


def test_features_are_what_the_top_sees():
    model = AllConvNet(weights=None)
    body = AllConvNet(weights=None, include_top=False)
    body.set_weights(model.get_weights()[:-2])
    features = keras.Model(model.input, model.get_layer("relu8").output)
    images = pixels()
    np.testing.assert_allclose(run(body, images), run(features, images), atol=1e-5)


@pytest.mark.parametrize("side", [32, 45])
@pytest.mark.parametrize(
    ("variant", "names"),
    [("all_cnn_c", [f"relu{number}" for number in range(4, 9)]), ("model_a", ["relu1", "relu2", "relu3", "relu4"])],
)
def test_features_are_the_averages_of_quadrants(variant, names, side):
    extractor = feature_extractor(variant, weights="cifar10", input_shape=(side, side, 3))
    model = AllConvNet(variant, input_shape=(side, side, 3))
    images, expected = pixels(side), []
    for name in names:
        one = run(keras.Model(model.input, model.get_layer(name).output), images)
        half = -(-one.shape[1] // 2)
        halves = slice(None, half), slice(-half, None)
        expected += [one[:, rows, columns].mean(axis=(1, 2)) for rows in halves for columns in halves]
    np.testing.assert_allclose(run(extractor, images), np.concatenate(expected, axis=1), atol=1e-5)


def test_features_are_those_of_transfer():
    images = pixels()
    default, transfer = (run(feature_extractor(**options), images) for options in ({}, {"weights": "transfer"}))
    np.testing.assert_array_equal(default, transfer)


def test_features_need_a_fixed_size():
    with pytest.raises(ValueError, match=r"fixed size. Received: input_shape=\(32, None, 3\)"):
        feature_extractor("all_cnn_c", input_shape=(32, None, 3))


@pytest.mark.parametrize("variant", [*KINDS, "all_cnn_b_imagenet"])
def test_every_kind_of_net_has_features(variant):
    side = SPECS[variant].min_side
    features = run(feature_extractor(variant, weights=None, input_shape=(side, side, 3)), pixels(side))
    assert features.ndim == 2
    assert np.isfinite(features).all()


def test_logits():
    probabilities = AllConvNet(weights=None)
    logits = AllConvNet(weights=None, classifier_activation=None)
    logits.set_weights(probabilities.get_weights())
    images = pixels()
    exponentials = np.exp(run(logits, images))
    np.testing.assert_allclose(
        run(probabilities, images), exponentials / exponentials.sum(axis=1, keepdims=True), atol=1e-5
    )


def test_relu_on_the_class_convolution_is_an_option():
    plain = AllConvNet(weights=None, classifier_activation=None)
    paper = AllConvNet(weights=None, classifier_activation=None, class_relu=True)
    assert "class_relu" in [layer.name for layer in paper.layers]
    assert "class_relu" not in [layer.name for layer in plain.layers]
    paper.set_weights(plain.get_weights())
    paper.get_layer("class_conv").bias.assign(np.full(10, -100.0))
    assert (run(paper, pixels()) == 0).all()


@pytest.mark.parametrize("variant", KINDS)
def test_dropout_acts_in_training_only(variant):
    model = AllConvNet(variant, weights=None, dropout=True)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == ([0.5, 0.5] if variant == "all_conv_keras" else [0.2, 0.5, 0.5])
    plain = AllConvNet(variant, weights=None)
    plain.set_weights(model.get_weights())
    images = pixels()
    np.testing.assert_allclose(run(model, images), run(plain, images), atol=1e-6)


def test_large_net_drops_more_and_more():
    layers = models.get_spec("all_cnn_large").layers
    rates = [row.rate for row in layers if isinstance(row, models.Dropout)]
    assert rates == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5])


def test_preprocessing_inside_equals_outside():
    inside = AllConvNet(weights=None)
    bare = AllConvNet(weights=None, include_preprocessing=False)
    bare.set_weights(inside.get_weights())
    images = pixels()
    np.testing.assert_allclose(run(inside, images), run(bare, preprocess_input(images)), atol=1e-5)
    assert "normalization" not in [layer.name for layer in bare.layers]


def test_pixels_of_any_dtype():
    model, images = AllConvNet(weights=None), pixels()
    expected = model.predict(images, verbose=0)
    for dtype in ("int64", "float32", "float64"):
        np.testing.assert_allclose(model.predict(images.astype(dtype), verbose=0), expected, atol=1e-6)


def test_layer_names():
    names = [layer.name for layer in AllConvNet(weights=None).layers]
    body = [name for number in range(1, 9) for name in (f"conv{number}", f"relu{number}")]
    assert names == ["images", "normalization", *body, "class_conv", "logits", "predictions"]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_a_float32_softmax(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = AllConvNet(weights=None)
        assert model.get_layer("conv1").compute_dtype == policy.removeprefix("mixed_")
        scores = run(model, pixels())
        assert scores.dtype == "float32"
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    finally:
        keras.config.set_dtype_policy(before)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(
            ValueError, match=r"set_image_data_format\(\"channels_last\"\) first. Received: 'channels_first'"
        ):
            AllConvNet(weights=None)
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"variant": "resnet"}, r"Unknown variant. Received: variant='resnet'"),
        (
            {"weights": "imagenet"},
            r"Unknown weights for 'all_cnn_c'. Received: weights='imagenet'.*None for random weights",
        ),
        (
            {"variant": "all_cnn_large"},
            r"weights for 'all_cnn_large'. Received: weights='cifar10'. Allowed: none; None for",
        ),
        (
            {"weights": "model_a.cifar10"},
            r"Allowed: 'cifar10', 'cifar100', 'cifar100_robust_v1', .*'cifar10_v5', 'transfer' or 'transfer_v1'; None",
        ),
        ({"variant": ["a"]}, r"Unknown variant. Received: variant=\['a'\]"),
        ({"weights": None, "input_shape": 32}, r"Invalid input_shape. Received: input_shape=32"),
        ({"weights": 3}, r"Unknown weights for 'all_cnn_c'. Received: weights=3"),
        ({"weights": "http://127.0.0.1/x.weights.h5"}, r"sha256"),
        ({"weights": "~no one/x.h5"}, r"Invalid weights. Received: weights='~no one/x.h5'. Allowed: a path"),
        ({"weights": None, "pooling": "avg"}, r"pooling='avg' needs include_top=False.*its own global average"),
        ({"weights": None, "pooling": "mean", "include_top": False}, r"Unknown pooling.*'avg', 'max' or None"),
        ({"weights": None, "classes": 0}, r"Invalid classes. Received: classes=0"),
        ({"weights": None, "classes": 5, "include_top": False}, r"need include_top=True"),
        ({"weights": None, "include_top": False, "fresh_head": True}, r"fresh_head .* need include_top=True"),
        ({"weights": None, "input_shape": (32, 32)}, r"Invalid input_shape"),
        ({"weights": None, "input_shape": (32, 32, 4)}, r"\(height, width, 3 or 1\)"),
        (
            {"weights": None, "dense_prediction": True, "input_shape": (31, 64, 3)},
            r"Invalid input_shape.*sides of at least 32 or None",
        ),
        ({"weights": None, "dense_prediction": True, "include_top": False}, r"dense_prediction need include_top=True"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        AllConvNet(**arguments)


# Weights files.


@pytest.fixture
def saved(tmp_path):
    model = AllConvNet(weights=None)
    path = tmp_path / "mine.weights.h5"
    save_weights(model, path, variant="all_cnn_c", class_names=[f"class {i}" for i in range(10)], dtype="float32")
    return model, path


def test_scores_in_bfloat16():
    """As models return them whose last layer computes in mixed precision."""
    scores = keras.ops.cast(np.eye(10)[:1] * 0.5, "bfloat16")
    for predictions in (scores, keras.ops.convert_to_numpy(scores)):
        assert decode_predictions(predictions, top=1) == [[("airplane", 0.5)]]


def test_low_rank_adaptation_is_saved(tmp_path):
    model = AllConvNet(weights=None, classes=2)
    layer = model.get_layer("conv5")
    layer.enable_lora(2)
    for part in layer.trainable_variables:  # The bias, and two factors of the change of the kernel.
        part.assign(keras.random.normal(part.shape))
    save_weights(model, tmp_path / "x.weights.h5", variant="all_cnn_c", class_names=["a", "b"], dtype="float32")
    images = pixels()
    again = AllConvNet(weights=tmp_path / "x.weights.h5")
    np.testing.assert_allclose(run(again, images), run(model, images), atol=1e-5)


@pytest.mark.parametrize("variant", KINDS)
def test_round_trip(variant, tmp_path):
    model = AllConvNet(variant, weights=None, classes=4)
    for dtype, tolerance in (("float32", 0), ("float16", 1e-3)):
        path = tmp_path / f"{dtype}.weights.h5"
        save_weights(model, path, variant=variant, class_names=[*"abcd"], dtype=dtype)
        with h5py.File(path) as file:
            assert file.attrs["variant"] == variant
        for again, weights in zip(AllConvNet(variant, weights=path).get_weights(), model.get_weights(), strict=True):
            np.testing.assert_allclose(again, weights, rtol=tolerance, atol=tolerance)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["float16.weights.h5", "float32.weights.h5"]


def test_home_folder_and_numpy_names(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = AllConvNet("model_a", weights=None, classes=2)
    save_weights(model, "~/x.weights.h5", variant="model_a", class_names=np.array(["cat", "dog"]))
    assert (tmp_path / "x.weights.h5").is_file()
    scores = run(AllConvNet("model_a", weights="~/x.weights.h5"), pixels())
    assert {name for name, _ in decode_predictions(scores, weights="~/x.weights.h5")[0]} == {"cat", "dog"}


def test_our_files_are_keras_files(saved):
    model, path = saved
    other = AllConvNet(weights=None)
    other.load_weights(path)
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_keras_files_are_read(tmp_path):
    model = AllConvNet("model_b", weights=None)
    model.save_weights(tmp_path / "x.weights.h5")
    again = AllConvNet("model_b", weights=str(tmp_path / "x.weights.h5"))
    for mine, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("whole_model", [False, True])
def test_files_of_keras_2_are_read(tmp_path, whole_model):
    """As Keras 1 and 2 wrote them, the ancestor's among them: layers in order, layers without weights included."""
    model = AllConvNet("all_conv_keras", weights=None)
    convolutions = [layer for layer in model.layers if layer.weights]
    with h5py.File(tmp_path / "weights.994-0.56.hdf5", "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        names = [f"{kind}_{number}" for number in range(1, 10) for kind in ("conv2d", "activation")]
        root.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group = root.create_group(name)
            weights = convolutions[int(name[-1]) - 1].get_weights() if "conv" in name else []
            members = [f"{name}/{part}:0" for part in ("kernel", "bias")][: len(weights)]
            group.attrs["weight_names"] = [member.encode() for member in members]
            for member, values in zip(members, weights, strict=True):
                group[member] = values
    again = AllConvNet("all_conv_keras", weights=tmp_path / "weights.994-0.56.hdf5")
    images = pixels()
    np.testing.assert_allclose(run(model, images), run(again, images), atol=1e-6)


def test_other_classes_get_a_fresh_class_convolution(saved):
    model, path = saved
    other = AllConvNet(weights=path, classes=3)
    assert other.output_shape == (None, 3)
    for mine, theirs in zip(model.get_weights()[:-2], other.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (other.get_layer("class_conv").bias.numpy() == 0).all()


def test_fresh_head(saved):
    """As many classes as the weights have, and yet none of their class convolution."""
    model, path = saved
    for classes in (None, 10):
        other = AllConvNet(weights=path, classes=classes, fresh_head=True)
        for mine, theirs in zip(model.get_weights()[:-2], other.get_weights()[:-2], strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert not np.array_equal(model.get_weights()[-2], other.get_weights()[-2])
        assert other.output_shape == (None, 10)


def test_names_of_published_weights():
    expected = AllConvNet("all_cnn_c", weights="cifar10_robust_v1").get_weights()[0]
    for weights in ("cifar10", "all_cnn_c.cifar10", "all_cnn_c.cifar10_robust_v1"):
        assert np.array_equal(AllConvNet("all_cnn_c", weights=weights).get_weights()[0], expected)
        assert decode_predictions(np.eye(10)[:1], weights=weights)[0][0] == ("airplane", 1.0)


def test_weights_without_top_and_with_one_channel(saved):
    model, path = saved
    body = AllConvNet(weights=path, include_top=False, input_shape=(None, None, 1))
    for mine, theirs in zip(model.get_weights()[:-2], body.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def one_scale(layer, *args, **kwargs):
    if layer.name == "normalization":
        layer = keras.layers.Rescaling(0.01, name="normalization")
    return layer(*args, **kwargs)


@pytest.mark.parametrize("call", [lambda layer, *args, **kwargs: layer(*args, **kwargs), one_scale])
def test_normalization_travels_with_the_file(call, tmp_path):
    model = models.build(SPECS["all_conv_keras"], models.Form((32, 32, 3), NORMALIZATION["cifar10"], 10))
    model = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    path = tmp_path / "x.weights.h5"
    save_weights(model, path, variant="all_conv_keras", class_names=[*"abcdefghij"], dtype="float32")
    images = pixels()
    np.testing.assert_allclose(run(AllConvNet("all_conv_keras", weights=path), images), run(model, images), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"path": "x.h5"}, r"Unknown file type. Received: path='x.h5'"),
        ({"dtype": "int8"}, r"Unknown dtype. Received: dtype='int8'"),
        (
            {"variant": "model_a"},
            r"not 'model_a' as AllConvNet builds it: step 1 is 96 Conv2D 3x3, .*not 96 Conv2D 5x5",
        ),
        ({"class_names": ["cat"]}, r"a list of 10 strings, one per class, .* Received: 1 names"),
    ],
)
def test_what_cannot_be_saved(change, match, tmp_path):
    arguments = {"path": tmp_path / "x.weights.h5", "variant": "all_cnn_c", "class_names": [*"abcdefghij"]} | change
    with pytest.raises(ValueError, match=match):
        save_weights(AllConvNet(weights=None), **arguments)


@pytest.mark.parametrize("added", [keras.layers.Dense(10), keras.layers.BatchNormalization()])
def test_net_with_another_layer_is_not_saved(added, tmp_path):
    model = AllConvNet("model_a", weights=None)
    model = keras.Model(model.input, added(model.get_layer("logits").output))
    with pytest.raises(
        ValueError, match=rf"The model is not 'model_a'.*: step \d+ is {type(added).__name__}, not None"
    ):
        save_weights(model, tmp_path / "x.weights.h5", variant="model_a", class_names=[*"abcdefghij"])


@pytest.mark.parametrize(
    ("layer", "change", "match"),
    [
        ("relu1", {"max_value": 6.0}, "step 2 is ReLU, another max_value, not ReLU"),
        ("relu1", {"negative_slope": 0.1}, "ReLU, another negative_slope"),
        ("conv3", {"dilation_rate": 2}, "valid, another dilation_rate"),
        ("conv1", {"activation": "tanh"}, "step 1 is 96 Conv2D 5x5, stride 1, same, activation"),
        ("conv1", {"use_bias": False}, "same, another use_bias"),
        ("class_conv", {"activation": keras.layers.ReLU()}, "valid, activation"),
        ("conv1", {"strides": (1, 2)}, "stride 1x2"),
    ],
)
def test_net_with_a_changed_layer_is_not_saved(layer, change, match, tmp_path):
    def changed(original):
        own = change if original.name == layer else {}
        return type(original).from_config(original.get_config() | own)

    model = keras.models.clone_model(AllConvNet("model_a", weights=None), clone_function=changed)
    with pytest.raises(ValueError, match=match):
        save_weights(model, tmp_path / "x.weights.h5", variant="model_a", class_names=[*"abcdefghij"])


@pytest.mark.parametrize("options", [{"input_shape": (33, 34, 1), "dropout": True}, {"dense_prediction": True}])
def test_net_of_any_form_is_saved(options, tmp_path):
    model = AllConvNet("model_a", weights=None, **{"input_shape": (33, 34, 3)} | options)
    save_weights(model, tmp_path / "x.weights.h5", variant="model_a", class_names=[*"abcdefghij"], dtype="float32")
    again = AllConvNet("model_a", weights=tmp_path / "x.weights.h5")
    assert np.array_equal(again.get_weights()[0], model.get_weights()[0])


def test_weights_out_of_range_of_float16_are_saved(tmp_path):
    model = AllConvNet("model_a", weights=None, classes=2)
    model.get_layer("class_conv").bias.assign([0.0, 1e6])
    save_weights(model, tmp_path / "x.weights.h5", variant="model_a", class_names=["cat", "dog"], dtype="float32")
    assert AllConvNet("model_a", weights=tmp_path / "x.weights.h5").get_weights()[-1].tolist() == [0, 1e6]


def test_too_many_classes_cannot_be_saved(tmp_path):
    model = AllConvNet("model_a", weights=None, classes=4001)
    with pytest.raises(ValueError, match=r"a list of 4001 strings, one per class, 4,000 at most"):
        save_weights(model, tmp_path / "x.weights.h5", variant="model_a", class_names=[*map(str, range(4001))])
    model = AllConvNet("model_a", weights=None, classes=4000)
    save_weights(model, tmp_path / "x.weights.h5", variant="model_a", class_names=[*map(str, range(4000))])
    assert AllConvNet("model_a", weights=tmp_path / "x.weights.h5").output_shape == (None, 4000)


def test_what_the_file_would_lose_cannot_be_saved(tmp_path):
    sigmoid = AllConvNet(weights=None, classifier_activation="sigmoid")
    renamed, other = keras.models.clone_model(sigmoid), keras.models.clone_model(sigmoid)
    renamed.layers[-1].name = "predictions_1"
    other.layers[-1].activation = functools.partial(keras.activations.elu, alpha=2.0)
    inner = AllConvNet(weights=None)
    outer = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.RandomFlip(), inner])
    for model, match in (
        (sigmoid, "for softmax or logits: .* with sigmoid"),
        (renamed, "with sigmoid"),
        (other, "with another activation"),
        (outer, r"model.get_layer\('all_cnn_c'\)"),
    ):
        with pytest.raises(ValueError, match=match):
            save_weights(model, tmp_path / "x.weights.h5", variant="all_cnn_c", class_names=[*"abcdefghij"])


def test_logits_of_another_input_can_be_saved(tmp_path):
    logits = AllConvNet(weights=None)
    logits.layers[-1].activation = keras.activations.linear
    logits = keras.models.clone_model(logits, input_tensors=keras.Input((32, 32, 3), name="other"))
    save_weights(logits, tmp_path / "x.weights.h5", variant="all_cnn_c", class_names=[*"abcdefghij"])
    assert AllConvNet(weights=tmp_path / "x.weights.h5").output_shape == (None, 10)


def test_scores_of_a_call_are_decoded():
    scores = AllConvNet(weights=None)(keras.ops.convert_to_tensor(pixels().astype("float32")))
    assert [len(best) for best in decode_predictions(scores)] == [3] * len(scores)


def test_bare_net_cannot_be_saved(tmp_path):
    bare = AllConvNet(weights=None, include_preprocessing=False)
    with pytest.raises(ValueError, match="does not normalize its input"):
        save_weights(bare, tmp_path / "x.weights.h5", variant="all_cnn_c", class_names=[*"abcdefghij"])


@pytest.mark.parametrize(
    ("variant", "options"),
    [("convpool_cnn_c", {}), ("all_conv_keras", {}), ("all_cnn_c", {"class_relu": True})],
)
def test_net_of_the_same_shapes_is_not_saved_as_another(variant, options, tmp_path):
    model = AllConvNet("all_cnn_c", weights=None, **options)
    with pytest.raises(ValueError, match=rf"The model is not '{variant}'.*: step \d+ is "):
        save_weights(model, tmp_path / "x.weights.h5", variant=variant, class_names=[*"abcdefghij"])


def test_integers_of_numpy():
    model = AllConvNet(weights=None, classes=np.int64(5), input_shape=(np.int64(40), None, 3))
    assert (model.input_shape, model.output_shape) == ((None, 40, None, 3), (None, 5))


def test_saved_model_loads_without_allconvnet(tmp_path):
    """Only built-in layers, in a process in which allconvnet cannot be imported."""
    for options in ({}, {"input_shape": (None, None, 1), "dense_prediction": True}):
        model = AllConvNet(weights=None, **options)
        model.save(tmp_path / "x.keras")
        with zipfile.ZipFile(tmp_path / "x.keras") as archive:
            assert "allconvnet" not in json.dumps(json.loads(archive.read("config.json"))["config"]["layers"])
    images = pixels(side=40, channels=1)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys; sys.modules['allconvnet'] = None\n"
        "import keras, numpy\n"
        "model = keras.saving.load_model('x.keras')\n"
        "numpy.save('scores.npy', model.predict(numpy.load('images.npy'), verbose=0))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), run(model, images), atol=1e-5)


# Folding.


@pytest.mark.parametrize("variant", KINDS)
def test_folding_moves_no_logit(variant):
    form = models.Form((32, 32, 3), NORMALIZATION["cifar10"], 10, classifier_activation=None)
    trained, random = models.build(SPECS[variant], replace(form, batch_norm=True)), np.random.default_rng(0)
    for layer in trained.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (weight.shape for weight in layer.get_weights())
            layer.set_weights(
                [
                    random.uniform(0.5, 1.5, gamma),
                    random.normal(0, 0.5, beta),
                    random.normal(0, 0.5, mean),
                    random.uniform(0.5, 2, variance),
                ]
            )
    plain = AllConvNet(variant, weights=None, classifier_activation=None)
    if variant == "all_conv_keras":
        plain = models.build(SPECS[variant], form)
    assert plain.count_params() == PARAMETERS[variant] < trained.count_params()
    fold_batch_norm(trained, plain)
    images = pixels(count=4)
    assert np.abs(run(trained, images) - run(plain, images)).max() < 1e-4


@pytest.mark.parametrize("name", list_weights())
def test_published_weights_load(name):
    variant, _, tag = name.partition(".")
    model = AllConvNet(variant, weights=tag)
    assert model.count_params() == weights_info(name).params
    assert np.isfinite(run(model, pixels(SPECS[variant].side))).all()


@pytest.mark.parametrize("variant", [*KINDS, "all_cnn_b_imagenet"])
def test_dense_prediction_of_one_window_is_the_classifier(variant):
    side = SPECS[variant].side
    classifier = AllConvNet(variant, weights=None)
    dense = AllConvNet(variant, weights=None, input_shape=(None, None, 3), dense_prediction=True)
    dense.set_weights(classifier.get_weights())
    images = pixels(side)
    scores = run(dense, images)
    assert scores.shape == (2, 1, 1, SPECS[variant].classes)
    np.testing.assert_allclose(scores[:, 0, 0], run(classifier, images), atol=1e-5)


@pytest.fixture(scope="module")
def photograph():
    return load_image(Path(__file__).parents[1] / "examples/photograph.jpg", size=(150, 227))


@pytest.mark.parametrize("offset", [(4, 4), (36, 60), (84, 156)])
def test_dense_prediction_of_a_crop(offset, photograph):
    """The inner cells of a 64x64 crop are those of the whole: what its zero borders do not reach.

    From the layers: of the 14 rows of the class map they reach 2 at the top and 3 at the bottom, so of the 9 rows of
    scores, each an average of 6, rows 2 to 5 are clean.
    """
    net = AllConvNet(input_shape=(None, None, 3), dense_prediction=True, classifier_activation=None)
    whole = run(net, photograph[None])
    assert whole.shape == (1, 148 // 4 - 7, 224 // 4 - 7, 10)
    y, x = offset
    crop = run(net, photograph[None, y : y + 64, x : x + 64])
    there = whole[:, y // 4 : y // 4 + 9, x // 4 : x // 4 + 9]
    inner = (slice(None), slice(2, 6), slice(2, 6))
    np.testing.assert_allclose(crop[inner], there[inner], atol=1e-4)
    assert np.abs(crop - there)[:, 1].max() > 1e-3, "the border does reach the row above"


def test_dense_prediction_of_uneven_sides(photograph):
    """What is left over a multiple of the stride moves no score."""
    net = AllConvNet(input_shape=(None, None, 3), dense_prediction=True, classifier_activation=None)
    even, uneven = run(net, photograph[None, :64, :96]), run(net, photograph[None, :67, :97])
    assert even.shape == uneven.shape == (1, 9, 17, 10)
    np.testing.assert_allclose(even[:, :6, :14], uneven[:, :6, :14], atol=1e-4)


def test_normalization_layers_of_older_models(tmp_path, cifar10):
    """Models saved by version 1.1 have a Normalization layer: they are saved and checked as those of today."""
    mean, std = NORMALIZATION["cifar10"]
    model = AllConvNet("all_cnn_c")

    def call(layer, *args, **kwargs):
        if layer.name == "normalization":
            variance = np.square(std).tolist()
            layer = keras.layers.Normalization(mean=list(mean), variance=variance, name="normalization")
        return layer(*args, **kwargs)

    older = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    assert "Normalization" in [type(layer).__name__ for layer in older.layers]
    images, labels = cifar10[1][0][:100], cifar10[1][1][:100]
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(older.predict(images, verbose=0), expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"look like 0..1"):
        evaluate_top1(older, images / 255, labels)
    path, names = tmp_path / "older.weights.h5", [str(number) for number in range(10)]
    save_weights(older, path, variant="all_cnn_c", class_names=names, dtype="float32")
    again = AllConvNet("all_cnn_c", weights=path)
    np.testing.assert_allclose(again.predict(images, verbose=0), expected, rtol=0, atol=1e-5)
