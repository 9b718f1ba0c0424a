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
from matplotlib.ticker import MaxNLocator, PercentFormatter

RUNS = Path(__file__).parent / "runs"


def draw(folder: Path) -> Path:
    """Loss and accuracy on the augmented training images by epoch; dotted lines where the image size changes."""
    rows = csv.DictReader((folder / "log.csv").read_text().splitlines())
    log = [{key: float(value) for key, value in row.items()} for row in rows]
    result = json.loads((folder / "result.json").read_text())
    epochs = [int(row["epoch"]) for row in log]
    figure, axes = plt.subplots(2, 1, sharex=True, figsize=(7, 5), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        axis.plot(epochs, [row[name] for row in log], marker="o" if len(log) < 40 else "", markersize=3)
        axis.set_ylabel(f"training {name}")
        axis.grid(color="0.9")
        for before, row in itertools.pairwise(log):
            if row["side"] != before["side"]:
                axis.axvline(row["epoch"] - 0.5, color="0.6", linestyle=":")
    starts = log[:1] + [row for before, row in itertools.pairwise(log) if row["side"] != before["side"]]
    for row in starts:
        side = int(row["side"])
        axes[0].text(row["epoch"] - 0.4, 1.01, f"{side}x{side}", transform=axes[0].get_xaxis_transform(), fontsize=8)
    axes[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], nbins=10))
    axes[1].set_xlabel("epoch")
    net, data = f"{result['variant']} on {result['dataset']}", f"{result['test_images']:,} {result['split']} images"
    title = f'{net}, recipe "{result["recipe_name"]}", seed {result["seed"]}: top-1 {result["top1"]:.2f} % on {data}'
    figure.suptitle(title, fontsize=9)
    path = folder / "curve.png"
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw training curves.")
    parser.add_argument("folders", nargs="*", type=Path, default=sorted(path.parent for path in RUNS.glob("*/log.csv")))
    for each in parser.parse_args().folders:
        print(draw(each))
