"""The temperature of a recipe, fitted on the images that a run held out, and the accuracy on them when changed.

python examples/train_cifar10.py --recipe best --held-out 5000 --output-dir runs/held_out
python docs/calibrate.py runs/held_out

It is the temperature at which the held-out images have the least cross-entropy. The changes are those of the pages of
the nets. Needs matplotlib and SciPy.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from cards import CORRUPTIONS, calibration_error, predict
from scipy.special import softmax

import allconvnet
from allconvnet.data import load


def fitted(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least cross-entropy, to a hundredth."""

    def cross_entropy(temperature: float) -> float:
        return -np.log(softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels]).mean()

    return min(np.arange(20, 301) / 100, key=cross_entropy)


def main(run: Path) -> None:
    """Prints the temperature, the calibration error without and with it, and top-1 accuracies."""
    result = json.loads((run / "result.json").read_text())
    if result["split"] != "held out" or result["recipe"]["whiten"]:
        sys.exit(f"{run} must be a run that held images out, of a recipe without whitening.")
    (images, labels), _ = load(result["dataset"])
    images, labels = images[-result["test_images"] :], labels[-result["test_images"] :]
    weights = run / f"{result['variant']}.weights.h5"
    model = allconvnet.AllConvNet(result["variant"], weights=weights, classifier_activation=None)
    before = result["recipe"].get("temperature", 1.0)  # Older runs do not have it.
    logits = before * predict(model, images).astype("float64")
    right = logits.argmax(axis=1) == labels
    for temperature in dict.fromkeys((1.0, before, fitted(logits, labels))):
        error = calibration_error(softmax(logits / temperature, axis=1), right)
        print(f"temperature {temperature:.2f}: calibration error {error:.2f} points on {len(labels):,} held-out images")
    for name, change in {"unchanged": np.copy, **CORRUPTIONS}.items():
        changed = predict(model, np.stack([change(image) for image in images]))
        print(f"{name}: top-1 {100 * (changed.argmax(axis=1) == labels).mean():.2f} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fit the temperature of a recipe.")
    parser.add_argument("run", type=Path, help="folder of a run with --held-out")
    main(**vars(parser.parse_args()))
