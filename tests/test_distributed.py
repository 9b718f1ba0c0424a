"""Two processes on this machine train as one does."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from allconvnet import AllConvNet, Recipe, fit_cifar10

CODE = """
import sys
import keras, numpy
import allconvnet

count, process, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if count > 1:
    keras.distribution.initialize(address, count, process)
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
toy = numpy.load("toy.npz")
# SGD: Muon brings all directions of a gradient to one length, those too that are nothing but rounding.
recipe = allconvnet.Recipe(
    phases=((1, 24), (1, 32)), batch_size=8, muon_rate=0.0, sgd_rate=0.02,
)
data = (toy["a"], toy["b"]), (toy["c"], toy["d"])
result = allconvnet.fit_cifar10(
    "strided_cnn_c", recipe=recipe, data=data, output_dir=f"run{count}", precision="float32"
)
print("top1", result.top1)
"""


def start(folder, count, process, address):
    command = [sys.executable, "-c", CODE, str(count), str(process), address]
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_two_processes_train_as_one(tmp_path, toy_cifar10):
    (train_images, train_labels), (images, labels) = toy_cifar10
    np.savez(tmp_path / "toy.npz", a=train_images, b=train_labels, c=images, d=labels)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    outputs = []
    for count in (1, 2):
        running = [start(tmp_path, count, process, address) for process in range(count)]
        try:
            printed = [process.communicate(timeout=400)[0] for process in running]
        finally:
            for process in running:
                process.kill()
                process.wait()
        assert [process.returncode for process in running] == [0] * count, "\n".join(printed)[-6000:]
        outputs += printed
    top1 = {output.split("top1")[1].strip() for output in outputs}
    assert len(top1) == 1
    one, two = (
        AllConvNet("strided_cnn_c", weights=tmp_path / f"run{count}/strided_cnn_c.weights.h5") for count in (1, 2)
    )
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        # Sums in another order round otherwise. Folding amplifies that where a channel hardly varies in these images.
        np.testing.assert_allclose(a, b, atol=3e-2 * np.abs(a).max())
    logs = [(tmp_path / f"run{count}/log.csv").read_text().splitlines()[1:] for count in (1, 2)]
    for first, second in zip(*logs, strict=True):
        losses = [float(line.split(",")[2]) for line in (first, second)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_example_starts_the_processes_and_ends_with_an_error_of_theirs(tmp_path):
    script = Path(__file__).parents[1] / "examples/train_distributed.py"
    command = [sys.executable, str(script), "--processes", "2", "--variant", "all_cnn_large"]
    ended = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=200, check=False)
    assert ended.returncode == 1
    assert "'all_cnn_large' is made for images of 126x126" in ended.stderr


def test_no_process_outlives_one_that_failed(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # The script sets it: restored.
    import train_distributed

    script = tmp_path / "process.py"
    script.write_text("""
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[-1] == "1":
    pathlib.Path("started.tmp").write_text(str(os.getpid()))
    os.replace("started.tmp", "started")
    time.sleep(60)
while not os.path.exists("started"):
    time.sleep(0.1)
sys.exit(3)
""")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert train_distributed.start_all(2) == 1
    with pytest.raises(ProcessLookupError, match="No such process"):
        os.kill(int((tmp_path / "started").read_text()), 0)


def test_other_backends(monkeypatch, toy_cifar10, tmp_path):
    monkeypatch.setattr(keras.distribution, "distribution", lambda: object())
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(ValueError, match=r"Training in several processes needs KERAS_BACKEND=jax"):
        fit_cifar10("strided_cnn_c", data=toy_cifar10, output_dir=tmp_path)


def test_processes_without_a_distribution(monkeypatch, toy_cifar10, tmp_path):
    jax = pytest.importorskip("jax")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=r"2 processes run without a keras.distribution. Call keras"):
        fit_cifar10("strided_cnn_c", data=toy_cifar10, output_dir=tmp_path)


def test_batch_that_does_not_divide(monkeypatch, toy_cifar10, tmp_path):
    from allconvnet import _backend

    monkeypatch.setattr(_backend, "processes", lambda: (1, 3))
    recipe = Recipe(phases=((1, 32),), batch_size=8)
    with pytest.raises(ValueError, match=r"batch_size=8 must be a multiple of the number of processes, 3"):
        fit_cifar10("strided_cnn_c", recipe=recipe, data=toy_cifar10, output_dir=tmp_path, precision="float32")
