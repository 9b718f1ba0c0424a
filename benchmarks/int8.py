"""What int8 costs in accuracy and gains in speed, with the quantizers of three runtimes.

Exports all_cnn_c with the weights of the table in docs/howto/export.md, uint8 in, quantizes it on 300 training images,
and prints top-1, size of the file and pictures a second in batches of 64. The files take turns at 1,024 images; the
speed is the median.

python benchmarks/int8.py           # top-1 on the last 5,000 training images, to choose options
python benchmarks/int8.py --test    # on the 10,000 test images
"""

import argparse
import tempfile
import time
from pathlib import Path

import keras
import nncf
import numpy as np
import openvino
import predict
import tensorflow as tf
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

import allconvnet

CALIBRATION, TURN, BATCH = 300, 1024, 64
FILES = [  # Title, file, how to open it.
    ("OpenVINO, float32", "openvino.xml", predict.openvino),
    ("OpenVINO, bfloat16", "openvino.xml", predict.openvino_bfloat16),
    ("OpenVINO, int8", "openvino8.xml", predict.openvino),
    ("LiteRT, float32", "litert.tflite", predict.litert),
    ("LiteRT, int8", "litert8.tflite", predict.litert),
    ("ONNX Runtime, float32", "onnx.onnx", predict.onnx_runtime),
    ("ONNX Runtime, int8", "onnx8.onnx", predict.onnx_runtime),
]


class Reader(CalibrationDataReader):
    """Images for ONNX Runtime."""

    def __init__(self, images: list[np.ndarray]):
        self.images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input, None at the end."""
        return next(({"images": image} for image in self.images), None)


def write(folder: Path, images: list[np.ndarray]) -> None:
    """All files."""
    model = allconvnet.AllConvNet("all_cnn_c", weights="cifar10_robust_v1")
    signature = [keras.InputSpec(shape=(None, 32, 32, 3), dtype="uint8", name="images")]
    options = {"input_signature": signature, "verbose": False}
    model.export(f"{folder}/openvino.xml", format="openvino", **options)
    network = openvino.Core().read_model(folder / "openvino.xml")
    openvino.save_model(nncf.quantize(network, nncf.Dataset(images)), folder / "openvino8.xml")
    model.export(f"{folder}/onnx.onnx", format="onnx", **options)
    # Weights of 7 bits: with 8, sums saturate in the instructions of some processors.
    options8 = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "reduce_range": True}
    quantize_static(folder / "onnx.onnx", folder / "onnx8.onnx", Reader(images), **options8)
    model.export(f"{folder}/litert.tflite", format="litert", **options)
    options |= {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": lambda: ([x] for x in images)}
    model.export(f"{folder}/litert8.tflite", format="litert", **options)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure int8 files.")
    parser.add_argument("--test", action="store_true", help="top-1 on the test images")
    on_test = parser.parse_args().test
    (images, labels), (tested, answers) = allconvnet.load_cifar10()
    if not on_test:
        tested, answers = images[-5000:], labels[-5000:]
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), list(images[:CALIBRATION, None]))
        ways = [(title, Path(name, file), make(Path(name, file)), [], []) for title, file, make in FILES]
        for first in range(0, len(tested), TURN):
            turn = tested[first : first + TURN]
            for _, _, run, rates, hits in ways:
                before = time.perf_counter()
                scores = np.concatenate([run(turn[start : start + BATCH]) for start in range(0, len(turn), BATCH)])
                rates.append(len(turn) / (time.perf_counter() - before))
                hits.extend(scores.argmax(1) == answers[first : first + TURN])
        print("| file | top-1, % | MB | pictures a second |\n|---|---|---|---|")
        for title, path, _, rates, hits in ways:
            size = sum(part.stat().st_size for part in path.parent.glob(f"{path.stem}.*")) / 1e6
            print(f"| {title} | {100 * np.mean(hits):.2f} | {size:.1f} | {np.median(rates):.0f} |")


if __name__ == "__main__":
    main()
