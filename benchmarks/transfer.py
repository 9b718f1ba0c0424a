"""What pretrained weights are worth on new classes with few pictures.

Tasks: the 100 classes of CIFAR-100 in a random order (seed 0), ten at a time. The first five tasks are for published
figures, the last five for choices (--choose). Training pictures are the first ones of each class, test pictures all 100
of each class. The weights are those for CIFAR-10, which have seen none of these classes.

python benchmarks/transfer.py                    # linear probes of three nets, fine-tuning and from scratch
python benchmarks/transfer.py --choose --probe   # which activation map the linear probe should take
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import keras
import numpy as np
from transfer_learning import fine_tune, linear_probe

import allconvnet
from allconvnet._backend import native_precision

COUNTS = (5, 20, 100)
NETS = ("all_cnn_c", "convpool_cnn_c", "model_a")


def tasks(data: tuple, choose: bool, count: int) -> list[tuple]:
    """Five tasks of ten classes: training pictures with labels 0..9, and test pictures with theirs."""
    (images, labels), (test_images, test_labels) = data
    order = np.random.default_rng(0).permutation(100).reshape(10, 10)
    made = []
    for chosen in order[5:] if choose else order[:5]:
        train = np.concatenate([np.flatnonzero(labels == label)[:count] for label in chosen])
        test = np.flatnonzero(np.isin(test_labels, chosen))
        number = np.full(100, -1)
        number[chosen] = np.arange(10)
        made.append(((images[train], number[labels[train]]), (test_images[test], number[test_labels[test]])))
    return made


def extractors(variant: str, choose: bool) -> dict[str, keras.Model]:
    """What the linear probe takes its features from; for a choice, also single maps."""
    found = {"feature_extractor": allconvnet.feature_extractor(variant)}
    if choose:
        model = allconvnet.AllConvNet(variant)
        for layer in [layer for layer in model.layers if layer.name.startswith("relu")][-4:]:
            average = keras.layers.GlobalAveragePooling2D()(layer.output)
            found[layer.name] = keras.Model(model.input, average)
    return found


def show(what: str, count: int, accuracies: list[float]) -> None:
    """Prints mean and standard deviation over the tasks."""
    each = " ".join(f"{accuracy:.1f}" for accuracy in accuracies)
    print(
        f"{what:45} {count:3} a class  {np.mean(accuracies):5.1f} +- {np.std(accuracies, ddof=1):.1f}   ({each})",
        flush=True,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure transfer to classes of CIFAR-100.")
    parser.add_argument("--choose", action="store_true", help="on the five tasks for choices, not on the measured ones")
    parser.add_argument("--probe", action="store_true", help="linear probes only")
    parser.add_argument("--data", type=Path, help="cifar-100-python (default: $ALLCONVNET_CIFAR100, else a download)")
    arguments = parser.parse_args()
    keras.config.set_dtype_policy(native_precision())
    data = allconvnet.load_cifar100(arguments.data)
    for variant in NETS:
        for name, extractor in extractors(variant, arguments.choose).items():
            for count in COUNTS:
                accuracies = [linear_probe(*task, extractor) for task in tasks(data, arguments.choose, count)]
                show(f"{variant}, linear probe on {name}", count, accuracies)
    if arguments.probe:
        return
    for pretrained in (True, False):
        for count in COUNTS[1:]:
            accuracies = []
            for train, test in tasks(data, arguments.choose, count):
                keras.utils.set_random_seed(0)
                accuracies.append(
                    allconvnet.evaluate_top1(fine_tune(train, 10, pretrained=pretrained), *test, verbose=0)
                )
            show(f"all_cnn_c, {'fine-tuning' if pretrained else 'from scratch, as many epochs'}", count, accuracies)


if __name__ == "__main__":
    main()
