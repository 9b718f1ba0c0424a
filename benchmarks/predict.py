"""What a prediction costs, on Keras' backends and on the runtimes of exported files.

Exports all_cnn_c with its CIFAR-10 weights, uint8 in, to every format whose packages are installed. Then, in each round
and for each way in turn, a fresh process measures: the seconds from its start to the first label of a picture, the
median milliseconds of one picture, the pictures a second in batches of 64, and its peak memory. Prints the medians over
the rounds and the ratios to ONNX Runtime as a table; writes all values to a JSON file.

python benchmarks/predict.py
"""

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

TOP = Path(__file__).parents[1]
BATCH = 64
Predict = Callable[[np.ndarray], object]
EXPORT = """
import sys
import keras
import allconvnet

signature = [keras.InputSpec(shape=(None, 32, 32, 3), dtype="uint8")]
model = allconvnet.AllConvNet("all_cnn_c")
model.export(sys.argv[1], format=sys.argv[2], input_signature=signature, verbose=False)
"""


def keras_model():
    """The model, on the backend of this process."""
    import allconvnet

    return allconvnet.AllConvNet("all_cnn_c")


def keras_call(_: Path) -> Predict:
    """`model(images)`."""
    model = keras_model()
    from keras import ops

    return lambda images: ops.convert_to_numpy(model(images, training=False))


def keras_predict(_: Path) -> Predict:
    """`model.predict(images)`."""
    model = keras_model()
    return lambda images: model.predict(images, verbose=0)


def keras_predict_on_batch(_: Path) -> Predict:
    """`model.predict_on_batch(images)`."""
    return keras_model().predict_on_batch


def plain_torch(_: Path) -> Predict:
    """The model as a torch.nn.Module, without Keras' loops."""
    import torch

    model = keras_model().eval()

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()

    return predict


def onnx_runtime(folder: Path) -> Predict:
    """ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "net.onnx")
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def opencv(folder: Path) -> Predict:
    """OpenCV's cv2.dnn."""
    import cv2

    net = cv2.dnn.readNetFromONNX(str(folder / "net.onnx"))

    def predict(images: np.ndarray) -> np.ndarray:
        net.setInput(images)
        return net.forward()

    return predict


def openvino(folder: Path, precision: str = "f32") -> Predict:
    """OpenVINO in float32."""
    import openvino

    model = openvino.compile_model(folder / "net.xml", "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return lambda images: model(images)[0]


def openvino_bfloat16(folder: Path) -> Predict:
    """OpenVINO in bfloat16, its own choice where the processor has instructions for it."""
    return openvino(folder, "bf16")


def litert(folder: Path) -> Predict:
    """LiteRT with two threads."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(folder / "net.tflite"), num_threads=os.cpu_count()).get_signature_runner()
    (name,) = runner.get_input_details()
    return lambda images: next(iter(runner(**{name: images}).values()))


# Name, backend of Keras or "" for a runtime, packages that it needs, its format of export.
WAYS = [
    ("TensorFlow, model.predict", "tensorflow", ["tensorflow"], "", keras_predict),
    ("TensorFlow, model(images)", "tensorflow", ["tensorflow"], "", keras_call),
    ("TensorFlow, predict_on_batch", "tensorflow", ["tensorflow"], "", keras_predict_on_batch),
    ("JAX, predict_on_batch", "jax", ["jax"], "", keras_predict_on_batch),
    ("PyTorch, predict_on_batch", "torch", ["torch"], "", keras_predict_on_batch),
    ("PyTorch, model(images)", "torch", ["torch"], "", plain_torch),
    ("ONNX Runtime", "", ["tensorflow", "tf2onnx", "onnxruntime"], "onnx", onnx_runtime),
    ("cv2.dnn", "", ["tensorflow", "tf2onnx", "cv2"], "onnx", opencv),
    ("OpenVINO", "", ["tensorflow", "openvino"], "openvino", openvino),
    ("OpenVINO, bfloat16", "", ["tensorflow", "openvino"], "openvino", openvino_bfloat16),
    ("LiteRT", "", ["tensorflow", "ai_edge_litert"], "litert", litert),
]
FILES = {"onnx": "net.onnx", "openvino": "net.xml", "litert": "net.tflite"}
COLUMNS = {"first label, s": "first", "one picture, ms": "one", "pictures a second": "many", "memory, MB": "memory"}


def measure(make: Callable[[Path], Predict], folder: Path, started: float, count: int) -> dict[str, float]:
    """In a fresh process: everything about one way."""
    import allconvnet

    predict = make(folder)
    picture = allconvnet.load_images([TOP / "examples/pictures/cat.jpg"])
    label = allconvnet.decode_predictions(predict(picture))[0][0][0]
    first = time.time() - started
    if label != "cat":
        raise RuntimeError(f"A cat was taken for a {label}.")
    times = []
    for _ in range(20):
        before = time.perf_counter()
        predict(picture)
        times.append(time.perf_counter() - before)
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype="uint8")
    predict(images[:BATCH])
    before = time.perf_counter()
    if make is keras_predict:
        predict(images)
    else:
        for start in range(0, count, BATCH):
            predict(images[start : start + BATCH])
    many = count / (time.perf_counter() - before)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first": first, "one": 1000 * statistics.median(times), "many": many, "memory": memory}


def in_a_process(number: int, folder: Path, count: int) -> dict[str, float]:
    """`measure` for the way of that number."""
    environment = os.environ | ({"KERAS_BACKEND": WAYS[number][1]} if WAYS[number][1] else {})
    command = [sys.executable, __file__, "--way", str(number), "--folder", str(folder), "--count", str(count)]
    command += ["--started", str(time.time())]
    ended = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure what predictions cost.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=960, help="pictures, in batches of 64 (default: 960)")
    parser.add_argument("--output", type=Path, default=Path("predict.json"))
    for name, kind in (("way", int), ("folder", Path), ("started", float)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)  # For the processes that it starts.
    arguments = parser.parse_args()
    if arguments.way is not None:
        make = WAYS[arguments.way][-1]
        print(json.dumps(measure(make, arguments.folder, arguments.started, arguments.count)))
        return
    installed = [n for n, way in enumerate(WAYS) if all(map(importlib.util.find_spec, way[2]))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in {WAYS[number][3] for number in installed} - {""}:
            command = [sys.executable, "-c", EXPORT, str(folder / FILES[kind]), kind]
            subprocess.run(command, check=True, env=os.environ | {"KERAS_BACKEND": "tensorflow"})  # noqa: S603
        rounds = [{n: in_a_process(n, folder, arguments.count) for n in installed} for _ in range(arguments.rounds)]
    report(installed, rounds, arguments.output)


def report(installed: list[int], rounds: list[dict], output: Path) -> None:
    """The table, with the ratios to ONNX Runtime in brackets, and the JSON file."""
    names = [WAYS[number][0] for number in installed]
    base = installed[names.index("ONNX Runtime")] if "ONNX Runtime" in names else installed[0]
    print("| way |", " | ".join(COLUMNS), "|\n|---|" + "---|" * len(COLUMNS))
    values = {}
    for number in installed:
        cells = []
        for column in COLUMNS.values():
            median = statistics.median(each[number][column] for each in rounds)
            ratio = statistics.median(each[number][column] / each[base][column] for each in rounds)
            cells.append(f"{median:.3g} ({ratio:.2f})" if median < 1000 else f"{median:.0f} ({ratio:.2f})")
        print(f"| {WAYS[number][0]} |", " | ".join(cells), "|")
        values[WAYS[number][0]] = [each[number] for each in rounds]
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "batch": BATCH}
    output.write_text(json.dumps(machine | {"rounds": values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
