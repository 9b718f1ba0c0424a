"""Marks where in a photograph a net sees what, in one pass over the whole of it.

python mark_photograph.py                                # the photograph beside this file
python mark_photograph.py street.jpg --height 128 --top 10

The nets know things that fill 32x32 pixels: --height brings the photograph to the size at which yours do.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

import allconvnet

SIDE, STRIDE = 32, 4  # A score belongs to a window of 32x32 pixels; the next one lies 4 pixels further on.


def find(scores: np.ndarray, top: int, at_least: float) -> list[tuple[float, int, int, int]]:
    """Strongest windows as (score, row, column, class), no two of which share half their width or height.

    Takes scores `[rows, columns, classes]`.
    """
    strength = scores.max(axis=-1)
    found = []
    for place in np.argsort(-strength, axis=None, kind="stable"):
        row, column = divmod(int(place), strength.shape[1])
        if strength[row, column] < at_least or len(found) == top:
            break
        if all(max(abs(row - r), abs(column - c)) * STRIDE >= SIDE // 2 for _, r, c, _ in found):
            found.append((float(strength[row, column]), row, column, int(scores[row, column].argmax())))
    return found


def marked(
    photograph: np.ndarray, found: list[tuple[float, int, int, int]], names: tuple[str, ...], zoom: int
) -> np.ndarray:
    """The photograph enlarged, with a labeled box for each window found: uint8 RGB."""
    height, width = photograph.shape[:2]
    canvas = cv2.resize(photograph, (width * zoom, height * zoom), interpolation=cv2.INTER_CUBIC)
    for score, row, column, label in found:
        left, top = column * STRIDE * zoom, row * STRIDE * zoom
        text = f"{names[label]} {100 * score:.0f} %"
        cv2.rectangle(canvas, (left, top), (left + SIDE * zoom, top + SIDE * zoom), (255, 40, 40), 2)
        cv2.rectangle(canvas, (left, top), (left + 8 * len(text) + 8, top + 17), (255, 40, 40), -1)
        place = (left + 4, top + 13)
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return canvas


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Mark where in a photograph an all convolutional net sees what.")
    default = Path(__file__).with_name("photograph.jpg")
    parser.add_argument("photograph", nargs="?", type=Path, default=default)
    parser.add_argument(
        "--height", type=int, default=64, help="height after resizing, in pixels (default: %(default)s)"
    )
    parser.add_argument("--top", type=int, default=6, help="windows at most (default: %(default)s)")
    parser.add_argument("--at-least", type=float, default=0.5, help="score of a window (default: %(default)s)")
    parser.add_argument("--variant", default="all_cnn_c", help="a CIFAR net (default: %(default)s)")
    parser.add_argument("--weights", default="cifar10", help="a published tag (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("marked.png"), help="default: %(default)s")
    arguments = parser.parse_args()
    if not cv2.haveImageWriter(str(arguments.output)):
        parser.error(f"--output {arguments.output} has no ending that OpenCV writes, as .png and .jpg")
    photograph = allconvnet.load_image(arguments.photograph, size=None)
    height, width = photograph.shape[:2]
    size = (arguments.height, round(arguments.height * width / height))
    if min(size) < SIDE:
        parser.error(
            f"a window is {SIDE}x{SIDE} pixels, and this photograph would be {size[1]}x{size[0]}: a larger --height"
        )
    photograph = allconvnet.load_image(photograph, size=size)
    model = allconvnet.AllConvNet(
        arguments.variant, weights=arguments.weights, input_shape=(None, None, 3), dense_prediction=True
    )
    scores = model.predict(photograph[None], verbose=0)[0]
    names = allconvnet.weights_info(f"{arguments.variant}.{arguments.weights.rpartition('.')[2]}").class_names
    found = find(scores, arguments.top, arguments.at_least)
    print(f"{size[1]}x{size[0]} pixels, {scores.shape[1]}x{scores.shape[0]} windows")
    for score, row, column, label in found:
        place = f"x {column * STRIDE} to {column * STRIDE + SIDE}, y {row * STRIDE} to {row * STRIDE + SIDE}"
        print(f"{names[label]:10}  {100 * score:.1f} %  {place}")
    if not cv2.imwrite(str(arguments.output), marked(photograph, found, names, zoom=5)[..., ::-1]):
        sys.exit(f"Could not write {arguments.output}.")
    print(arguments.output)


if __name__ == "__main__":
    main()
