"""Draws the paper's comparison of its twelve CIFAR nets beside ours, from the tables of nets and weights.

python docs/comparison.py    # writes docs/comparison.png
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from curves import save
from tables import FAMILIES, PAPER_ERRORS, RECIPES, trained_with_best

VARIANTS = [f"{family}_{base}" for base in "abc" for family in FAMILIES]


def main() -> None:
    """Writes the picture."""
    figure, axis = plt.subplots(figsize=(5, 5.4), layout="constrained")
    # A row for each net, with a gap between the bases.
    places = [-row - row // len(FAMILIES) for row in range(len(VARIANTS))]
    records = [trained_with_best(variant) for variant in VARIANTS]
    errors = [100 - record.top1 for record in records]
    bars = [2 * (record.top1 * (100 - record.top1) / record.images) ** 0.5 for record in records]
    label = f"ours: {RECIPES['best'].epochs} epochs, flips and shifts\n(bars: 2 standard errors of 10,000 images)"
    axis.errorbar(errors, places, xerr=bars, fmt="o", color="tab:blue", label=label)
    paper = [PAPER_ERRORS[variant] for variant in VARIANTS]
    axis.plot(paper, places, "o", color="0.4", mfc="none", label="the paper: 350 epochs,\nno augmentation")
    axis.set_yticks(places, VARIANTS)
    axis.tick_params(axis="y", length=0)
    axis.set_xlim(5, 14)
    axis.set_xlabel("top-1 error on CIFAR-10, %")
    axis.grid(axis="x", color="0.9")
    axis.spines[["top", "left", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8.5, columnspacing=1)
    save(figure, Path(__file__).with_name("comparison.png"))


if __name__ == "__main__":
    main()
