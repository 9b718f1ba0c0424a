"""The site: `sphinx-build -W docs site`."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent))

import gallery

import allconvnet

project = "allconvnet"
author = "The allconvnet authors"
copyright = "The allconvnet authors, MIT license"
release = version = allconvnet.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery/*.ipynb", "gallery/*.py"]
html_theme = "furo"
html_title = f"allconvnet {release}"
html_show_sphinx = False
default_role = "code"  # docstrings write `names` as Markdown does
python_maximum_signature_line_length = 80
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_type_aliases = {"Variant": "Variant"}
napoleon_google_docstring, napoleon_numpy_docstring = True, False
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
sphinx_gallery_conf = gallery.SETTINGS


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("source-read", gallery.add_stored_output)
