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
    parser = argparse.ArgumentParser(description="Re-measure published weights on the CIFAR-10 test images.")
    parser.add_argument("names", nargs="*", default=allconvnet.list_weights(), help="variant.tag (default: all)")
    parser.add_argument("--data", type=Path, help="cifar-10-batches-py (default: $ALLCONVNET_CIFAR10, else a download)")
    arguments = parser.parse_args()
    _, (images, labels) = allconvnet.load_cifar10(arguments.data)
    for name in arguments.names:
        record = allconvnet.weights_info(name)
        model = allconvnet.AllConvNet(record.variant, weights=record.tag)
        top1 = allconvnet.evaluate_top1(model, images, labels)
        print(f"{record.name}: top-1 {top1:.2f} % on {len(images):,} images; published {record.top1:.2f} %")
        print(f"  {record.notes}")


if __name__ == "__main__":
    main()
