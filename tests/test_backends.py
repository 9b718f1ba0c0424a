"""Everything on JAX and on PyTorch, in processes in which no other backend can be imported."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import allconvnet

# What of the suite touches a backend; downloads, pictures and tables do not.
FILES = [
    "test_augment.py",
    "test_explain.py",
    "test_export.py",
    "test_models.py",
    "test_optimizers.py",
    "test_training.py",
]
# A matter of weights files, of NumPy or of the folder of a run, not of the backend: once is enough.
ONCE = [
    "tests/test_models.py::test_parameters_and_shapes",
    "tests/test_models.py::test_published_weights_load",
    "tests/test_models.py::test_net_",
    "tests/test_models.py::test_what_cannot",
    "tests/test_training.py::test_full_disk",
    "tests/test_training.py::test_recipe_learns",
    "tests/test_training.py::test_resumes_after_sigkill",
    "tests/test_training.py::test_run_of_before",
    "tests/test_training.py::test_whitening",
]

REFUSE = """
import importlib.util, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name in REFUSED else None

    def create_module(self, spec):
        raise ModuleNotFoundError(f"{spec.name} must not be imported here", name=spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Refuse())
"""
PYTEST = """
import pytest, sys
raise SystemExit(pytest.main(sys.argv[1:]))
"""
LOGITS = """
import allconvnet, numpy, sys
images = numpy.load(sys.argv[1])
for name in ("all_cnn_c.cifar10", "convpool_cnn_b.cifar10"):
    model = allconvnet.AllConvNet(name.split(".")[0], weights=name, classifier_activation=None)
    numpy.save(name, model.predict(images, verbose=0))
"""
# The processes that these tests start on JAX and on PyTorch must not start others.
pytestmark = pytest.mark.skipif(
    os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow", reason="started from TensorFlow"
)


def refusing(packages):
    """Code after which none of the packages can be imported. They can be found: PyTorch looks for many."""
    return f"REFUSED = {packages}{REFUSE}"


def start(backend, code, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", refusing({"tensorflow", "jax", "torch"} - {backend}) + code, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_suite_without_tensorflow(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    here = Path(__file__).parent
    arguments = ["-q", "-p", "no:cacheprovider", *(f"--deselect={test}" for test in ONCE)]
    result = start(backend, PYTEST, *arguments, *(here / file for file in FILES), cwd=here.parent)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "passed" in result.stdout


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_logits_of_real_images_are_those_of_tensorflow(backend, tmp_path, cifar10):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    images = cifar10[1][0][:256]
    np.save(tmp_path / "images.npy", images)
    result = start(backend, LOGITS, tmp_path / "images.npy", cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    files = sorted(tmp_path.glob("*.cifar*.npy"))
    assert len(files) == 2
    for file in files:
        model = allconvnet.AllConvNet(file.name.split(".")[0], weights=file.stem, classifier_activation=None)
        np.testing.assert_allclose(np.load(file), model.predict(images, verbose=0), rtol=0, atol=1e-4)


def test_a_backend_that_is_not_installed():
    code = refusing({"torch"}) + "import allconvnet; allconvnet.AllConvNet"
    environment = os.environ | {"KERAS_BACKEND": "torch"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    errors = ended.stderr.splitlines()
    assert errors[-1].startswith("ImportError: Keras' backend is not installed. Received: 'torch'. Allowed: ")
    assert "During handling" not in "".join(errors)


def test_what_is_refused_cannot_be_imported(tmp_path):
    assert "tensorflow must not be imported here" in start("jax", "import tensorflow", cwd=tmp_path).stderr
