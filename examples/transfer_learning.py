"""Teaches a pretrained net new classes: a folder with one folder of pictures a class.

python transfer_learning.py                  # handwritten digits (needs scikit-learn)
python transfer_learning.py my_pictures/     # my_pictures/<class name>/*.jpg
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import allconvnet


def read_folders(folder: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images uint8 [N, 32, 32, 3], labels [N], class names: the folders in `folder`, in order."""
    if not folder.is_dir():
        raise SystemExit(f"{folder} is no folder.")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    paths = [(path, label) for label, name in enumerate(names) for path in sorted((folder / name).glob("[!.]*"))]
    if len(names) < 2 or not paths:
        raise SystemExit(f"{folder} needs a folder of pictures for each of two classes or more; found {names}.")
    images = allconvnet.load_images([path for path, _ in paths], fit="crop")
    return images, np.array([label for _, label in paths]), names


def read_digits() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """scikit-learn's 1,797 digits, 8x8 pixels of 0..16, as the images a net takes."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.clip(digits.images * 16, 0, 255).astype("uint8")
    return allconvnet.load_images(list(images)), digits.target, [str(name) for name in digits.target_names]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Fine-tune ALL-CNN-C on other classes.")
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of class folders (default: the digits)")
    parser.add_argument("--epochs", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("transfer.weights.h5"), help="default: %(default)s")
    arguments = parser.parse_args()
    if not arguments.output.name.endswith(".weights.h5"):
        parser.error(f"--output must end in .weights.h5, got {arguments.output}")
    images, labels, names = read_folders(arguments.folder) if arguments.folder else read_digits()

    keras.utils.set_random_seed(0)
    order = np.random.default_rng(0).permutation(len(images))
    test, train = np.split(order, [max(1, len(images) // 5)])
    model = allconvnet.AllConvNet("all_cnn_c", weights="cifar10", classes=len(names), fresh_head=True)
    # The edges and textures below stay as CIFAR-10 taught them; the 6x6 maps and the classes are trained.
    for layer in model.layers[: model.layers.index(model.get_layer("conv7"))]:
        layer.trainable = False
    steps = arguments.epochs * -(-len(train) // 32)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(images[train], labels[train], epochs=arguments.epochs, verbose=2)
    top1 = allconvnet.evaluate_top1(model, images[test], labels[test])
    print(f"{len(train)} training images, {len(names)} classes; top-1 on the {len(test)} held out: {top1:.1f} %")
    allconvnet.save_weights(model, arguments.output, variant="all_cnn_c", class_names=names)
    print(f'Weights: {arguments.output}; load them with AllConvNet("all_cnn_c", weights="{arguments.output}")')
    print(f'and name the classes with decode_predictions(scores, weights="{arguments.output}").')


if __name__ == "__main__":
    main()
