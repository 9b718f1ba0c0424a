"""The example scripts, run as a user runs them."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import allconvnet

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(script, folder, *arguments):
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()


def test_mark_photograph(tmp_path):
    lines = run("mark_photograph.py", tmp_path)
    assert lines[0] == "96x64 pixels, 17x9 windows"
    assert lines[1].startswith("cat ")
    assert lines[-1] == "marked.png"
    assert cv2.imread(str(tmp_path / "marked.png")).shape == (320, 480, 3)


def test_visualize_units(tmp_path, cifar10):
    lines = run("visualize_units.py", tmp_path, "--layers", "relu3", "--channels", "3", "--count", "2")
    assert lines == ["units_relu3.png", "class_maps.png", "methods.png"]
    assert cv2.imread(str(tmp_path / "methods.png")).shape[1] == 8 * 99 + 3
    # The leftmost patch of the first channel is the 7x7 window of the test image where that channel is strongest.
    import keras

    net = allconvnet.AllConvNet("all_cnn_c")
    maps = keras.Model(net.inputs, net.get_layer("relu3").output)
    images = cifar10[1][0]
    values = np.concatenate([maps.predict_on_batch(images[i : i + 500])[..., 0] for i in range(0, len(images), 500)])
    image, row, column = np.unravel_index(values.argmax(), values.shape)
    corner = 2 * np.array([row, column]) - 2
    if (corner < 0).any() or (corner + 7 > 32).any():
        pytest.skip("the strongest window hangs over the border")
    patch = images[image, corner[0] : corner[0] + 7, corner[1] : corner[1] + 7]
    cell = cv2.imread(str(tmp_path / "units_relu3.png"))[29 : 29 + 64, 3 : 3 + 64, ::-1]
    assert np.array_equal(cell, cv2.resize(patch, (64, 64), interpolation=cv2.INTER_NEAREST))
