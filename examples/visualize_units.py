"""
Visualize units
===============

Shows what a net with published weights responds to, on test images of their data set:

.. code-block:: sh

    python visualize_units.py                                   # all_cnn_c, layers relu3 and relu6
    python visualize_units.py --layers relu4 relu7 --channels 12

It writes three kinds of pictures:

* ``units_<layer>.png``: image patches that activate a channel most, and their guided backpropagation;
* ``class_maps.png``: where in each image its most probable class is detected;
* ``methods.png``: images with their gradient, deconvnet and guided backpropagation.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from _quiet import keras  # Keras without TensorFlow's start-up messages

import allconvnet

METHODS = ["gradient", "deconvnet", "guided"]


def strongest(model: keras.Model, layer: str, images: np.ndarray, channels: int, count: int) -> tuple:
    """For each of the first channels the images with the strongest activation, and its (row, column, channel)."""
    maps = keras.Model(model.inputs, model.get_layer(layer).output)
    best, place = [], []
    for start in range(0, len(images), 500):
        values = maps.predict_on_batch(images[start : start + 500])[..., :channels]
        flat = values.reshape(len(values), -1, values.shape[-1])
        best.append(flat.max(axis=1))
        place.append(flat.argmax(axis=1))
        columns = values.shape[2]
    best, place = np.concatenate(best), np.concatenate(place)
    chosen = np.argsort(-best, axis=0, kind="stable")[:count].T
    units = [[(*divmod(place[i, channel], columns), channel) for i in row] for channel, row in enumerate(chosen)]
    return chosen.ravel(), np.array(units).reshape(-1, 3)


def patches(arrays: np.ndarray, units: np.ndarray, field: tuple[int, int, int], background: float) -> np.ndarray:
    """The receptive field of each unit, cut out; parts outside the image have the background color."""
    side, stride, offset = field
    wide = np.pad(arrays, ((0, 0), (side, side), (side, side), (0, 0)), constant_values=background)
    corners = units[:, :2] * stride + offset + side
    return np.stack([one[r : r + side, c : c + side] for one, (r, c) in zip(wide, corners, strict=True)])


def units_picture(model: keras.Model, layer: str, images: np.ndarray, channels: int, count: int) -> np.ndarray:
    """One row per channel: patches on the left, their guided backpropagation on the right."""
    count = min(count, len(images))
    chosen, units = strongest(model, layer, images, channels, count)
    field = allconvnet.receptive_field(model, layer)
    guided = allconvnet.guided_backprop(model, images[chosen], units, layer)
    halves = [
        allconvnet.to_picture(patches(arrays, units, field, background), columns=count, cell=48, caption=caption)
        for arrays, background, caption in (
            (images[chosen], 255, f"{model.name}, {layer}: patches"),
            (guided, 0.0, "guided backpropagation"),
        )
    ]
    return np.concatenate(halves, axis=1)


def methods_picture(model: keras.Model, layer: str | None, images: np.ndarray) -> np.ndarray:
    """One column per image; below it the result of each method for its strongest unit."""
    rows = [allconvnet.to_picture(images, caption=f"{model.name}, strongest unit of {layer or 'the logits'}")]
    for method in METHODS:
        gradients = allconvnet.guided_backprop(model, images, layer=layer, method=method)
        rows.append(allconvnet.to_picture(gradients, caption=method))
    return np.concatenate(rows)


def class_maps_picture(model: keras.Model, images: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Images, and below them the map of the most probable class of each."""
    maps = allconvnet.class_activation_map(model, images)
    best = maps.mean(axis=(1, 2)).argmax(axis=1)
    chosen = np.stack([one[..., label] for one, label in zip(maps, best, strict=True)])
    names = [classes[label] for label in best]
    return np.concatenate(
        [
            allconvnet.to_picture(images, columns=4, caption=f"{model.name}, images"),
            allconvnet.to_picture(chosen, images=images, columns=4, caption="class maps", labels=names),
        ]
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Visualize what units of an all convolutional net respond to.")
    parser.add_argument("--variant", default="all_cnn_c", help="name of the net (default: %(default)s)")
    parser.add_argument("--weights", default="cifar10", help="tag of published weights (default: %(default)s)")
    parser.add_argument("--layers", nargs="+", help="default: relu3 relu6, as far as the net has them")
    parser.add_argument(
        "--channels", type=int, default=8, help="number of channels, from the first (default: %(default)s)"
    )
    parser.add_argument("--count", type=int, default=6, help="patches per channel (default: %(default)s)")
    places = "$ALLCONVNET_CIFAR10 or $ALLCONVNET_CIFAR100, or else a download"
    parser.add_argument("--data", type=Path, help=f"folder or archive of the data set (default: {places})")
    parser.add_argument("--output", type=Path, default=Path(), help="folder of the pictures (default: the current one)")
    arguments = parser.parse_args()
    if not arguments.output.is_dir():
        parser.error(f"--output {arguments.output} must be a folder that exists")
    record = allconvnet.weights_info(f"{arguments.variant}.{arguments.weights.rpartition('.')[2]}")
    load = getattr(allconvnet, f"load_{record.dataset}")
    model = allconvnet.AllConvNet(arguments.variant, weights=arguments.weights)
    there = [layer.name for layer in model.layers if "relu" in layer.name]
    arguments.layers = arguments.layers or [layer for layer in ("relu3", "relu6") if layer in there]
    if unknown := [layer for layer in arguments.layers if layer not in there]:
        parser.error(f"{arguments.variant} has no --layers {' '.join(unknown)}; it has {' '.join(there)}")
    try:
        _, (images, _) = load(arguments.data)
    except OSError as error:
        if arguments.data:
            sys.exit(str(error))
        print(f"{error}\nThe data set is not available: using the ten pictures in examples/pictures.")
        images = allconvnet.load_images(sorted(Path(sys.argv[0]).with_name("pictures").glob("*.*g")), fit="crop")
    pictures = {
        f"units_{layer}.png": units_picture(model, layer, images, arguments.channels, arguments.count)
        for layer in arguments.layers
    }
    pictures["class_maps.png"] = class_maps_picture(model, images[:8], record.class_names)
    pictures["methods.png"] = np.concatenate(
        [methods_picture(model, layer, images[:4]) for layer in (arguments.layers[-1], None)]
    )
    for name, picture in pictures.items():
        if not cv2.imwrite(str(arguments.output / name), picture[..., ::-1]):
            sys.exit(f"Could not write {arguments.output / name}.")
        print(arguments.output / name)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:  # Such as no picture, or no such weights.
        sys.exit(str(error))
