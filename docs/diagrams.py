"""Draws the layers of each net from the package's table of nets.

python docs/diagrams.py                 # docs/diagrams/<net>.png for all nets
python docs/diagrams.py all_cnn_c       # one
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from curves import save
from matplotlib.patches import Rectangle

from allconvnet._specs import SPECS, Conv, Spec

FOLDER = Path(__file__).with_name("diagrams")
COLORS = {"image": "0.75", "conv": "#4c8dc9", "strided": "#e08a3c", "pool": "#5aa469", "class": "#8c6bb1"}


def blocks(spec: Spec) -> list[tuple[str, str, int, int]]:
    """What flows through the net: (kind, text, side, channels) of the image and of what each layer returns."""
    result = [("image", "image", spec.side, 3)]
    for row, side, channels in spec.rows_with_sizes(spec.side, spec.classes)[:-1]:
        stride = f", stride {row.stride}" if row.stride > 1 else ""
        if isinstance(row, Conv):
            kind, channels = "strided" if stride else "conv", row.filters
            text = f"conv {row.kernel}x{row.kernel}, {row.filters}{stride}"
        else:
            kind = "pool"
            text = f"max pool {row.kernel}x{row.kernel}{stride}"
        result.append((kind, text, side, channels))
    return [*result, ("class", f"conv 1x1, {spec.classes}", side, spec.classes), ("class", "average", 1, spec.classes)]


def widths(spec: Spec) -> list[tuple[float, float]]:
    """For each block its own width and that of its column, which has room for a line of text."""
    channels = [block[3] for block in blocks(spec)]
    own = [0.15 + 1.1 * channel / max(channels) for channel in channels]
    return [(width, max(width, 0.75) + 0.12) for width in own]


def draw(variant: str) -> Path:
    """A block for each feature map: its height is the root of the side of the map, its width the number of channels.

    Nets for images of one size are drawn on one scale.
    """
    spec = SPECS[variant]
    figure, axis = plt.subplots(figsize=(5, 2.6), layout="constrained")
    left, shown = 0.0, float("inf")
    for (kind, text, side, _), (width, column) in zip(blocks(spec), widths(spec), strict=True):
        middle, height = left + column / 2, (side / spec.side) ** 0.5
        axis.add_patch(Rectangle((middle - width / 2, -height / 2), width, height, color=COLORS[kind]))
        axis.text(middle, -0.56, text, rotation=90, ha="center", va="top", fontsize=8)
        if side <= 0.75 * shown:  # Not where a convolution without padding takes a pixel off.
            axis.text(middle - width / 2, height / 2 + 0.03, f"{side}x{side}", ha="left", va="bottom", fontsize=7.5)
            shown = side
        left += column
    alike = [other for other in SPECS.values() if other.side == spec.side]
    axis.set_xlim(0, max(sum(column for _, column in widths(other)) for other in alike))
    axis.set_ylim(-1.32, 0.62)
    axis.axis("off")
    FOLDER.mkdir(exist_ok=True)
    return save(figure, FOLDER / f"{variant}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the layers of nets.")
    parser.add_argument("variants", nargs="*", default=list(SPECS), help="default: all")
    for each in parser.parse_args().variants:
        print(draw(each))
