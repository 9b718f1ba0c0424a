"""Measures published weights on the test images of their data set: the numbers of the model pages.

python docs/cards.py                          # those that docs/results.csv does not have
python docs/cards.py all_cnn_c.cifar10_v5     # again
python docs/cards.py --times                  # all times again, on an idle machine

Writes docs/results.csv (a row a file), docs/per_class.csv and docs/confusion/<name>.png. Needs matplotlib and the
data sets.
"""

import argparse
import csv
import os
import timeit
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from tables import RESULTS, rows_of

import allconvnet
from allconvnet.data import load

DOCS = Path(__file__).parent
CORRUPTED = 2_000  # test images for each corruption
BINS = 15  # of the calibration error


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """An image after JPEG compression."""
    file = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(file, cv2.IMREAD_COLOR_RGB)


def noise(image: np.ndarray, deviation: float) -> np.ndarray:
    """An image with Gaussian noise; the seed is its mean, so that each image has noise of its own."""
    random = np.random.default_rng(int(image.sum()))
    return np.clip(np.rint(image + random.normal(0, deviation, image.shape)), 0, 255).astype("uint8")


CORRUPTIONS = {
    "jpeg_75": lambda image: jpeg(image, 75),
    "jpeg_50": lambda image: jpeg(image, 50),
    "noise_12": lambda image: noise(image, 12),
    "blur_0.8": lambda image: cv2.GaussianBlur(image, (0, 0), 0.8),
}


def predict(model, images: np.ndarray) -> np.ndarray:
    """Scores of all images."""
    return np.concatenate([model.predict_on_batch(images[i : i + 500]) for i in range(0, len(images), 500)])


def calibration_error(scores: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error in points: mean gap of confidence and accuracy, in bins of equal width."""
    confidence = scores.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, confidence - right, BINS)
    return 100 * np.abs(gaps).sum() / len(scores)


def milliseconds(model) -> str:
    """Of `predict_on_batch` for an image in batches of 64, the fastest of 30."""
    images = np.zeros((64, *model.input_shape[1:]), "uint8")
    return f"{1000 / 64 * min(timeit.repeat(lambda: model.predict_on_batch(images), number=1, repeat=30)):.2f}"


def draw_confusions(labels: np.ndarray, predicted: np.ndarray, names: tuple[str, ...], path: Path) -> None:
    """The confusion matrix: the share of each class (rows) that gets each label (columns)."""
    counts = np.histogram2d(labels, predicted, [np.arange(len(names) + 1)] * 2)[0]
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    figure, axes = plt.subplots(figsize=(6, 5.4), layout="constrained")
    # Errors are rare: without the limit only the diagonal would be seen.
    picture = axes.imshow(np.where(np.eye(len(names), dtype=bool), np.nan, shares), cmap="magma_r", vmin=0)
    figure.colorbar(picture, label="% of the class (errors only)", shrink=0.8)
    if len(names) <= 10:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        for (row, column), share in np.ndenumerate(shares):
            dark = row != column and share > np.nanmax(picture.get_array()) / 2
            text = f"{share:.1f}" if share else ""
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=8)
    axes.set(xlabel="label given", ylabel="class")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def measure(name: str) -> tuple[dict, list[dict]]:
    """The row of results.csv and those of per_class.csv."""
    record = allconvnet.weights_info(name)
    name = record.name  # "all_cnn_c.cifar10" is another name of the default.
    images, labels = load(record.dataset)[1]
    model = allconvnet.AllConvNet(record.variant, weights=name)
    scores = predict(model, images)
    right = scores.argmax(axis=1) == labels
    top5 = (np.argsort(-scores, axis=1)[:, :5] == labels[:, None]).any(axis=1)
    row = {"name": name, "top1": 100 * right.mean(), "top5": 100 * top5.mean()}
    row |= {"calibration_error": calibration_error(scores, right), "ms_batch_64": milliseconds(model)}
    errors, chosen = [], np.arange(CORRUPTED)
    if record.dataset == "transfer":  # Its first images are all of CIFAR-10.
        chosen = np.random.default_rng(0).permutation(len(images))[:CORRUPTED]
    for corruption, change in CORRUPTIONS.items():
        changed = predict(model, np.stack([change(image) for image in images[chosen]]))
        hits = changed.argmax(axis=1) == labels[chosen]
        row[corruption] = 100 * hits.mean()
        errors.append(calibration_error(changed, hits))
    row["calibration_error_changed"] = np.mean(errors)
    row = {key: f"{value:.2f}" if isinstance(value, float) else value for key, value in row.items()}
    draw_confusions(labels, scores.argmax(axis=1), record.class_names, DOCS / f"confusion/{name}.png")
    classes = [
        {"name": name, "class": label, "top1": f"{100 * right[labels == number].mean():.1f}"}
        for number, label in enumerate(record.class_names)
    ]
    return row, classes


def write(path: Path, rows: list[dict]) -> None:
    """Writes a CSV file, in the order of the index."""
    order = allconvnet.list_weights()
    rows = sorted(rows, key=lambda row: order.index(row["name"]))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure published weights for the model pages.")
    parser.add_argument("names", nargs="*", help="variant.tag (default: all without a row)")
    parser.add_argument("--times", action="store_true", help="measure only the times again")
    arguments = parser.parse_args()
    paths = DOCS / "results.csv", DOCS / "per_class.csv"
    if arguments.times:
        for name, row in RESULTS.items():
            row["ms_batch_64"] = milliseconds(allconvnet.AllConvNet(name.split(".")[0], weights=name))
        write(paths[0], list(RESULTS.values()))
        return
    names = arguments.names or [name for name in allconvnet.list_weights() if name not in RESULTS]
    for name in names:
        row, classes = measure(name)
        print(*(f"{key} {value}" for key, value in row.items()), flush=True)
        for path, new in zip(paths, ([row], classes), strict=True):
            kept = {*allconvnet.list_weights()} - {row["name"]}
            write(path, [old for old in rows_of(path.name) if old["name"] in kept] + new)


if __name__ == "__main__":
    main()
