"""Draws the paper's comparison of its twelve CIFAR nets beside ours, from the tables of nets and weights.

python docs/comparison.py    # writes docs/comparison.png
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from tables import FAMILIES, RECIPES, SPECS, trained_with_best

NAMES = {
    "model": "max pooling",
    "strided_cnn": "strided instead",
    "convpool_cnn": "one more convolution and max pooling",
    "all_cnn": "strided convolution",
}


def main() -> None:
    """Writes the picture."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3), sharex=True, sharey=True, layout="constrained")
    places = range(len(FAMILIES), 0, -1)
    for axis, base in zip(axes, "abc", strict=True):
        variants = [f"{family}_{base}" for family in FAMILIES]
        paper = [SPECS[variant].paper_error for variant in variants]
        axis.plot(paper, places, "o", color="0.5", mfc="none", label="the paper, no augmentation, 350 epochs")
        records = [trained_with_best(variant) for variant in variants]
        errors = [100 - record.top1 for record in records]
        bars = [2 * (record.top1 * (100 - record.top1) / record.images) ** 0.5 for record in records]
        label = f"ours, flips and shifts, {RECIPES['best'].epochs} epochs; bars: 2 standard errors of 10,000 images"
        axis.errorbar(errors, places, xerr=bars, fmt="o", color="tab:blue", label=label)
        axis.set_ylim(0.5, len(FAMILIES) + 0.5)
        axis.set_title(f"base {base.upper()}", fontsize=10)
        axis.set_xlabel("top-1 error, %")
        axis.set_yticks(list(places), [f"{family}_*: {NAMES[family]}" for family in FAMILIES])
        axis.grid(axis="x", color="0.9")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(Path(__file__).parent / "comparison.png", dpi=110)


if __name__ == "__main__":
    main()
