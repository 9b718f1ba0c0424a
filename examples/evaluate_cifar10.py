"""Measures the top-1 accuracy of published weights again on CIFAR-10 and CIFAR-100, beside the figure in the table.

python evaluate_cifar10.py                               # all published weights
python evaluate_cifar10.py all_cnn_c.cifar10_v4          # one
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import allconvnet


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Re-measure published weights on the test images of their data set.")
    parser.add_argument("names", nargs="*", default=allconvnet.list_weights(), help="variant.tag (default: all)")
    places = "$ALLCONVNET_CIFAR10 or $ALLCONVNET_CIFAR100, else a download"
    parser.add_argument("--data", type=Path, help=f"the data set, or a folder that holds all (default: {places})")
    arguments = parser.parse_args()
    load = {"cifar10": allconvnet.load_cifar10, "cifar100": allconvnet.load_cifar100}
    records = [allconvnet.weights_info(name) for name in arguments.names]
    tests = {dataset: load[dataset](arguments.data)[1] for dataset in dict.fromkeys(r.dataset for r in records)}
    for record in records:
        images, labels = tests[record.dataset]
        model = allconvnet.AllConvNet(record.variant, weights=record.name)
        top1 = allconvnet.evaluate_top1(model, images, labels)
        print(f"{record.name}: top-1 {top1:.2f} % on {len(images):,} images; published {record.top1:.2f} %")


if __name__ == "__main__":
    main()
