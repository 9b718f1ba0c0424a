"""The Python blocks of the how-to pages run, each page from top to bottom."""

import importlib.util
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PAGES = sorted(TOP.glob("docs/howto/*.md"))
BLOCK = re.compile(r"^(?:<!-- needs (\w+) -->\n)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_runs(page, tmp_path, monkeypatch):
    """In an empty folder with the example pictures; a block after `<!-- needs X -->` only where X is installed."""
    (tmp_path / "examples").symlink_to(TOP / "examples")
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python")
    names = {"__name__": page.stem}
    for block in blocks:
        needed, code = block.groups()
        if needed is None or importlib.util.find_spec(needed):
            # Empty lines before it, so that a traceback has the line of the page.
            before = "\n" * text.count("\n", 0, block.start(2))
            exec(compile(before + code, page, "exec"), names)  # noqa: S102 - our own pages
