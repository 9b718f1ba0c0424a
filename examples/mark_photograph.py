"""
Scan a photograph
=================

Marks objects in a photograph, in a single pass over the whole photograph:

.. code-block:: sh

    python mark_photograph.py                                # examples/photograph.jpg
    python mark_photograph.py street.jpg --height 128 --top 10

The nets recognize objects that fill 32x32 pixels. Choose ``--height`` so that your objects have this size.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

import allconvnet

SIDE, STRIDE = 32, 4  # Each window has 32x32 pixels; neighboring windows are 4 pixels apart.
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
        reach = SIDE // STRIDE - 1  # Windows within this distance overlap this one.
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
        # A white line in a black one is visible on any photograph.
        cv2.rectangle(canvas, (left + 2, top + 2), (right - 2, bottom - 2), (0, 0, 0), 5)
        cv2.rectangle(canvas, (left + 2, top + 2), (right - 2, bottom - 2), (255, 255, 255), 1)
        cv2.rectangle(canvas, (left, top), (min(right, left + text_width + 14), top + 26), (0, 0, 0), -1)
        place = (left + 7, top + 19)
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 1, cv2.LINE_AA)
    return canvas


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Mark objects in a photograph with an all convolutional net.")
    default = Path(sys.argv[0]).with_name("photograph.jpg")
    parser.add_argument("photograph", nargs="?", type=Path, default=default, help="default: examples/photograph.jpg")
    parser.add_argument(
        "--height", type=int, default=64, help="height after resizing, in pixels (default: %(default)s)"
    )
    parser.add_argument("--top", type=int, default=6, help="largest number of windows (default: %(default)s)")
    parser.add_argument("--at-least", type=float, default=0.5, help="lowest score of a window (default: %(default)s)")
    parser.add_argument("--variant", default="all_cnn_c", help="name of the net (default: %(default)s)")
    parser.add_argument("--weights", default="cifar10", help="published tag, or a weights file (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("marked.png"), help="file to write (default: %(default)s)")
    arguments = parser.parse_args()
    if not cv2.haveImageWriter(str(arguments.output)):
        parser.error(f"--output {arguments.output} must end in .png, .jpg or another format that OpenCV writes")
    photograph = allconvnet.load_image(arguments.photograph, size=None)
    height, width = photograph.shape[:2]
    size = (arguments.height, round(arguments.height * width / height))
    if min(size) < SIDE:
        parser.error(
            f"a window is {SIDE}x{SIDE} pixels, and this photograph would be {size[1]}x{size[0]}: use a larger --height"
        )
    photograph = allconvnet.load_image(photograph, size=size)

    import _quiet  # noqa: F401 - loads Keras without TensorFlow's start-up messages

    model = allconvnet.AllConvNet(
        arguments.variant, weights=arguments.weights, input_shape=(None, None, 3), dense_prediction=True
    )
    scores = model.predict(photograph[None], verbose=0)[0]
    # Without the last windows of strided_cnn_b, which may reach a pixel beyond the photograph.
    scores = scores[: (size[0] - SIDE) // STRIDE + 1, : (size[1] - SIDE) // STRIDE + 1]
    found = find(scores, arguments.weights, arguments.top, arguments.at_least)
    print(f"{size[1]}x{size[0]} pixels, {scores.shape[1]}x{scores.shape[0]} windows")
    for row, column, label, score in found:
        place = f"x {column * STRIDE} to {column * STRIDE + SIDE}, y {row * STRIDE} to {row * STRIDE + SIDE}"
        print(f"{label:10}  {100 * score:.1f} %  {place}")
    if not cv2.imwrite(str(arguments.output), marked(photograph, found, zoom=5)[..., ::-1]):
        sys.exit(f"Could not write {arguments.output}.")
    print(arguments.output)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:  # Such as no picture, or no such weights.
        sys.exit(str(error))
