"""Takes the folder of a finished run over into the package, and adds its row to the weights table.

python docs/publish.py runs/best cifar10_v2 && python docs/tables.py
"""

import csv
import hashlib
import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import keras

import allconvnet

TOP = Path(__file__).parents[1]


def main(run: Path, tag: str) -> None:
    """Copies the weights, the log, the curve and the result, and writes the row."""
    result = json.loads((run / "result.json").read_text())
    name = f"{result['variant']}.{tag}"
    if name in allconvnet.list_weights():
        sys.exit(f"{name} is published already; a published tag never changes.")
    content = (run / f"{result['variant']}.weights.h5").read_bytes()
    (TOP / f"src/allconvnet/weights/{name}.weights.h5").write_bytes(content)
    folder = TOP / "docs/runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("log.csv", "curve.png", "result.json"):
        shutil.copy(run / file, folder / file)
    fields = {
        "variant": result["variant"],
        "tag": tag,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "params": result["params"],
        "top1": result["top1"],
        "split": f"CIFAR-{result['dataset'].removeprefix('cifar')} {result['split']}",
        "images": result["test_images"],
        "recipe": result["recipe_name"],
        "epochs": sum(epochs for epochs, _ in result["recipe"]["phases"]),
        "cost": result["cost"],
        "seconds": round(sum(float(row["seconds"]) for row in csv.DictReader((run / "log.csv").open())), 1),
        "machine": result["machine"],
        "seed": result["seed"],
        "versions": ", ".join(
            [*(f"{name} {version(name)}" for name in ("keras", keras.backend.backend())), result["precision"]]
        ),
    }
    if result["dataset"] == "cifar100":  # All of its test images are exact.
        fields["notes"] = ""
    row = "".join(f"        {field}={value!r},\n".replace("'", '"') for field, value in fields.items())
    table = TOP / "src/allconvnet/_weights.py"
    text = table.read_text()
    table.write_text(text.replace("\n]\nWEIGHTS", f"\n    Weights(\n{row}    ),\n]\nWEIGHTS"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
