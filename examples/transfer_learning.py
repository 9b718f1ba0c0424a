"""
Train on new classes
====================

Trains a pretrained net on new classes, from few pictures:

.. code-block:: sh

    python transfer_learning.py my_pictures/   # my_pictures/<class name>/*.jpg
    python transfer_learning.py                # 10 classes of CIFAR-100, 20 pictures each (downloads CIFAR-100, 169 MB)

It compares two methods on held-out pictures:

1. a linear probe: a linear classifier on the features of the net, trained in seconds;
2. fine-tuning: a new head and the upper layers, trained on flipped and shifted pictures in a minute or two.

It writes the fine-tuned weights to transfer.weights.h5, and a confusion matrix to transfer.png.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from _quiet import keras  # Keras without TensorFlow's start-up messages

import allconvnet

try:
    import matplotlib.pyplot as plt
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import ConfusionMatrixDisplay
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
except ImportError as error:
    sys.exit(f"{error}; this example needs scikit-learn and matplotlib: pip install scikit-learn matplotlib")

WEIGHTS = "transfer"  # trained on CIFAR-10 and on half of the classes of CIFAR-100
Split = tuple[np.ndarray, np.ndarray]
BATCH = 32


def read_folders(folder: Path) -> tuple[Split, Split, list[str]]:
    """Training pictures, test pictures (a fifth of each class) and class names, from a subfolder for each class."""
    names = sorted(path.name for path in folder.glob("[!.]*") if path.is_dir())
    if len(names) < 2:
        sys.exit(f"{folder} must have a subfolder of pictures for each of two or more classes; found {names}.")
    images, labels = [], []
    for label, name in enumerate(names):
        paths = sorted((folder / name).glob("[!.]*"))
        try:
            read = allconvnet.load_images(
                paths, fit="crop", on_error=lambda path, error: print(f"Left out: {path}: {error}")
            )
        except ValueError as error:
            sys.exit(f"{folder / name}: {error}")
        images.append(read)
        labels += [label] * len(read)
    images, labels = np.concatenate(images), np.array(labels)
    try:
        train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    except ValueError as error:  # Such as one picture in a class, or fewer test pictures than classes.
        sys.exit(f"{folder} has too few pictures: {error}")
    return (images[train], labels[train]), (images[test], labels[test]), names


def few_shot_task(count: int, seed: int) -> tuple[Split, Split, list[str]]:
    """Ten random classes of CIFAR-100 new to the weights: `count` training pictures and 100 test pictures of each."""
    (images, labels), (test_images, test_labels) = allconvnet.load_cifar100()
    seen = allconvnet.weights_info(f"all_cnn_c.{WEIGHTS}").class_names
    unseen = [label for label, name in enumerate(allconvnet.CIFAR100_CLASSES) if name not in seen]
    chosen = np.random.default_rng(seed).permutation(unseen)[:10]
    train = np.concatenate([np.flatnonzero(labels == label)[:count] for label in chosen])
    test = np.flatnonzero(np.isin(test_labels, chosen))
    number = {label: new for new, label in enumerate(chosen)}
    renumbered = [np.array([number[label] for label in part]) for part in (labels[train], test_labels[test])]
    names = [allconvnet.CIFAR100_CLASSES[label] for label in chosen]
    return (images[train], renumbered[0]), (test_images[test], renumbered[1]), names


def digits() -> tuple[Split, Split, list[str]]:
    """scikit-learn's 1,797 handwritten digits, 8x8 pixels of 0..16; a fifth of them are test pictures."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = allconvnet.load_images(list(np.clip(data.images * 16, 0, 255).astype("uint8")))
    train, test = train_test_split(np.arange(len(images)), test_size=0.2, stratify=data.target, random_state=0)
    names = [str(name) for name in data.target_names]
    return (images[train], data.target[train]), (images[test], data.target[test]), names


def linear_probe(train: Split, test: Split, extractor: keras.Model) -> float:
    """Test accuracy in percent of a linear classifier on features averaged over a picture and its mirror image."""

    def features(images: np.ndarray) -> np.ndarray:
        return (extractor.predict(images, verbose=0) + extractor.predict(images[:, :, ::-1], verbose=0)) / 2

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000))
    classifier.fit(features(train[0]), train[1])
    return 100 * classifier.score(features(test[0]), test[1])


def fine_tune(
    train: Split, classes: int, epochs: int | None = None, *, weights: str | None = WEIGHTS, verbose: int = 0
) -> keras.Model:
    """The net fine-tuned on the new classes: a fresh head and the layers from conv5 on are trained, those below frozen.

    By default 25 epochs, or with few pictures as many as make 400 steps. With `weights=None`, all layers are trained.
    """
    net = allconvnet.AllConvNet("all_cnn_c", weights=weights, classes=classes, fresh_head=True)
    if weights:
        for layer in net.layers[: net.layers.index(net.get_layer("conv5"))]:
            layer.trainable = False
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = keras.layers.RandomTranslation(0.125, 0.125, fill_mode="reflect")(x)
    model = keras.Model(inputs, net(x))
    images, targets = train[0].astype("float32"), keras.utils.to_categorical(train[1], classes)
    steps = -(-len(images) // BATCH)
    epochs = epochs or max(25, round(400 / steps))
    # The learning rate rises during the first tenth of the steps, while the head is still random.
    rise = -(-epochs * steps // 10)
    fall = max(1, epochs * steps - rise)
    rate = keras.optimizers.schedules.CosineDecay(0.0, fall, warmup_target=1e-3, warmup_steps=rise)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(images, targets, BATCH, epochs, verbose=verbose)
    return net


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train all_cnn_c on new classes, from few pictures.")
    parser.add_argument(
        "folder", nargs="?", type=Path, help="folder with one subfolder per class (default: use classes of CIFAR-100)"
    )
    parser.add_argument("--count", type=int, default=20, help="pictures per class of CIFAR-100 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed for the classes of CIFAR-100 (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="epochs of fine-tuning (default: 25, or as many as make 400 steps)")
    parser.add_argument("--output", type=Path, default=Path("transfer.weights.h5"), help="default: %(default)s")
    arguments = parser.parse_args()
    if not arguments.output.name.endswith(".weights.h5"):
        parser.error(f"--output must end in .weights.h5, got {arguments.output}")
    if not arguments.output.parent.is_dir():
        parser.error(f"--output {arguments.output} must be in a folder that exists")
    if arguments.folder:
        train, test, names = read_folders(arguments.folder)
    else:
        try:
            train, test, names = few_shot_task(arguments.count, arguments.seed)
        except OSError as error:
            print(f"{error}\nCIFAR-100 is not available: using handwritten digits, which look different.")
            train, test, names = digits()
    keras.utils.set_random_seed(0)
    print(f"{len(train[0])} training pictures, {len(names)} classes, {len(test[0])} test pictures")
    probe = linear_probe(train, test, allconvnet.feature_extractor("all_cnn_c", weights=WEIGHTS))
    print(f"Linear probe: {probe:.1f} % of the test pictures")
    net = fine_tune(train, len(names), arguments.epochs, verbose=2)
    tuned = allconvnet.evaluate_top1(net, *test, verbose=0)
    better = "Fine-tuning" if tuned > probe else "The linear probe"
    print(f"Fine-tuning: {tuned:.1f} % of the test pictures. {better} is better here.")
    predicted = net.predict(test[0], verbose=0).argmax(axis=1)
    figure, axis = plt.subplots(figsize=(7, 7), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(
        test[1], predicted, display_labels=names, xticks_rotation="vertical", ax=axis, colorbar=False
    )
    picture = arguments.output.with_name(arguments.output.name.replace(".weights.h5", ".png"))
    figure.savefig(picture, dpi=100)
    allconvnet.save_weights(net, arguments.output, variant="all_cnn_c", class_names=names)
    print(f"Written: {picture}, {arguments.output}. Use them:")
    print(f'  model = allconvnet.AllConvNet("all_cnn_c", weights="{arguments.output}")')
    print('  images = allconvnet.load_images(paths, fit="crop")')
    print(f'  allconvnet.decode_predictions(model.predict(images), weights="{arguments.output}")')


if __name__ == "__main__":
    main()
