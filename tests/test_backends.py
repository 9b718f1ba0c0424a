"""Everything on JAX, in a process in which importing TensorFlow raises."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

# What of the suite touches a backend; downloads, pictures and tables do not.
FILES = [
    "test_augment.py",
    "test_explain.py",
    "test_models.py",
    "test_optimizers.py",
    "test_recipes.py",
    "test_training.py",
    "test_weights.py",
]

CODE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            raise ImportError("TensorFlow must not be imported here")

sys.meta_path.insert(0, Refuse())
import pytest
raise SystemExit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND") == "jax", reason="this is the process that the test starts")
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_jax_without_tensorflow():
    here = Path(__file__).parent
    # Top-1 is a matter of the weights, and recipes of their numbers, not of the backend: once is enough.
    once = ["tests/test_weights.py::test_top1", "tests/test_training.py::test_recipe_learns"]
    arguments = ["-q", "-p", "no:cacheprovider", *(f"--deselect={test}" for test in once)]
    result = subprocess.run(
        [sys.executable, "-c", CODE, *arguments, *(str(here / file) for file in FILES)],
        cwd=here.parent,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "passed" in result.stdout


def test_the_hook_raises():
    code = CODE.split("import pytest")[0] + "import tensorflow"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "TensorFlow must not be imported here" in result.stderr
