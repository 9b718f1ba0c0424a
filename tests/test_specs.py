"""The table of nets against the paper: parameters, sizes, errors that name what is allowed."""

from typing import get_args

import pytest

from allconvnet import list_variants
from allconvnet._specs import NORMALIZATION, SPECS, Conv, Dropout, MaxPool, Variant, get_spec

PAPER = {
    "model_a": 839_242,
    "model_b": 885_610,
    "model_c": 954_730,
    "strided_cnn_a": 839_242,
    "strided_cnn_b": 885_610,
    "strided_cnn_c": 954_730,
    "convpool_cnn_a": 1_254_250,
    "convpool_cnn_b": 1_300_618,
    "convpool_cnn_c": 1_369_738,
    "all_cnn_a": 1_254_250,
    "all_cnn_b": 1_300_618,
    "all_cnn_c": 1_369_738,
    "all_cnn_large": 77_455_690,
    "all_cnn_b_imagenet": 9_372_840,
    "all_conv_keras": 1_369_738,
}


def kinds(spec):
    return [type(row) for row in spec.layers if not isinstance(row, Dropout)]


def test_fifteen_nets():
    assert list_variants() == list(PAPER) == list(get_args(Variant))


@pytest.mark.parametrize("variant", list_variants())
def test_parameters_by_arithmetic(variant):
    channels, total, spec = 3, 0, SPECS[variant]
    for row in (*spec.layers, Conv(spec.classes, 1)):
        if isinstance(row, Conv):
            total += (row.kernel**2 * channels + 1) * row.filters
            channels = row.filters
    assert total == spec.params == PAPER[variant]


@pytest.mark.parametrize("variant", list_variants())
def test_last_feature_map(variant):
    expected = {"all_cnn_large": 1, "all_conv_keras": 8}.get(variant, 6)
    assert SPECS[variant].feature_side(SPECS[variant].side) == expected


def test_imagenet_sides():
    spec = SPECS["all_cnn_b_imagenet"]
    rows = [row for row in spec.layers if isinstance(row, Conv)]
    sides, side = [], 224
    for row in rows:
        side = -(-side // row.stride) if row.padding == "same" else (side - row.kernel) // row.stride + 1
        sides.append(side)
    assert list(dict.fromkeys(sides)) == [56, 27, 13, 6]


@pytest.mark.parametrize("variant", list_variants())
def test_min_side_is_the_smallest(variant):
    spec = SPECS[variant]
    assert spec.feature_side(spec.min_side) >= 1
    assert spec.feature_side(spec.min_side - 1) <= 0


@pytest.mark.parametrize("base", "abc")
def test_families(base):
    model, strided, convpool, all_cnn = (
        SPECS[f"{family}_{base}"] for family in ("model", "strided_cnn", "convpool_cnn", "all_cnn")
    )
    assert kinds(model).count(MaxPool) == kinds(convpool).count(MaxPool) == 2
    assert MaxPool not in kinds(strided) + kinds(all_cnn)
    assert kinds(strided) == [kind for kind in kinds(model) if kind is not MaxPool]
    assert len(kinds(all_cnn)) == len(kinds(model)) == len(kinds(convpool)) - 2
    strides = [row.stride for row in strided.layers if isinstance(row, Conv)]
    assert strides.count(2) == 2


def test_strided_b_strides_its_1x1():
    rows = [row for row in SPECS["strided_cnn_b"].layers if isinstance(row, Conv) and row.stride == 2]
    assert [row.kernel for row in rows] == [1, 1]


def test_ancestor_activations():
    rows = [row for row in SPECS["all_conv_keras"].layers if isinstance(row, Conv)]
    assert [row.activation is None for row in rows] == [row.stride == 2 for row in rows]


@pytest.mark.parametrize("variant", list_variants())
def test_normalization_and_error_are_there(variant):
    spec = SPECS[variant]
    assert spec.normalization in NORMALIZATION
    assert (spec.paper_error is None) == (variant == "all_conv_keras")
    assert spec.note


def test_unknown_variant():
    with pytest.raises(ValueError, match=r"variant='all_cnn_d'. Did you mean 'all_cnn_[abc]'\? Allowed: 'all_cnn_a', "):
        get_spec("all_cnn_d")
