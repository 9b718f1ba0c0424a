"""What the size of the images does to a net that was trained on 32x32.

python benchmarks/image_sizes.py                # the first 2,000 test images of CIFAR-10, a few minutes
python benchmarks/image_sizes.py --fine-tune    # also fine-tunes at 64x64 for 200 steps
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import allconvnet
from allconvnet._backend import native_precision

NET = "all_cnn_c"
SIDES = (16, 24, 32, 40, 48, 64)
STEPS, BATCH, RATE = 200, 32, 3e-4


def resized(images: np.ndarray, side: int) -> np.ndarray:
    """Enlarged or reduced as `load_images` does."""
    return allconvnet.load_images(list(images), size=(side, side))


def fine_tuned(images: np.ndarray, labels: np.ndarray, side: int) -> keras.Model:
    """All layers, trained on random training images of the new size."""
    keras.utils.set_random_seed(0)
    chosen = np.random.default_rng(0).permutation(len(images))[: STEPS * BATCH]
    model = allconvnet.AllConvNet(NET, input_shape=(side, side, 3))
    rate = keras.optimizers.schedules.CosineDecay(RATE, STEPS)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(resized(images[chosen], side), labels[chosen], BATCH, verbose=0)
    return model


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure a net on images of other sizes.")
    parser.add_argument("--images", type=int, default=2000, help="how many test images (default: %(default)s)")
    parser.add_argument("--fine-tune", action="store_true", help="also fine-tune at 64x64")
    arguments = parser.parse_args()
    keras.config.set_dtype_policy(native_precision())
    train, (images, labels) = allconvnet.load_cifar10()
    images, labels = images[: arguments.images], labels[: arguments.images]
    net = allconvnet.AllConvNet(NET)
    for side in SIDES:
        model = allconvnet.AllConvNet(NET, input_shape=(side, side, 3))
        direct = allconvnet.evaluate_top1(model, resized(images, side), labels, verbose=0)
        back = allconvnet.evaluate_top1(net, resized(resized(images, side), 32), labels, verbose=0)
        print(f"{side}x{side}: {direct:.1f} % as they are, {back:.1f} % resized to 32x32", flush=True)
    if arguments.fine_tune:
        model = fine_tuned(*train, 64)
        print(
            f"64x64: {allconvnet.evaluate_top1(model, resized(images, 64), labels, verbose=0):.1f} % after fine-tuning"
        )


if __name__ == "__main__":
    main()
