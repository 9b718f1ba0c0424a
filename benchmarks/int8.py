"""What int8 costs in accuracy and gains in speed, with the quantizers of three runtimes.

Exports all_cnn_c with its CIFAR-10 weights, uint8 in, and quantizes it on 512 training images. Prints a table: top-1, size
of the file, pictures a second in batches of 64. The files take turns, 1,024 images each; the speed is
the median.

python benchmarks/int8.py           # top-1 on the last 5,000 training images, to choose options
python benchmarks/int8.py --test    # on the 10,000 test images
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import nncf
import numpy as np
import openvino
import predict
import tensorflow as tf
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

import allconvnet

CALIBRATION, TURN, BATCH = 512, 1024, 64
# Title, folder of its file, how to open it.
FILES = [
    ("OpenVINO, float32", "openvino", predict.openvino),
    ("OpenVINO, bfloat16", "openvino", predict.openvino_bfloat16),
    ("OpenVINO, int8", "openvino8", predict.openvino),
    ("LiteRT, float32", "litert", predict.litert),
    ("LiteRT, int8", "litert8", predict.litert),
    ("ONNX Runtime, float32", "onnx", predict.onnx_runtime),
    ("ONNX Runtime, int8", "onnx8", predict.onnx_runtime),
]


class Reader(CalibrationDataReader):
    """Images for ONNX Runtime."""

    def __init__(self, images: list[np.ndarray]):
        self.rows = iter([{"images": image} for image in images])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input, None at the end."""
        return next(self.rows, None)


def write(folder: Path, images: list[np.ndarray]) -> None:
    """All files, each in its folder."""
    for name in {name for _, name, _ in FILES}:
        (folder / name).mkdir()
    model = allconvnet.AllConvNet("all_cnn_c")
    signature = [keras.InputSpec(shape=(None, 32, 32, 3), dtype="uint8", name="images")]
    options = {"input_signature": signature, "verbose": False}
    model.export(folder / "openvino/net.xml", format="openvino", **options)
    network = openvino.Core().read_model(folder / "openvino/net.xml")
    network = nncf.quantize(network, nncf.Dataset(images), subset_size=len(images))
    openvino.save_model(network, folder / "openvino8/net.xml")
    model.export(folder / "onnx/net.onnx", format="onnx", **options)
    # Weights of 7 bits: with 8, sums saturate in some processors' instructions.
    options8 = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "reduce_range": True}
    quantize_static(folder / "onnx/net.onnx", folder / "onnx8/net.onnx", Reader(images), **options8)
    model.export(folder / "litert/net.tflite", format="litert", **options)
    options |= {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": lambda: ([x] for x in images)}
    model.export(folder / "litert8/net.tflite", format="litert", **options)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure int8 files.")
    parser.add_argument("--test", action="store_true", help="top-1 on the test images")
    test = parser.parse_args().test
    (images, labels), (test_images, test_labels) = allconvnet.load_cifar10()
    tested, answers = (test_images, test_labels) if test else (images[-5000:], labels[-5000:])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, list(images[:CALIBRATION, None]))
        ways = [(title, folder / kind, make(folder / kind), [], []) for title, kind, make in FILES]
        for first in range(0, len(tested), TURN):
            turn = tested[first : first + TURN]
            for _, _, run, rates, hits in ways:
                before = time.perf_counter()
                scores = np.concatenate([run(turn[start : start + BATCH]) for start in range(0, len(turn), BATCH)])
                rates.append(len(turn) / (time.perf_counter() - before))
                hits.extend(scores.argmax(1) == answers[first : first + TURN])
        print("| file | top-1, % | MB | pictures a second |\n|---|---|---|---|")
        for title, path, _, rates, hits in ways:
            size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
            print(f"| {title} | {100 * np.mean(hits):.2f} | {size:.1f} | {statistics.median(rates):.0f} |")


if __name__ == "__main__":
    main()
