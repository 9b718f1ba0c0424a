"""Classifies pictures, prints their labels and writes them onto a contact sheet.

python classify_image.py                          # the pictures beside this file
python classify_image.py cat.jpg holiday/ *.png   # files and folders
"""

import argparse
import math
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's start-up messages say nothing about the pictures.

import cv2
import numpy as np

import allconvnet

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
CELL = 200  # Side of a picture on the sheet, in pixels; its labels stand below.


def find_pictures(paths: list[Path]) -> list[Path]:
    """The files named, and the pictures in the folders named, in order."""
    found = []
    for path in paths:
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        found += inside
    return found


def contact_sheet(pictures: list[Path], predictions: list[list[tuple[str, float]]], columns: int = 4) -> np.ndarray:
    """Pictures in a grid with their labels and scores below: uint8 `[H, W, 3]`, BGR as OpenCV writes it."""
    rows, strip = math.ceil(len(pictures) / columns), 18 * len(predictions[0]) + 12
    sheet = np.full((rows * (CELL + strip), min(columns, len(pictures)) * CELL, 3), 255, np.uint8)
    for number, (path, labels) in enumerate(zip(pictures, predictions, strict=True)):
        top, left = number // columns * (CELL + strip), number % columns * CELL
        picture = allconvnet.load_image(path, size=(CELL - 8, CELL - 8), fit="crop")
        sheet[top + 4 : top + CELL - 4, left + 4 : left + CELL - 4] = picture[:, :, ::-1]
        for line, (label, score) in enumerate(labels):
            color = (0, 110, 0) if line == 0 else (130, 130, 130)
            place = (left + 6, top + CELL + 14 + 18 * line)
            text = f"{label} {100 * score:.1f} %"
            cv2.putText(sheet, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.48, color, 1, cv2.LINE_AA)
    return sheet


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Classify pictures with an all convolutional net.")
    pictures = Path(__file__).with_name("pictures")
    parser.add_argument("paths", nargs="*", type=Path, default=[pictures], help="pictures, or folders of pictures")
    parser.add_argument("--variant", default="all_cnn_c", help="a net (default: %(default)s)")
    parser.add_argument("--weights", default="cifar10", help="a published tag or your file (default: %(default)s)")
    parser.add_argument("--top", type=int, default=3, help="number of labels per picture (default: %(default)s)")
    parser.add_argument("--fit", default="crop", choices=["crop", "resize"], help="how a picture becomes square")
    parser.add_argument("--output", type=Path, default=Path("contact_sheet.png"), help="default: %(default)s")
    arguments = parser.parse_args()
    if not cv2.haveImageWriter(str(arguments.output)):
        parser.error(f"--output {arguments.output} has no ending that OpenCV writes, as .png and .jpg")
    paths = find_pictures(arguments.paths)
    if not paths:
        sys.exit(f"No pictures ({', '.join(sorted(SUFFIXES))}) in {', '.join(map(str, arguments.paths))}.")
    model = allconvnet.AllConvNet(arguments.variant, weights=arguments.weights)
    images = allconvnet.load_images(paths, size=model.input_shape[1:3], fit=arguments.fit)
    scores = model.predict(images, verbose=0)
    predictions = allconvnet.decode_predictions(scores, top=arguments.top, weights=arguments.weights)
    width = max(len(path.name) for path in paths)
    for path, labels in zip(paths, predictions, strict=True):
        print(f"{path.name:{width}}  " + "  ".join(f"{label} {100 * score:.1f} %" for label, score in labels))
    if not cv2.imwrite(str(arguments.output), contact_sheet(paths, predictions)):
        sys.exit(f"Could not write {arguments.output}.")
    print(f"Contact sheet: {arguments.output}")


if __name__ == "__main__":
    main()
