"""
Measure published weights
=========================

Measures the top-1 accuracy of published weights on all test images of their data set, and prints it with the published
value:

.. code-block:: sh

    python evaluate_cifar10.py                               # the default weights
    python evaluate_cifar10.py model_a.cifar10_v1            # other weights
    python evaluate_cifar10.py --all                         # all published weights
"""

import argparse
import sys
from pathlib import Path

import allconvnet


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure published weights on the test images of their data set.")
    parser.add_argument("names", nargs="*", help="full names of weights, variant.tag (default: all_cnn_c.cifar10)")
    parser.add_argument("--all", action="store_true", help="measure all published weights")
    places = "$ALLCONVNET_CIFAR10 or $ALLCONVNET_CIFAR100, or else a download"
    parser.add_argument("--data", type=Path, help=f"the data set, or a folder with all data sets (default: {places})")
    arguments = parser.parse_args()
    if arguments.all and arguments.names:
        parser.error("pass either --all or names of weights")
    names = allconvnet.list_weights() if arguments.all else arguments.names or ["all_cnn_c.cifar10"]
    try:
        records = [allconvnet.weights_info(name) for name in names]
        load = {record.dataset: getattr(allconvnet, f"load_{record.dataset}") for record in records}
        tests = {dataset: function(arguments.data)[1] for dataset, function in load.items()}
    except (OSError, ValueError) as error:
        sys.exit(str(error))

    import _quiet  # noqa: F401 - loads Keras without TensorFlow's start-up messages

    for record in records:
        images, labels = tests[record.dataset]
        top1 = allconvnet.evaluate_top1(allconvnet.AllConvNet(record.variant, weights=record.name), images, labels)
        print(f"{record.name}: top-1 {top1:.2f} % on {len(images):,} images; published {record.top1:.2f} %", flush=True)


if __name__ == "__main__":
    main()
