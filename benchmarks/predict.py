"""What a prediction costs, on Keras' backends and on the runtimes of exported files.

Exports all_cnn_c with its CIFAR-10 weights, uint8 in, to every format whose packages are installed. Then, in each round
and for each way in turn, a fresh process measures: the seconds from its start to the first label of a picture, its peak
memory, and the pictures a second in calls of 1, 8, 64 and 512. Prints two tables of the best of the rounds, because
others may use the machine, and writes all values and a plot.

python benchmarks/predict.py --output predict.json --plot predict.png
"""

import argparse
import functools
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
TOP = Path(__file__).resolve().parents[1]
CALLS = {1: 20, 8: 8, 64: 4, 512: 2}  # Size of a batch and number of calls, of which the fastest counts.
Predict = Callable[[np.ndarray], np.ndarray]
FORMATS = {"net.onnx": "onnx", "net.xml": "openvino", "net.tflite": "litert"}
EXPORT = """import sys, keras, allconvnet
signature = [keras.InputSpec(shape=(None, 32, 32, 3), dtype="uint8")]
options = {"format": sys.argv[2], "input_signature": signature, "verbose": False}
allconvnet.AllConvNet("all_cnn_c").export(sys.argv[1], **options)"""


def keras_method(name: str) -> Predict:
    """A method of the model, on the backend of this process."""
    import allconvnet

    model = allconvnet.AllConvNet("all_cnn_c")
    if name == "predict":
        return lambda images: model.predict(images, len(images), verbose=0)
    return model.predict_on_batch if name == "predict_on_batch" else lambda images: np.asarray(model(images))


def torch_module(kind: str) -> Predict:
    """The model as a torch.nn.Module, without Keras' loops."""
    import torch
    from torch import nn

    import allconvnet

    model = net = allconvnet.AllConvNet("all_cnn_c")
    if kind == "layers":  # The same net from PyTorch's layers, channels last in memory.
        net = nn.Sequential()
        for layer in filter(lambda layer: hasattr(layer, "kernel"), model.layers):
            halves = layer.strides == (2, 2)  # Then Keras pads at the end only.
            net.append(nn.ZeroPad2d((0, int(halves)) * 2))
            padding = "valid" if halves else layer.padding
            net.append(nn.Conv2d(*layer.kernel.shape[2:], layer.kernel_size, layer.strides, padding))
            net[-1].load_state_dict({"weight": layer.kernel.value.permute(3, 2, 0, 1), "bias": layer.bias.value})
            net.append(nn.ReLU())
        net = nn.Sequential(*net[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1))
        scale, offset = (
            torch.tensor(values).view(3, 1, 1) for values in (model.layers[1].scale, model.layers[1].offset)
        )
    net = net.eval().to(memory_format=torch.channels_last)
    call = torch.compile(net) if kind == "compile" else net

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            pixels = torch.from_numpy(images)
            return call(pixels.permute(0, 3, 1, 2) * scale + offset if kind == "layers" else pixels).numpy()

    return predict


def onnx_runtime(file: Path | str) -> Predict:
    """ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def opencv(file: Path | str) -> Predict:
    """OpenCV's cv2.dnn."""
    import cv2

    net = cv2.dnn.readNetFromONNX(str(file))
    return lambda images: net.setInput(images) or net.forward().reshape(len(images), -1)  # 4.13: [N, 1, classes]


def openvino(file: Path | str, precision: str = "f32") -> Predict:
    """OpenVINO, by default in float32."""
    import openvino

    model = openvino.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return lambda images: model(images)[0]


def litert(file: Path | str) -> Predict:
    """LiteRT with a thread for each core."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(file), num_threads=os.cpu_count()).get_signature_runner()
    (name,) = runner.get_input_details()
    return lambda images: next(iter(runner(**{name: images}).values()))


openvino_bfloat16 = functools.partial(openvino, precision="bf16")  # Its own choice where the processor can.
# Name, backend of Keras or "", packages and programs that it needs, how to open it, a file or a method.
WAYS = [
    ("TensorFlow, predict", "tensorflow", ["tensorflow"], keras_method, "predict"),
    ("TensorFlow, model(images)", "tensorflow", ["tensorflow"], keras_method, "call"),
    ("TensorFlow, predict_on_batch", "tensorflow", ["tensorflow"], keras_method, "predict_on_batch"),
    ("JAX, predict_on_batch", "jax", ["jax"], keras_method, "predict_on_batch"),
    ("PyTorch, predict_on_batch", "torch", ["torch"], keras_method, "predict_on_batch"),
    ("PyTorch, model(images)", "torch", ["torch"], torch_module, "call"),
    ("PyTorch, torch.compile(model)", "torch", ["torch", "g++"], torch_module, "compile"),
    ("PyTorch's own layers", "torch", ["torch"], torch_module, "layers"),
    ("Keras on OpenVINO, bfloat16", "openvino", ["openvino", "scipy"], keras_method, "predict_on_batch"),
    ("Keras on NumPy", "numpy", ["jax", "scipy"], keras_method, "predict_on_batch"),
    ("ONNX Runtime", "", ["tf2onnx", "onnxruntime"], onnx_runtime, "net.onnx"),
    ("cv2.dnn", "", ["tf2onnx"], opencv, "net.onnx"),
    ("OpenVINO, float32", "", ["openvino"], openvino, "net.xml"),
    ("OpenVINO, bfloat16", "", ["openvino"], openvino_bfloat16, "net.xml"),
    ("LiteRT", "", ["ai_edge_litert"], litert, "net.tflite"),
]


def measure(make: Callable[[str], Predict], what: str, started: float) -> dict[str, float]:
    """Everything about one way, in a fresh process."""
    before = time.perf_counter()
    import allconvnet

    values = {"import": time.perf_counter() - before}
    predict = make(what)
    picture = allconvnet.load_images([TOP / "examples/pictures/cat.jpg"])
    label = allconvnet.decode_predictions(predict(picture))[0][0][0]
    values["first"] = time.time() - started
    if label != "cat":
        raise RuntimeError(f"A cat was taken for a {label}.")
    images = np.random.default_rng(0).integers(0, 256, (max(CALLS), 32, 32, 3), dtype="uint8")
    for size, calls in CALLS.items():
        call = functools.partial(predict, images[:size])
        call()  # The first call may compile.
        values[str(size)] = size / min(timeit.repeat(call, number=1, repeat=calls))
    return values | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_a_process(number: int, folder: Path) -> dict[str, float]:
    """`measure` for the way of that number."""
    backend = WAYS[number][1] or "tensorflow"
    command = [sys.executable, Path(__file__).resolve(), "--way", str(number), "--started", str(time.time())]
    options = {"cwd": folder, "env": os.environ | {"KERAS_BACKEND": backend}, "stdout": subprocess.PIPE, "check": True}
    ended = subprocess.run(command, **options)  # noqa: S603
    return json.loads(ended.stdout.splitlines()[-1])


def report(rounds: list[dict[str, dict[str, float]]], file: Path) -> None:
    """Two tables of the best of the rounds, and a plot."""
    import matplotlib.pyplot as plt

    def best(name: str, key: str | int) -> float:
        choose = min if key in ("first", "import", "memory") else max
        return choose(each[name][str(key)] for each in rounds)

    print("| method | first label, s | memory, MB |\n|---|---|---|")
    for name in rounds[0]:
        print(f"| {name} | {best(name, 'first'):.1f} | {best(name, 'memory'):.0f} |")
    print("\n| pictures a second, in calls of |", " | ".join(map(str, CALLS)), "|")
    print("|---" * (len(CALLS) + 1) + "|")
    axes = plt.figure(figsize=(9, 6), layout="constrained").add_subplot(xscale="log", yscale="log")
    for number, name in enumerate(rounds[0]):
        rates = [best(name, size) for size in CALLS]
        print(f"| {name} |", " | ".join(f"{rate:.0f}" for rate in rates), "|")
        axes.plot(list(CALLS), rates, marker="osv^"[number // 4], color=f"C{number % 10}", label=name)
    imports = 1000 * min(best(name, "import") for name in rounds[0])
    print(f"\nimport allconvnet: {imports:.0f} ms.")
    axes.set(xlabel="pictures in a call", ylabel="pictures a second", xticks=list(CALLS), xticklabels=list(CALLS))
    axes.grid(alpha=0.3)
    axes.figure.legend(loc="outside right upper", fontsize="small")
    axes.figure.savefig(file, dpi=120)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure what predictions cost.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("predict.json"))
    parser.add_argument("--plot", type=Path, default=Path("predict.png"))
    for name in ("way", "started"):  # For the processes that it starts.
        parser.add_argument(f"--{name}", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way is not None:
        print(json.dumps(measure(*WAYS[int(arguments.way)][3:], arguments.started)))
        return
    installed = [n for n, way in enumerate(WAYS) if all(importlib.util.find_spec(p) or shutil.which(p) for p in way[2])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in {WAYS[number][4] for number in installed} & set(FORMATS):
            command = [sys.executable, "-c", EXPORT, folder / file, FORMATS[file]]
            subprocess.run(command, check=True, env=os.environ | {"KERAS_BACKEND": "tensorflow"})  # noqa: S603
        rounds = []
        for _ in range(arguments.rounds):
            rounds.append({WAYS[number][0]: in_a_process(number, folder) for number in installed})
            arguments.output.write_text(json.dumps(rounds, indent=1) + "\n")
    report(rounds, arguments.plot)


if __name__ == "__main__":
    main()
