"""Draws the training curve of a run from its log.csv and result.json.

python docs/curves.py                 # every run in docs/runs: curve.png beside its log
python docs/curves.py runs/fast       # your own run
"""

import argparse
import csv
import itertools
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image  # A dependency of matplotlib.

RUNS = Path(__file__).parent / "runs"
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "transfer": "60 classes"}


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as a PNG of 64 colors, which is a third as large as one of all colors."""
    figure.savefig(path, dpi=160)
    plt.close(figure)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    return path


def draw(folder: Path) -> Path:
    """Loss and accuracy on the training images by epoch, where the image size changes, and the accuracy measured."""
    rows = csv.DictReader((folder / "log.csv").read_text().splitlines())
    log = [{key: float(value) for key, value in row.items()} for row in rows]
    result = json.loads((folder / "result.json").read_text())
    epochs = [int(row["epoch"]) for row in log]
    figure, axes = plt.subplots(2, 1, sharex=True, figsize=(5, 4.4), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        axis.plot(epochs, [row[name] for row in log], ".-", label="training images, as augmented")
        axis.set_ylabel(name)
        axis.grid(color="0.9")
        axis.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        axis.spines[["top", "right"]].set_visible(False)
    measured = f"{result['test_images']:,} {result['split']} images: {result['top1']:.2f} %"
    axes[1].plot(epochs[-1], result["top1"] / 100, "D", color="tab:red", label=measured, clip_on=False)
    axes[1].legend(loc="lower right", framealpha=1, edgecolor="white")
    axes[1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes[1].set_ylim(min(0.7, axes[1].get_ylim()[0], result["top1"] / 100 - 0.25), 1)  # room for the legend
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], nbins=8))
    axes[1].set_xlabel("epoch")
    mark_sizes(axes, log)
    about = f"{result['variant']} on {TITLES[result['dataset']]}"
    figure.suptitle(f'{about}, recipe "{result["recipe_name"]}", seed {result["seed"]}', fontsize=10)
    return save(figure, folder / "curve.png")


def mark_sizes(axes: list[Axes], log: list[dict]) -> None:
    """A dotted line where the image size changes; above the first of the axes the size from there on."""
    changes = [row for before, row in itertools.pairwise(log) if row["side"] != before["side"]]
    for axis in axes:
        for row in changes:
            axis.axvline(row["epoch"] - 0.5, color="0.5", linestyle=":")
    for row in [log[0], *changes]:
        side = int(row["side"])
        place = row["epoch"] - (0.5 if row in changes else 0)
        axes[0].text(place, 1.02, f" {side}x{side}", transform=axes[0].get_xaxis_transform(), fontsize=9)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw training curves.")
    parser.add_argument("folders", nargs="*", type=Path, default=sorted(path.parent for path in RUNS.glob("*/log.csv")))
    for each in parser.parse_args().folders:
        print(draw(each))
