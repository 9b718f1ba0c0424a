"""The folder of a training run: checkpoint, log, result."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
from keras import ops

from allconvnet._backend import machine
from allconvnet._files import replacing
from allconvnet.recipes import Recipe

LOWER_RATES = "Lower the recipe's muon_rate and sgd_rate, and train in another output_dir."
_DEFAULTS = json.loads(json.dumps(asdict(Recipe(source="", phases=((1, 32),)))))


@dataclass(frozen=True)
class Run:
    """A training run and its folder.

    `images` counts the training images, `data_crc32` is the checksum of all data, `writes` says whether this process
    writes the files. Two runs are the same if the attributes in `identity` are.
    """

    dataset: str
    variant: str
    recipe: Recipe
    seed: int
    images: int
    precision: str
    data_crc32: int
    label: str
    folder: Path
    writes: bool

    @property
    def identity(self) -> dict:
        """The values that identify this run, as JSON types."""
        names = ("dataset", "variant", "seed", "images", "precision", "data_crc32")
        own = {name: getattr(self, name) for name in names} | {"recipe": asdict(replace(self.recipe, source=""))}
        return json.loads(json.dumps(own | {"backend": keras.backend.backend()}))

    @property
    def weights(self) -> Path:
        """File of the weights."""
        return self.folder / f"{self.variant}.weights.h5"

    @property
    def checkpoint(self) -> Path:
        """File of the checkpoint."""
        return self.folder / "checkpoint.npz"

    def save(self, variables: Sequence, history: list[dict]) -> None:
        """Writes the log first, so that every epoch in the checkpoint is also in the log."""
        values = [ops.convert_to_numpy(variable) for variable in variables]
        if not all(np.isfinite(value).all() for value in values):
            loss = history[-1]["loss"]
            raise FloatingPointError(f"After epoch {len(history)} weights are not finite; loss {loss}. {LOWER_RATES}")
        if not self.writes:
            return
        with replacing(self.folder / "log.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, history[0])
            writer.writeheader()
            writer.writerows(history)
        arrays = {f"variable_{number}": value for number, value in enumerate(values)}
        with replacing(self.checkpoint) as temporary, temporary.open("wb") as file:
            np.savez(file, state=json.dumps({"run": self.identity, "history": history}), **arrays)

    def restore(self, variables: Sequence) -> list[dict]:
        """Fills the variables from the checkpoint and returns its history; [] when there is none."""
        if not self.checkpoint.exists():
            if self.writes:
                self.weights.unlink(missing_ok=True)  # Another run's: they must not be taken for this one's.
            return []
        with np.load(self.checkpoint) as saved:
            state = json.loads(str(saved["state"]))
            different = _different(state["run"], self.identity)
            if different:
                raise ValueError(f"{str(self.folder)!r} holds another run; pass another output_dir, or the values of "
                                 f"that run. Values there and received: {different}.")  # fmt: skip
            for number, variable in enumerate(variables):
                variable.assign(saved[f"variable_{number}"])
        return state["history"]

    def result(self, split: str, images: int) -> dict | None:
        """The result in the folder, if it is this run's."""
        path, wanted = self.folder / "result.json", {"split": split, "test_images": images, **self.identity}
        if not path.exists():
            return None
        result = json.loads(path.read_text())
        return None if _different(result, wanted) else result

    def write_result(self, split: str, images: int, top1: float, params: int) -> dict:
        """Writes what was measured on the images of the split."""
        packages = [f"{name} {version(name)}" for name in ("keras", keras.backend.backend())]
        result = {
            "split": split,
            "test_images": images,
            **self.identity,
            "top1": round(top1, 4),
            "params": params,
            "cost": round(self.recipe.cost(), 4),
            "recipe_name": self.label,
            "versions": ", ".join([*packages, self.precision]),
            "machine": machine(),
        }
        if self.writes:
            with replacing(self.folder / "result.json") as temporary:
                temporary.write_text(json.dumps(result, indent=1) + "\n")
        return result


def _different(there: dict, wanted: dict) -> dict:
    """What differs, `{name: (there, wanted)}`. A field that is newer than the file had its default there."""
    there, wanted = ({**_DEFAULTS, **run, **run["recipe"], "recipe": None} for run in (there, wanted))
    return {key: (there.get(key), wanted[key]) for key in wanted if there.get(key) != wanted[key]}
