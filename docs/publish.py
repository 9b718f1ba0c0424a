"""Copies a finished run into the package and adds its record to the index of weights.

python docs/publish.py runs/best cifar10_v7             # all_cnn_c.cifar10_v7, by its full name only
python docs/publish.py runs/best cifar10_v7 --default   # "cifar10" means it from now on
"""

import argparse
import csv
import hashlib
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

TOP = Path(__file__).parents[1]
# Number of training images, and what is measured.
DATASETS = {
    "cifar10": (50_000, "CIFAR-10 test"),
    "cifar100": (50_000, "CIFAR-100 test"),
    "transfer": (75_000, "test of CIFAR-10 and 50 classes of CIFAR-100"),
}
HEAD = "# The published weights, one table a file. Written by docs/publish.py.\n"


def main(run: Path, tag: str, default: bool) -> None:
    """Copies the weights, the log and the result, and writes the index."""
    result = json.loads((run / "result.json").read_text())
    content = (run / f"{result['variant']}.weights.h5").read_bytes()
    dataset, name = result["dataset"], f"{result['variant']}.{tag}"
    count, split = DATASETS[dataset]
    index, folder = TOP / "src/allconvnet/weights/index.toml", TOP / "docs/runs" / name
    tables = tomllib.loads(index.read_text())
    objections = {
        f"the tag is not {dataset}_<name>_v<number>": not re.fullmatch(rf"{dataset}(_[a-z]+)?_v[1-9]\d*", tag),
        "a published tag never changes, and this one is there": name in tables or folder.exists(),
        "it is not trained on all images and measured on the test's": (result["images"], result["split"])
        != (count, "test"),
        "its recipe has no name": result["recipe_name"] == "custom",
    }
    for objection, holds in objections.items():
        if holds:
            sys.exit(f"{name} is not published: {objection}.")
    (index.parent / f"{name}.weights.h5").write_bytes(content)
    folder.mkdir(parents=True)
    for part in ("log.csv", "result.json"):
        shutil.copy(run / part, folder / part)
    for other, table in tables.items():
        if default and other.startswith(f"{result['variant']}.{dataset}_"):
            table.pop("default", None)
    log = csv.DictReader((run / "log.csv").read_text().splitlines())
    tables[name] = {"default": True} if default else {}
    tables[name] |= {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "params": result["params"],
        "top1": result["top1"],
        "split": split,
        "images": result["test_images"],
        "recipe": result["recipe_name"],
        "epochs": sum(epochs for epochs, _ in result["recipe"]["phases"]),
        "cost": result["cost"],
        "seconds": round(sum(float(row["seconds"]) for row in log), 1),
        "machine": result["machine"],
        "seed": result["seed"],
        "versions": result["versions"],
    }
    index.write_text(HEAD + "".join(f'\n["{name}"]\n{lines(table)}' for name, table in tables.items()))


def lines(table: dict) -> str:
    """A table in TOML, whose numbers, texts and booleans are written as in JSON."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Publish the weights of a finished run.")
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("tag", help="data set and version, such as cifar10_v7")
    parser.add_argument("--default", action="store_true", help="what the name of the data set means from now on")
    main(**vars(parser.parse_args()))
