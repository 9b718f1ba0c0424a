"""All convolutional nets (arXiv:1412.6806) on Keras 3: raw RGB pixels in, labels out, weights included.

    >>> import allconvnet
    >>> model = allconvnet.AllConvNet("all_cnn_c", weights="cifar10")
    >>> images = allconvnet.load_images(["cat.jpg", "ship.png"])
    >>> allconvnet.decode_predictions(model.predict(images), top=3)

`import allconvnet` loads neither keras nor numpy: a name brings its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "1.2.0"

if TYPE_CHECKING:
    from allconvnet._fetch import fetch_weights
    from allconvnet._specs import list_variants
    from allconvnet._weights import Weights, list_weights, weights_info
    from allconvnet.data import CIFAR10_CLASSES, CIFAR100_CLASSES, load_cifar10, load_cifar100
    from allconvnet.explain import class_activation_map, guided_backprop, receptive_field, to_picture
    from allconvnet.models import AllConvNet, fold_batch_norm, save_weights
    from allconvnet.optimizers import ConvMuon, LinearWarmupDecay
    from allconvnet.preprocessing import (
        ZCA,
        decode_predictions,
        global_contrast_normalize,
        load_image,
        load_images,
        preprocess_input,
    )
    from allconvnet.training import RECIPES, FitResult, Recipe, evaluate_top1, fit_cifar10, fit_cifar100

__all__ = [
    "CIFAR10_CLASSES",
    "CIFAR100_CLASSES",
    "RECIPES",
    "ZCA",
    "AllConvNet",
    "ConvMuon",
    "FitResult",
    "LinearWarmupDecay",
    "Recipe",
    "Weights",
    "__version__",
    "class_activation_map",
    "decode_predictions",
    "evaluate_top1",
    "fetch_weights",
    "fit_cifar10",
    "fit_cifar100",
    "fold_batch_norm",
    "global_contrast_normalize",
    "guided_backprop",
    "list_variants",
    "list_weights",
    "load_cifar10",
    "load_cifar100",
    "load_image",
    "load_images",
    "preprocess_input",
    "receptive_field",
    "save_weights",
    "to_picture",
    "weights_info",
]

_HOME = {
    "_fetch": ["fetch_weights"],
    "_specs": ["list_variants"],
    "_weights": ["Weights", "list_weights", "weights_info"],
    "data": ["CIFAR10_CLASSES", "CIFAR100_CLASSES", "load_cifar10", "load_cifar100"],
    "explain": ["class_activation_map", "guided_backprop", "receptive_field", "to_picture"],
    "models": ["AllConvNet", "fold_batch_norm", "save_weights"],
    "optimizers": ["ConvMuon", "LinearWarmupDecay"],
    "preprocessing": [
        "ZCA",
        "decode_predictions",
        "global_contrast_normalize",
        "load_image",
        "load_images",
        "preprocess_input",
    ],
    "training": ["RECIPES", "FitResult", "Recipe", "evaluate_top1", "fit_cifar10", "fit_cifar100"],
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> object:
    if name in _HOME and not name.startswith("_"):
        return importlib.import_module(f"allconvnet.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'allconvnet' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"allconvnet.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
