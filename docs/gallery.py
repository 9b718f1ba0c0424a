"""Settings of the gallery: which examples run while the site is built, and with what they are shown otherwise."""

import os
import time
from pathlib import Path

DOCS = Path(__file__).parent
STARTED = time.time()
# The variable without which an example does not run in a build; "never": it takes minutes, or needs
# more than the extra "docs".
NEEDS = {
    "visualize_units": "ALLCONVNET_CIFAR10",
    "evaluate_cifar10": "ALLCONVNET_CIFAR10",
    "transfer_learning": "never",
    "train_cifar10": "never",
    "train_distributed": "never",
    "classify_many": "never",
}
PICTURES = {
    "visualize_units": ["explain/units_relu6.png", "explain/class_maps.png", "explain/methods.png"],
    "train_cifar10": ["runs/all_conv_keras.cifar10_v1/curve.png"],
    "transfer_learning": ["outputs/transfer_learning.png"],
}
STORED = {name for name, variable in NEEDS.items() if not os.environ.get(variable)}
# Notebooks have neither a file nor a command line.
FIRST_CELL = """# Run this notebook in the folder `examples` of a checkout. It needs `pip install ".[examples]"` there.
import sys

__file__, sys.argv = "notebook.py", ["notebook.py"]"""


def pictures(block: tuple, block_vars: dict, gallery_conf: dict) -> str:
    """Scraper of sphinx-gallery: takes the pictures that an example wrote."""
    from sphinx_gallery.scrapers import figure_rst

    paths = []
    for picture in sorted(Path(block_vars["src_file"]).parent.glob("*.png")):
        if picture.stat().st_mtime < STARTED:  # A picture of the user's.
            continue
        path = next(block_vars["image_path_iterator"])
        picture.rename(path)
        paths.append(path)
    return figure_rst(paths, gallery_conf["src_dir"])


def add_stored_output(app, docname: str, source: list[str]) -> None:
    """Handler of Sphinx' event: shows what an example that did not run printed and drew where it did."""
    name = docname.removeprefix("gallery/")
    if docname == name or name not in STORED:
        return
    parts = ["\nThis example was not run when this page was built"]
    parts[0] += ". Its output from an earlier run:\n" if name in PICTURES else ".\n"
    if (DOCS / f"outputs/{name}.txt").exists():
        parts.append(f".. literalinclude:: /outputs/{name}.txt\n   :language: none\n")
    parts += [f".. image:: /{picture}\n" for picture in PICTURES.get(name, ())]
    source[0] += "\n".join(parts)


SETTINGS = {
    "examples_dirs": str(DOCS.parent / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": rf"/(?!{'|'.join(sorted(STORED))})\w+\.py$" if STORED else r"\.py$",
    "ignore_pattern": r"_quiet\.py",
    "image_scrapers": ("gallery.pictures",),
    "first_notebook_cell": FIRST_CELL,
    "write_computation_times": False,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "min_reported_time": 1e9,
    "remove_config_comments": True,
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
}
