"""
Train on CIFAR
==============

Trains a net on CIFAR-10 or CIFAR-100. The same command resumes a training that was interrupted:

.. code-block:: sh

    python train_cifar10.py                                  # all_cnn_c, recipe "best"; downloads CIFAR-10 (170 MB)
    python train_cifar10.py --variant model_a --held-out 5000
    python train_cifar10.py --dataset cifar100
    python train_cifar10.py --recipe long --set erase=0.06 --set "phases=((10, 20), (12, 24), (20, 32))"
"""

import argparse
import ast
import dataclasses
import sys
from pathlib import Path

import _quiet  # noqa: F401 - loads Keras without TensorFlow's start-up messages

import allconvnet

FITS = {"cifar10": allconvnet.fit_cifar10, "cifar100": allconvnet.fit_cifar100}


def change(text: str) -> tuple[str, object]:
    """A field and its value, from FIELD=VALUE."""
    field, value = text.split("=", 1)
    try:
        return field, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return field, value


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train a net of the paper on CIFAR-10 or CIFAR-100.")
    parser.add_argument("--variant", default="all_cnn_c", help="name of the net (default: %(default)s)")
    defaults = ", ".join(f"{fit.__kwdefaults__['recipe']} for {name}" for name, fit in FITS.items())
    parser.add_argument("--recipe", choices=list(allconvnet.RECIPES), help=f"default: {defaults}")
    places = "$ALLCONVNET_CIFAR10 or $ALLCONVNET_CIFAR100, or else a download"
    parser.add_argument("--data", type=Path, help=f"folder or archive of the data set (default: {places})")
    parser.add_argument("--epochs", type=int, help="number of epochs (default: that of the recipe)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument("--output-dir", type=Path, help="default: <variant>-<dataset>-<recipe>-seed<seed>...")
    parser.add_argument("--precision", default="auto", help="float32, mixed_bfloat16 or auto (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=0, help="measure on this many held-out training images")
    parser.add_argument("--dataset", default="cifar10", choices=list(FITS), help="default: %(default)s")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=change,
        metavar="FIELD=VALUE",
        help="change a field of the recipe (repeatable)",
    )
    arguments = vars(parser.parse_args())
    fit = FITS[arguments.pop("dataset")]
    arguments["recipe"] = arguments["recipe"] or fit.__kwdefaults__["recipe"]
    try:
        if changes := dict(arguments.pop("set")):
            arguments["recipe"] = dataclasses.replace(allconvnet.RECIPES[arguments["recipe"]], **changes)
        result = fit(**arguments)
    except (FloatingPointError, OSError, TypeError, ValueError) as error:  # Such as no data set, or rates too high.
        sys.exit(str(error))
    print(f"top-1 on {result.images:,} {result.split} images: {result.top1:.2f} %; weights: {result.weights}")


if __name__ == "__main__":
    main()
