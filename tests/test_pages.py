"""The Python blocks of the README and of the pages run, each page from top to bottom."""

import importlib.util
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import allconvnet

TOP = Path(__file__).parents[1]
PAGES = [TOP / "README.md", *sorted(path for path in TOP.glob("docs/**/*.md") if path.parent.name != "models")]
PAGES = [page for page in PAGES if "```python" in page.read_text()]
BLOCK = re.compile(r"^(?:<!-- needs ([\w ]+) -->\n)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


# Keras 3.15 asks NumPy for names that tf2onnx misses.
@pytest.mark.filterwarnings("ignore:In the future `np.object` will be defined:FutureWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_runs(page, tmp_path, monkeypatch, tiny):
    """In a folder with the examples and a picture.

    A block after `<!-- needs X Y -->` runs only where X and Y are installed and, if it sets KERAS_BACKEND, one is the
    backend. A training of minutes is one of a tiny net on noise.
    """
    (tmp_path / "examples").symlink_to(TOP / "examples")
    (tmp_path / "cat.jpg").symlink_to(TOP / "examples/pictures/cat.jpg")
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    data = [(random.integers(0, 256, (size, 32, 32, 3), "uint8"), np.arange(size) % 10) for size in (512, 64)]
    fit = allconvnet.fit_cifar10
    monkeypatch.setattr(allconvnet, "fit_cifar10", lambda variant, **options: fit(tiny, data=data, **options))
    text = page.read_text()
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python")
    names = {"__name__": page.stem}
    for block in blocks:
        needed, code = (block[1] or "").split(), block[2]
        other = "KERAS_BACKEND" in code and keras.backend.backend() not in needed
        if all(map(importlib.util.find_spec, needed)) and not other:
            # Empty lines before it, so that a traceback has the line of the page.
            before = "\n" * text.count("\n", 0, block.start(2))
            exec(compile(before + code, page, "exec"), names)  # noqa: S102 - our own pages
