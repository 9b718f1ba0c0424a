"""What an explanation costs, as ratios within one run.

Guided backpropagation of 64 images, in units of a forward and backward pass of the same model without it; and one pass
over a whole photograph against a pass over each of its 32x32 windows: time, and on how many windows top-1 agrees.

python benchmarks/explain.py
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import allconvnet
from allconvnet._backend import vjp

TOP = Path(__file__).parents[1]


def seconds(run: Callable[[], object]) -> float:
    """Of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def cost_of_guidance(repeats: int) -> None:
    """Both ways in turn, each `repeats` times after a first call that is not counted."""
    from keras import ops

    model = allconvnet.AllConvNet("all_cnn_c", classifier_activation=None)
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3)).astype("float32")
    weights = ops.one_hot(np.zeros(64, "int32"), 10)

    def plain() -> np.ndarray:
        return ops.convert_to_numpy(vjp(model, ops.convert_to_tensor(images))[1](weights))

    ways = {"forward and backward": plain}
    for method in ("guided", "deconvnet", "gradient"):
        ways[method] = lambda method=method: allconvnet.guided_backprop(model, images, 0, method=method)
    times = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, run in ways.items():
            spent = seconds(run)
            if turn:
                times[name].append(spent)
    unit = statistics.median(times["forward and backward"])
    print(f"64 images of 32x32, median of {repeats}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"  {name:22} {median:7.3f} s  {median / unit:5.2f} passes")


def whole_or_windows(path: Path, heights: list[int], repeats: int) -> None:
    """One pass against separate windows."""
    whole = allconvnet.AllConvNet("all_cnn_c", input_shape=(None, None, 3), dense_prediction=True)
    single = allconvnet.AllConvNet("all_cnn_c")
    print(f"{path.name}: one pass against separate 32x32 windows, median of {repeats}")
    for height in heights:
        photograph = allconvnet.load_image(path, size=None)
        size = (height, round(height * photograph.shape[1] / photograph.shape[0]))
        photograph = allconvnet.load_image(photograph, size=size)
        height, width = (side // 4 * 4 for side in size)
        windows = np.lib.stride_tricks.sliding_window_view(photograph[:height, :width], (32, 32), (0, 1))[::4, ::4]
        windows = np.ascontiguousarray(windows.transpose(0, 1, 3, 4, 2).reshape(-1, 32, 32, 3))

        def in_one_pass(photograph: np.ndarray = photograph) -> np.ndarray:
            return whole.predict_on_batch(photograph[None])[0].reshape(-1, 10)

        def one_by_one(windows: np.ndarray = windows) -> np.ndarray:
            return np.concatenate([single.predict_on_batch(windows[i : i + 250]) for i in range(0, len(windows), 250)])

        a, b = in_one_pass().argmax(axis=1), one_by_one().argmax(axis=1)
        times = {"pass": [], "windows": []}
        for _ in range(repeats):
            times["pass"].append(seconds(in_one_pass))
            times["windows"].append(seconds(one_by_one))
        ratio = statistics.median(times["windows"]) / statistics.median(times["pass"])
        agreement = 100 * np.mean(a == b)
        print(f"  {size[1]}x{size[0]}: {len(windows)} windows, top-1 agrees on {agreement:.1f} %, {ratio:.0f}x faster")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Time explanations.")
    parser.add_argument("--repeats", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--photograph", type=Path, default=TOP / "examples/photograph.jpg")
    parser.add_argument("--heights", type=int, nargs="+", default=[64, 128, 256], help="default: 64 128 256")
    arguments = parser.parse_args()
    cost_of_guidance(arguments.repeats)
    whole_or_windows(arguments.photograph, arguments.heights, arguments.repeats)


if __name__ == "__main__":
    main()
