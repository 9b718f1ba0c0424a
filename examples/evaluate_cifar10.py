"""Measures the top-1 accuracy of published weights again, beside the figure in the table.

python evaluate_cifar10.py                               # all published weights
python evaluate_cifar10.py all_cnn_c.cifar10_v1          # one
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
    parser.add_argument("--data", type=Path, help="folder with the data sets (default: as load_cifar10 finds them)")
    arguments = parser.parse_args()
    load = {"cifar10": allconvnet.load_cifar10, "cifar100": allconvnet.load_cifar100}
    tests = {}
    for name in arguments.names:
        record = allconvnet.weights_info(name)
        if record.dataset not in tests:
            _, tests[record.dataset] = load[record.dataset](arguments.data)
        images, labels = tests[record.dataset]
        model = allconvnet.AllConvNet(record.variant, weights=record.tag)
        top1 = allconvnet.evaluate_top1(model, images, labels)
        print(f"{record.name}: top-1 {top1:.2f} % on {len(images):,} images; published {record.top1:.2f} %")
        if record.notes:
            print(f"  {record.notes}")


if __name__ == "__main__":
    main()
