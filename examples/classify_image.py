"""
Classify pictures
=================

Prints the labels of pictures and draws a contact sheet with the labels:

.. code-block:: sh

    python classify_image.py                          # the pictures in examples/pictures
    python classify_image.py cat.jpg holiday/ *.png   # files and folders
    python classify_image.py holiday/ --csv labels.csv --no-sheet
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

import allconvnet

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
BATCH = 100  # Pictures in memory at a time.
CELLS, SIDE = 40, 144  # Largest number of pictures on the contact sheet, and their side in pixels.
Labels = list[tuple[str, float]]


def find_pictures(paths: list[Path]) -> list[Path]:
    """The given files and the pictures in the given folders, in order, without duplicates."""
    found = []
    for path in paths:
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        found += inside
    return list(dict.fromkeys(found))


def classify(paths: list[Path], arguments: argparse.Namespace) -> Iterator[tuple[Path, Labels | Exception]]:
    """For each picture its labels with their scores, or the error if it cannot be read."""
    import _quiet  # noqa: F401 - loads Keras without TensorFlow's start-up messages

    model = allconvnet.AllConvNet(arguments.variant, weights=arguments.weights)
    for start in range(0, len(paths), BATCH):
        images, results = [], {}
        for path in paths[start : start + BATCH]:
            try:
                images.append(allconvnet.load_image(path, size=model.input_shape[1:3], fit=arguments.fit))
                results[path] = None
            except Exception as error:  # Decoders raise more than OSError and ValueError.
                results[path] = error
        labels = iter(())
        if images:
            scores = model.predict_on_batch(np.stack(images))
            labels = iter(allconvnet.decode_predictions(scores, top=arguments.top, weights=arguments.weights))
        yield from ((path, error or next(labels)) for path, error in results.items())


def contact_sheet(labels: dict[Path, Labels], fit: str) -> np.ndarray:
    """The first pictures in a grid, with their labels, scores and file names below: uint8 `[H, W, 3]`, RGB."""
    paths = list(labels)[:CELLS]
    texts = [[*(f"{label} {100 * score:.1f} %" for label, score in labels[path]), path.name] for path in paths]
    caption = f"The first {CELLS} of {len(labels):,} pictures" if len(labels) > CELLS else ""
    images = allconvnet.load_images(paths, size=(SIDE, SIDE), fit=fit)
    return allconvnet.to_picture(images, caption=caption, labels=list(map("\n".join, texts)), columns=4, cell=SIDE)


def write_csv(path: Path, labels: dict[Path, Labels], top: int) -> None:
    """A row for each picture: file, label, score, label_2, score_2, ..."""
    ends = ["", *(f"_{rank}" for rank in range(2, top + 1))]
    # Bytes of a name that are not UTF-8 are written as they are.
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(["file", *(f"{field}{end}" for end in ends for field in ("label", "score"))])
        for picture, pairs in labels.items():
            table.writerow([picture, *(value for label, score in pairs for value in (label, f"{score:.4f}"))])


def parse_arguments() -> argparse.Namespace:
    """The arguments of the command line, checked before anything is loaded."""
    parser = argparse.ArgumentParser(description="Classify pictures with an all convolutional net.")
    pictures = Path(sys.argv[0]).with_name("pictures")
    parser.add_argument("paths", nargs="*", type=Path, default=[pictures], help="pictures, or folders of pictures")
    parser.add_argument("--variant", default="all_cnn_c", help="name of the net (default: %(default)s)")
    parser.add_argument("--weights", default="cifar10", help="published tag, or a weights file (default: %(default)s)")
    parser.add_argument("--top", type=int, default=3, help="number of labels per picture (default: %(default)s)")
    parser.add_argument(
        "--fit",
        default="crop",
        choices=["crop", "resize"],
        help="cut out the center, or squeeze (default: %(default)s)",
    )
    parser.add_argument("--csv", type=Path, help="also write labels and scores to this file, one row per picture")
    parser.add_argument("--output", type=Path, default=Path("contact_sheet.png"), help="default: %(default)s")
    parser.add_argument("--no-sheet", action="store_true", help="do not write a contact sheet")
    arguments = parser.parse_args()
    if not cv2.haveImageWriter(str(arguments.output)):
        parser.error(f"--output {arguments.output} must end in .png, .jpg or another format that OpenCV writes")
    for path in (arguments.csv, None if arguments.no_sheet else arguments.output):
        if path and (path.is_dir() or not path.parent.is_dir()):
            parser.error(f"{path} must be a file in a folder that exists")
    return arguments


def main() -> None:
    """Command line."""
    arguments = parse_arguments()
    paths = find_pictures(arguments.paths)
    if not paths:
        sys.exit(f"No pictures ({', '.join(sorted(SUFFIXES))}) in {', '.join(map(str, arguments.paths))}.")

    labels, failed = {}, {}
    width = max(len(path.name) for path in paths)
    progress = tqdm(classify(paths, arguments), total=len(paths), unit=" pictures", leave=False, disable=None)
    try:
        for path, result in progress:
            if isinstance(result, Exception):
                failed[path] = result
                continue
            labels[path] = result
            line = "  ".join(f"{label} {100 * score:.1f} %" for label, score in result)
            name = path.name.encode(errors="backslashreplace").decode()  # May have bytes that are not UTF-8.
            tqdm.write(f"{name:{width}}  {line}")
    except (OSError, ValueError) as error:  # Of the arguments: no such weights, or more labels than classes.
        sys.exit(str(error))
    if arguments.csv:
        write_csv(arguments.csv, labels, arguments.top)
        print(f"Labels: {arguments.csv}")
    if labels and not arguments.no_sheet:
        sheet = contact_sheet(labels, arguments.fit)
        if not cv2.imwrite(str(arguments.output), sheet[..., ::-1]):
            sys.exit(f"Could not write {arguments.output}.")
        print(f"Contact sheet: {arguments.output}")
    if failed:
        lines = (f"  {path}: {error}" for path, error in failed.items())
        sys.exit("\n".join([f"{len(failed)} of {len(paths)} pictures could not be read:", *lines]))


if __name__ == "__main__":
    main()
