"""The folder of a training run: checkpoint, log, result."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from allconvnet._arrays import read_npz
from allconvnet._backend import machine
from allconvnet._errors import listed
from allconvnet._files import replacing
from allconvnet._specs import Variant
from allconvnet.recipes import Recipe

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two runs out of one folder.
    fcntl = None  # type: ignore[assignment]

_DEFAULTS = json.loads(json.dumps(asdict(Recipe(phases=((1, 32),)))))


@dataclass(frozen=True)
class Run:
    """A training run and its folder.

    `images` counts the training images, `data_crc32` is the checksum of all data, `writes` says whether this process
    writes the files. Two runs are the same if the attributes in `identity` are.
    """

    dataset: str
    variant: Variant
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
        own = {name: getattr(self, name) for name in names} | {"recipe": asdict(self.recipe)}
        return json.loads(json.dumps(own | {"backend": keras.backend.backend()}, default=np.generic.item))

    @property
    def weights(self) -> Path:
        return self.folder / f"{self.variant}.weights.h5"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.npz"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs out of the folder, and shows before the first epoch whether it can be written."""
        if not self.writes:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("ab") as lock:  # The system releases it when the process ends.
            try:
                if fcntl:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"Another run is training in {str(self.folder)!r}; pass another output_dir, or wait "
                                 "until it ends.") from None  # fmt: skip
            except OSError:
                pass  # Some shared file systems have no locks.
            for name in (self.weights.name, self.checkpoint.name, self.result.name, "log.csv", "zca.npz"):
                for leftover in self.folder.glob(f".{name}.*.tmp"):  # Of `replacing`, in a run that was killed.
                    leftover.unlink(missing_ok=True)
            yield

    def save(self, variables: Sequence, history: list[dict]) -> None:
        """Writes the log first, so that every epoch in the checkpoint is also in the log."""
        values = [ops.convert_to_numpy(variable) for variable in variables]
        loss = history[-1]["loss"]
        if not all(np.isfinite(value).all() for value in (loss, *values)):
            raise FloatingPointError(f"After epoch {len(history)} the loss ({loss}) or a weight is not finite. Lower "
                                     "the recipe's muon_rate and sgd_rate, and use another output_dir.")  # fmt: skip
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
            if found := [path.name for path in (self.weights, self.result) if path.exists()]:
                raise ValueError(f"{str(self.folder)!r} has {listed(found)} without a checkpoint: pass another "
                                 "output_dir, or move these files away.")  # fmt: skip
            return []
        saved = read_npz(self.checkpoint)
        try:
            state = json.loads(str(saved.pop("state")))
            different, history = _different(state["run"], self.identity), state["history"]
            arrays = [saved[f"variable_{number}"] for number in range(len(saved))]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{str(self.checkpoint)!r} is damaged, or not a checkpoint: {error!r}.") from None
        if different:
            raise ValueError(f"{str(self.folder)!r} holds another run; pass another output_dir, or the values of "
                             f"that run. Values there and received: {different}.")  # fmt: skip
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
            raise ValueError(f"{str(self.checkpoint)!r} does not hold the variables of the run: another version of "
                             "Keras may have written it. Train in another output_dir.")  # fmt: skip
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return history

    def write_result(self, split: str, images: int, top1: float, params: int) -> None:
        """Writes what was measured on the images of the split."""
        packages = [f"{name} {sys.modules[name].__version__}" for name in ("keras", keras.backend.backend())]
        result = {
            "split": split,
            "test_images": images,
            **self.identity,
            "top1": top1,
            "params": params,
            "cost": round(self.recipe.cost(), 4),
            "recipe_name": self.label,
            "versions": ", ".join([*packages, self.precision]),
            "machine": machine(),
        }
        with replacing(self.result) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")


def _different(there: dict, wanted: dict) -> dict:
    """What differs, `{name: (there, wanted)}`. A field that is newer than the file had its default there."""
    there, wanted = ({**_DEFAULTS, **run, **run["recipe"], "recipe": None} for run in (there, wanted))
    return {key: (there.get(key), wanted[key]) for key in wanted if there.get(key) != wanted[key]}
