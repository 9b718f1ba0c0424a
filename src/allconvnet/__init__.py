"""All convolutional nets (arXiv:1412.6806) on Keras 3: raw RGB pixels in, labels out, weights included.

    >>> import allconvnet
    >>> model = allconvnet.AllConvNet("all_cnn_c", weights="cifar10")
    >>> images = allconvnet.load_images(["cat.jpg", "ship.png"])
    >>> allconvnet.decode_predictions(model.predict(images), top=3)

`import allconvnet` loads neither keras nor numpy: each name loads its module on first use.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

__version__ = "1.2.0"

# The public names of each module.
_PUBLIC = {
    "_fetch": ["fetch_weights"],
    "_specs": ["list_variants"],
    "_weights": ["Weights", "list_weights", "weights_info"],
    "_weight_files": ["save_weights"],
    "data": ["CIFAR10_CLASSES", "CIFAR100_CLASSES", "load_cifar10", "load_cifar100", "load_transfer"],
    "preprocessing": ["decode_predictions", "load_image", "load_images", "preprocess_input"],
    "whitening": ["ZCA", "global_contrast_normalize"],
    "models": ["AllConvNet"],
    "features": ["feature_extractor"],
    "explain": ["class_activation_map", "guided_backprop"],
    "receptive_fields": ["receptive_field"],
    "pictures": ["to_picture"],
    "recipes": ["RECIPES", "Recipe"],
    "training": ["FitResult", "evaluate_top1", "fit_cifar10", "fit_cifar100"],
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = ["__version__", *sorted(_MODULE_OF)]

if TYPE_CHECKING:
    from allconvnet._fetch import *
    from allconvnet._specs import *
    from allconvnet._weight_files import *
    from allconvnet._weights import *
    from allconvnet.data import *
    from allconvnet.explain import *
    from allconvnet.features import *
    from allconvnet.models import *
    from allconvnet.pictures import *
    from allconvnet.preprocessing import *
    from allconvnet.receptive_fields import *
    from allconvnet.recipes import *
    from allconvnet.training import *
    from allconvnet.whitening import *
else:  # Type checkers must not see this: to them every name would exist.

    def _module(name: str) -> object:
        try:
            return importlib.import_module(f"allconvnet.{name}")
        except ModuleNotFoundError as error:
            if error.name not in (backends := ("tensorflow", "jax", "torch")):
                raise
            allowed = f"KERAS_BACKEND={', '.join(backends)}, if that package is installed"
            message = f"Keras' backend is not installed. Received: {error.name!r}. Allowed: {allowed}."
        raise ImportError(message)

    def __getattr__(name: str) -> object:
        if name in _PUBLIC and not name.startswith("_"):
            return _module(name)
        if name not in _MODULE_OF:
            module = sys.modules[__name__]
            raise AttributeError(f"module 'allconvnet' has no attribute {name!r}", name=name, obj=module)
        value = getattr(_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
