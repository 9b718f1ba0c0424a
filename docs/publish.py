"""Takes the folder of a finished run over into the package, and adds its row to the weights table.

python docs/publish.py runs/best cifar10_v2 && PYTHONPATH=src python docs/tables.py
"""

import csv
import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

TOP = Path(__file__).parents[1]
TABLE = TOP / "src/allconvnet/_weights.py"
END = "\n]\nWEIGHTS"


def main(run: Path, tag: str) -> None:
    """Copies the weights, the log, the curve and the result, and writes the row."""
    result = json.loads((run / "result.json").read_text())
    content = (run / f"{result['variant']}.weights.h5").read_bytes()
    name = f"{result['variant']}.{tag}"
    file, folder = TOP / f"src/allconvnet/weights/{name}.weights.h5", TOP / "docs/runs" / name
    text = TABLE.read_text()
    objections = {
        f"the tag is not {result['dataset']}_v<number>": not re.fullmatch(rf"{result['dataset']}_v[1-9]\d*", tag),
        "a published tag never changes, and this one is there": file.exists() or folder.exists(),
        "it is not trained on all images and measured on the test's": (result["images"], result["split"])
        != (50_000, "test"),
        f"{TABLE.name} does not end its table as expected": text.count(END) != 1,
    }
    for objection, holds in objections.items():
        if holds:
            sys.exit(f"{name} is not published: {objection}.")
    file.write_bytes(content)
    folder.mkdir(parents=True)
    for part in ("log.csv", "curve.png", "result.json"):
        shutil.copy(run / part, folder / part)
    log = csv.DictReader((run / "log.csv").read_text().splitlines())
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
        "seconds": round(sum(float(row["seconds"]) for row in log), 1),
        "machine": result["machine"],
        "seed": result["seed"],
        "versions": result["versions"],
    }
    if result["dataset"] == "cifar100":  # All of its test images are exact.
        fields["notes"] = ""
    row = "".join(f"        {field}={value!r},\n".replace("'", '"') for field, value in fields.items())
    TABLE.write_text(text.replace(END, f"\n    Weights(\n{row}    ),{END}"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
