"""Every public function, with one argument that may be anything: a result as documented, or an error that names it."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

import allconvnet
from allconvnet import ZCA, AllConvNet, Recipe, training
from allconvnet._errors import shortened

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), "uint8")
SMALL, LABELS, LETTERS = IMAGES[:, :4, :4], np.arange(16) % 10, list("abcdefghij")
PNG = cv2.imencode(".png", IMAGES[0])[1].tobytes()
TOY = Recipe(phases=((1, 16),), batch_size=8)

# No URL that could be fetched: tests ask no server.
_TEXTS = [
    "\0",
    "..",
    "/",
    "/dev/null",
    "~",
    "~nobody",
    "a" * 5000,
    "\ud800",
    "http://[",
    "https://a/b.h5#sha256=0",
    ".h5",
]
TEXTS = st.text(max_size=12) | st.sampled_from(_TEXTS)
LARGE = [10**9, 2**31, 2**63, 2**64, 10**400, 1e308, 1j]
OBJECTS = [..., object(), int, len, Path("nowhere"), {1}, io.BytesIO(b"picture")]
SIMPLE = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.integers(-3, 40), st.floats(), TEXTS, st.binary(max_size=12)),
    st.sampled_from([*LARGE, *OBJECTS]),
)
DTYPES = st.one_of(
    *(stn.boolean_dtypes(), stn.integer_dtypes(), stn.unsigned_integer_dtypes(), stn.floating_dtypes()),
    *(stn.complex_number_dtypes(), stn.unicode_string_dtypes(max_len=3), stn.byte_string_dtypes(max_len=3)),
    *(stn.datetime64_dtypes(), st.just(np.dtype(object))),
)
SHAPES = stn.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6)
ARRAYS = DTYPES.flatmap(lambda dtype: stn.arrays(dtype, SHAPES, elements=st.none() if dtype.hasobject else None))
IMAGES_OF_FLOATS = stn.arrays("float32", SMALL.shape) | st.floats(width=32).map(lambda x: np.full(IMAGES.shape, x, "f"))
ANYTHING = st.one_of(
    *(SIMPLE, ARRAYS, IMAGES_OF_FLOATS, st.lists(SIMPLE, max_size=4), st.dictionaries(TEXTS, SIMPLE, max_size=2)),
    *(st.tuples(SIMPLE, SIMPLE), st.tuples(SIMPLE, SIMPLE, SIMPLE)),
)


@dataclass
class Case:
    """A public function, arguments that it takes, what its result must be.

    `words` says by what an error may call an argument, if not by its name.
    """

    function: Callable
    arguments: Callable[[], dict[str, Any]]
    result: Callable[[Any], bool]
    words: tuple[str, ...] = ()
    examples: int = 150


_NETS: dict[str, keras.Model] = {}


def net():
    return _NETS.setdefault("tiny", AllConvNet("tiny", weights=None))


def of_class(kind):
    return lambda result: isinstance(result, kind)


def finite(dtype, ndim):
    return lambda array: array.dtype == dtype and array.ndim == ndim and bool(np.isfinite(array).all())


def nothing(result):
    return result is None


# Arguments of AllConvNet and fit_cifar10; `fit` stops where the training begins.
NET = {
    **{"variant": "tiny", "weights": None, "include_top": True, "classes": None, "fresh_head": False},
    **{"input_shape": None, "pooling": None, "classifier_activation": "softmax", "include_preprocessing": True},
    **{"class_relu": False, "dropout": False, "dense_prediction": False, "name": None},
}
FIT = {
    **{"variant": "tiny", "recipe": TOY, "data": ((IMAGES, LABELS), (IMAGES, LABELS)), "epochs": None, "seed": 0},
    **{"output_dir": "run", "precision": "float32", "held_out": 0},
}
SAVE = {"path": "x.weights.h5", "variant": "tiny", "class_names": LETTERS, "dtype": "float16"}
GUIDED = {"images": IMAGES[:2], "target": 3, "layer": None, "method": "guided", "batch_size": 8}
FITTED = ("data", "CIFAR", "label", "folder")
PICTURE = ("picture", "pixels")
CASES = {
    "AllConvNet": Case(AllConvNet, lambda: NET, of_class(keras.Model), examples=200),
    "Recipe": Case(
        Recipe,
        lambda: {field.name: getattr(TOY, field.name) for field in fields(Recipe)},
        lambda recipe: recipe.cost() > 0 and bool(recipe.optimizer(10)) and recipe.resized(3).epochs == 3,
        examples=400,
    ),
    "ZCA.fit": Case(ZCA.fit, lambda: {"images": SMALL, "bias": 0.1}, lambda zca: bool(np.isfinite(zca.matrix).all())),
    "ZCA.apply": Case(lambda **images: ZCA.fit(SMALL).apply(**images), lambda: {"images": SMALL}, finite("float32", 4)),
    "ZCA.save": Case(lambda **path: ZCA.fit(SMALL).save(**path), lambda: {"path": "zca.npz"}, nothing),
    "ZCA.load": Case(ZCA.load, lambda: {"path": "there.npz"}, of_class(ZCA)),
    "class_activation_map": Case(
        allconvnet.class_activation_map,
        lambda: {"model": net(), "images": IMAGES[:2], "classes": 3, "batch_size": 8},
        finite("float32", 4),
        PICTURE,
    ),
    "decode_predictions": Case(
        allconvnet.decode_predictions,
        lambda: {"predictions": np.eye(10), "top": 2, "weights": "cifar10", "class_names": LETTERS},
        lambda rows: all(isinstance(name, str) and math.isfinite(score) for row in rows for name, score in row),
    ),
    "decode_predictions of weights": Case(
        allconvnet.decode_predictions, lambda: {"predictions": np.eye(10), "weights": "cifar10"}, of_class(list)
    ),
    "evaluate_top1": Case(
        allconvnet.evaluate_top1,
        lambda: {"model": net(), "images": IMAGES, "labels": LABELS, "batch_size": 8, "verbose": 0},
        lambda top1: 0 <= top1 <= 100,
        ("label", "pixels"),
    ),
    "feature_extractor": Case(
        allconvnet.feature_extractor,
        lambda: {name: NET[name] for name in ("variant", "weights", "input_shape")},
        of_class(keras.Model),
    ),
    "fetch_weights": Case(allconvnet.fetch_weights, lambda: {"name": "all_cnn_c.cifar10"}, Path.is_file, ("weights",)),
    "fit_cifar10": Case(allconvnet.fit_cifar10, lambda: FIT, bool, FITTED, 300),
    "fit_cifar100": Case(allconvnet.fit_cifar100, lambda: FIT, bool, FITTED),
    "global_contrast_normalize": Case(
        allconvnet.global_contrast_normalize, lambda: {"images": IMAGES}, finite("float32", 4), PICTURE
    ),
    "guided_backprop": Case(
        allconvnet.guided_backprop, lambda: {"model": net()} | GUIDED, finite("float32", 4), PICTURE
    ),
    "list_variants": Case(allconvnet.list_variants, dict, of_class(list)),
    "list_weights": Case(allconvnet.list_weights, lambda: {"variant": None}, of_class(list)),
    "load_cifar10": Case(allconvnet.load_cifar10, lambda: {"source": "empty"}, of_class(tuple), ("CIFAR-10",)),
    "load_cifar100": Case(allconvnet.load_cifar100, lambda: {"source": "empty"}, of_class(tuple), ("CIFAR-100",)),
    "load_transfer": Case(allconvnet.load_transfer, lambda: {"source": "empty"}, of_class(tuple), ("CIFAR-10",)),
    "load_image": Case(
        allconvnet.load_image, lambda: {"source": PNG, "size": (8, 8), "fit": "crop"}, finite("uint8", 3), PICTURE, 400
    ),
    "load_images": Case(
        allconvnet.load_images,
        lambda: {"sources": [PNG], "size": (8, 8), "fit": "crop", "on_error": None},
        finite("uint8", 4),
        PICTURE,
        400,
    ),
    "preprocess_input": Case(
        allconvnet.preprocess_input,
        lambda: {"images": IMAGES, "weights": "cifar10"},
        lambda array: finite("float32", array.ndim)(array),
        PICTURE,
    ),
    "receptive_field": Case(
        allconvnet.receptive_field, lambda: {"model": net(), "layer": "conv2"}, lambda window: len(window) == 3
    ),
    "save_weights": Case(allconvnet.save_weights, lambda: {"model": net()} | SAVE, nothing),
    "to_picture": Case(
        allconvnet.to_picture,
        lambda: {"arrays": IMAGES[:3], "images": None, "caption": "", "columns": 2, "cell": 16},
        finite("uint8", 3),
    ),
    "to_picture of maps": Case(
        allconvnet.to_picture,
        lambda: {"arrays": np.zeros((16, 3, 3)), "images": IMAGES, "columns": 2, "cell": 16},
        finite("uint8", 3),
        ("maps",),
    ),
    "weights_info": Case(
        allconvnet.weights_info, lambda: {"name": "all_cnn_c.cifar10"}, of_class(allconvnet.Weights), ("weights",)
    ),
}
# Constants, and records that functions return.
NO_FUNCTIONS = {"__version__", "CIFAR10_CLASSES", "CIFAR100_CLASSES", "FitResult", "RECIPES", "Weights"}


def test_every_public_function_is_here():
    names = {name.partition(" ")[0].partition(".")[0] for name in CASES}
    assert names == set(allconvnet.__all__) - NO_FUNCTIONS


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch):
    """A current folder with the files that valid arguments name; no training and no download."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_fit_in_folder", lambda *_: True)
    for name in ("ALLCONVNET_CIFAR10", "ALLCONVNET_CIFAR100"):
        monkeypatch.setenv(name, "empty")
    Path("empty").mkdir()
    ZCA.fit(SMALL).save("there.npz")


@pytest.mark.parametrize("name", CASES)
def test_valid_arguments(name, folder):
    case = CASES[name]
    if name.startswith(("load_cifar", "load_transfer")):
        with pytest.raises(FileNotFoundError, match=r"CIFAR-100? is not in 'empty'"):
            case.function(**case.arguments())
    else:
        assert case.result(case.function(**case.arguments()))


@pytest.mark.parametrize("name", [name for name in CASES if name != "list_variants"])
def test_any_argument(name, folder):
    case = CASES[name]
    valid = case.arguments()

    def objection(argument, value):
        """What is wrong with the outcome; None if nothing is."""
        try:
            result = case.function(**valid | {argument: value})
        except (ValueError, TypeError, OSError) as error:
            named = any(word in str(error) for word in (argument, *case.words)) or getattr(error, "filename", None)
            return None if named and str(error).count("\n") <= 2 else error
        return None if case.result(result) else result

    @settings(
        max_examples=case.examples,
        deadline=None,
        database=None,
        derandomize=True,  # What fails on one machine fails on all.
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(sorted(valid)), ANYTHING)
    def check(argument, value):
        assert objection(argument, value) is None

    check()


def test_values_are_short_in_messages():
    for value, text in [(10**5000, "<int>"), (np.zeros((9, 9)), "array([[0., 0., "), ("a" * 200, "'aaa")]:
        assert shortened(value).startswith(text)
        assert len(shortened(value)) <= 100
        assert "\n" not in shortened(value)
