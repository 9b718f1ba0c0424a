"""What pretrained weights are worth on new classes, from 5 pictures a class to all.

python benchmarks/transfer.py            # all of PLAN: transfer.csv, transfer.png, and the tables; hours
python benchmarks/transfer.py --choose   # linear probes on the features, and on single feature maps
python benchmarks/transfer.py --train runs/transfer   # the weights "transfer"; resumes, as fit_cifar10 does

A row that is in transfer.csv already is not measured again, so that a run that was stopped goes on.

Tasks:

* 10 classes: the 100 classes of CIFAR-100 in a random order (seed 0), ten at a time. The first five tasks are for
  published figures, the last five for choices (--choose). Training pictures are the first ones of each class.
* 100 classes, 20 superclasses, CIFAR-10: up to five runs, each on other training pictures.

Test pictures are all of these classes. No weights have seen the classes of their task: those called "transfer" are
trained on CIFAR-10 and on the classes of the tasks for choices, and are measured on "10 classes" only.
"""

import argparse
import csv
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import keras
import matplotlib
import numpy as np
from transfer_learning import Split, fine_tune, linear_probe

import allconvnet
from allconvnet._backend import native_precision
from allconvnet._fit_arguments import FitArguments
from allconvnet.training import _fit

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# The superclass of each class of CIFAR-100, the `coarse_labels` of its files.
SUPERCLASSES = np.array(
    [
        [4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7],
        [6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10],
        [16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16],
        [12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13],
    ]
).ravel()
# The new label of each label of the data set; and how many training pictures each new class has.
TASKS = {
    "10 classes": (None, 500),
    "20 superclasses": (SUPERCLASSES, 2500),
    "100 classes": (np.arange(100), 500),
    "CIFAR-10": (np.arange(10), 5000),
}
PROBE, TUNE, SCRATCH = "linear probe", "fine-tuning", "from scratch, same epochs"
STYLES = {PROBE: ("o-", "tab:blue"), TUNE: ("s-", "tab:orange"), SCRATCH: ("^--", "0.45")}
# The weights of all_cnn_c to start from in the picture, of those that have not seen the classes. Fixed tags: rows stay
# comparable when the default changes.
BEST = {
    "10 classes": "transfer",
    "20 superclasses": "cifar10_robust_v1",
    "100 classes": "cifar10_robust_v1",
    "CIFAR-10": "cifar100_robust_v1",
}
PUBLISHED = {"100 classes": "all_cnn_c.cifar100", "CIFAR-10": "all_cnn_c.cifar10"}  # trained on all of the task
# What is measured: task, net, weights, method, at most how many runs, pictures a class.
PLAN = [
    ("20 superclasses", "all_cnn_c", "cifar10_robust_v1", PROBE, 5, (5, 20, 100, 2500)),
    ("100 classes", "all_cnn_c", "cifar10_robust_v1", PROBE, 5, (5, 20, 100, 500)),
    ("CIFAR-10", "all_cnn_c", "cifar100_robust_v1", PROBE, 5, (5, 20, 100, 5000)),
    ("10 classes", "all_cnn_c", "cifar10_robust_v1", PROBE, 5, (5, 20, 100, 500)),
    ("10 classes", "all_cnn_c", "cifar10_v5", PROBE, 5, (5, 20, 100, 500)),
    ("10 classes", "convpool_cnn_c", "cifar10_v1", PROBE, 5, (5, 20, 100, 500)),
    ("10 classes", "model_a", "cifar10_v1", PROBE, 5, (5, 20, 100, 500)),
    ("10 classes", "all_cnn_c", "", SCRATCH, 5, (20,)),
    ("CIFAR-10", "all_cnn_c", "cifar100_robust_v1", TUNE, 1, (20, 100)),
    ("CIFAR-10", "all_cnn_c", "", SCRATCH, 1, (20, 100)),
    ("100 classes", "all_cnn_c", "cifar10_robust_v1", TUNE, 1, (20,)),
    ("100 classes", "all_cnn_c", "", SCRATCH, 1, (20,)),
    ("10 classes", "all_cnn_c", "", SCRATCH, 5, (100,)),
    ("10 classes", "all_cnn_c", "transfer", PROBE, 5, (5, 20, 100, 500)),
    ("10 classes", "all_cnn_c", "transfer", TUNE, 5, (5, 20, 100, 500)),
]
KEYS = ("task", "net", "weights", "method", "images_per_class")


class Remembered:
    """An extractor that computes the features of each picture once."""

    def __init__(self, model: keras.Model):
        self.model, self.known = model, {}

    def predict(self, images: np.ndarray, verbose: int = 0) -> np.ndarray:
        """As `keras.Model.predict`."""
        keys = [hashlib.sha256(image.tobytes()).digest() for image in images]
        new = {key: number for number, key in enumerate(keys) if key not in self.known}
        if new:
            features = self.model.predict(images[list(new.values())], batch_size=250, verbose=verbose)
            self.known.update(zip(new, features, strict=True))
        return np.stack([self.known[key] for key in keys])


def split(data: tuple, number: np.ndarray, count: int, run: int = 0) -> tuple[Split, Split]:
    """Training pictures `run * count` to `(run + 1) * count` of each class with labels, and all test pictures.

    `number` gives the new label of each label, -1 where the class is left out.
    """
    (images, labels), (test_images, test_labels) = data
    new, test = number[labels], np.flatnonzero(number[test_labels] >= 0)
    places = range(run * count, (run + 1) * count)
    train = np.concatenate([np.flatnonzero(new == label)[places] for label in range(number.max() + 1)])
    return (images[train], new[train]), (test_images[test], number[test_labels[test]])


def tasks(data: tuple, choose: bool, count: int) -> Iterator[tuple[Split, Split]]:
    """Five tasks of ten classes."""
    order = np.random.default_rng(0).permutation(100).reshape(10, 10)
    for chosen in order[5:] if choose else order[:5]:
        number = np.full(100, -1)
        number[chosen] = np.arange(10)
        yield split(data, number, count)


def runs(data: tuple, task: str, most: int, count: int) -> Iterator[tuple[Split, Split]]:
    """The runs of a task: on other classes for "10 classes", else on other training pictures."""
    number, available = TASKS[task]
    if number is None:
        return tasks(data, False, count)
    return (split(data, number, count, run) for run in range(min(most, available // count)))


def measure(plan: list[tuple], path: Path) -> None:
    """Adds what `plan` has and the file lacks."""
    done = [tuple(row[key] for key in KEYS) for row in read(path)]
    if not done:
        path.write_text(",".join((*KEYS, "runs", "top1", "deviation")) + "\n")
    extractors: dict[tuple, Remembered] = {}
    for task, net, weights, method, most, counts in plan:
        for count in counts:
            if (task, net, weights, method, str(count)) in done:
                continue
            data = allconvnet.load_cifar10() if task == "CIFAR-10" else allconvnet.load_cifar100()
            accuracies = []
            for train, test in runs(data, task, most, count):
                if method == PROBE:
                    if (net, weights) not in extractors:
                        # One at a time: features of 100,000 pictures and their mirror images fill 3 GB.
                        extractors = {(net, weights): Remembered(allconvnet.feature_extractor(net, weights=weights))}
                    accuracies.append(linear_probe(train, test, extractors[net, weights]))
                else:
                    keras.utils.set_random_seed(0)
                    model = fine_tune(train, int(1 + train[1].max()), weights=weights or None)
                    accuracies.append(allconvnet.evaluate_top1(model, *test, verbose=0))
            deviation = f"{np.std(accuracies, ddof=1):.2f}" if len(accuracies) > 1 else ""
            row = (task, net, weights, method, count, len(accuracies), f"{np.mean(accuracies):.2f}", deviation)
            print(*row, sep=", ", flush=True)
            with path.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(row)


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a results file."""
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def table(rows: list[dict[str, str]]) -> str:
    """A Markdown table of all methods with all_cnn_c: a column for each number of pictures a class."""
    columns = ("5", "20", "100", "all")
    order, methods = list(TASKS), list(STYLES)
    starts = [row for row in rows if row["net"] == "all_cnn_c" and row["weights"] != "cifar10_v5"]
    starts.sort(key=lambda row: (order.index(row["task"]), methods.index(row["method"]), row["weights"]))
    lines: dict[tuple, dict[str, str]] = {}
    for row in starts:
        start = f"{row['method']}, `{row['weights']}`" if row["weights"] else row["method"]
        count = row["images_per_class"] if row["images_per_class"] in columns else "all"
        deviation = f" ± {float(row['deviation']):.1f}" if row["deviation"] else ""
        lines.setdefault((row["task"], start), {})[count] = f"{float(row['top1']):.1f}{deviation}"
    text = [("task", "method, weights", *columns), ("---",) * 6]
    text += [(*names, *(cells.get(count, "") for count in columns)) for names, cells in lines.items()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in text) + "\n"


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """Accuracy against pictures a class, a panel for each task."""
    figure, axes = plt.subplots(2, 2, figsize=(6.4, 6), sharey=True, layout="constrained")
    for axis, (task, (_, available)) in zip(axes.flat, TASKS.items(), strict=True):
        for method, (style, color) in STYLES.items():
            start = "" if method == SCRATCH else BEST[task]
            wanted = {"task": task, "net": "all_cnn_c", "weights": start, "method": method}
            chosen = [row for row in rows if wanted.items() <= row.items()]
            chosen.sort(key=lambda row: int(row["images_per_class"]))
            if chosen:
                x = [int(row["images_per_class"]) for row in chosen]
                y, deviation = ([float(row[key] or 0) for row in chosen] for key in ("top1", "deviation"))
                axis.errorbar(x, y, deviation, fmt=style, color=color, capsize=3, label=method)
        if task in PUBLISHED:
            top1 = allconvnet.weights_info(PUBLISHED[task]).top1
            axis.plot(available, top1, "*", color="0.2", markersize=12, label="published weights")
        axis.set_xscale("log")
        axis.set_xlim(4, 1.3 * available)
        axis.set_xticks([5, 20, 100, available], ["5", "20", "100", f"all\n{available:,}"])
        axis.minorticks_off()
        axis.set_ylim(0, 100)
        axis.set_title(f"{task}, from {BEST[task]}", fontsize=10)
        axis.grid(color="0.9")
    figure.supxlabel("training pictures per class")
    figure.supylabel("top-1 accuracy on test pictures, %")
    labels = {}
    for axis in axes.flat:
        labels.update(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(list(labels.values()), list(labels), loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=125)
    plt.close(figure)


def choose() -> None:
    """Prints linear probes on the tasks for choices: on the features, and on single feature maps."""
    data = allconvnet.load_cifar100()
    for net in ("all_cnn_c", "convpool_cnn_c", "model_a"):
        weights = "cifar10_robust_v1" if net == "all_cnn_c" else "cifar10_v1"
        model = allconvnet.AllConvNet(net, weights=weights)
        extractors = {"feature_extractor": allconvnet.feature_extractor(net, weights=weights)}
        for layer in [layer for layer in model.layers if layer.name.startswith("relu")][-4:]:
            average = keras.layers.GlobalAveragePooling2D()(layer.output)
            extractors[layer.name] = keras.Model(model.input, average)
        for name, extractor in extractors.items():
            extractor = Remembered(extractor)
            for count in (5, 20, 100):
                accuracies = [linear_probe(*task, extractor) for task in tasks(data, True, count)]
                print(f"{net}, {name}, {count} a class: {np.mean(accuracies):.1f}", flush=True)


def train(folder: Path) -> None:
    """Trains the weights "transfer" in this folder, or goes on training."""
    call = FitArguments("transfer", "all_cnn_c", "cifar100", None, None, 0, folder, "auto", 0)
    print(f"top-1 {_fit(call).top1:.2f} % on the test pictures of its 60 classes")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure transfer to new classes.")
    parser.add_argument("--choose", action="store_true", help="compare feature maps on the tasks for choices")
    parser.add_argument("--train", type=Path, metavar="RUN", help='train the weights "transfer" in this folder')
    parser.add_argument("--results", type=Path, default=Path("transfer.csv"), help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.train:
        return train(arguments.train)
    keras.config.set_dtype_policy(native_precision())
    if arguments.choose:
        return choose()
    measure(PLAN, arguments.results)
    rows = read(arguments.results)
    print(table(rows), end="")
    draw(rows, arguments.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
