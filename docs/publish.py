"""Takes the folder of a finished run over into the package, and prints its row of the weights table.

python docs/publish.py runs/best cifar10_v2    # then paste the row into src/allconvnet/_weights.py
"""

import hashlib
import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import keras

TOP = Path(__file__).parents[1]


def main(run: Path, tag: str) -> None:
    """Copies the weights, the log, the curve and the result."""
    result = json.loads((run / "result.json").read_text())
    name = f"{result['variant']}.{tag}"
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
        "seed": result["seed"],
        "versions": ", ".join(
            [*(f"{name} {version(name)}" for name in ("keras", keras.backend.backend())), result["precision"]]
        ),
    }
    if result["dataset"] == "cifar100":  # All of its test images are exact.
        fields["notes"] = ""
    print("    Weights(")
    for field, value in fields.items():
        print(f"        {field}={value!r},".replace("'", '"'))
    print("    ),")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
