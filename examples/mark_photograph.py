"""
Scan a photograph
=================

Marks where in a photograph a net sees what, in one pass over the whole of it::

    python mark_photograph.py                                # the photograph beside this file
    python mark_photograph.py street.jpg --height 128 --top 10

The nets know things that fill 32x32 pixels: ``--height`` brings the photograph to the size at which yours do.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

import allconvnet

SIDE, STRIDE = 32, 4  # A score belongs to a window of 32x32 pixels; the next one lies 4 pixels further on.
Window = tuple[int, int, str, float]


def find(scores: np.ndarray, weights: str, top: int, at_least: float) -> list[Window]:
    """Strongest windows that do not overlap, as (row, column, label, score), from scores `[rows, columns, classes]`."""
    rows, columns, classes = scores.shape
    labels = allconvnet.decode_predictions(scores.reshape(-1, classes), top=1, weights=weights)
    strength = np.array([score for [(_, score)] in labels]).reshape(rows, columns)
    found: list[Window] = []
    while len(found) < top and strength.max() >= at_least:
        row, column = divmod(int(strength.argmax()), columns)
        found.append((row, column, *labels[row * columns + column][0]))
        reach = SIDE // STRIDE - 1  # Windows nearer than that overlap this one.
        strength[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = -1
    return found


def marked(photograph: np.ndarray, found: list[Window], zoom: int) -> np.ndarray:
    """The photograph enlarged, with a labeled box for each window found: uint8 RGB."""
    height, width = photograph.shape[:2]
    canvas = cv2.resize(photograph, (width * zoom, height * zoom), interpolation=cv2.INTER_CUBIC)
    for row, column, label, score in found:
        left, top = column * STRIDE * zoom, row * STRIDE * zoom
        right, bottom = left + SIDE * zoom - 1, top + SIDE * zoom - 1
        text = f"{label} {100 * score:.0f} %"
        (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)
        # White within black: visible on any photograph.
        cv2.rectangle(canvas, (left + 2, top + 2), (right - 2, bottom - 2), (0, 0, 0), 5)
        cv2.rectangle(canvas, (left + 2, top + 2), (right - 2, bottom - 2), (255, 255, 255), 1)
        cv2.rectangle(canvas, (left, top), (min(right, left + text_width + 14), top + 26), (0, 0, 0), -1)
        place = (left + 7, top + 19)
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 1, cv2.LINE_AA)
    return canvas


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Mark where in a photograph an all convolutional net sees what.")
    default = Path(sys.argv[0]).with_name("photograph.jpg")
    parser.add_argument("photograph", nargs="?", type=Path, default=default)
    parser.add_argument(
        "--height", type=int, default=64, help="height after resizing, in pixels (default: %(default)s)"
    )
    parser.add_argument("--top", type=int, default=6, help="windows at most (default: %(default)s)")
    parser.add_argument("--at-least", type=float, default=0.5, help="score of a window (default: %(default)s)")
    parser.add_argument("--variant", default="all_cnn_c", help="a CIFAR net (default: %(default)s)")
    parser.add_argument("--weights", default="cifar10", help="a published tag or your file (default: %(default)s)")
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

    import _quiet  # noqa: F401 - loads Keras without TensorFlow's start-up messages

    model = allconvnet.AllConvNet(
        arguments.variant, weights=arguments.weights, input_shape=(None, None, 3), dense_prediction=True
    )
    scores = model.predict(photograph[None], verbose=0)[0]
    found = find(scores, arguments.weights, arguments.top, arguments.at_least)
    print(f"{size[1]}x{size[0]} pixels, {scores.shape[1]}x{scores.shape[0]} windows")
    for row, column, label, score in found:
        place = f"x {column * STRIDE} to {column * STRIDE + SIDE}, y {row * STRIDE} to {row * STRIDE + SIDE}"
        print(f"{label:10}  {100 * score:.1f} %  {place}")
    if not cv2.imwrite(str(arguments.output), marked(photograph, found, zoom=5)[..., ::-1]):
        sys.exit(f"Could not write {arguments.output}.")
    print(arguments.output)


if __name__ == "__main__":
    main()
