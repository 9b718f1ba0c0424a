"""The table of nets against the paper: parameters, sizes, errors that name what is allowed."""

import pytest

from allconvnet import list_variants
from allconvnet._specs import SPECS, Conv, Dropout, MaxPool


def kinds(spec):
    return [type(row) for row in spec.layers if not isinstance(row, Dropout)]


def test_fifteen_nets():
    assert len(list_variants()) == 15
    assert list_variants() == list(SPECS)


@pytest.mark.parametrize("variant", list_variants())
def test_last_feature_map(variant):
    expected = {"all_cnn_large": 1, "all_conv_keras": 8}.get(variant, 6)
    assert SPECS[variant].feature_side(SPECS[variant].side) == expected


def test_imagenet_sides():
    sides = [side for _, side, _ in SPECS["all_cnn_b_imagenet"].rows_with_sizes(224, 1000)]
    assert list(dict.fromkeys(sides)) == [56, 27, 13, 6]


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
